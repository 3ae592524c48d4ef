"""`diagnostics=gradient` on the command line: run, drawn, resumed, tested again, repeated, compared."""

import csv
import json
import shutil

import pytest
import yaml

from tests.command_line import CLICKS, files, tracetorch
from tests.tiny_training import stopping, timeless
from tracetorch.runs import RunFolder

GRADIENT = (*CLICKS, "diagnostics=gradient", "diagnostics.every=2", "diagnostics.trials=3", "train.updates=4")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run that is completed, and what it said. Returns: its folder, and its output."""
    folder = tmp_path_factory.mktemp("finished") / "it"
    ended = tracetorch("run", *GRADIENT, f"output.dir={folder}")
    assert ended.exit_code == 0, ended.output
    return folder, ended.stdout


@pytest.fixture
def mine(finished, here):
    """A copy of it in the present folder."""
    shutil.copytree(finished[0], here / "it")
    return here / "it"


def forget_the_group(folder):
    """Make of a run one from before there were diagnostics."""
    path = folder / "config.yaml"
    config = yaml.safe_load(path.read_text())
    del config["diagnostics"]
    path.write_text(yaml.safe_dump(config, sort_keys=False))


def test_it_is_recorded_and_told(finished):
    folder, said = finished
    rows = [row for row in timeless(RunFolder(folder)) if row["split"] == "gradient"]
    assert [row["update"] for row in rows] == [2, 4]
    lines = [line.split() for line in said.splitlines() if " gradient " in line]
    cosines = [[f"{row[f'layers.{at}.connection.weight.cosine']:.4f}" for at in (0, 1)] for row in rows]
    assert [line[:4] for line in lines] == [["update", number, "gradient", "cosine"] for number in ("2", "4")]
    assert [line[4:] for line in lines] == cosines


def test_its_figure_is_drawn_and_a_run_without_it_has_none(mine, finished, here):
    ended = tracetorch("plot", "it")
    assert ended.exit_code == 0 and "gradient" in ended.stdout
    assert {f"plots/gradient.{kind}" for kind in ("png", "svg")} < files(mine)
    lines = (mine / "metrics.jsonl").read_text().splitlines(keepends=True)
    shutil.copytree(finished[0], here / "plain")
    (here / "plain" / "metrics.jsonl").write_text("".join(line for line in lines if '"gradient"' not in line))
    assert tracetorch("plot", "plain").exit_code == 0
    assert "plots/learning.png" in files(here / "plain") and "plots/gradient.png" not in files(here / "plain")


def test_it_is_the_same_experiment_with_and_without(mine, here):
    assert tracetorch("run", *CLICKS, "train.updates=4", "output.dir=plain").exit_code == 0
    one, other = (json.loads((here / name / "run.json").read_text()) for name in ("it", "plain"))
    assert (one["id"], one["group"]) == (other["id"], other["group"])
    assert one["summary"]["loss"] == other["summary"]["loss"]


@pytest.mark.parametrize("old", [False, True], ids=["new", "from before"])
def test_eval_and_run_from_take_such_a_folder_and_one_from_before(mine, old):
    if old:
        forget_the_group(mine)
    assert tracetorch("eval", "it").exit_code == 0
    ended = tracetorch("run", "--from", "it", "output.dir=again")
    if old:  # whose records were made with it
        assert ended.exit_code == 1 and "not identical" in ended.stderr
        assert not [row for row in timeless(RunFolder(mine.parent / "again")) if row["split"] == "gradient"]
    else:
        assert ended.exit_code == 0 and "identical to it" in ended.stdout, ended.output


@pytest.mark.parametrize("old", [False, True], ids=["new", "from before"])
def test_resume_goes_on_with_it_and_with_one_from_before(here, monkeypatch, old):
    from tracetorch.cli.display import Display

    typed = CLICKS if old else GRADIENT
    typed = (*typed, "train.updates=6")
    with monkeypatch.context() as patch:
        patch.setattr(Display, "_progress", lambda self, values: stopping(3, "wish")("progress", values))
        assert tracetorch("run", *typed, "output.dir=it").exit_code == 130
    if old:
        forget_the_group(here / "it")
    ended = tracetorch("resume", "it")
    assert ended.exit_code == 0, ended.output
    assert tracetorch("run", *typed, "output.dir=whole").exit_code == 0
    assert timeless(RunFolder(here / "it")) == timeless(RunFolder(here / "whole"))


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
        (
            ("diagnostics=gradiant",),
            "no such diagnostics. Did you mean 'gradient'? There are: gradient, none.",
        ),
        (("diagnostics=gradient", "diagnostics.evry=3"), "Did you mean 'diagnostics.every'?"),
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
    if choice == "none":
        assert plain.exit_code == 0, plain.output
    else:
        assert plain.exit_code == 2 and "myloops.plain does not take diagnostics: use diagnostics=none" in plain.stderr
    assert tracetorch("run", *given, "train._target_=myloops.open_to_all", "output.dir=b").exit_code == 0
    assert ("gradient" in (here / "b" / "metrics.jsonl").read_text()) is (choice == "gradient")


def test_a_config_may_leave_it_out(here):
    assert tracetorch("run", *CLICKS, "~diagnostics", "output.dir=it").exit_code == 0
    assert "diagnostics" not in yaml.safe_load((here / "it" / "config.yaml").read_text())


def test_a_surrogate_of_another_shape_can_be_gone_on_with_tested_drawn_and_repeated(here):
    shape = "{_target_: tracetorch.rules.surrogate.FastSigmoid, slope: 25}"
    words = ("rule=bptt", f"rule.surrogate={shape}", *GRADIENT, f"diagnostics.surrogate={shape}", "output.dir=it")
    ended = tracetorch("run", *words)
    assert ended.exit_code == 0, ended.output
    told = json.loads((here / "it" / "run.json").read_text())
    (here / "it" / "run.json").write_text(json.dumps(told | {"status": "interrupted"}))
    for again in (("resume", "it"), ("eval", "it"), ("plot", "it"), ("run", "--from", "it")):
        ended = tracetorch(*again)
        assert ended.exit_code == 0, (again, ended.output)
