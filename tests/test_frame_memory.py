"""The frame memory against plain lists of whole episodes, on frames that say which game, episode and step they are."""

import inspect
from functools import partial

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from keras_dqn.core.memory import frames as frame_memory
from keras_dqn.core.memory.frames import FrameMemory
from keras_dqn.core.transition import StepBatch

GAMMA = 0.5  # powers of it are exact in float32
GOES_ON, DIES, TERMINATES, TRUNCATES, LOST_LIFE = "goes on", "dies", "terminates", "truncates", "loses a life"
OUTCOMES = [GOES_ON, GOES_ON, GOES_ON, LOST_LIFE, TERMINATES, TRUNCATES, DIES]  # DIES: loses a life, the last one


def frame(game, episode, step):
    """uint8 [1, 3]: no two frames of a scenario are the same, and none is zero."""
    return np.array([[game + 1, episode + 1, step + 1]], np.uint8)


class Episode:
    """One episode as it was: its steps in order, and how it ended."""

    def __init__(self, game, number):
        self.game, self.number = game, number
        self.actions, self.rewards, self.stops = [], [], []
        self.ending = None  # TERMINATES or TRUNCATES once it is over

    def __len__(self):
        return len(self.actions)

    def stack(self, step, depth, padding="zero"):
        """[depth, 1, 3]: the state at a step, as the environment shows it."""
        steps = range(step - depth + 1, step + 1)
        missing = np.zeros((1, 3), np.uint8) if padding == "zero" else frame(self.game, self.number, 0)
        return np.stack([frame(self.game, self.number, s) if s >= 0 else missing for s in steps])

    def transition(self, step, depth, n_step, padding):
        """The n-step transition from a step on, None where it is not complete yet: the definition, word for word."""
        reward, discount = 0.0, 1.0
        for k in range(step, step + n_step):
            if k == len(self):
                return None  # the next steps are still to come
            reward += discount * self.rewards[k]
            discount *= GAMMA
            last = self.ending is not None and k == len(self) - 1
            if self.stops[k] or (last and self.ending == TERMINATES):
                discount = 0.0
            if last or self.stops[k]:
                break
        if k == len(self) - 1 and not last:
            return None  # the frame after that step is still to come
        return (
            self.stack(step, depth, padding).tobytes(),
            self.actions[step],
            reward,
            discount,
            self.stack(k + 1, depth, padding).tobytes(),
        )


class Model:
    """What a frame memory does, in lists: all episodes of each game, and of its frames the last `length`."""

    def __init__(self, games, length, depth, n_step, padding):
        self.length, self.depth, self.n_step, self.padding = length, depth, n_step, padding
        self.episodes = [[] for _ in range(games)]

    def reset(self, game):
        self.episodes[game].append(Episode(game, len(self.episodes[game])))

    def cut(self, game):
        """The episode under way is over: its last step has no next state, so the frame of that step was the last."""
        episode = self.episodes[game][-1]
        if episode.ending is None and len(episode):
            for numbers in (episode.actions, episode.rewards, episode.stops):
                numbers.pop()
            episode.ending = TRUNCATES

    def slots(self, game):
        """What lies in the game's ring, the oldest first: (episode, step), also for the frame that ended an episode."""
        slots = []
        for episode in self.episodes[game]:
            slots += [(episode, step) for step in range(len(episode) + (episode.ending is not None))]
        return slots[-self.length :]

    def stored(self):
        """How many steps lie in the rings."""
        return sum(step < len(episode) for game in range(len(self.episodes)) for episode, step in self.slots(game))

    def drawable(self):
        """The transitions of all steps whose stack is whole and whose n steps are there."""
        found = set()
        for game in range(len(self.episodes)):
            slots = self.slots(game)
            for episode, step in slots:
                if step < len(episode) and (episode, max(step - self.depth + 1, 0)) in slots:
                    found.add(episode.transition(step, self.depth, self.n_step, self.padding))
        return found - {None}


scenarios = st.fixed_dictionaries(
    {
        "games": st.integers(1, 3),
        "depth": st.integers(1, 4),
        "n_step": st.integers(1, 4),
        "spare": st.integers(0, 30),  # slots of each game beyond the fewest
        "padding": st.sampled_from(["zero", "reset"]),
        "rounds": st.lists(st.lists(st.sampled_from(OUTCOMES), min_size=3, max_size=3), min_size=1, max_size=60),
        "trainings": st.sets(st.integers(1, 20), max_size=3),  # the rounds before which a new training begins
        "restarts": st.sets(st.integers(1, 20), max_size=2),  # before which the memory is saved and restored
    }
)


def follow(memory_class, games, depth, n_step, spare, padding, rounds, trainings, restarts):
    """Play a scenario into a memory and into the model, as the loop does; check what is drawn at its end."""
    length = depth + n_step + 1 + spare
    make = partial(memory_class, games * length, n_step, GAMMA, seed=0, padding=padding)
    memory = make()
    model = Model(games, length, depth, n_step, padding)
    for game in range(games):
        model.reset(game)
    resets = np.zeros(games, bool)
    for number, outcomes in enumerate(rounds):
        if number in trainings:
            memory.begin_episodes()
            for game in range(games):
                model.cut(game)
                model.reset(game)
            resets[:] = False
        if number in restarts and (saved := memory.snapshot()):
            memory = make()
            memory.restore(saved, (depth, 1, 3))
        rows = np.flatnonzero(~resets)
        done = play_round(memory, model, rows, [outcomes[game] for game in rows]) if len(rows) else rows
        for game in np.flatnonzero(resets):
            model.reset(game)
        resets[:] = False
        resets[done] = True
    check(memory, model)


def play_round(memory, model, rows, outcomes):
    """One step of each game in `rows`, [N] int; returns those whose episode ended with it."""
    episodes = [model.episodes[game][-1] for game in rows]
    states = np.stack([episode.stack(len(episode), model.depth, model.padding) for episode in episodes])
    actions = np.array([(7 * episode.game + 3 * episode.number + len(episode)) % 5 for episode in episodes])
    rewards = np.array([episode.game * 10_000 + episode.number * 100 + len(episode) + 1.0 for episode in episodes])
    terminated, truncated = np.isin(outcomes, [TERMINATES, DIES]), np.isin(outcomes, [TRUNCATES])
    stops = np.isin(outcomes, [LOST_LIFE, DIES])
    for i, episode in enumerate(episodes):
        episode.actions.append(actions[i])
        episode.rewards.append(rewards[i])
        episode.stops.append(stops[i])
        if terminated[i] or truncated[i]:
            episode.ending = TERMINATES if terminated[i] else TRUNCATES
    next_states = np.stack([episode.stack(len(episode), model.depth, model.padding) for episode in episodes])
    done = terminated | truncated
    memory.remember(StepBatch(states, actions, rewards, next_states, terminated | stops, done, rows, rewards))
    return rows[done]


def check(memory, model):
    """All that can be drawn is drawn sooner or later, and nothing else."""
    expected = model.drawable()
    edges = len(model.episodes) * (model.depth - 1 + model.n_step)
    assert len(memory) == max(model.stored() - edges, 0) <= len(expected)
    try:
        batch = memory.sample(50 * len(expected) + 200)  # the chance to miss one of 100 is below 1e-18
    except ValueError:
        batch = [[]] * 5
    drawn = set()
    for state, action, reward, discount, next_state in zip(*batch[:5], strict=True):
        drawn.add((state.tobytes(), int(action), float(reward), float(discount), next_state.tobytes()))
    assert drawn == expected


@settings(max_examples=300)
@given(scenarios)
def test_draws_what_whole_episodes_in_lists_would_give(scenario):
    follow(FrameMemory, **scenario)


AGES = "self._frames_since_reset[games, steps % self._length][:, None]"
GOES = "alive &= ~terminal & (self._slot_type[games, at] == STEP)"
SUM, REWARD = "for k in range(self.n_step):\n            at", "discounts * self._rewards[games, at]"
REPLACE = "slots = self._written[games] % self._length\n        self._replace(games, slots)"
MUTANTS = {  # a line of the class: the same with a slip of one
    "drawn though its oldest frame was overwritten": (">= oldest)", ">= oldest - 1)"),
    "drawn before its last next state came": ("(steps + k < newest)", "(steps + k <= newest)"),
    "no look at the n steps": ("(steps + k < newest)", "(steps < newest)"),
    "the ring is one longer than it is": ("newest + 1 - self._length", "newest - self._length"),
    "the oldest step is never drawn": ("newest + 1 - self._length", "newest + 2 - self._length"),
    "a stack reaches one frame too far back": (f"ages = {AGES}", f"ages = 1 + {AGES}"),
    "frames before the start are not padded": ("stacks[back > ages] = 0", "pass"),
    "one frame too many is padded": ("stacks[back > ages] = 0", "stacks[back >= ages] = 0"),
    "padded with the frame after the first": ("np.minimum(back, ages)", "np.minimum(back, np.maximum(ages - 1, 0))"),
    "a stack in the wrong order": ("np.arange(self._stack - 1, -1, -1)", "np.arange(self._stack)"),
    "ages grow to the whole stack": ("+ 1, self._stack - 1)", "+ 1, self._stack)"),
    "a game begins with the age of the one before": ("self._age[over] = 0", "pass"),
    "a training begins with the age of the one before": ("self._age[game] = 0", "pass"),
    "the final frame is the state before it": ("steps.next_state[done, -1]", "steps.state[done, -1]"),
    "the final frame is the oldest of its stack": ("steps.next_state[done, -1]", "steps.next_state[done, 0]"),
    "the final frame counts as a step": ("self._slot_type[over, slots] = END", "self._slot_type[over, slots] = LAST"),
    "the oldest frame is stored": ("= steps.state[:, -1]", "= steps.state[:, 0]"),
    "n steps go on after a lost life": (GOES, "alive &= self._slot_type[games, at] == STEP"),
    "n steps go on after the end": (GOES, "alive &= ~terminal"),
    "truncation stops the bootstrap": ("= steps.terminal", "= steps.terminal | done"),
    "a lost life does not stop the bootstrap": ("= steps.terminal", "= steps.terminal & done"),
    "a truncated game is not its last step": ("take(done)", "take(steps.terminal & done)"),
    "one step too few": (f"{SUM} = ", f"{SUM} = ".replace("n_step", "n_step - 1")),
    "rewards are not discounted": (REWARD, "self._rewards[games, at]"),
    "rewards of the step before": (REWARD, "discounts * self._rewards[games, at - 1]"),
    "the next state one step early": ("steps + spans)", "steps + spans - 1)"),
    "the next state one step late": ("spans += alive", "spans += 1"),
    "actions of the step before": ("self._actions[games, slots],", "self._actions[games, slots - 1],"),
    "rows go to the first games": (REPLACE, f"games = np.arange(len(games))\n        {REPLACE}"),
    "games are drawn by the wrong counts": ("(ends - stored)[games]", "(ends - stored + 1)[games]"),
    "the training before goes on": ("self._slot_type[game, newest] = END", "pass"),
    "the step before it goes on": ("self._slot_type[game, before] = LAST", "pass"),
    "a replaced final frame is counted as a step": ("(self._slot_type[games, slots] != END)))", "True))"),
    "a step cut off is still counted": ("self._steps -= 1", "pass"),
    "restored final frames are counted as steps": ("there & (self._slot_type != END)", "there"),
    "restored slots without anything are counted": ("there & (self._slot_type != END)", "self._slot_type != END"),
    "restored games begin anew": ('self._written[:], self._age[:] = arrays["written"], arrays["age"]',
                                  'self._written[:] = arrays["written"]'),
    "a saved ring is cut where the shortest ends": ("int(self._written.max())", "int(self._written.min())"),
    "restored rings lack their last slot": ("[:, :filled] = arrays[name]", "[:, : filled - 1] = arrays[name][:, :-1]"),
}  # fmt: skip


def mutant(old, new):
    """The class with that change of its source."""
    source = inspect.getsource(FrameMemory)
    assert source.count(old) == 1, f"{old!r} is {source.count(old)} times in FrameMemory"
    names = dict(vars(frame_memory))
    exec(compile(source.replace(old, new), "mutant", "exec"), names)
    return names["FrameMemory"]


@pytest.mark.parametrize("slip", MUTANTS)
def test_a_slip_of_one_is_caught(slip):
    changed = mutant(*MUTANTS[slip])

    @settings(max_examples=1000, derandomize=True, database=None, phases=[Phase.generate])
    @given(scenarios)
    def scenario_test(scenario):
        follow(changed, **scenario)

    with pytest.raises((AssertionError, ValueError, IndexError)):
        scenario_test()


# ---------------------------------------------------------------- what else it promises


def filled(capacity=60, games=3, rounds=50, **options):
    """A memory of games that never end, with stacks of 2."""
    memory = FrameMemory(capacity, seed=0, **options)
    for step in range(rounds):
        states, next_states = (
            np.stack([np.stack([frame(game, 0, max(at - 1, 0)), frame(game, 0, at)]) for game in range(games)])
            for at in (step, step + 1)
        )
        no, numbers = np.zeros(games, bool), np.arange(games)
        rewards = numbers.astype(float)
        memory.remember(StepBatch(states, numbers, rewards, next_states, no, no, numbers, rewards))
    return memory


def test_takes_as_many_bytes_as_it_says():
    for shape in [(84, 84), (165, 140, 3), (1, 3)]:
        memory = FrameMemory(900)
        states = np.zeros((3, 2, *shape), np.uint8)
        no = np.zeros(3, bool)
        memory.remember(StepBatch(states, np.zeros(3, int), np.zeros(3), states, no, no, np.arange(3), np.zeros(3)))
        arrays = [array for array in vars(memory).values() if isinstance(array, np.ndarray)]
        bookkeeping = 2 * 3 * 8 + 2 * 8  # two numbers a game, one for each frame of a stack
        assert sum(array.nbytes for array in arrays) == memory.bytes_needed(900, (2, *shape)) + bookkeeping
        assert FrameMemory.bytes_needed(900, (2, *shape)) >= 900 * np.prod(shape)


def test_a_million_steps_of_atari_fit_into_seven_gigabytes():
    assert FrameMemory.bytes_needed(1_000_000) <= 7.3e9
    assert 0.69e9 < FrameMemory.bytes_needed(10_000, (2, 165, 140, 3)) < 0.71e9


def test_sampling_is_uniform_over_games_and_steps():
    memory = filled()
    batch = memory.sample(40_000)
    numbers = batch.state[:, 1, 0, 0].astype(int) * 1000 + batch.state[:, 1, 0, 2]
    kinds, counts = np.unique(numbers, return_counts=True)
    assert len(kinds) == 3 * (20 - 2)  # of each ring's 20 steps, one lacks its stack and one its next state
    share = 1 / len(kinds)
    assert np.abs(counts - 40_000 * share).max() < 5 * np.sqrt(40_000 * share * (1 - share))


def test_same_seed_same_sample_and_samples_are_copies():
    first, same = filled(), filled()
    batches = first.sample(20), same.sample(20)
    for one, other in zip(*batches, strict=True):
        np.testing.assert_array_equal(one, other)
    batches[0].state[:] = 99
    for one, other in zip(first.sample(200), same.sample(200), strict=True):
        np.testing.assert_array_equal(one, other)
    assert [field.dtype for field in batches[0][:5]] == [np.uint8, np.int32, np.float32, np.float32, np.uint8]


def test_is_ready_with_a_sample_and_no_sooner_than_learning_starts():
    assert len(filled()) == 60 - 3 * 2
    assert filled().ready((54, 1)) and not filled().ready((55, 1))
    assert not filled(learning_starts=55).ready((1, 1)) and filled(learning_starts=54).ready((1, 1))


def test_what_is_restored_must_fit():
    saved, memory = filled().snapshot(), filled()
    before = memory.sample(9)
    with pytest.raises(ValueError, match=r"stacks must be \(3, 1, 3\). Received: \(2, 1, 3\)"):
        memory.restore(saved, (3, 1, 3))
    longer = {**saved, "layout": np.array([21, 2])}
    with pytest.raises(ValueError, match="`memory_size` must be what it was: 63 steps of 3 games. Received: 60"):
        memory.restore(longer, (2, 1, 3))
    with pytest.raises(ValueError, match="`memory_size` must be what it was: 60 steps of 3 games. Received: 30"):
        FrameMemory(30).restore(saved, (2, 1, 3))
    memory.sampler.random = np.random.default_rng(0)
    for one, other in zip(memory.sample(9), before, strict=True):
        np.testing.assert_array_equal(one, other)


def test_refuses_what_it_cannot_hold():
    for capacity in (0, -1, 1.5, "9"):
        with pytest.raises(ValueError, match=r"`capacity`.* Received: "):
            FrameMemory(capacity)
    with pytest.raises(ValueError, match=r"`padding` must be one of \['zero', 'reset'\]. Received: 'edge'"):
        FrameMemory(9, padding="edge")
    with pytest.raises(ValueError, match=r"at least 18 steps for 3 games .* n_step=3. Received: 15"):
        filled(15, n_step=3)
    memory = FrameMemory(9)
    assert len(memory) == 0
    memory.begin_episodes()  # nothing is under way
    with pytest.raises(ValueError, match="no steps yet. Received: 4"):
        memory.sample(4)
    with pytest.raises(ValueError, match=r"holds 3 steps, none .* Received: 4"):
        filled(rounds=1).sample(4)
