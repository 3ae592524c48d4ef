"""`diagnostics=gradient` on the command line: run, drawn, resumed, tested again, repeated, compared."""

import csv

import pytest
import yaml

from tests.command_line import CLICKS, change, facts_in, files, ran, tracetorch
from tests.sweeps import numbers

GRADIENT = (*CLICKS, "diagnostics=gradient", "diagnostics.every=2", "diagnostics.trials=3", "train.updates=4")


def test_similarities_are_recorded_printed_and_drawn_and_change_no_result(here):
    ended = ran("run", *GRADIENT, "output.dir=it")
    rows = [row for row in numbers(here / "it") if row["split"] == "gradient"]
    assert [row["update"] for row in rows] == [2, 4]
    cosines = [[f"{row[f'layers.{at}.connection.weight.cosine']:.4f}" for at in (0, 1)] for row in rows]
    lines = [line.split() for line in ended.stdout.splitlines() if " gradient " in line]
    assert [line[:4] for line in lines] == [["update", number, "gradient", "cosine"] for number in ("2", "4")]
    assert [line[4:] for line in lines] == cosines
    ran("run", *CLICKS, "train.updates=4", "~diagnostics", "output.dir=plain")
    assert "diagnostics" not in yaml.safe_load((here / "plain" / "config.yaml").read_text())
    one, other = (facts_in(here / name) for name in ("it", "plain"))
    assert (one["id"], one["group"]) == (other["id"], other["group"])
    assert one["summary"]["loss"] == other["summary"]["loss"]
    for name in ("it", "plain"):
        assert ("gradient" in ran("plot", name).stdout) is (name == "it")
        assert "plots/learning.png" in files(here / name)
        assert ({f"plots/gradient.{kind}" for kind in ("png", "svg")} <= files(here / name)) is (name == "it")


def test_a_folder_without_diagnostics_is_evaluated_repeated_and_resumed(here):
    ran("run", *GRADIENT, "output.dir=it")
    path = here / "it" / "config.yaml"
    config = yaml.safe_load(path.read_text())
    del config["diagnostics"]
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    ran("eval", "it")
    ended = tracetorch("run", "--from", "it", "output.dir=again")
    assert ended.exit_code == 1 and "not identical" in ended.stderr  # the records were made with it
    assert not [row for row in numbers(here / "again") if row["split"] == "gradient"]
    change(here / "it" / "run.json", status="interrupted")
    ran("resume", "it")


@pytest.mark.slow
def test_a_surrogate_with_a_slope_can_be_resumed_evaluated_drawn_and_repeated(here):
    shape = "{_target_: tracetorch.rules.surrogate.FastSigmoid, slope: 25}"
    words = ("rule=bptt", f"rule.surrogate={shape}", *GRADIENT, f"diagnostics.surrogate={shape}", "output.dir=it")
    ran("run", *words)
    before = numbers(here / "it")
    change(here / "it" / "run.json", status="interrupted")
    for again in (("resume", "it"), ("eval", "it"), ("plot", "it"), ("run", "--from", "it")):
        ended = ran(*again)
    assert "identical to it" in ended.stdout and numbers(here / "it") == before


def test_rules_are_compared_by_their_cosine(here):
    ran("run", "-m", *GRADIENT, "rule=trace,bptt", "output.dir=sweep")
    ran("compare", "sweep", "--metric", "layers.0.connection.weight.cosine", "--by", "rule")
    with (here / "sweep" / "compare" / "comparison.csv").open() as file:
        found = {row["label"]: float(row["mean"]) for row in csv.DictReader(file)}
    assert found["rule=bptt"] == pytest.approx(1, abs=1e-5) and abs(found["rule=trace"]) < 0.99
    assert "layers.0.connection.weight.cosine (probe)" in (here / "sweep" / "compare" / "comparison.html").read_text()


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
def test_a_main_of_ones_own_may_lack_the_option(here, monkeypatch, choice):
    (here / "myloops.py").write_text(LOOPS)
    monkeypatch.syspath_prepend(str(here))
    given = (*CLICKS, f"diagnostics={choice}")
    plain = tracetorch("run", *given, "train._target_=myloops.plain", "output.dir=a")
    assert plain.exit_code == (2 if choice == "gradient" else 0), plain.output
    advice = "myloops.plain does not take diagnostics: use diagnostics=none"
    assert (advice in plain.stderr) is (choice == "gradient")
    ran("run", *given, "train._target_=myloops.open_to_all", "output.dir=b")
    assert ("gradient" in (here / "b" / "metrics.jsonl").read_text()) is (choice == "gradient")
