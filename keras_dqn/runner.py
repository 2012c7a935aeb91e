"""The only training loop, and the runner that each game grows from."""

import contextlib
import math
import os
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm.auto import tqdm

from keras_dqn.agent import Agent
from keras_dqn.checks import check_above_zero, check_fraction, check_whole, seed_sequence
from keras_dqn.environments import as_vector, make_env, make_vector_env, sizes
from keras_dqn.evaluation import EVALUATION_SEED, evaluate
from keras_dqn.exploration import OverTraining, over_training
from keras_dqn.history import Episode, Evaluated, History
from keras_dqn.inside import InsideView
from keras_dqn.live import LiveCurve
from keras_dqn.records import Records
from keras_dqn.video import VideoRecorder, in_notebook, show_video
from keras_dqn.weights import check_writable, pretrained


class Step(NamedTuple):
    """What happened in one step of the loop."""

    steps: int  # environment steps so far, over all environments
    episodes: list | tuple  # the `Episode`s that ended with it, mostly none
    losses: np.ndarray | None  # of the updates made after it; None where none were made


def play(agent, env, replay_every="episode", seed=None, learn=True, shape_reward=None):
    """Play and learn without end: a generator of `Step`s, one for each step of all environments.

    This is the only training loop. Bars, plots and files listen to what it yields, and whoever iterates decides when it
    is enough. Environments are taken as gymnasium vectorises them (NEXT_STEP): the observation that comes with an
    episode's end is that episode's own last one, and the step after it only resets and is no transition. Two entries
    of a step's info count, where an environment gives them, both [N]: `executed_actions`, what was done instead of the
    agent's actions, and `life_lost`, where the bootstrap stops though the episode goes on.

    Args:
        agent: acts, remembers and replays.
        env: a gymnasium environment, or a vector of them in NEXT_STEP autoreset mode.
        replay_every: "episode" replays once at each episode's end; a number, once every so many environment steps.
        seed: of the environments' first reset.
        learn: False leaves `agent.replay` out, which measures the loop alone.
        shape_reward: a function of states, actions, rewards and next states, each [N, ...], to the rewards to learn
            from instead; scores stay those of the true rewards.
    """
    envs, period = as_vector(env), _replay_period(replay_every)
    states, _ = envs.reset(seed=seed)
    agent.check_states(states)
    agent.begin_episodes()
    agent.refresh()
    started = time.perf_counter()
    tally = _Tally(envs.num_envs)
    ended = None  # [N] bool: the environments whose next step is only a reset
    steps = due = resets = 0
    while True:
        epsilon = agent.exploration_rate
        actions = agent.act_batch(states, epsilon)
        next_states, rewards, terminated, truncated, info = envs.step(actions)
        actions, stops = info.get("executed_actions", actions), info.get("life_lost")
        tally.rounds += 1
        true_rewards = rewards
        if shape_reward is not None:
            rewards = np.asarray(shape_reward(states, actions, rewards, next_states), float)
        if resets:
            real = ~ended
            agent.check_states(next_states)
            fields = [field[real] for field in (states, actions, rewards, next_states, terminated, truncated)]
            stops = None if stops is None else stops[real]
            agent.remember_batch(*fields, environments=np.flatnonzero(real), stops=stops)
            made = tally.add_some(true_rewards, real)
        else:
            agent.remember_batch(states, actions, rewards, next_states, terminated, truncated, stops=stops)
            tally.scores += true_rewards
            made = len(rewards)
        ended = terminated | truncated
        resets = np.count_nonzero(ended)
        steps += made
        due += resets if replay_every == "episode" else made
        losses = None
        while due >= period:
            due -= period
            if learn and (new := agent.replay()) is not None:
                losses = new if losses is None else np.concatenate([losses, new])
                tally.add_losses(new)
        episodes = tally.end(ended, epsilon, time.perf_counter() - started) if resets else ()
        yield Step(steps, episodes, losses)
        states = next_states


def _replay_period(replay_every):
    """After how many episodes, or environment steps, a replay is due; a ValueError for what is no such number."""
    return 1 if replay_every == "episode" else check_whole("replay_every", replay_every)


class _Tally:
    """Score, length and mean loss of the episode that each of N environments is in."""

    def __init__(self, num_envs):
        self.rounds = 0  # steps of all environments
        self.scores = np.zeros(num_envs)
        self._started = np.zeros(num_envs, int)  # the round before the first step of the episode
        self._loss_sums, self._loss_counts = np.zeros(num_envs), np.zeros(num_envs, int)

    def add_some(self, rewards, real):
        """Add the rewards of the environments that did more than reset, [N] bool; return how many these are."""
        self.scores[real] += rewards[real]
        self._started[~real] = self.rounds
        return np.count_nonzero(real)

    def add_losses(self, losses):
        """Count the losses of a replay for the episodes that are being played."""
        self._loss_sums += losses.sum()
        self._loss_counts += len(losses)

    def end(self, ended, epsilon, seconds):
        """The `Episode`s of the environments that `ended`, [N] bool; their counts begin anew."""
        return [self._end(i, epsilon, seconds) for i in np.flatnonzero(ended)]

    def _end(self, i, epsilon, seconds):
        loss = self._loss_sums[i] / self._loss_counts[i] if self._loss_counts[i] else float("nan")
        length = int(self.rounds - self._started[i])
        episode = Episode(float(self.scores[i]), length, float(loss), float(epsilon), seconds)
        self.scores[i] = self._loss_sums[i] = self._loss_counts[i] = 0
        return episode


class Run(NamedTuple):
    """An episode that was played without learning, step by step."""

    score: float  # sum of rewards
    q_values: np.ndarray  # [steps, actions] float32, of the states that were acted in
    paths: list  # of the films of it
    filmed: int  # steps that are in the film, from the first on


class Runner:
    """Trains an agent in one environment, evaluates it, and films it; each game is a subclass that names the rest.

    Args:
        episodes: how many `train` plays.
        recipe: the agent's settings by name; see `recipes`.
        weights: what to start from: "backup" loads the agent's backup file if it is there, as the notebook does;
            "pretrained" the weights that ship with keras_dqn; a path, that .h5 file; None, fresh weights.
        seed: covers weights, sampling, exploration and environments: same seed, same machine, same bits.
        num_envs: how many environments play at once; by default as many as the recipe says, or one.
        shape_reward: rewards to learn from instead of the true ones; see `play`.
        video_folder: where films go.
        steps: how many environment steps `train` makes, instead of counting episodes; the last episode may be cut off.
        agent_class: `Agent`, or one with its interface: `pytorch.TorchAgent`.
        **options: of the `Agent`, instead of the recipe's.

    Raises:
        ValueError: an argument is unknown or out of range; the message lists what is known.
        WeightFileError: the weights are not whole or not this network's.
    """

    name = None  # of the game: "cartpole"
    environment = None  # gymnasium's id: "CartPole-v1"
    solved_score = None  # mean score that counts as solved
    recipes = {}  # name: options of `Agent`, `replay_every` and `num_envs`; the first is the default
    pretrained_recipe = None  # whose pretrained weights are taken where no recipe is named
    action_names = None  # what the actions are called, in their order
    frames_per_step = None  # of the emulator, where a step is several

    def __init__(
        self,
        episodes=200,
        recipe=None,
        weights="backup",
        seed=None,
        num_envs=None,
        shape_reward=None,
        video_folder="videos",
        steps=None,
        agent_class=Agent,
        **options,
    ):
        self.episodes = check_whole("episodes", episodes)
        self.steps = None if steps is None else check_whole("steps", steps)
        first = next(iter(self.recipes))
        self.recipe = recipe or (self.pretrained_recipe if weights == "pretrained" else first)
        if self.recipe not in self.recipes:
            raise ValueError(f"`recipe` must be one of {list(self.recipes)}. Received: {recipe!r}")
        usual = self.recipes[self.recipe].get("num_envs", 1)
        self.num_envs = check_whole("num_envs", usual if num_envs is None else num_envs)
        options = {
            # one file a recipe, since their networks differ
            "weight_backup": f"{self.name}_{'' if self.recipe == first else self.recipe + '_'}weight.h5",
            "replay_every": "episode",
            **self.recipes[self.recipe],
            **options,
        }
        options.pop("num_envs", None)
        options = over_training(options, self.steps)
        self.settings = self._plain_settings(options)
        self.replay_every = options.pop("replay_every")
        _replay_period(self.replay_every)  # refused here, before anything begins
        rollout = options.get("rollout")
        if rollout is not None and (self.replay_every == "episode" or self.replay_every > rollout):
            raise ValueError(
                f"A rollout is learned from when it is full: `replay_every` must be its {rollout} steps. "
                f"Received: {self.replay_every!r}"
            )
        self.shape_reward = shape_reward
        self.video_folder = Path(video_folder)
        agent_seed, env_seed = seed_sequence(seed).spawn(2)
        self._env_seeds = np.random.default_rng(env_seed)
        self.env = self.make_env()
        self.state_size, self.action_size = sizes(self.env)
        self.agent = agent_class(
            self.state_size, self.action_size, seed=agent_seed, load_backup=weights == "backup", **options
        )
        if weights is not None and weights != "backup":
            self.agent.load_model(pretrained(self._pretrained_name()) if weights == "pretrained" else weights)
        self._began_elsewhere = weights != "backup"
        self.history = History()
        self.last_run = None  # the `Run` that `run` played last
        self.best_score = None  # mean of the best evaluation during the last training

    @property
    def generators(self):
        """The random generators beside those of the agent, by name."""
        return {"environments": self._env_seeds}

    def _plain_settings(self, options):
        """What a checkpoint tells about the training that it is of, a dict of plain values."""
        plain = {
            name: value for name, value in options.items() if value is None or isinstance(value, int | float | str)
        }
        plain |= {name: str(value) for name, value in options.items() if isinstance(value, OverTraining)}
        plain.pop("weight_backup", None)
        return {"game": self.name, "recipe": self.recipe, "num_envs": self.num_envs, **plain}

    def make_env(self, render_mode=None):
        """One new environment."""
        return make_env(self.environment, render_mode)

    def make_envs(self, num_envs):
        """Several new environments as one, in NEXT_STEP mode."""
        return make_vector_env(self.environment, num_envs)

    def train(
        self,
        verbose=False,
        progress=True,
        live=None,
        record_every=None,
        evaluate_every=None,
        stop_score=None,
        checkpoints=None,
        resume=False,
        tensorboard=None,
        learning_rate=None,
    ):
        """Play `episodes` episodes, or `steps` steps, and learn; the weights are saved whatever ends it, Ctrl-C too.

        Args:
            verbose: print "Episode i# Score: n" after each episode.
            progress: show a bar with the score, the mean of the last 100 episodes and epsilon.
            live: draw the learning curve as it grows, one figure drawn again in its place; by default in notebooks.
            record_every: film every so many episodes into `video_folder`.
            evaluate_every: every so many steps play 100 greedy episodes, and keep the weights that did best in
                `best_backup`, apart from the last ones. These episodes have seeds of their own (from EVALUATION_SEED
                on), so that an evaluation afterwards is on episodes that chose nothing.
            stop_score: end the training once such an evaluation has this mean.
            checkpoints: the folder for a log and checkpoints, or a `Checkpoints` with settings of its own: every few
                minutes, at the end and at Ctrl-C, which then waits for the end of a step.
            resume: go on from the newest checkpoint; `steps` and `episodes` count what was done before. Environments
                are not saved: each begins with a new episode.
            tensorboard: a folder that the numbers of the log go to as well.
            learning_rate: of the optimizer from here on, instead of its own or the checkpoint's: a training that no
                longer gets better often does with less.

        Returns:
            The `History`; also `self.history`, which is there after Ctrl-C as well.

        Raises:
            OSError: the weights could not be saved at the end; found out before training starts.
            CheckpointError: there is none to resume from, it is of another game or recipe, or, without `resume`, there
                are some that this training would push out. Nothing is changed then.
            ValueError: the memory is larger than what is free.
        """
        self._check_training(evaluate_every, stop_score, learning_rate)
        records = self._open_records(checkpoints, resume, tensorboard)
        if learning_rate is not None:
            self.agent.learner.learning_rate = learning_rate
        if not resume:
            self._start_afresh()
        agent, history = self.agent, self.history
        steps_before, seconds_before = agent.steps, records.seconds if resume else 0.0
        last_step = self.steps or math.inf
        if steps_before >= last_step or self._is_over(history):
            print("There is nothing left to train: ask for more steps or episodes")
            return history
        env = self._training_env(record_every)
        evaluations = steps_before // evaluate_every if evaluate_every else 0
        total, unit = (self.steps, "step") if self.steps else (self.episodes, "episode")
        done = steps_before if self.steps else len(history)
        live = in_notebook() if live is None else live
        curve = LiveCurve(history, solved_score=self.solved_score, title=self.environment) if live else None
        # leave=None: the bar stays on the screen, unless it is inside another one
        bar = tqdm(total=total, initial=done, unit=unit, desc=self.name, disable=not progress, leave=None)
        loop = play(agent, env, self.replay_every, self._next_seed(), shape_reward=self.shape_reward)
        try:
            with records or contextlib.nullcontext():
                for step in loop:
                    steps = steps_before + step.steps
                    if step.losses is not None:
                        history.add_losses(step.losses)
                    for episode in step.episodes:
                        if self._is_over(history):
                            break  # several environments may end an episode in the same step
                        history.append(episode._replace(time=seconds_before + episode.time))
                        for line in self._comments(history, verbose):
                            bar.write(line)
                        bar.set_postfix(self._progress(history), refresh=False)
                        bar.update(episode.length if self.steps else 1)
                    if step.episodes and curve is not None:
                        curve.update()
                    if records is not None:
                        records.hear(step)
                    if evaluate_every and steps >= (evaluations + 1) * evaluate_every:
                        evaluations = steps // evaluate_every
                        self._keep_best(steps)
                        if stop_score is not None and self.best_score >= stop_score:
                            break
                    if steps >= last_step or (step.episodes and self._is_over(history)):
                        break
        finally:
            agent.save_model()
            if self.steps:  # those of episodes under way
                bar.update(agent.steps - bar.n)
            bar.close()
            env.close()
            if curve is not None:
                curve.draw()
        return history

    def _check_training(self, evaluate_every, stop_score, learning_rate):
        """Find out before training what would make it fail at its end."""
        if self.agent.weight_backup is not None:
            check_writable(self.agent.weight_backup)
        if evaluate_every is not None:
            check_whole("evaluate_every", evaluate_every)
            check_writable(self.best_backup)
        elif stop_score is not None:
            raise ValueError(f"`stop_score` needs `evaluate_every`. Received: stop_score={stop_score!r}")
        if learning_rate is not None:
            check_above_zero("learning_rate", learning_rate)
            if (schedule := self.agent.learning_rate_schedule) is not None:
                raise ValueError(f"`learning_rate` follows a schedule, {schedule}. Received: {learning_rate!r}")
        self.agent.check_memory_fits()

    def _open_records(self, checkpoints, resume, tensorboard):
        """The `Records` of a training that has any, with everything restored on `resume`; else None."""
        if checkpoints is not None:
            return Records(self, checkpoints, resume, tensorboard)
        if resume or tensorboard is not None:
            given = f"resume={resume}, tensorboard={tensorboard!r}"
            raise ValueError(f"`resume` and `tensorboard` need `checkpoints`. Received: {given}")
        return None

    def _start_afresh(self):
        self.history, self.best_score = History(), None
        self._keep_what_was_there()
        self.agent.explore_anew()

    def run(self, epsilon=0.0, seed=None, video=None, show=show_video, inside=False, max_frames=3000):
        """Play one episode without learning, film it, show the film, and print the cumulative reward.

        Args:
            epsilon: probability of a random action.
            seed: of the environment; by default the next of this runner's.
            video: the MP4 to write; by default `<video_folder>/<name>.mp4`.
            show: what shows the film: `video.show_video`, or `video.show_animation` to go through it frame by frame.
            inside: film beside the game what the network sees, where that is frames, and its Q-values as bars.
            max_frames: where the film ends, whatever follows; its frames wait in memory until it is written.

        Returns:
            The score, a float.
        """
        check_fraction("epsilon", epsilon)
        path = Path(video) if video is not None else self.video_folder / f"{self.name}.mp4"
        env = self.make_env("rgb_array")
        if inside:
            env = InsideView(env, self.agent, self.action_names)
        recorder = VideoRecorder(env, path, max_frames=max_frames)
        try:
            state, _ = recorder.reset(seed=self._next_seed() if seed is None else seed)
            score, steps, ended, q_values = 0.0, 0, False, []
            while not ended:
                state = np.asarray(state)[None]
                q_values.append(self.agent.q_values(state)[0])
                action = int(self.agent.explore(q_values[-1].argmax(keepdims=True), epsilon)[0])
                state, reward, terminated, truncated, _ = recorder.step(action)
                score, steps = score + float(reward), steps + 1
                ended = terminated or truncated
        finally:
            recorder.close()
        filmed = min(steps, max_frames - 1)  # the first frame is of the state before the first step
        self.last_run = Run(score, np.array(q_values), recorder.paths, filmed)
        print(f"Cumulative reward: {score:g}")
        if recorder.paths and filmed < steps:
            print(f"The film shows the first {filmed:,} of {steps:,} steps")
        for path in recorder.paths:
            show(path)
        return score

    def random_episode(self, seed=None, video=None):
        """Play and film one episode of random actions: what the agent starts from. As `run`, with another file name."""
        return self.run(1.0, seed, video or self.video_folder / f"{self.name}_random.mp4")

    def evaluate(self, episodes=100, seed=0, epsilon=0.0):
        """Mean score and its 95 % interval over whole episodes with fixed seeds; see `evaluation.evaluate`."""
        return evaluate(self.agent, self.make_env, episodes, seed, epsilon)

    def _pretrained_name(self):
        """Of the weights that ship with keras_dqn: one file a recipe, since their networks differ."""
        return self.name if self.recipe == self.pretrained_recipe else f"{self.name}_{self.recipe}"

    def _is_over(self, history):
        """Whether training ends, as its history is now."""
        return self.steps is None and len(history) >= self.episodes

    def _comments(self, history, verbose):
        """What is to be said after the last episode of the history: lines of text."""
        return [f"Episode {len(history) - 1}# Score: {history[-1].score:g}"] if verbose else []

    @property
    def best_backup(self):
        """The file of the weights that did best: beside `weight_backup`, with "_best" in its name."""
        if self.agent.weight_backup is None:
            raise ValueError("The best weights are kept beside `weight_backup`. Received: weight_backup=None")
        return self.agent.weight_backup.with_stem(self.agent.weight_backup.stem + "_best")

    def _keep_best(self, steps):
        """Evaluate the agent as it is after so many steps, and keep its weights if they do best so far."""
        began = time.perf_counter()
        score = self.evaluate(seed=EVALUATION_SEED).mean
        self.history.evaluations.append(Evaluated(int(steps), score, time.perf_counter() - began))
        if self.best_score is None or score > self.best_score:
            self.agent.save_model(self.best_backup)
            self.best_score = score

    def _keep_what_was_there(self):
        """Weights that this training did not begin from are somebody's work: rename them before they are replaced."""
        backup = self.agent.weight_backup
        if self._began_elsewhere and backup is not None and backup.exists():
            kept = backup.with_stem(backup.stem + "_before")
            os.replace(backup, kept)
            print(f"The weights in {backup} were not loaded and are kept as {kept}")
        self._began_elsewhere = False  # from now on that file is ours

    def _training_env(self, record_every):
        if self.num_envs > 1:
            if record_every is not None:
                raise ValueError(f"`record_every` films a single environment. Received: num_envs={self.num_envs}")
            return self.make_envs(self.num_envs)
        if record_every is None:
            return self.make_env()
        check_whole("record_every", record_every)
        return VideoRecorder(
            self.make_env("rgb_array"),
            lambda episode: self.video_folder / f"{self.name}_episode_{episode}.mp4",
            episode_trigger=lambda episode: episode % record_every == 0,
        )

    def _progress(self, history):
        progress = {
            "score": f"{history[-1].score:g}",
            "mean of 100": f"{history.mean_score():.1f}",
            "epsilon": f"{self.agent.exploration_rate:.2f}",
        }
        return progress if self.best_score is None else {**progress, "best": f"{self.best_score:.1f}"}

    def _next_seed(self):
        return int(self._env_seeds.integers(2**31))
