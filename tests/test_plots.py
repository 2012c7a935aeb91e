import itertools
import re
import types
from io import BytesIO
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib import image, style

from keras_dqn import Evaluation
from keras_dqn.show.plots import (
    compare_runs,
    learning_curve,
    learning_curves,
    losses,
    running_mean,
    save_figure,
    screens,
)


def history_of(scores, epsilons=None, losses=None):
    count = len(scores)
    return types.SimpleNamespace(
        scores=scores,
        lengths=[1] * count,
        losses=[0.5] * count if losses is None else losses,
        epsilons=[1.0] * count if epsilons is None else epsilons,
        times=[0.0] * count,
    )


@pytest.fixture
def history():
    episodes = np.arange(200)
    losses = 0.1 + 1 / (1 + episodes)
    losses[::3] = np.nan
    return history_of(list(episodes + 20.0 * (episodes % 2)), list(0.98**episodes), list(losses))


def pixels(path):
    """Return a PNG as [height, width, 4] between 0 and 1."""
    return image.imread(path)


def drawn(panel, label=None):
    lines = [line for line in panel.lines if label is None or line.get_label() == label]
    assert len(lines) == 1
    return lines[0].get_xdata(), lines[0].get_ydata()


@pytest.mark.parametrize(
    ("window", "expected"), [(1, [3, 5, 10, -2, 4]), (3, [3, 4, 6, 13 / 3, 4]), (100, [3, 4, 6, 4, 4])]
)
def test_running_mean_of_the_last_ones_or_of_all_so_far(window, expected):
    values = [3, 5, 10, -2, 4]
    assert running_mean(values, window) == pytest.approx(expected, abs=1e-12)
    assert values == [3, 5, 10, -2, 4]


def test_running_mean_keeps_its_accuracy_in_a_long_run():
    values = np.random.default_rng(0).normal(1e3, 1, 100_000)
    expected = [values[stop - 100 : stop].mean() for stop in (100, 50_000, 100_000)]
    assert running_mean(values, 100)[[99, 49_999, 99_999]] == pytest.approx(expected, rel=1e-9)


# Learning curve


def test_the_curve_shows_scores_their_mean_and_the_solved_score(history):
    scores_panel, _, _ = learning_curve(history, solved_score=150, window=10, title="CartPole").axes
    episodes, scores = drawn(scores_panel, "Each episode")
    assert list(episodes) == list(range(1, 201))
    assert list(scores) == history.scores
    assert list(drawn(scores_panel, "Mean of last 10")[1]) == list(running_mean(history.scores, 10))
    assert list(drawn(scores_panel, "Solved: 150")[1]) == [150, 150]
    widths = {line.get_label(): line.get_linewidth() for line in scores_panel.lines}
    assert widths["Mean of last 10"] > 2 * widths["Each episode"]
    assert [text.get_text() for text in scores_panel.get_legend().get_texts()] == list(widths)
    assert scores_panel.figure.get_suptitle() == "CartPole"
    labels = [line.get_label() for line in learning_curve(history).axes[0].lines]
    assert labels == ["Each episode", "Mean of last 100"], "without a solved score there is no line for it"


def test_every_axis_says_what_it_shows(history):
    panels = learning_curve(history).axes
    assert [panel.get_ylabel() for panel in panels] == ["Score (sum of rewards)", "Epsilon", "Loss"]
    assert panels[-1].get_xlabel() == "Episode"
    assert panels[0].bbox.height > 2 * panels[1].bbox.height
    assert {panel.get_xlim() for panel in panels} == {(0.5, 200.5)}
    panels[0].figure.draw_without_rendering()
    assert np.ptp([panel.yaxis.label.get_window_extent().x0 for panel in panels]) < 1, "one below the other"


def test_epsilon_and_loss_have_panels_of_their_own(history):
    _, epsilon_panel, loss_panel = learning_curve(history).axes
    assert list(drawn(epsilon_panel)[1]) == history.epsilons
    assert epsilon_panel.get_ylim() == (-0.05, 1.05)
    episodes, losses = drawn(loss_panel)
    expected = [(number, loss) for number, loss in enumerate(history.losses, 1) if not np.isnan(loss)]
    assert list(zip(episodes, losses, strict=True)) == expected
    assert loss_panel.get_yscale() == "linear"


def test_a_loss_over_more_than_two_decades_is_drawn_on_a_logarithmic_scale_and_without_updates_none():
    for values, scale in (([200.0, 1.0], "log"), ([50.0, 1.0], "linear"), ([200.0, 0.0], "linear")):
        assert learning_curve(history_of([1, 2], losses=values)).axes[2].get_yscale() == scale
    figure = learning_curve(history_of([1.0, 2.0, 3.0], losses=[np.nan] * 3))
    assert [text.get_text() for text in figure.axes[2].texts] == ["no updates"]
    figure.draw_without_rendering()


def test_a_single_episode_can_be_seen(tmp_path):
    with_it = learning_curve(history_of([20.0]))
    without_it = learning_curve(history_of([20.0]))
    for panel in without_it.axes:
        panel.lines[0].set_visible(False)
    without_it.axes[0].lines[1].set_visible(False)
    save_figure(with_it, tmp_path / "with.png")
    save_figure(without_it, tmp_path / "without.png")
    assert np.abs(pixels(tmp_path / "with.png") - pixels(tmp_path / "without.png")).max() > 0.5
    ticks = [label.get_text() for label in with_it.axes[2].get_xticklabels()]
    assert "1" in ticks
    assert all(tick.isdigit() for tick in ticks), "an episode has a whole number"


def test_a_history_that_cannot_be_drawn_is_refused(history):
    empty = np.zeros(0)
    with pytest.raises(ValueError, match="at least one episode to draw. Received: none"):
        learning_curve(history_of(empty, empty, empty))
    with pytest.raises(ValueError, match="same first dimension"):
        learning_curve(history_of([1, 2], [1], [1, 2]))
    with pytest.raises(ValueError, match="`window` must be a whole number, 1 or more. Received: 0"):
        learning_curve(history, window=0)


# Losses


def test_the_loss_of_each_update_and_its_mean():
    values = [3.0, 1.0, 5.0, 1.0]
    for history in values, np.array(values, np.float32), types.SimpleNamespace(update_losses=values):
        (panel,) = losses(history, window=2, title="CartPole").axes
        assert [list(axis) for axis in drawn(panel, "Each update")] == [[1, 2, 3, 4], values]
        assert list(drawn(panel, "Mean of last 2")[1]) == [3, 2, 3, 3]
        assert (panel.get_xlabel(), panel.get_ylabel(), panel.get_yscale()) == ("Update", "Loss", "linear")
    assert losses([1.0, 200.0]).axes[0].get_yscale() == "log"


def test_of_many_losses_no_peak_is_lost():
    values = np.random.default_rng(0).random(100_001)
    values[[7, 50_000, 100_000]] = 9, 8, 7
    (panel,) = losses(values).axes
    updates, shown = drawn(panel, "Each update")
    assert len(shown) <= 4000 and list(values[np.array(updates) - 1]) == list(shown)
    assert list(np.sort(shown)[-3:]) == [7, 8, 9] and min(shown) == values.min()
    assert list(updates) == sorted(updates)
    assert drawn(panel, "Mean of last 1000")[1][-1] == pytest.approx(running_mean(values, 1000)[-1], rel=0.1)


def test_no_losses_are_refused():
    with pytest.raises(ValueError, match="at least one update to draw. Received: none"):
        losses([])


# Curves over seeds


def test_the_mean_over_seeds_its_interval_and_each_seed():
    steps, ours, theirs = [1000, 2000], [[10, 20], [30, 60], [20, 40], [15, 30], [25, 50]], [[5, 7], [5, 9]]
    (panel,) = learning_curves({"Keras": (steps, ours), "PyTorch": (steps, theirs)}, solved_score=50).axes
    assert [list(axis) for axis in drawn(panel, "Keras, mean of 5 seeds")] == [steps, [20, 40]]
    assert list(drawn(panel, "PyTorch, mean, min and max of 2 seeds")[1]) == [5, 8]
    assert list(drawn(panel, "Solved: 50")[1]) == [50, 50]
    thin = [list(line.get_ydata()) for line in panel.lines if line.get_linewidth() < 1]
    assert thin == ours + theirs
    band, few = (shade.get_paths()[0].vertices for shade in panel.collections)
    for step, values in zip(steps, np.transpose(ours), strict=True):
        assert sorted({*band[band[:, 0] == step, 1]}) == pytest.approx(Evaluation(np.array(values), []).interval)
    assert sorted({*few[few[:, 0] == 2000, 1]}) == [7, 9], "of two seeds an interval would be from -4.7 to 20.7"
    assert panel.get_ylim() == pytest.approx((5 - 0.05 * 55, 60 + 0.05 * 55)), (
        "the interval, which goes below, is cut off"
    )
    assert [text.get_text() for text in panel.get_legend().get_texts()] == [
        "Keras, mean of 5 seeds",
        "PyTorch, mean, min and max of 2 seeds",
        "Solved: 50",
    ]
    assert (panel.get_xlabel(), panel.get_ylabel()) == ("Environment steps", "Mean score of greedy episodes")


def test_one_seed_with_one_evaluation_can_be_seen(tmp_path):
    figure = learning_curves({"Keras": ([1000], [[5.0]])})
    assert figure.axes[0].lines[0].get_marker() == "."
    save_figure(figure, tmp_path / "curves.png")
    assert pixels(tmp_path / "curves.png").shape == (750, 900, 4)


def test_curves_that_do_not_match_are_refused():
    with pytest.raises(ValueError, match="at least one curve to draw. Received: none"):
        learning_curves({})
    for curve in ([], np.zeros((0, 0))), ([1, 2], [[1, 2, 3]]):
        with pytest.raises(ValueError, match="at least one evaluation of each seed to draw. Received: none"):
            learning_curves({"Keras": curve})


# Runs


def thin_and_thick(panel):
    return [[line for line in panel.lines if (line.get_linewidth() > 2) == thick] for thick in (False, True)]


def test_runs_are_compared_by_the_mean_with_each_episode_behind_it():
    runs = {"juvin": history_of([10, 30, 20]), "best": history_of([50, 70])}
    (panel,) = compare_runs(runs, window=2, title="CartPole").axes
    thin, thick = thin_and_thick(panel)
    assert [list(line.get_ydata()) for line in thin] == [[10, 30, 20], [50, 70]]
    assert [list(line.get_ydata()) for line in thick] == [[10, 20, 25], [50, 60]]
    assert [list(line.get_xdata()) for line in thin + thick] == [[1, 2, 3], [1, 2]] * 2
    assert [line.get_color() for line in thin] == [line.get_color() for line in thick] == ["#0072b2", "#d55e00"]
    assert {line.get_alpha() for line in thin} == {0.45} and {line.get_alpha() for line in thick} == {None}
    assert min(line.zorder for line in thick) > max(line.zorder for line in thin), "no mean is hidden"
    assert [text.get_text() for text in panel.get_legend().get_texts()] == ["juvin", "best"]
    assert (panel.get_xlabel(), panel.get_ylabel()) == ("Episode", "Score (thick: mean of last 2)")
    assert panel.figure.get_suptitle() == "CartPole"


def test_runs_over_environment_steps():
    first, second = history_of([10, 30, 20]), history_of([50, 70])
    first.lengths, second.lengths = [100, 1, 9], [200, 300]
    (panel,) = compare_runs({"a": first, "b": second}, x="steps", solved_score=60).axes
    thin, thick = thin_and_thick(panel)
    assert list(drawn(panel, "Solved: 60")[1]) == [60, 60]
    assert [list(line.get_xdata()) for line in [*thin[:2], *thick]] == [[100, 101, 110], [200, 500]] * 2
    assert panel.get_xlabel() == "Environment steps" and panel.get_xlim()[0] == 0


def test_no_two_of_many_runs_look_alike_and_none_is_out_of_the_picture(tmp_path):
    runs = {"a/long/path/" * 6 + str(number): history_of([number, 2 * number]) for number in range(10)}
    figure = compare_runs(runs)
    thick = thin_and_thick(figure.axes[0])[1]
    assert len({(line.get_color(), line.get_linestyle()) for line in thick}) == 10
    save_figure(figure, tmp_path / "runs.png")
    picture = pixels(tmp_path / "runs.png")
    assert picture.shape[1] == 900
    for edge in (picture[0], picture[-1], picture[:, 0], picture[:, -1]):
        assert (edge == 1).all(), "nothing is cut off"
    assert figure.axes[0].bbox.height > 300, "the legend leaves room"


def test_of_a_long_run_no_peak_is_lost():
    scores = np.random.default_rng(0).random(100_001)
    scores[50_000] = 9
    run = history_of(scores)
    run.lengths = np.full(100_001, 7)
    thin, thick = thin_and_thick(compare_runs({"long": run}, x="steps").axes[0])
    places, shown = thin[0].get_data()
    assert len(shown) <= 4000 and places[shown.argmax()] == 50_001 * 7
    assert len(thick[0].get_xdata()) <= 4000


@pytest.mark.parametrize(
    ("runs", "options", "message"),
    [
        ({}, {}, "at least one run to draw. Received: none"),
        ({"a": history_of([1]), "b": history_of([])}, {}, "at least one episode of 'b' to draw. Received: none"),
        ({"a": history_of([1])}, {"x": "hours"}, r"one of \['episodes', 'steps'\]. Received: 'hours'"),
        ({"a": history_of([1])}, {"window": 0}, "1 or more. Received: 0"),
    ],
)
def test_runs_that_cannot_be_drawn_are_refused(runs, options, message):
    with pytest.raises(ValueError, match=message + "$"):
        compare_runs(runs, **options)


# Evaluations


def evaluated(scores, lengths, evaluations):
    run = history_of(scores)
    run.lengths = lengths
    run.evaluations = [types.SimpleNamespace(steps=steps, score=score) for steps, score in evaluations]
    return run


def test_greedy_evaluations_are_a_line_of_their_own_and_solving_is_a_star():
    run = evaluated([10, 20, 30], [10, 20, 30], [(5, 40), (20, 90), (45, 480), (60, 500)])
    panel = learning_curve(run, solved_score=475).axes[0]
    places, scores = drawn(panel, "Greedy evaluations (star: solved)")
    assert list(scores) == [40, 90, 480, 500]
    assert list(places) == [0.5, 1.5, 2.5, 3], "among the episodes, by the steps that these took"
    assert [list(axis) for line in panel.lines if line.get_marker() == "*" for axis in line.get_data()] == [
        [2.5],
        [480],
    ]
    assert panel.get_ylim()[1] > 500
    assert not [line for line in learning_curve(run).axes[0].lines if line.get_marker() == "*"]


def test_runs_that_are_compared_show_their_evaluations_too():
    runs = {"best": evaluated([20, 22], [20, 22], [(42, 500)]), "juvin": history_of([30, 40])}
    (panel,) = compare_runs(runs, x="steps", solved_score=475).axes
    points, star = ([line for line in panel.lines if line.get_marker() == marker] for marker in "o*")
    assert [[list(axis) for axis in line.get_data()] for line in points] == [[[42], [500]], [[], []]]
    assert [list(axis) for axis in star[0].get_data()] == [[42], [500]]
    assert points[0].get_color() == star[0].get_color() == thin_and_thick(panel)[1][0].get_color()
    texts = [text.get_text() for text in panel.get_legend().get_texts()]
    assert texts == ["best", "juvin", "Greedy evaluations (star: solved)", "Solved: 475"]


# Screens


@pytest.mark.parametrize(("cleaned", "panels"), [(np.zeros((4, 84, 84), np.uint8), 5), (np.zeros((1, 9, 9, 3)), 2)])
def test_screens_of_any_number_fit_the_width_of_a_notebook(cleaned, panels):
    figure = screens(np.zeros((210, 160, 3), np.uint8), cleaned)
    assert len(figure.axes) == panels and figure.get_size_inches()[0] == 6
    figure.draw_without_rendering()
    boxes = [panel.get_window_extent() for panel in figure.axes]
    assert not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))


# Files


def test_the_picture_is_opaque_white_with_curves_on_it(history, tmp_path):
    save_figure(learning_curve(history, solved_score=150), tmp_path / "videos" / "curve.png")
    picture = pixels(tmp_path / "videos" / "curve.png")
    assert picture.shape == (870, 900, 4)
    assert (picture[..., 3] == 1).all()
    for edge in (picture[0], picture[-1], picture[:, 0], picture[:, -1]):
        assert (edge == 1).all(), "nothing is cut off"
    for color in ("#56b4e9", "#0072b2", "#009e73", "#d55e00"):
        rgb = [int(color[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        assert (np.abs(picture[..., :3] - rgb).max(axis=2) < 0.02).sum() > 100, color


def test_the_style_of_the_surroundings_changes_nothing(history, tmp_path):
    save_figure(learning_curve(history), tmp_path / "plain.png")
    dark = ["dark_background", {"savefig.transparent": True, "font.size": 30, "lines.linewidth": 9}]
    with style.context(dark):
        save_figure(learning_curve(history), tmp_path / "dark.png")
    assert (pixels(tmp_path / "plain.png") == pixels(tmp_path / "dark.png")).all()


def test_no_figure_is_left_in_pyplot_and_no_setting_is_changed(history, tmp_path):
    import matplotlib.pyplot as plt

    before = dict(matplotlib.rcParams)
    for _ in range(3):
        save_figure(learning_curve(history), tmp_path / "a.png")
    assert plt.get_fignums() == []
    assert dict(matplotlib.rcParams) == before


@pytest.mark.parametrize("pyplot_first", [False, True])
def test_a_notebook_shows_the_figure_600_pixels_wide_whatever_was_imported(history, monkeypatch, pyplot_first):
    from IPython.core.formatters import DisplayFormatter
    from IPython.core.pylabtools import print_figure
    from matplotlib.figure import Figure

    formatter, shown = DisplayFormatter(), []
    if pyplot_first:  # as the inline backend does it
        formatter.formatters["image/png"].for_type(Figure, print_figure)
    monkeypatch.setattr("IPython.display.display", lambda data, **options: shown.append((data, options)))
    assert formatter.format(learning_curve(history)) == ({}, {}), "the figure shows itself"
    ((data, options),) = shown
    assert options == {"metadata": {"image/png": {"width": 600, "height": 580}}, "raw": True}
    assert image.imread(BytesIO(data["image/png"])).shape == (870, 900, 4)
    assert data["text/plain"].startswith("<Figure")


@pytest.mark.parametrize(
    ("name", "beginning"), [("a.png", b"\x89PNG"), ("a.svg", b"<?xml"), ("a.pdf", b"%PDF"), ("a.PNG", b"\x89PNG")]
)
def test_the_suffix_chooses_the_format(history, tmp_path, name, beginning):
    save_figure(learning_curve(history), str(tmp_path / name))
    assert (tmp_path / name).read_bytes().startswith(beginning)
    assert list(tmp_path.iterdir()) == [tmp_path / name]


def test_another_suffix_is_refused_naming_those_there_are(history, tmp_path):
    for name in ("a.gif", "a", "a.png.txt"):
        with pytest.raises(ValueError, match=rf"\.png, \.svg, \.pdf\. Received: .*{re.escape(name)}"):
            save_figure(learning_curve(history), tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_an_older_picture_survives_a_failure(history, tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    path.write_bytes(b"older picture")
    figure = learning_curve(history)

    def half_written(file, **options):
        Path(file).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(figure, "savefig", half_written)
    with pytest.raises(OSError, match="No space left"):
        save_figure(figure, path)
    assert path.read_bytes() == b"older picture"
    assert list(tmp_path.iterdir()) == [path]
