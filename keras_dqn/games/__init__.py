"""The games: what each is called, and where its runner is; importing this imports none of them."""

import importlib
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from keras_dqn.training.runner import Runner


class Game(NamedTuple):
    """A game under the name that the command line, the window and the page know it by."""

    environment: str  # gymnasium's id, or ALE's name
    runner: str | None  # "module:Class"; None where it is the one of any environment
    recipes: tuple[str, ...]  # those of its runner; the first is the default
    window: str | None = None  # the environment that is played in a window
    page: bool = False  # whether it is played on a page

    def runner_class(self) -> "type[Runner]":
        """The class of its runners, imported now."""
        if self.runner is None:
            from keras_dqn.games.any_game import game_for

            return game_for(self.environment)
        module, name = self.runner.split(":")
        return getattr(importlib.import_module(module), name)


PLAYABLE_CARTPOLE = "keras_dqn/PlayableCartPole-v0"
ANY_RECIPES = ("juvin", "fast", "parallel")  # of the games that have no runner of their own
GAMES = {
    "cartpole": Game(
        "CartPole-v1",
        "keras_dqn.games.cartpole:CartPole",
        ("juvin", "pytorch", "fast", "parallel"),
        PLAYABLE_CARTPOLE,
        page=True,
    ),
    "playable-cartpole": Game(f"keras_dqn.playable:{PLAYABLE_CARTPOLE}", None, ANY_RECIPES, page=True),
    "mountaincar": Game(
        "MountainCar-v0",
        "keras_dqn.games.mountain_car:MountainCar",
        ("notebook", "fast"),
        "MountainCar-v0",
        page=True,
    ),
    "breakout": Game("breakout", "keras_dqn.games.breakout:Breakout", ("nature", "parallel", "hackathon2018")),
}
IN_A_WINDOW = {name: game.window for name, game in GAMES.items() if game.window is not None}
ON_A_PAGE = [name for name, game in GAMES.items() if game.page]
