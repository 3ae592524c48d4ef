"""Mean courses with their bands, and the figure that holds them."""

import warnings
from itertools import pairwise

import numpy as np
import pytest
from matplotlib.colors import to_hex

from tests.drawings import texts
from tests.run_folders import records, run_folder, sweep
from tracetorch.compare.comparison import compare
from tracetorch.compare.output import MOST_DRAWN, course, draw_comparison, drawn
from tracetorch.plot import Entry, comparison

T2 = 0.95 / np.sqrt(2 * 0.975 * 0.025)  # Student's t with two degrees of freedom at .975


# ── courses ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_three_curves_have_an_interval():
    found = course([[(1, 1.0), (2, 4.0)], [(1, 2.0), (2, 4.0)], [(2, 4.0), (1, 3.0)]])
    assert found.x.tolist() == [1, 2] and found.mean.tolist() == [2, 4] and found.whole.all()
    assert found.low == pytest.approx([2 - T2 / np.sqrt(3), 4])
    assert found.high == pytest.approx([2 + T2 / np.sqrt(3), 4])


def test_two_curves_have_a_band_from_one_to_the_other_and_one_has_none():
    found = course([[(1, 1.0), (2, 4.0)], [(1, 2.0), (2, 3.0)]])
    assert (found.low.tolist(), found.high.tolist()) == ([1, 3], [2, 4])
    alone = course([[(1, 1.0), (2, 4.0)]])
    assert alone.mean.tolist() == [1, 4] and np.isnan(alone.low).all() and alone.whole.all()


def test_between_its_records_a_run_lies_on_the_line_and_beyond_them_it_does_not_count():
    found = course([[(0, 0.0), (10, 1.0)], [(0, 0.0), (4, 0.0)]])
    assert found.x.tolist() == [0, 4, 10]
    assert found.mean == pytest.approx([0, 0.2, 1.0])
    assert found.whole.tolist() == [True, True, False]
    assert found.high == pytest.approx([0, 0.4, np.nan], nan_ok=True)


def test_a_gap_that_no_run_covers_is_left_out():
    assert course([[(0, 0.0)], [(10, 1.0)]]).mean.tolist() == [0, 1]
    assert course([]) is None and course([[], []]) is None
    assert course([[], [(1, 2.0)]]).mean.tolist() == [2]
    assert course([[(1, 2.0), (1, 3.0)]]).mean.tolist() == [3]  # the last that was said of an update


def test_a_long_curve_is_thinned():
    found = course([[(at, float(at)) for at in range(5000)]])
    assert len(found.x) == 400 and (found.x[0], found.x[-1]) == (0, 4999) and found.mean == pytest.approx(found.x)


# ── the figure ──────────────────────────────────────────────────────────────────────────────────────────────────────


def entry(name="a", values=(0.5,), bar=None, curve=None):
    return Entry(name, values, float(np.mean(values)), bar, curve)


def test_a_row_for_each_group_says_its_n(tmp_path):
    found = compare([sweep(tmp_path, {0.1: [0.7, 0.8, 0.9], 0.2: [0.8, 0.7], 0.3: [0.6]})])
    shown = texts(draw_comparison(found))
    for label in ("A lr=0.1 (n=3)", "B lr=0.2 (n=2)", "C lr=0.3 (n=1)", "accuracy (validation)", "accuracy (final)"):
        assert label in [" ".join(text.split()) for text in shown]
    note = " ".join(" ".join(shown).split())
    assert "Lines: means over runs. Bands" in note
    assert "95 % interval of the mean (Student's t); for n=2, the range of the two runs." in note
    assert "A single run has no interval." in note


def test_the_line_is_dotted_where_some_runs_have_stopped(tmp_path):
    run_folder(tmp_path / "a")
    run_folder(tmp_path / "b", seed=1, lines=records(0.8, updates=30))
    figure = draw_comparison(compare([tmp_path]))
    assert any("dotted where some runs have ended" in text for text in texts(figure))
    thin, thick = figure.axes[0].lines
    assert thin.get_linestyle() == ":" and np.isfinite(thin.get_ydata()).all()
    assert np.isfinite(thick.get_ydata()).tolist() == [x <= 30 for x in thick.get_xdata()]


def test_points_bars_and_bands_are_where_the_numbers_are(tmp_path):
    found = compare([sweep(tmp_path, {0.1: [0.7, 0.8, 0.9], 0.2: [0.8, 0.7], 0.3: [0.6]})])
    left, right = draw_comparison(found).axes
    drawn_at = [line.get_xdata() for line in right.lines if len(line.get_xdata())]
    summary = found.groups[0].summary
    for expected in ([0.7, 0.8, 0.9], [summary.low, summary.high], [0.7, 0.8], [summary.mean], [0.6]):
        assert any(len(x) == len(expected) and np.allclose(sorted(x), expected) for x in drawn_at)
    assert len(left.collections) == 2  # bands; one run has none
    assert to_hex(left.collections[0].get_facecolor()[0]) == "#0072b2"


@pytest.mark.parametrize(
    ("splits", "metric", "label"),
    [
        (("validation", "train", "test"), "accuracy", "accuracy (validation)"),
        (("train", "test"), "loss", "loss (training)"),
        (("validation",), "of_ideal", "accuracy (validation)"),  # which is not recorded: the usual one's is drawn
        (("test",), "accuracy", "no curves were recorded"),
    ],
)
def test_whose_curves_are_drawn(tmp_path, splits, metric, label):
    run_folder(tmp_path / "a", lines=[row for row in records(0.9) if row["split"] in splits])
    assert label in texts(draw_comparison(compare([tmp_path], metric=metric)))


@pytest.mark.parametrize("groups", [1, 8, 9, MOST_DRAWN, MOST_DRAWN + 3])
def test_any_number_of_groups_can_be_drawn_and_told_apart(tmp_path, groups):
    found = compare([sweep(tmp_path, {at / 10: [0.5 + at / 1000] for at in range(1, groups + 1)})])
    figure = draw_comparison(found)
    shown = [" ".join(text.split()) for text in texts(figure)]
    assert len({text for text in shown if "(n=1)" in text}) == min(groups, MOST_DRAWN)
    assert len(drawn(found)) == min(groups, MOST_DRAWN)
    assert (f"Only the best {MOST_DRAWN} of {groups} groups" in " ".join(shown)) == (groups > MOST_DRAWN)
    looks = [(line.get_color(), line.get_marker()) for line in figure.axes[1].lines if line.get_marker() != "None"]
    assert len(set(looks)) == len(looks) == min(groups, MOST_DRAWN)


@pytest.mark.parametrize("metric", ["accuracy", "loss"])  # the loss of these runs falls as their accuracy rises
def test_the_best_are_drawn_where_there_are_too_many(tmp_path, metric):
    found = compare([sweep(tmp_path, {at / 10: [0.5 + at / 1000] for at in range(1, MOST_DRAWN + 4)})], metric=metric)
    assert [group.label for group in drawn(found)] == [f"lr={at / 10:g}" for at in range(4, MOST_DRAWN + 4)]


def test_the_names_beside_the_rows_do_not_overlap(tmp_path):
    long = [entry(f"{at}  " + "what sets it apart, and more, " * at) for at in range(1, 9)]
    figure = comparison(long, of_curves="x", of_values="y")
    figure.draw_without_rendering()
    boxes = [label.get_window_extent() for label in figure.axes[1].get_yticklabels()]
    assert len(boxes) == 8
    assert all(upper.y0 >= lower.y1 - 0.5 for upper, lower in pairwise(boxes))
    assert all(box.x1 <= figure.bbox.x1 for box in boxes)
    assert all("(n=1)" in label.get_text() for label in figure.axes[1].get_yticklabels())
    assert any("…" in text for text in texts(figure))


@pytest.mark.parametrize(
    "name", ["$\\bad$", "50 $ and 60 $", "語", "a\nb", "", " ", "<script>", "x" * 500, "\\", "%", "{}"]
)
def test_any_name_can_be_drawn(name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = comparison([entry(name), entry(name)], of_curves=name, of_values=name, note=name)
        figure.draw_without_rendering()


@pytest.mark.parametrize("values", [(0.0,), (5.0, 5.0), (1e-300, 2e-300), (-1e99, 1e99), tuple(range(600))])
def test_any_values_can_be_drawn(values):
    comparison(
        [entry(values=values, bar=(min(values), max(values)))], of_curves="x", of_values="y"
    ).draw_without_rendering()


def test_nothing_cannot_be_drawn():
    with pytest.raises(ValueError, match="at least one group"):
        comparison([], of_curves="x", of_values="y")
