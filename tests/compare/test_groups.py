"""Which runs belong together, what sets groups apart, and what they are called."""

import json
from shutil import rmtree

import pytest
import yaml

from tests.run_folders import NOTHING, run_folder, sweep, usual_summary
from tracetorch.compare.comparison import NothingToCompareError, compare
from tracetorch.compare.groups import UnknownNameError, differing, labels, letters, show
from tracetorch.compare.tables import differences_in_short, first_lines, of_costs, of_differences, of_groups, of_pairs


def runs_of(found):
    """The labels of the groups, and the folders in each."""
    return {group.label: sorted(run.run.folder.name for run in group.runs) for group in found.groups}


def test_runs_that_differ_only_by_seed_are_a_group(tmp_path):
    found = compare([sweep(tmp_path, {0.1: [0.7, 0.8], 0.02: [0.9, 0.91, 0.92], 0.5: [0.6]})])
    low = found.groups[0]
    assert [(group.letter, group.label, group.statistics.n) for group in found.groups] == [
        ("A", "lr=0.02", 3), ("B", "lr=0.1", 2), ("C", "lr=0.5", 1),
    ]  # fmt: skip
    assert low.statistics.mean == pytest.approx(0.91) and low.mean_of("wall_seconds") == pytest.approx(20.91)
    assert low.mean_of("peak_memory_bytes") == 300 * 2**20 and low.mean_of("nothing") is None
    assert of_groups(found).rows[2] == ["C", "lr=0.5", "1", "0.6000", "0.6000", "20.6 s", "300 MiB"]
    assert "a single run has none" in of_groups(found).note
    assert of_pairs(found).rows[1] == ["C − A", "−0.3100", "one run alone has no interval", ""]


def test_a_label_names_only_what_differs(tmp_path):
    for at, (settings, expected) in enumerate(
        [
            ([{"hidden": (128, 64)}, {"hidden": (64,)}], ["hidden=[64]", "hidden=[128,64]"]),
            ([{"lr": 0.1, "hidden": (8,)}, {"lr": 0.2}], ["hidden=[8], lr=0.1", "hidden=[64], lr=0.2"]),
            ([{"rule": "trace"}, {"rule": "bptt"}], ["rule=bptt", "rule=trace"]),
            ([{"device": "cpu"}, {"device": "cuda", "seed": 1, "threads": 2}], ["poisson_clicks"]),
            ([{"extra": "/a/b"}, {"extra": "/c/d", "seed": 1}], ["extra=/a/b", "extra=/c/d"]),
            ([{"extra": [0.5, 1]}, {"extra": [0.5, 1.0], "seed": 1}], ["poisson_clicks"]),
            ([{"extra": "1"}, {"extra": 1, "seed": 1}], ["extra=1", "extra='1'"]),
            ([{"extra": 1}, {}], ["extra=–", "extra=1"]),
            ([{"a": {"x": 1}, "b": {"x": 1}}, {"a": {"x": 2}, "b": {"x": 3}}], ["a.x=1, b.x=1", "a.x=2, b.x=3"]),
        ]
    ):
        for name, changes in enumerate(settings):
            run_folder(tmp_path / str(at) / str(name), **changes)
        found = [group.label for group in compare([tmp_path / str(at)]).groups]
        assert [label.partition(" (")[0] for label in found] == expected


def test_keys_that_follow_from_a_choice_are_in_the_table_and_not_in_the_label(tmp_path):
    run_folder(tmp_path / "a")
    run_folder(tmp_path / "b", optimizer={"_target_": "torch.optim.SGD", "lr": 0.002, "momentum": 0.9})
    found = compare([tmp_path])
    assert [group.label for group in found.groups] == ["optimizer=adam", "optimizer=sgd"]
    assert of_differences(found).rows == [
        ["optimizer", "adam", "sgd"],
        ["optimizer.betas", "[0.9,0.999]", "–"],
        ["optimizer.momentum", "–", "0.9"],
    ]
    short = differences_in_short(found)
    assert short.rows == [["optimizer", "adam (A); sgd (B)"]] and "2 keys of parts that other groups" in short.note


def test_a_label_of_groups_with_many_differences_names_those_that_distinguish_them(tmp_path):
    many = {f"x{at}": 1 for at in range(9)}
    for at in range(3):
        run_folder(tmp_path / f"{at}", lr=at + 1, **many)
        run_folder(tmp_path / f"{at} other", lr=at + 1, rule="bptt", **dict.fromkeys(many, 2))
    found = compare([tmp_path])
    expected = [f"rule={rule}, lr={lr}" for rule in ("bptt", "trace") for lr in (1, 2, 3)]
    assert [group.label for group in found.groups] == expected
    assert len(of_differences(found).rows) == 11
    assert differences_in_short(found).rows[:3] == [
        ["rule", "bptt (A–C); trace (D–F)"], ["optimizer.lr", "1 (A, D); 2 (B, E); 3 (C, F)"],
        ["x0", "2 (A–C); 1 (D–F)"],
    ]  # fmt: skip
    assert not of_pairs(found, in_short=True).rows and len(of_pairs(found).rows) == 15  # single runs


def test_groups_by_a_key(tmp_path):
    for at, (lr, hidden) in enumerate([(0.1, (8,)), (0.1, (64,)), (0.2, (8,)), (0.2, (64,)), (0.2, (9,))]):
        more = {"extra": 1, "rule": "trace"} if at else {"rule": "eprop"}
        run_folder(tmp_path / str(at), lr=lr, hidden=hidden, seed=at % 2, **more)
    found = compare([tmp_path], by=["optimizer.lr"])
    assert runs_of(found) == {"optimizer.lr=0.1": ["0", "1"], "optimizer.lr=0.2": ["2", "3", "4"]}
    assert of_differences(found).rows[0] == ["network.hidden", "[8], [64]", "[8], [9], [64]"]
    both = compare([tmp_path], by=["optimizer.lr", "network.hidden"])
    assert both.groups[0].label == "optimizer.lr=0.1, network.hidden=[8]"
    run_folder(tmp_path / "other task", lr=0.1, facts={"experiment": "mnist"})
    split = runs_of(compare([tmp_path], by=["optimizer.lr"]))
    assert split["optimizer.lr=0.1, experiment=mnist"] == ["other task"] and len(split) == 3
    rmtree(tmp_path / "other task")
    for key, values in {
        "rule": ["eprop", "trace"], "optimizer": ["adam"], "network.neuron": ["lif"], "seed": ["0", "1"],
        "experiment": ["poisson_clicks"], "extra": ["1", "–"], "device": ["auto"],
    }.items():  # fmt: skip
        assert [group.label for group in compare([tmp_path], by=[key]).groups] == [f"{key}={value}" for value in values]


def test_an_unknown_key_or_metric_is_refused_with_the_known_ones(tmp_path):
    run_folder(tmp_path / "a")
    for key in ("optimizer.lrr", "lr", "", ".", "train.updates.x"):
        with pytest.raises(UnknownNameError, match="no run has") as caught:
            compare([tmp_path], by=[key])
        assert caught.value.name == key and {"rule", "optimizer.lr", "network.hidden"} <= set(caught.value.known)
    with pytest.raises(UnknownNameError, match="no run has 'acuracy'") as caught:
        compare([tmp_path], metric="acuracy")
    assert {"accuracy", "loss", "of_ideal", "train_seconds"} <= set(caught.value.known)


def test_of_equal_runs_the_newest_counts_in_any_time_zone(tmp_path):
    started = ("2026-01-02T01:00:00+14:00", "2026-01-01T01:00:00-11:00", "yesterday")
    for name, when in zip("abc", started, strict=True):
        run_folder(tmp_path / name, facts={"started": when})
    run_folder(tmp_path / "other", seed=1)
    found = compare([tmp_path])
    assert runs_of(found) == {"poisson_clicks": ["b", "other"]}
    why = f"{tmp_path / 'b'} is a newer run with the same config and seed"
    assert [line.why for line in found.left_out] == [why] * 2


def test_data_are_distinguished_by_content_and_not_by_path(tmp_path):
    def digits(source, made, seed=0):
        folder = run_folder(tmp_path / f"{len(list(tmp_path.iterdir()))}", seed=seed)
        config = yaml.safe_load((folder / "config.yaml").read_text())
        config["task"] = {"_target_": "tracetorch.tasks.MNIST", "source": source, "seed": seed}
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
        facts = json.loads((folder / "run.json").read_text()) | ({"data": {"task.source": made}} if made else {})
        (folder / "run.json").write_text(json.dumps(facts))

    digits("/x/A", "aaaaaaaaaaaa")
    digits("/y/A", "aaaaaaaaaaaa", seed=1)  # the same in another place
    digits("/x/B", "bbbbbbbbbbbb")
    assert runs_of(compare([tmp_path])) == {"source=/x/A": ["0", "1"], "source=/x/B": ["2"]}
    digits("/x/B", "cccccccccccc")  # other data in the same place
    digits("/x/A", "")  # of an earlier version, which kept no hash
    assert runs_of(compare([tmp_path])) == {
        "source=/x/A": ["4"],
        "source=/x/A (aaaaaa)": ["0", "1"],
        "source=/x/B (bbbbbb)": ["2"],
        "source=/x/B (cccccc)": ["3"],
    }


def test_runs_without_a_config_stay_in_their_group_except_with_by(tmp_path):
    run_folder(tmp_path / "a", seed=1)
    (run_folder(tmp_path / "b", seed=2) / "config.yaml").unlink()
    found = compare([tmp_path])
    assert runs_of(found) == {"poisson_clicks": ["a", "b"]}
    assert compare([tmp_path], by=["rule"]).groups[0].statistics.n == 2
    found = compare([tmp_path], by=["optimizer.lr"])
    assert runs_of(found) == {"optimizer.lr=0.002": ["a"]}
    assert [line.why for line in found.left_out] == ["config.yaml is missing"]


def test_groups_with_broken_configs_have_names_and_a_run_without_a_group_is_left_out(tmp_path):
    for at, lr in enumerate((0.1, 0.2)):
        (run_folder(tmp_path / "broken" / str(at), lr=lr) / "config.yaml").write_text("[")
    found = compare([tmp_path / "broken"])
    assert all(group.label.startswith("poisson_clicks (") for group in found.groups)
    assert len({group.label for group in found.groups}) == 2
    assert "could not be read" in of_differences(found).note
    (run_folder(tmp_path / "none" / "a", facts={"group": NOTHING}) / "config.yaml").unlink()
    with pytest.raises(NothingToCompareError, match=r"run\.json names no group"):
        compare([tmp_path / "none"])


def test_groups_of_different_tasks_are_compared_by_a_shared_metric(tmp_path):
    run_folder(tmp_path / "a")
    run_folder(tmp_path / "b", seed=1)
    run_folder(tmp_path / "c", lr=1, lines=[], summary={"return": 100.0, "loss": 0.5})
    found = compare([tmp_path])
    assert (found.metric, [line.why for line in found.left_out]) == ("accuracy", ["it has no accuracy"])
    assert [group.statistics.n for group in compare([tmp_path], metric="loss").groups] == [2, 1]


def test_up_to_eight_groups_are_compared_in_pairs_and_others_with_the_best(tmp_path):
    folder = sweep(tmp_path, {lr / 10: [0.5 + lr / 100] for lr in range(1, 9)})
    assert len(compare([folder]).pairs()) == 28
    run_folder(folder / "x", 0.1, lr=5)
    found = compare([folder])
    assert [first.label for first, _, _ in found.pairs()] == ["lr=0.8"] * 8
    assert "Each against H, lr=0.8, whose mean is the highest" in of_pairs(found).note
    found = compare([folder], metric="loss")
    assert found.best.label == "lr=0.8" and "the lowest" in of_pairs(found).note


def test_values_classes_labels_and_letters():
    assert [show(()), show(("1",)), show(("0.01", "0.1"))] == ["–", "1", "0.01, 0.1"]
    assert (show(tuple("1234")), show(tuple("1234567"))) == ("1, 2, 3, 4", "1, 2, 3, 4, … (7)")
    assert (first_lines("ab", 2), first_lines("abc", 2)) == (["a", "b"], ["a", "b", "and 1 more"])
    found = differing([[{"rule._target_": "a.Trace"}], [{"rule._target_": "b.Trace"}]])
    assert found == {"rule._target_": [("a.Trace",), ("b.Trace",)]}  # two classes of one name
    assert labels({}, 2) == ["", ""] and labels({"a": [("1",), ("1",), ("2",)]}, 3) == ["", "", "a=2"]
    assert [letters(at) for at in (0, 25, 26, 51, 52, 701, 702)] == ["A", "Z", "AA", "AZ", "BA", "ZZ", "AAA"]


def test_activity_has_a_row_for_each_group_and_is_left_out_for_runs_without_it(tmp_path):
    counts = {"firing_rate_hz": 12.5, "activation_sparsity": 0.9, "effective_acs": 240_000.0, "effective_macs": 0.0}
    for seed, lr in enumerate((0.1, 0.1, 0.2)):
        summary = usual_summary(0.9) | (counts if lr == 0.1 else {})
        run_folder(tmp_path / str(seed), seed=seed, lr=lr, summary=summary)
    found = of_costs(compare(tmp_path))
    assert found.head == ["", "rate, Hz", "activation", "ACs", "MACs"]
    assert found.rows == [["A", "12.50", "0.9000", "240,000", "0"], ["B", *"––––"]]
    assert compare(tmp_path, metric="effective_acs").best.statistics.mean == 240_000
    run_folder(tmp_path / "old" / "run")
    assert of_costs(compare(tmp_path / "old")) is None
