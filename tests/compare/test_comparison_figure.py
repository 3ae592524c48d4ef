"""Mean courses with their bands, and the figure that holds them."""

from itertools import pairwise

import numpy as np
import pytest

from tests.drawings import texts
from tests.run_folders import records, run_folder, sweep
from tracetorch.compare.comparison import compare
from tracetorch.compare.output import MOST_DRAWN, course, draw_comparison, drawn
from tracetorch.plot import Entry, comparison
from tracetorch.plot.labels import shortened

T2 = 0.95 / np.sqrt(2 * 0.975 * 0.025)  # Student's t with two degrees of freedom at .975
NAN = float("nan")


@pytest.mark.parametrize(
    ("curves", "x", "mean", "low", "high", "whole"),
    [
        ([[(1, 1.0), (2, 4.0)], [(1, 2.0), (2, 4.0)], [(2, 4.0), (1, 3.0)]], [1, 2], [2, 4],
         [2 - T2 / np.sqrt(3), 4], [2 + T2 / np.sqrt(3), 4], [True, True]),
        ([[(1, 1.0), (2, 4.0)], [(1, 2.0), (2, 3.0)]], [1, 2], [1.5, 3.5], [1, 3], [2, 4], [True, True]),
        ([[(1, 1.0), (2, 4.0)]], [1, 2], [1, 4], [NAN, NAN], [NAN, NAN], [True, True]),
        # between its records a run lies on the line, and beyond them it does not count
        ([[(0, 0.0), (10, 1.0)], [(0, 0.0), (4, 0.0)]], [0, 4, 10], [0, 0.2, 1], [0, 0, NAN], [0, 0.4, NAN],
         [True, True, False]),
        ([[(0, 0.0)], [(10, 1.0)]], [0, 10], [0, 1], [NAN, NAN], [NAN, NAN], [False, False]),  # and the gap is left out
        ([[], [(1, 2.0), (1, 3.0)]], [1], [3], [NAN], [NAN], [True]),  # the last that was said of an update
    ],
    ids=["three", "two", "one", "unequal", "apart", "twice"],
)  # fmt: skip
def test_a_course_is_the_mean_with_its_interval_or_range(curves, x, mean, low, high, whole):
    found = course(curves)
    assert found.x.tolist() == x and found.mean == pytest.approx(mean) and found.whole.tolist() == whole
    assert found.low == pytest.approx(low, nan_ok=True) and found.high == pytest.approx(high, nan_ok=True)


def test_a_missing_curve_has_no_course_and_a_long_one_is_thinned():
    assert course([]) is None and course([[], []]) is None
    found = course([[(at, float(at)) for at in range(5000)]])
    assert len(found.x) == 400 and (found.x[0], found.x[-1]) == (0, 4999) and found.mean == pytest.approx(found.x)


def test_points_bars_and_bands_show_the_numbers_and_are_explained(tmp_path):
    found = compare([sweep(tmp_path, {0.1: [0.7, 0.8, 0.9], 0.2: [0.8, 0.7], 0.3: [0.6]})])
    figure = draw_comparison(found)
    left, right = figure.axes
    drawn_at = [line.get_xdata() for line in right.lines if len(line.get_xdata())]
    summary = found.groups[0].statistics
    for expected in ([0.7, 0.8, 0.9], [summary.low, summary.high], [0.7, 0.8], [summary.mean], [0.6]):
        assert any(len(x) == len(expected) and np.allclose(sorted(x), expected) for x in drawn_at)
    assert len(left.collections) == 2  # bands; one run has none
    shown = [" ".join(text.split()) for text in texts(figure)]
    labels = {"A lr=0.1 (n=3)", "B lr=0.2 (n=2)", "C lr=0.3 (n=1)"}
    assert labels | {"accuracy (validation)", "accuracy (final)", "updates"} <= set(shown)
    note = "Lines: means over runs. Bands and bars: 95 % interval of the mean (Student's t); for n=2, the range of the"
    assert f"{note} two runs. Small points: runs. A single run has no interval." in " ".join(shown)
    assert 0 <= figure._supxlabel.get_position()[0] < 0.1


def test_the_line_is_dotted_where_some_runs_have_stopped(tmp_path):
    run_folder(tmp_path / "a")
    run_folder(tmp_path / "b", seed=1, lines=records(0.8, updates=30))
    figure = draw_comparison(compare([tmp_path]))
    assert any("dotted where some runs have no value" in text for text in texts(figure))
    thin, thick = figure.axes[0].lines
    assert thin.get_linestyle() == ":" and np.isfinite(thin.get_ydata()).all()
    assert np.isfinite(thick.get_ydata()).tolist() == [x <= 30 for x in thick.get_xdata()]


def test_curves_of_the_metric_or_of_the_default_one_are_drawn(tmp_path):
    for splits, metric, label in (
        (("train", "test"), "loss", "loss (training)"),
        (("validation",), "of_ideal", "accuracy (validation)"),  # it is not recorded: the default metric is drawn
        (("test",), "accuracy", "no curves were recorded"),
    ):
        run_folder(tmp_path / metric / "a", lines=[row for row in records(0.9) if row["split"] in splits])
        assert label in texts(draw_comparison(compare([tmp_path / metric], metric=metric)))
    in_seconds = draw_comparison(compare([tmp_path / "loss"], metric="wall_seconds"))
    assert "wall time (s, final)" in texts(in_seconds)


@pytest.mark.parametrize("groups", [9, MOST_DRAWN, MOST_DRAWN + 3])
def test_groups_look_different_and_the_best_are_drawn(tmp_path, groups):
    folder = sweep(tmp_path, {at / 10: [0.5 + at / 1000] for at in range(1, groups + 1)})
    found = compare([folder])
    figure = draw_comparison(found)
    shown, count = [" ".join(text.split()) for text in texts(figure)], min(groups, MOST_DRAWN)
    assert len({text for text in shown if "(n=1)" in text}) == count
    assert "Lines: runs. A single run has no interval." in " ".join(shown)
    assert (f"Only the best {MOST_DRAWN} of {groups} groups" in " ".join(shown)) == (groups > MOST_DRAWN)
    looks = [(line.get_color(), line.get_marker()) for line in figure.axes[1].lines if line.get_marker() != "None"]
    assert len(set(looks)) == len(looks) == count
    for metric in ("accuracy", "loss"):  # the loss of these runs falls as their accuracy rises
        best = [group.label for group in drawn(compare([folder], metric=metric))]
        assert best == [f"lr={at / 10:g}" for at in range(groups + 1 - count, groups + 1)]


def entry(name="a", values=(0.5,), bar=None):
    return Entry(name, values, float(np.mean(values)), bar, None)


def test_the_names_of_rows_do_not_overlap():
    long = [entry(f"{at}  " + "what sets it apart, and more, " * at) for at in range(1, 9)]
    figure = comparison(long, of_curves="x", of_values="y")
    figure.draw_without_rendering()
    boxes = [label.get_window_extent() for label in figure.axes[1].get_yticklabels()]
    assert len(boxes) == 8
    assert all(upper.y0 >= lower.y1 - 0.5 for upper, lower in pairwise(boxes))
    assert all(box.x1 <= figure.bbox.x1 for box in boxes)
    assert all("(n=1)" in label.get_text() for label in figure.axes[1].get_yticklabels())
    assert any("…" in text for text in texts(figure))
    same = [
        "task=a_long_name, rule=three_factor, delay=1, trials=200",
        "task=b, rule=three_factor, delay=1, trials=400",
    ]
    alike = [f"task=a_long_name, decay=0.9{at}, momentum=0.95, trials=2000" for at in range(3)]
    for names, shown in (
        (same, ["task=a_long_name, trials=200", "task=b, trials=400"]),
        (alike, ["decay=0.90", "decay=0.91", "decay=0.92"]),
        ([*alike, "task=b"], ["…, decay=0.90, …", "…, decay=0.91, …"]),
        (["x" * 99 + "y" + "x" * 99, "x" * 199], ["x" * 99 + "y" + "x" * 99, "x" * 199]),
    ):
        assert shortened(names, lambda name: len(name) <= 30)[: len(shown)] == shown


def test_any_names_and_values_can_be_drawn_and_no_groups_are_refused():
    for name in ("$\\bad$", "50 $ and 60 $", "語", "a\nb", "", "<script>", "x" * 500, "\\", "%", "{}"):
        comparison([entry(name)] * 2, of_curves=name, of_values=name, note=name).draw_without_rendering()
    for values in [(0.0,), (5.0, 5.0), (1e-300, 2e-300), (-1e99, 1e99), tuple(range(600))]:
        some = [entry(values=values, bar=(min(values), max(values)))]
        comparison(some, of_curves="x", of_values="y").draw_without_rendering()
    with pytest.raises(ValueError, match="at least one group"):
        comparison([], of_curves="x", of_values="y")
