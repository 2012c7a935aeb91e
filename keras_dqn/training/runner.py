"""The runner that each game grows from: it trains an agent in one environment, evaluates it and films it."""

import inspect
from collections.abc import Callable
from contextlib import closing
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import VectorEnv

from keras_dqn.checks import Seed, check_integer, seed_sequence
from keras_dqn.core.agent import Agent
from keras_dqn.core.exploration import over_training
from keras_dqn.core.networks.grid import network_for
from keras_dqn.core.settings import Settings, ShapeReward, check_keywords, shown_signature, to_json
from keras_dqn.environments.spaces import frame_padding, sizes
from keras_dqn.environments.vector import MAX_STEPS, OneEpisodeEach, limited, make_env, make_vector_env
from keras_dqn.files.weights import pretrained
from keras_dqn.show.film import VideoRecorder
from keras_dqn.show.inside import InsideView, Run
from keras_dqn.show.notebook import show_video
from keras_dqn.training.evaluate import Evaluation, acting, evaluate, first_episodes
from keras_dqn.training.history import History
from keras_dqn.training.load_into_agent import with_weights
from keras_dqn.training.settings import TrainSettings
from keras_dqn.training.training import train

_RUN = 1  # beside the seed of a run's environment, that of its random actions


class Runner:
    """Trains an agent in one environment, evaluates it, and films it; each game is a subclass that names the rest.

    Args:
        episodes: how many `train` plays.
        recipe: the agent's settings by name; see `recipes`.
        weights: what to start from: "backup" loads the agent's backup file if it is there, as the notebook does;
            "pretrained" the weights that ship with keras_dqn; a path, that file, with its own network where it tells
            one and no `network` or `brain` is given (see `brain_from`); None, fresh weights.
        seed: covers weights, sampling, exploration and environments: same seed, same machine, same bits.
        num_envs: how many environments play at once; by default as many as the recipe says, or one.
        shape_reward, video_folder: rewards to learn from instead of the true ones, see `interact`; where films go.
        steps: how many environment steps `train` makes, instead of counting episodes; the last episode may be cut off.
        agent_class: `Agent`, or one with its interface: `pytorch.TorchAgent`.
        max_episode_steps: an episode is truncated after so many, instead of at its environment's own limit or 100,000.
        **options: of the `Agent`, instead of the recipe's.

    Raises:
        ValueError: an argument is unknown or out of range; the message lists what is known.
        WeightFileError: the weights are not whole or not this network's.
    """

    name = None  # of the game: "cartpole"
    environment = None  # gymnasium's id: "CartPole-v1"
    solved_score = None  # mean score that counts as solved
    environment_options = {}  # of `gymnasium.make`
    max_episode_steps = None  # of an episode, where it is another limit than the environment's
    recipes = {}  # name: options of `Agent`, `replay_every` and `num_envs`; the first is the default
    pretrained_recipe = None  # whose pretrained weights are taken where no recipe is named
    action_names = None  # what the actions are called, in their order
    normalizer = None  # of the observations: what its environment has learned of them
    frames_per_step = None  # of the emulator, where a step is several

    def __init_subclass__(cls):
        cls.__signature__ = shown_signature(cls.__init__, Runner.__init__)

    def __init__(
        self,
        episodes: int = 200,
        recipe: str | None = None,
        weights: str | Path | None = "backup",
        seed: Seed = None,
        num_envs: int | None = None,
        shape_reward: ShapeReward | None = None,
        video_folder: str | Path = "videos",
        steps: int | None = None,
        agent_class: type[Agent] = Agent,
        max_episode_steps: int | None = None,
        **options: Any,
    ):
        known = inspect.signature(agent_class).parameters.keys() | {"replay_every"}
        own = inspect.signature(Runner.__init__).parameters.keys() - {"self", "options"}
        check_keywords(type(self).__name__, options, (known | own) - {"state_size", "action_size", "load_backup"})
        may_bring = agent_class is Agent and not {"brain", "network"} & options.keys()  # a file, its network
        own_network = "network" in options
        self.episodes = check_integer("episodes", episodes)
        self.steps = None if steps is None else check_integer("steps", steps)
        self.max_episode_steps = self.step_limit(max_episode_steps)
        if self.max_episode_steps is not None:
            self.environment_options = {**self.environment_options, "max_episode_steps": self.max_episode_steps}
        first = next(iter(self.recipes))
        self.recipe = recipe or (self.pretrained_recipe if weights == "pretrained" else first)
        if self.recipe not in self.recipes:
            raise ValueError(f"`recipe` must be one of {list(self.recipes)}. Received: {recipe!r}")
        usual = self.recipes[self.recipe].get("num_envs", 1)
        self.num_envs = check_integer("num_envs", usual if num_envs is None else num_envs)
        # one file a recipe, since their networks differ
        usual_backup = Path(f"{self.name}_{'' if self.recipe == first else self.recipe + '_'}weight.h5")
        options = _over_recipe(self.recipes[self.recipe], options, usual_backup, self.steps)
        self.replay_every = options.pop("replay_every")
        self.shape_reward = shape_reward
        self.video_folder = Path(video_folder)
        agent_seed, env_seed = seed_sequence(seed).spawn(2)
        self._env_seeds = np.random.default_rng(env_seed)
        self.env = self.make_env()
        self.state_size, self.action_size = both = sizes(self.env)
        self.action_names = self.action_names or getattr(self.env, "action_names", None)
        options = _of_environment(_with_support(options, self.env), self.env, agent_class is Agent, own_network)
        make = partial(_agent, self.normalizer, agent_class, *both, seed=agent_seed)
        if weights is None or weights == "backup":
            self.agent = make(**options)
            if weights is not None and self.agent.weight_backup is not None:
                self.agent.load_backup()
        else:
            path = pretrained(self._pretrained_name()) if weights == "pretrained" else weights
            self.agent, options = with_weights(make, options, path, may_bring, type(self).__name__)
        self.fresh_weights = _fresh_weights(self.agent, options.get("brain"))
        self.settings = _describe(self, options)
        self.own_files = set()  # weight files that this runner has written, and may replace
        self.history = History()
        self.last_run = None  # the `Run` that `run` played last
        self.best_score = None  # mean of the best evaluation during the last training
        self.seconds = 0.0  # that it took

    def __repr__(self):
        budget = f"steps={self.steps}" if self.steps else f"episodes={self.episodes}"
        own = [f"{name}={value!r}" for name, value in self.settings.items() if name != "game"]
        return f"{type(self).__name__}({budget}, {', '.join(own)}, environment={self.environment!r})"

    def __reduce__(self):
        keep = "`agent.save_model(path)` keeps the weights, `train(checkpoints=…)` a whole training"
        raise TypeError(f"A game can be neither pickled nor copied: {keep}. Received: {self!r}")

    @property
    def generators(self) -> dict[str, np.random.Generator]:
        """All random generators, the agent's among them, by name."""
        return {**self.agent.generators, "environments": self._env_seeds}

    def make_env(self, render_mode: str | None = None) -> gym.Env:
        """One new environment."""
        rendering = {} if render_mode is None else {"render_mode": render_mode}
        return make_env(self.environment, **{**self.environment_options, **rendering})

    def step_limit(self, max_episode_steps: int | None) -> int | None:
        """The number of steps given, or the runner's own; None for the environment's. A ValueError for what is none."""
        given = max_episode_steps is not None
        return check_integer("max_episode_steps", max_episode_steps) if given else self.max_episode_steps

    def training_env(self) -> gym.Env | VectorEnv:
        """What `train` plays in, and closes: an environment, or several as one."""
        return self.make_env() if self.num_envs == 1 else self.make_envs(self.num_envs)

    def make_envs(self, num_envs: int) -> VectorEnv:
        """Several new environments as one, in NEXT_STEP mode."""
        return self.envs_elsewhere()(num_envs)

    def envs_elsewhere(self) -> Callable[[int], VectorEnv]:
        """A function of their number that makes several environments, on whatever machine it is sent to."""
        spec = gym.spec(self.environment)
        return partial(make_vector_env, spec, **self.environment_options)

    def train(self, callbacks: Any = (), **options: Any) -> History:
        """Play `episodes` episodes, or `steps` steps, and learn; the weights are saved whatever ends it, Ctrl-C too.

        Args:
            callbacks: Keras callbacks, or one: an epoch is an episode, or where steps are counted a tenth of them,
                10,000 at most; a train batch is a replay; see `callbacks`. `model.stop_training = True` ends the
                training.
            **options: the fields of `TrainSettings`: what is shown, evaluated and kept, and where the games are played.

        Returns:
            The `History`; also `self.history`, which is there after Ctrl-C as well.

        Raises:
            OSError: the weights could not be saved at the end; found out before training starts.
            CheckpointError: there is none to resume from, or none that fits, another training is at work in that
                folder, or, without `resume`, there are some that this training would push out. Nothing is changed then.
            ValueError: an argument is out of range, or the memory is larger than what is free.
        """
        _check_options(type(self), options)
        train(self, callbacks, TrainSettings(**options))
        for line in self.agent.learner.remarks():
            print(line)
        return self.history

    def run(
        self,
        epsilon: float = 0.0,
        seed: int | None = None,
        video: bool | str | Path | None = None,
        show: Callable[..., Any] | None = show_video,
        inside: bool = False,
        max_frames: int = 3000,
        max_episode_steps: int | None = None,
    ) -> float:
        """Play one episode without learning, film it, show the film, and print and return the cumulative reward.

        Args:
            epsilon: probability of a random action.
            seed: of the environment; by default the next of this runner's.
            video: the MP4 to write; by default `<video_folder>/<name>.mp4`.
            show: what shows the film: `show_video`, or `show_animation` to go through it frame by frame.
            inside: film beside the game what the network sees, where that is frames, and its Q-values as bars.
            max_frames: where the film ends, whatever follows.
            max_episode_steps: another limit than the runner's.
        """
        _say_if_untrained(self, epsilon)
        path = Path(video) if video is not None else self.video_folder / f"{self.name}.mp4"
        limit = self.step_limit(max_episode_steps)
        env = limited(self.make_env("rgb_array"), limit)
        if inside:
            env = InsideView(env, self.agent, self.action_names)
        recorder = VideoRecorder(env, path, max_frames=max_frames)
        seed = self.next_seed() if seed is None else seed
        q_values = []
        act = acting(self.agent, epsilon, [seed, _RUN], q_values.append)
        with closing(OneEpisodeEach([recorder], limit or MAX_STEPS)) as envs:
            played = first_episodes(self.agent, act, envs, seed)
        score, steps = played.mean, int(played.lengths[0])
        filmed = min(steps, max_frames - 1)  # the first frame is of the state before the first step
        self.last_run = Run(score, np.concatenate(q_values), recorder.paths, filmed, self.action_names)
        print(f"Cumulative reward: {score:g}")
        if recorder.paths and filmed < steps:
            print(f"The film shows the first {filmed:,} of {steps:,} steps")
        for path in recorder.paths:
            show(path)
        return score

    def random_episode(self, seed: int | None = None, video: bool | str | Path | None = None) -> float:
        """Play and film one episode of random actions: what the agent starts from. As `run`, with another file name."""
        return self.run(1.0, seed, video or self.video_folder / f"{self.name}_random.mp4")

    def evaluate(
        self, episodes: int = 100, seed: int = 0, epsilon: float = 0.0, max_episode_steps: int | None = None
    ) -> Evaluation:
        """Mean score and its 95 % interval over whole episodes of fixed seeds, with a limit of their own if given."""
        _say_if_untrained(self, epsilon)
        limit = self.step_limit(max_episode_steps)
        longest = limit or MAX_STEPS
        return evaluate(self.agent, lambda: limited(self.make_env(), limit), episodes, seed, epsilon, longest)

    def _pretrained_name(self):
        """Of the weights that ship with keras_dqn: one file a recipe, since their networks differ."""
        return self.name if self.recipe == self.pretrained_recipe else f"{self.name}_{self.recipe}"

    def is_over(self, history: History) -> bool:
        """Whether training ends with the episodes that it has had; where steps are counted, episodes do not end it."""
        return self.steps is None and len(history) >= self.episodes

    def comments(self, history: History) -> list[str]:
        """What a game has to say after the last episode of the history: lines of text."""
        return []

    def progress(self, history: History) -> dict[str, Any]:
        """What the bar shows after the last episode of the history: {name: value}."""
        progress = {
            "score": f"{history[-1].score:g}",
            "epsilon": f"{self.agent.exploration_rate:.2f}",  # the first two are there in a narrow terminal too
            f"mean of {min(len(history), 100)}": f"{history.mean_score():.1f}",
        }
        if history.evaluations:
            progress["evaluation"] = f"{history.evaluations[-1].score:.1f}"
        return progress if self.best_score is None else {**progress, "best": f"{self.best_score:.1f}"}

    @property
    def best_backup(self) -> Path:
        """The file of the weights that did best: beside `weight_backup`, with "_best" in its name."""
        if self.agent.weight_backup is None:
            raise ValueError("The best weights are kept beside `weight_backup`. Received: weight_backup=None")
        return self.agent.weight_backup.with_stem(self.agent.weight_backup.stem + "_best")

    def next_seed(self) -> int:
        """A seed for the next environment."""
        return int(self._env_seeds.integers(2**31))


def _agent(normalizer, agent_class, *sizes, **options):
    """An agent that has loaded no weights yet; they may bring what is normalized with."""
    agent = agent_class(*sizes, load_backup=False, **options)
    agent.normalizer = normalizer
    return agent


def _over_recipe(recipe, options, backup, steps):
    """A recipe's options with the caller's in their place; a rollout is learned from when it is full.

    The recipe's loss gives way to an objective, and both it and its optimizer to those of a compiled brain.
    """
    full = {} if options.get("rollout") is None else {"replay_every": options["rollout"]}
    decided = {"num_envs"} | ({"loss"} if options.get("objective") is not None else set())
    decided |= {name for name in ("loss", "optimizer") if getattr(options.get("brain"), name, None) is not None}
    recipe = {name: value for name, value in recipe.items() if name not in decided}
    joined = {"weight_backup": backup, "replay_every": "episode", **recipe, **full, **options}
    return over_training(joined, steps)


def _of_environment(options, env, in_keras, own_network):
    """The options, with the memory and the network that suit the environment's states where they leave that open."""
    if (padding := frame_padding(env)) and not {"rollout", "store_frames", "memory"} & options.keys():
        options = {**options, "store_frames": True, "frame_padding": padding}
    if not in_keras or options.get("brain") is not None:
        return options
    return {**options, "network": network_for(env.observation_space, options.get("network"), own_network)}


def _with_support(options, env):
    """The options, with C51 by name over the returns that the rewards which the environment declares can come to."""
    if options.get("objective") != "c51":
        return options
    from keras_dqn.core.objectives.c51 import C51

    try:
        low, high = map(float, env.get_wrapper_attr("reward_range"))
    except AttributeError:
        return options  # the agent then asks for it
    if not np.isfinite([low, high]).all():  # the range that says nothing
        return options
    gamma = options.get("gamma", Settings().learner.gamma)
    return {**options, "objective": C51.of_rewards(low, high, gamma)}


def _check_options(game, options):
    """Raise a TypeError for an option that `train` has not; one of the game is named as such."""
    known = [field.name for field in fields(TrainSettings)]
    for name in options.keys() & inspect.signature(game).parameters.keys() - set(known):
        received = f"{name}={options[name]!r}"
        raise TypeError(f"`{name}` belongs to the game: {game.__name__}({received}).train(). Received: {received}")
    check_keywords(f"{game.__name__}.train", options, known)


def _fresh_weights(agent, brain=None):
    """A hash of the weights, if nobody has brought them: neither a brain nor a file."""
    brought = brain is not None or agent.epsilon_schedule.held_at_minimum
    return None if brought else hash(agent.learner.read_weights().tobytes())


def _say_if_untrained(runner, epsilon):
    """Print that the weights, which are to be acted with, are still those that were drawn at random."""
    agent, fresh = runner.agent, runner.fresh_weights
    if epsilon < 1 and not agent.steps and fresh is not None and fresh == _fresh_weights(agent):
        print('The network is untrained: call train(), or give `weights`, "pretrained" or a file')


def _describe(runner, options):
    """All that a training depends on but its seed, in the types of JSON: what checkpoints are compared by."""
    own = {name: getattr(runner, name) for name in ("recipe", "num_envs", "max_episode_steps", "replay_every")}
    network = {name: options.get(name) for name in ("network", "brain")}
    settings = {**runner.agent.settings.flat(), "shape_reward": runner.shape_reward}
    if hasattr(optimizer := runner.agent.learner.optimizer, "get_config"):  # torch's has none
        settings["optimizer"] = optimizer
    return to_json({"game": runner.name, **own, **network, **settings})
