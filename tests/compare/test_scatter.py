"""One number against another: which runs make a point, which points a line, and what is said of it."""

import csv
import math

import numpy as np
import pytest
from matplotlib.figure import Figure

from tests.command_line import files, ran
from tests.drawings import texts
from tests.run_folders import run_folder, usual_summary
from tracetorch.compare.comparison import compare
from tracetorch.compare.groups import UnknownNameError
from tracetorch.compare.scatter import NoNumberError, draw_scatter, make_scatter, rows, table

MIB = 2**20


def runs(folder, rule="trace", *, delays=(1, 10), seeds=3, experiment="clicks", memory=1.0, **more):
    """Runs with accuracies .9 + delay/1000 + seed/100, which took `memory` MiB for a second of delay, and some."""
    for delay in delays:
        for seed in range(seeds):
            value = 0.9 + delay / 1000 + seed / 100
            task = {"_target_": "tracetorch.tasks.PoissonClicks", "delay": delay, "seed": seed}
            summary = usual_summary(value) | {"training_memory_bytes": MIB * (memory * delay + seed)}
            summary |= {"chance_accuracy": 0.5 + seed / 1000}
            path = folder / f"{experiment}-{rule}-{delay}-{seed}-{len(list(folder.glob('*')))}"
            name = {"experiment": experiment, "timings": {"train_seconds": 2.0 * delay}}
            run_folder(path, value, rule=rule, seed=seed, task=task, summary=summary, facts=name, **more)
    return folder


def lines_of(scatter):
    """For each experiment and line: x, mean and n of its points."""
    lines = {}
    for p in scatter.points:
        lines.setdefault((p.experiment, p.line), []).append((round(p.x.mean, 6), round(p.y.mean, 6), p.y.n))
    return lines


def test_runs_with_the_same_value_of_a_key_are_a_point(tmp_path):
    runs(runs(tmp_path), "bptt", delays=(10,), seeds=2)
    found = make_scatter(compare([tmp_path], by=["rule"]), "task.delay")
    assert found.is_set and found.stem == "accuracy_against_task.delay"
    assert lines_of(found) == {
        ("clicks", "bptt"): [(10, 0.915, 2)],
        ("clicks", "trace"): [(1, 0.911, 3), (10, 0.92, 3)],
    }
    assert found.chances["clicks"] == pytest.approx(0.501)
    assert table(found).rows[1:] == [
        ["trace", "1", "3", "0.911 ± 0.025", "0.9010–0.9210"],
        ["trace", "10", "3", "0.920 ± 0.025", "0.9100–0.9300"],
    ]
    row = rows(found)[1]
    assert (row["x"], row["x_ci_low"], row["runs"], row["seeds"], row["chance"]) == (1, 1, 3, 3, 0.501)


def test_runs_that_differ_only_by_seed_are_a_point_over_a_measured_value(tmp_path):
    found = make_scatter(compare([runs(tmp_path)], by=["rule"]), "training_memory_bytes")
    assert not found.is_set
    assert lines_of(found) == {("clicks", "trace"): [(2 * MIB, 0.911, 3), (11 * MIB, 0.92, 3)]}
    point = found.points[0]
    assert (point.x.least, point.x.most) == (MIB, 3 * MIB)
    lines = [np.array(line.get_data()) for line in draw_scatter(found).axes[0].lines]
    for expected in (
        [[2, 11], [0.911, 0.92]], [[2, 2], [point.y.low, point.y.high]], [[1, 2, 3], [0.901, 0.911, 0.921]],
        [[point.x.low / MIB, point.x.high / MIB], [0.911, 0.911]],
    ):  # fmt: skip
        assert any(line.shape == np.shape(expected) and np.allclose(line, expected) for line in lines), expected
    memory = make_scatter(compare([tmp_path], by=["rule"], metric="training_memory_bytes"), "task.delay")
    assert table(memory).title == "training memory (MiB) against task.delay (s)"
    assert table(memory).rows[0][1:] == ["1", "3", "2.0 ± 2.5", "1.000–3.000"]
    assert table(found).rows[0][1] == "2.000"


def test_without_groups_runs_that_differ_only_in_the_key_are_a_line(tmp_path):
    runs(runs(runs(tmp_path), lr=0.1), lr=0.1, rule="bptt", delays=(1,))
    set_ = make_scatter(compare([tmp_path]), "task.delay")
    assert {label: len(points) for (_, label), points in lines_of(set_).items()} == {
        "rule=trace, lr=0.002": 2, "rule=trace, lr=0.1": 2, "rule=bptt, lr=0.1": 1,
    }  # fmt: skip
    alone = make_scatter(compare([runs(tmp_path / "x")]), "task.delay")
    assert list(lines_of(alone)) == [("clicks", "")]
    measured = make_scatter(compare([tmp_path / "x"]), "training_memory_bytes")
    assert list(lines_of(measured)) == [("clicks", "delay=1"), ("clicks", "delay=10")]


def test_each_experiment_has_a_panel_unless_it_is_a_line(tmp_path):
    runs(runs(runs(tmp_path), "bptt", seeds=2), experiment="cues", lr=0.5)
    runs(tmp_path, experiment="short", delays=(3,), seeds=2)
    found = make_scatter(compare([tmp_path], by=["rule"]), "task.delay")
    assert list(found.chances) == ["clicks", "cues"]
    assert [run.why for run in found.left_out] == ["task.delay is the same in all runs of short"] * 2
    figure, shown = drawn(found)
    assert figure.get_figwidth() <= 7
    names = {"task.delay (s)", "accuracy", "clicks", "cues", "chance", "trace (n=3)", "bptt (n=2)", "1", "10"}
    assert names <= set(shown)
    assert "Bars: 95 % interval of the mean (Student's t); for n=2, the range of the two runs." in " ".join(shown)
    measured = make_scatter(compare([tmp_path], by=["rule"]), "training_memory_bytes")
    assert list(measured.chances) == ["clicks", "cues", "short"] and not measured.left_out
    by_experiment = make_scatter(compare([tmp_path], by=["experiment"]), "task.delay")
    assert list(dict.fromkeys(point.line for point in by_experiment.points)) == ["clicks", "cues", "short"]
    assert make_scatter(compare([runs(tmp_path / "x", delays=(3,))], by=["rule"]), "task.delay").points


def test_a_number_may_come_from_summary_timings_config_or_records(tmp_path):
    lines = [{"update": at, "split": "train", "accuracy": 0.5, "grip": 3.0 + at} for at in (1, 2)]
    found = compare([runs(tmp_path, lines=lines)], by=["rule"])
    for key, expected in {
        "train_seconds": [2.0, 20.0], "loss": [0.28, 0.289], "network.hidden": [64.0], "seed": [0.0, 1.0, 2.0],
        "grip": [5.0, 5.0],
    }.items():  # fmt: skip
        assert [point.x.mean for point in make_scatter(found, key).points] == pytest.approx(expected), key
    run_folder(tmp_path / "old", lr=7)
    left_out = make_scatter(compare([tmp_path], by=["rule"]), "training_memory_bytes").left_out
    assert [(run.name.rpartition("/")[2], run.why) for run in left_out] == [("old", "it has no training memory bytes")]


def test_chance_levels_that_differ_are_none_and_a_word_is_not_a_number(tmp_path):
    for seed, chance in enumerate((0.5, 0.1)):
        run_folder(tmp_path / str(seed), seed=seed, summary=usual_summary(0.9) | {"chance_accuracy": chance})
    assert list(make_scatter(compare([tmp_path]), "seed").chances.values()) == [None]
    for key, error in (("rule", NoNumberError), ("task", NoNumberError), ("", UnknownNameError)):
        with pytest.raises(error, match=r"is not a number|no run has"):
            make_scatter(compare([tmp_path]), key)


def drawn(found) -> tuple[Figure, list[str]]:
    figure = draw_scatter(found)
    return figure, [" ".join(text.split()) for text in texts(figure)]


def test_groups_with_the_same_value_stand_next_to_each_other(tmp_path):
    figure = draw_scatter(make_scatter(compare([runs(runs(tmp_path), "bptt")], by=["rule"]), "task.delay"))
    axes = figure.axes[0]
    bars = [line for line in axes.get_lines() if list(line.get_xdata()) == [1, 1]]
    first, second = (line.get_transform().transform(line.get_xydata())[0, 0] for line in bars)
    assert 1 < abs(first - second) < 20
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    assert left < 1 < 10 < right and bottom < 0.901 < 0.93 < top


def test_a_learned_decay_names_its_layer_and_a_time_constant_its_unit(tmp_path):
    run_folder(tmp_path / "run", summary=usual_summary(0.9) | {"decay_1": 0.97, "time_constant_0": 0.3})
    for metric, words in [("decay_1", "decay, layer 1"), ("time_constant_0", "time constant, layer 0 (s)")]:
        found = make_scatter(compare([tmp_path], metric=metric), "seed")
        assert words in drawn(found)[1] and table(found).title == f"{words} against seed"


def test_an_axis_is_logarithmic_where_values_span_more_than_a_decade(tmp_path):
    for at, (delays, metric, scales, ticks) in enumerate(
        [
            ((1, 3, 10), "accuracy", ("linear", "linear"), {1, 3, 10}),
            ((1, 1.05, 10), "accuracy", ("linear", "linear"), {2, 4, 6, 8, 10}),  # no room for numbers at the values
            ((1, 11), "accuracy", ("log", "linear"), {1, 11}),
            ((0, 11), "accuracy", ("linear", "linear"), {0, 11}),
            ((1, 11), "training_memory_bytes", ("log", "log"), {1, 11}),
            ((5,), "accuracy", ("linear", "linear"), {5}),
        ]
    ):
        found = compare([runs(tmp_path / str(at), delays=delays, memory=20)], metric=metric)
        axes = drawn(make_scatter(found, "task.delay"))[0].axes[0]
        assert (axes.get_xscale(), axes.get_yscale()) == scales
        assert ticks <= set(axes.get_xticks())


def test_an_accuracy_of_1_is_still_a_share_whose_axis_is_never_logarithmic(tmp_path):
    for seed, value in enumerate((0.05, 1.0)):
        run_folder(tmp_path / str(seed), value, seed=seed)
    axes = drawn(make_scatter(compare([tmp_path]), "seed"))[0].axes[0]
    assert axes.get_yscale() == "linear"


def test_only_the_best_of_many_lines_and_any_name_and_value_can_be_drawn(tmp_path):
    for at in range(40):
        run_folder(tmp_path / "many" / str(at), 0.5 + at / 100, lr=at + 1)
    _, shown = drawn(make_scatter(compare([tmp_path / "many"]), "wall_seconds"))
    assert "lr=40 (n=1)" in shown and "lr=8 (n=1)" not in shown
    assert any("Only the best 32 groups are drawn" in text for text in shown)
    for name in ("$\\bad$", "50 $ and 60 $", "語", "_x", "x" * 500):
        run_folder(tmp_path / name[:9] / "a", lr=1e-300, extra=name, facts={"experiment": name})
        run_folder(tmp_path / name[:9] / "b", lr=1e99, extra="b", facts={"experiment": "b"})
        found = make_scatter(compare([tmp_path / name[:9]]), "optimizer.lr")
        assert drawn(found) and all(math.isfinite(row["x"]) for row in rows(found))


def test_the_command_prints_a_table_and_writes_it_with_a_figure(here):
    runs(here / "sweep")
    result = ran("compare", "sweep", "--by", "rule", "--scatter", "task.delay")
    assert ["trace", "10", "3", "0.920", "±", "0.025", "0.9100–0.9300"] in map(str.split, result.stdout.splitlines())
    names = {f"accuracy_against_task.delay.{kind}" for kind in ("png", "svg", "csv")}
    assert files(here / "sweep" / "compare") == names
    with (here / "sweep" / "compare" / "accuracy_against_task.delay.csv").open(newline="") as file:
        assert [row["mean"][:5] for row in csv.DictReader(file)] == ["0.911", "0.92"]
