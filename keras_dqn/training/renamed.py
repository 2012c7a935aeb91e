"""Recipes that had another name: what was written under it is still found and read."""

import sys
from collections.abc import Container
from pathlib import Path
from typing import Any

NAMES = {"best": "fast"}


def name_now(recipe: str | None, recipes: Container[str]) -> str | None:
    """The name of a recipe among these; for one of before, its name of now, which is said on stderr."""
    now = NAMES.get(recipe)
    if recipe in recipes or now not in recipes:
        return recipe
    print(f"The recipe {recipe} is called {now} now", file=sys.stderr)
    return now


def same_recipe(saved: Any, recipe: str) -> bool:
    """Whether what a file says is the recipe, or its name of before."""
    return saved in (recipe, *(before for before, now in NAMES.items() if now == recipe))


def of_now(name: str) -> str:
    """A name that ends in that of a recipe of before, with the recipe's name of now."""
    for before, now in NAMES.items():
        if name.endswith(f"_{before}"):
            return name.removesuffix(before) + now
    return name


def found(path: Path, recipe: str) -> Path:
    """A file or folder with the recipe's name in its own; where there is none but under the name of before, that."""
    if not path.exists():
        for before, now in NAMES.items():
            other = path.with_name(f"_{before}".join(path.name.rsplit(f"_{now}", 1)))
            if now == recipe and other.exists():
                return other
    return path
