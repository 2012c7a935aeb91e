"""A page to play on: the game, its keys and a trained network in one HTML file, for a notebook's cell or a browser.

The page needs neither Python nor a network connection. Its parts lie in `web/`, to be read in this order: games.js (the
physics), network.js (the forward pass), scenes.js (the pictures), steering.js and bars.js (keys and Q-values), and
widget.js, which joins them.
"""

import base64
import hashlib
import html
import json
import math
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_dqn.core.networks.numpy_forward import ACTIVATIONS, layers_of
from keras_dqn.files.atomic import atomic_write, check_writable
from keras_dqn.games import GAMES as ALL_GAMES
from keras_dqn.games import ON_A_PAGE

if TYPE_CHECKING:
    from keras_dqn.training.runner import Runner

GAMES = {name: ALL_GAMES[name] for name in ON_A_PAGE}  # under the names that games.js has
_ENV_IDS = {name: game.environment.rpartition(":")[2] for name, game in GAMES.items()}
_LAYERS = "dense", "dense_without_bias", "dueling", "rescaling"  # that network.js has
_SCRIPTS = ("games.js", "network.js", "scenes.js", "steering.js", "bars.js", "widget.js")


class Page:
    """A page to play on, which a notebook shows as the result of a cell; `html` is the whole of it, a string."""

    def __init__(self, content: str):
        self.html = content

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
        play_here("cartpole", weights="pretrained")
        play_here("playable-cartpole")  # without an agent

    Args:
        game: a `CartPole`, a `MountainCar`, or another `Runner` in one of the three environments, whose agent plays
            with its weights as they are now; or a name: "cartpole" (CartPole-v1), "playable-cartpole"
            (`PlayableCartPole`) or "mountaincar" (MountainCar-v0).
        weights: with a name, the agent's: "pretrained", a weight file, which may bring its network, or None for no
            agent.
        recipe: with weights, the recipe whose network they are of; see `Runner`.
        speed: of the clock; 1 is the environment's own, 50 steps a second or, for the car, 30. The page has a button
            for it, and keeps it in the attribute `data-speed` of its main element.
        network: with weights, options of the network that they are of, where neither file nor recipe tell; see `Agent`.

    Returns:
        A `Page`.

    Raises:
        ValueError: the game is unknown, the speed is not above 0, or the network has a layer that the page cannot run.
        WeightFileError: the weights are not whole or not this network's.
    """
    if not isinstance(speed, int | float) or not 0 < speed < math.inf:
        raise ValueError(f"`speed` must be a number above 0. Received: {speed!r}")
    name, brain = _name_and_brain(game, weights, recipe, network)
    web = Path(__file__).resolve().parent / "web"
    style = (web / "page.css").read_text("utf-8")
    script = "\n".join((web / script).read_text("utf-8") for script in _SCRIPTS)
    page = Template((web / "page.html").read_text("utf-8")).substitute(
        policy=_policy(script, style),
        title=f"{_ENV_IDS[name]} to play",
        game=name,
        speed=f"{speed:g}",
        style=style,
        script=script,
        agent=json.dumps(None if brain is None else _network(brain)),
    )
    return Page(page)


def write_page(
    game: "str | Runner",
    path: str | Path,
    weights: str | Path | None = None,
    recipe: str | None = None,
    speed: float = 1.0,
    network: dict[str, Any] | None = None,
) -> Path:
    """Write such a page to `path`, one HTML file that any browser opens, whole or not at all; returns the path.

    Arguments and errors are those of `play_here`, and OSError where `path` cannot be written.
    """
    check_writable(path)
    page = play_here(game, weights, recipe, speed, network)
    with atomic_write(path) as temporary:
        temporary.write_text(page.html, encoding="utf-8")
    return Path(path)


def _policy(script, style):
    """The page's Content-Security-Policy: this script and this style sheet, and nothing else from anywhere."""

    def only(text):
        digest = hashlib.sha256(f"\n{text}\n".encode()).digest()  # the template has a line of its own for each tag
        return f"'sha256-{base64.b64encode(digest).decode()}'"

    none = "default-src 'none'; base-uri 'none'; form-action 'none'"
    return f"{none}; script-src {only(script)}; style-src {only(style)}"


def _name_and_brain(game, weights, recipe, network):
    """The name of the game and the network that plays it, or None."""
    given = {"weights": weights, "recipe": recipe, "network": network}
    if hasattr(game, "agent"):
        if any(value is not None for value in given.values()):
            raise ValueError(f"The agent of a game has its weights. Received: {given}")
        if game.environment not in _ENV_IDS.values():
            known = ", ".join(_ENV_IDS.values())
            raise ValueError(f"The environments of a page are {known}. Received: {game.environment!r}")
        return next(name for name, env_id in _ENV_IDS.items() if env_id == game.environment), game.agent.brain
    if game not in GAMES:
        raise ValueError(f"The games of a page are {', '.join(GAMES)}. Received: {game!r}")
    if weights is not None:
        options = {} if network is None else {"network": network}
        return game, GAMES[game].runner_class()(weights=weights, recipe=recipe, **options).agent.brain
    if recipe is not None or network is not None:
        raise ValueError(f"`recipe` and `network` say whose network the `weights` are of. Received: {given}")
    return game, None


def _network(brain):
    """What network.js reads of a `keras.Sequential`: its layers, and their float32 weights one after the other."""
    layers = layers_of(brain)
    if layers is None or not all(layer.kind in _LAYERS and layer.dtype == "float32" for layer in layers):
        names = [f"{type(one).__name__} {one.name!r}" for one in getattr(brain, "layers", [])]
        raise ValueError(
            "The page runs a keras.Sequential of Rescaling, Dropout, Dueling, and Dense with "
            f"{', '.join(ACTIVATIONS)}, in float32. Received: {type(brain).__name__} of {names}"
        )
    size, weights, described, arrays = brain.input_shape[-1], iter(brain.get_weights()), [], []
    for kind, shapes, options, _ in layers:
        own = [next(weights) for _ in shapes]
        if kind == "rescaling":
            described.append({"kind": kind, "size": size})
            own = [np.broadcast_to(options[name], (size,)) for name in ("scale", "offset")]
        elif kind == "dueling":
            described.append({"kind": kind})
        else:
            inputs, size = shapes[0]
            own = own if kind == "dense" else [*own, np.zeros(size)]
            described.append({"kind": "dense", "inputs": inputs, "outputs": size, **options})
        arrays += own
    content = b"".join(np.asarray(array, "<f4").tobytes() for array in arrays)
    return {"layers": described, "weights": base64.b64encode(content).decode()}
