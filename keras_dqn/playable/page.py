"""A page to play on: the game, its keys and a trained network in one HTML file, for a notebook's cell or a browser.

The page needs neither Python nor a network connection. Its parts lie in `web/`, to be read in this order: games.js (the
physics), network.js (the forward pass), scenes.js (the pictures), steering.js and bars.js (keys and Q-values), and
widget.js, which joins them.
"""

import base64
import hashlib
import html
import json
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_dqn.checks import check_above_zero
from keras_dqn.core.networks.numpy_forward import ACTIVATIONS, layers_of
from keras_dqn.files.atomic import atomic_write
from keras_dqn.games import GAMES, ON_A_PAGE

if TYPE_CHECKING:
    from keras_dqn.training.runner import Runner

_ENV_IDS = {name: GAMES[name].environment.rpartition(":")[2] for name in ON_A_PAGE}  # under the names of games.js
_LAYERS = "dense", "dense_without_bias", "dueling", "rescaling"  # that network.js has
_NOTHING_ELSE = "default-src 'none'; base-uri 'none'; form-action 'none'"  # of the page's Content-Security-Policy
_SCRIPTS = ("games.js", "network.js", "scenes.js", "steering.js", "bars.js", "widget.js")


class Page:
    """A page to play on, which a notebook shows as the result of a cell; `html` is the whole of it, a string."""

    def __init__(self, content: str):
        self.html = content

    def save(self, path: str | Path) -> Path:
        """Write it to one HTML file that any browser opens, whole or not at all; returns the path. Raises OSError."""
        with atomic_write(path) as temporary:
            temporary.write_text(self.html, encoding="utf-8")
        return Path(path)

    def __repr__(self):
        return f"<Page of {len(self.html):,} characters>"

    def _repr_html_(self):
        # A frame of its own keeps keys, names and styles apart from the notebook's and from other games', and
        # Jupyter's shortcuts away from the player; `srcdoc` does without files and addresses, so Colab, Jupyter and
        # VS Code all show it. A viewer that removes frames, as for a notebook not trusted yet, leaves the text.
        return (
            f'<iframe srcdoc="{html.escape(self.html)}" title="A game to play" '
            'style="width: 100%; height: 720px; border: 0">'
            "The game is played where this notebook runs: run this cell, or trust the notebook.</iframe>"
        )


def play_here(
    game: "str | Runner",
    weights: str | Path | None = None,
    recipe: str | None = None,
    speed: float = 1.0,
    network: dict[str, Any] | None = None,
) -> Page:
    """A game to play in a notebook's cell, with the keyboard, the mouse or a finger, against a trained agent.

    Example:
        play_here(cartpole)  # against what `cartpole = CartPole(200); cartpole.train()` has learned
        play_here("cartpole", weights="pretrained").save("cartpole.html")
        play_here("playable-cartpole")  # without an agent

    Args:
        game: a `Runner` in one of the three environments, whose agent plays with its weights as they are now; or a
            name: "cartpole" (CartPole-v1), "playable-cartpole" (`PlayableCartPole`) or "mountaincar" (MountainCar-v0).
        weights: with a name, the agent's: "pretrained", a weight file, or None for no agent.
        recipe, network: with weights, whose network they are of, where the file does not tell; see `Runner`.
        speed: of the clock; 1 is the environment's own, 50 steps a second or, for the car, 30. The page has a button
            for it, and keeps it in the attribute `data-speed` of its main element.

    Raises:
        ValueError: the game is unknown, the speed is not above 0, or the network has a layer that the page cannot run.
        WeightFileError: the weights are not whole or not this network's.
    """
    check_above_zero("speed", speed)
    name, brain = _name_and_brain(game, weights, recipe, network)
    web = Path(__file__).resolve().parent / "web"
    style = (web / "page.css").read_text("utf-8")
    script = "\n".join((web / script).read_text("utf-8") for script in _SCRIPTS)
    page = Template((web / "page.html").read_text("utf-8")).substitute(
        policy="; ".join([_NOTHING_ELSE, _only("script", script), _only("style", style)]),
        title=f"{_ENV_IDS[name]} to play",
        game=name,
        speed=f"{speed:g}",
        style=style,
        script=script,
        agent=json.dumps(None if brain is None else _network(brain)),
    )
    return Page(page)


def _only(kind, text):
    """The part of that policy which allows this script or style sheet."""
    digest = hashlib.sha256(f"\n{text}\n".encode()).digest()  # the template has a line of its own for each tag
    return f"{kind}-src 'sha256-{base64.b64encode(digest).decode()}'"


def _name_and_brain(game, weights, recipe, network):
    """The name of the game and the network that plays it, or None."""
    given = {"weights": weights, "recipe": recipe, "network": network}
    options = {name: value for name, value in given.items() if value is not None}
    if hasattr(game, "agent"):
        if options:
            raise ValueError(f"The agent of a game has its weights. Received: {options}")
        names = {env_id: name for name, env_id in _ENV_IDS.items()}
        if game.environment not in names:
            raise ValueError(f"The environments of a page are {', '.join(names)}. Received: {game.environment!r}")
        return names[game.environment], game.agent.brain
    if game not in _ENV_IDS:
        raise ValueError(f"The games of a page are {', '.join(_ENV_IDS)}. Received: {game!r}")
    if options and weights is None:
        raise ValueError(f"`recipe` and `network` say whose network the `weights` are of. Received: {options}")
    return game, GAMES[game].runner_class()(**options).agent.brain if options else None


def _network(brain):
    """What network.js reads of a `keras.Sequential`: its layers, and their float32 weights one after the other."""
    layers = layers_of(brain)
    if layers is None or not all(layer.kind in _LAYERS and layer.dtype == "float32" for layer in layers):
        names = [f"{type(one).__name__} {one.name!r}" for one in getattr(brain, "layers", [])]
        raise ValueError(
            "The page runs a keras.Sequential of Rescaling, Dropout, Dueling, and Dense with "
            f"{', '.join(ACTIVATIONS)}, in float32. Received: {type(brain).__name__} of {names}"
        )
    described = []
    for kind, shapes, options, _ in layers:
        sizes = zip(("inputs", "outputs"), shapes[0], strict=True) if shapes else ()
        numbers = {name: value.ravel().tolist() for name, value in options.items() if isinstance(value, np.ndarray)}
        described.append({"kind": kind, **dict(sizes), **options, **numbers})
    content = b"".join(np.asarray(array, "<f4").tobytes() for array in brain.get_weights())
    return {"layers": described, "weights": base64.b64encode(content).decode()}
