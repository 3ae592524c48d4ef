"""`diagnostics=gradient` on the command line: run, drawn, resumed, tested again, repeated, compared."""

import csv
import json

import pytest
import yaml

from tests.command_line import CLICKS, files, tracetorch
from tests.sweeps import numbers

GRADIENT = (*CLICKS, "diagnostics=gradient", "diagnostics.every=2", "diagnostics.trials=3", "train.updates=4")


def mark_interrupted(folder):
    run = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(run | {"status": "interrupted"}))


def test_it_is_recorded_told_and_drawn_and_the_experiment_is_the_same_without(here):
    ended = tracetorch("run", *GRADIENT, "output.dir=it")
    assert ended.exit_code == 0, ended.output
    rows = [row for row in numbers(here / "it") if row["split"] == "gradient"]
    assert [row["update"] for row in rows] == [2, 4]
    cosines = [[f"{row[f'layers.{at}.connection.weight.cosine']:.4f}" for at in (0, 1)] for row in rows]
    lines = [line.split() for line in ended.stdout.splitlines() if " gradient " in line]
    assert [line[:4] for line in lines] == [["update", number, "gradient", "cosine"] for number in ("2", "4")]
    assert [line[4:] for line in lines] == cosines
    plain = tracetorch("run", *CLICKS, "train.updates=4", "~diagnostics", "output.dir=plain")
    assert plain.exit_code == 0 and "diagnostics" not in yaml.safe_load((here / "plain" / "config.yaml").read_text())
    one, other = (json.loads((here / name / "run.json").read_text()) for name in ("it", "plain"))
    assert (one["id"], one["group"]) == (other["id"], other["group"])
    assert one["summary"]["loss"] == other["summary"]["loss"]
    for name in ("it", "plain"):
        ended = tracetorch("plot", name)
        assert ended.exit_code == 0 and ("gradient" in ended.stdout) is (name == "it")
        assert "plots/learning.png" in files(here / name)
        assert ({f"plots/gradient.{kind}" for kind in ("png", "svg")} <= files(here / name)) is (name == "it")


def test_a_folder_from_before_it_existed_is_tested_repeated_and_resumed(here):
    assert tracetorch("run", *GRADIENT, "output.dir=it").exit_code == 0
    path = here / "it" / "config.yaml"
    config = yaml.safe_load(path.read_text())
    del config["diagnostics"]
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    assert tracetorch("eval", "it").exit_code == 0
    ended = tracetorch("run", "--from", "it", "output.dir=again")
    assert ended.exit_code == 1 and "not identical" in ended.stderr  # the records were made with it
    assert not [row for row in numbers(here / "again") if row["split"] == "gradient"]
    mark_interrupted(here / "it")
    assert tracetorch("resume", "it").exit_code == 0


def test_a_surrogate_of_another_shape_can_be_resumed_tested_drawn_and_repeated(here):
    shape = "{_target_: tracetorch.rules.surrogate.FastSigmoid, slope: 25}"
    words = ("rule=bptt", f"rule.surrogate={shape}", *GRADIENT, f"diagnostics.surrogate={shape}", "output.dir=it")
    ended = tracetorch("run", *words)
    assert ended.exit_code == 0, ended.output
    before = numbers(here / "it")
    mark_interrupted(here / "it")
    for again in (("resume", "it"), ("eval", "it"), ("plot", "it"), ("run", "--from", "it")):
        ended = tracetorch(*again)
        assert ended.exit_code == 0, (again, ended.output)
    assert "identical to it" in ended.stdout and numbers(here / "it") == before


def test_rules_can_be_compared_by_how_close_they_come(here):
    ended = tracetorch("run", "-m", *GRADIENT, "rule=trace,bptt", "output.dir=sweep")
    assert ended.exit_code == 0, ended.output
    ended = tracetorch("compare", "sweep", "--metric", "layers.0.connection.weight.cosine", "--by", "rule")
    assert ended.exit_code == 0, ended.output
    with (here / "sweep" / "compare" / "comparison.csv").open() as file:
        found = {row["label"]: float(row["mean"]) for row in csv.DictReader(file)}
    assert found["rule=bptt"] == pytest.approx(1, abs=1e-5) and abs(found["rule=trace"]) < 0.99
    assert "layers.0.connection.weight.cosine (probe)" in (here / "sweep" / "compare" / "comparison.html").read_text()


@pytest.mark.parametrize(
    ("words", "phrase"),
    [
        (("diagnostics=gradiant",), "no such diagnostics. Did you mean 'gradient'? There are: gradient, none."),
        (("diagnostics.every=3",), "It belongs to diagnostics=gradient."),
        (("diagnostics=gradient", "diagnostics.every=often"), "diagnostics.every must be a whole number, got 'often'"),
        (("diagnostics=gradient", "diagnostics.every=0"), "diagnostics: every must be at least 1, got 0"),
        (("diagnostics=gradient", "diagnostics.surrogate=step"), "diagnostics: surrogate must be one of fast_sigmoid"),
    ],
)
def test_what_cannot_be_is_told_in_a_sentence(here, words, phrase):
    ended = tracetorch("run", *CLICKS, *words)
    assert ended.exit_code == 2, ended.output
    assert phrase in ended.stderr and len(ended.stderr.splitlines()) == 1
    assert list(here.iterdir()) == []


LOOPS = """
from tracetorch.experiments import supervised

def plain(run, *, task, network, rule, loss, optimizer, seed, device, updates, passes, learn_every, update_every,
          window, schedule, precision, log_every, eval_every, checkpoint_seconds, patience, figures):
    parts = dict(task=task, network=network, rule=rule, loss=loss, optimizer=optimizer)
    supervised.main(run, **parts, seed=seed, device=device, updates=updates, figures=figures)

def open_to_all(run, **parts):
    supervised.main(run, **parts)
"""


@pytest.mark.parametrize("choice", ["none", "gradient"])
def test_a_time_loop_of_ones_own_need_not_know_of_it(here, monkeypatch, choice):
    (here / "myloops.py").write_text(LOOPS)
    monkeypatch.syspath_prepend(str(here))
    given = (*CLICKS, f"diagnostics={choice}")
    plain = tracetorch("run", *given, "train._target_=myloops.plain", "output.dir=a")
    assert plain.exit_code == (2 if choice == "gradient" else 0), plain.output
    advice = "myloops.plain does not take diagnostics: use diagnostics=none"
    assert (advice in plain.stderr) is (choice == "gradient")
    assert tracetorch("run", *given, "train._target_=myloops.open_to_all", "output.dir=b").exit_code == 0
    assert ("gradient" in (here / "b" / "metrics.jsonl").read_text()) is (choice == "gradient")
