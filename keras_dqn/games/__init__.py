"""The games: what each is called, and where its runner is; importing this imports none of them."""

import importlib
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from keras_dqn.training.runner import Runner


class Game(NamedTuple):
    """A game under the name that the command line, the window and the page know it by."""

    environment: str  # gymnasium's id, or ALE's name
    recipes: tuple[str, ...]  # those of its runner; the first is the default
    runner: str | None = None  # "module:Class"; None where it is the one of any environment
    window: str | None = None  # the environment that is played in a window
    page: bool = False  # whether it is played on a page

    def runner_class(self) -> "type[Runner]":
        """The class of its runners, imported now."""
        if self.runner is None:
            from keras_dqn.games.any_game import game_for

            return game_for(self.environment)
        module, name = self.runner.split(":")
        return getattr(importlib.import_module(module), name)


PLAYABLE_CARTPOLE, MOUNTAIN_CAR = "keras_dqn/PlayableCartPole-v0", "MountainCar-v0"
FAMILY = ("c51", "quantile", "munchausen", "noisy", "prioritized", "rainbow")
ANY_RECIPES = ("juvin", "fast", "parallel", *FAMILY)  # of the games that have no runner of their own
CARTPOLE_RECIPES = ("juvin", "pytorch", "fast", "parallel", *FAMILY)
BREAKOUT_RECIPES = ("nature", "parallel", "rainbow", "hackathon2018")
GAMES = {
    "cartpole": Game("CartPole-v1", CARTPOLE_RECIPES, "keras_dqn.games.cartpole:CartPole", PLAYABLE_CARTPOLE, True),
    "playable-cartpole": Game(f"keras_dqn.playable:{PLAYABLE_CARTPOLE}", ANY_RECIPES, page=True),
    "mountaincar": Game(
        MOUNTAIN_CAR, ("notebook", "fast", *FAMILY), "keras_dqn.games.mountain_car:MountainCar", MOUNTAIN_CAR, True
    ),
    "breakout": Game("breakout", BREAKOUT_RECIPES, "keras_dqn.games.breakout:Breakout"),
}
IN_A_WINDOW = {name: game.window for name, game in GAMES.items() if game.window is not None}
ON_A_PAGE = [name for name, game in GAMES.items() if game.page]
