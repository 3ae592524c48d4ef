"""The best of a study as a preset, and `--config-dir`, which finds it."""

import json
import sys
from pathlib import Path

import pytest
import yaml

from tests.command_line import CLICKS, tracetorch
from tests.test_tune import journal, tune
from tracetorch.cli.adapter import compose
from tracetorch.runs import RunFolder
from tracetorch.runs.provenance import first_difference


@pytest.fixture
def presets(tmp_path, monkeypatch):
    """A folder with an experiment of one's own, and other files."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "it's mine"
    (folder / "experiment").mkdir(parents=True)
    (folder / "optimizer").mkdir()
    good = "# @package _global_\ndefaults:\n  - override /optimizer: slow\ntrain: {updates: 7}\n"
    (folder / "experiment" / "mine.yaml").write_text(good)
    (folder / "optimizer" / "slow.yaml").write_text("_target_: torch.optim.SGD\n_partial_: true\nlr: 0.001\n")
    (folder / "optimizer" / "adam.yaml").write_text("_target_: os.system\n")
    return folder


# ── the preset ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_best_run_again_gives_the_very_numbers(here):
    words = ("seed=5", "optimizer=sgd", "network=lif_li", "loss=cross_entropy_with_logits", "task.gamma=0.1..3")
    assert tune(*words, "search.space={optimizer.momentum: {low: 0, high: 0.9}}", trials=3).exit_code == 0
    best = max(journal(), key=lambda trial: (trial.value, -trial.number))
    (first,) = (here / "study").glob(f"{best.number:04d}_*")
    where = ("--config-dir", "study/presets", "experiment=best")
    ended = tracetorch("run", *where, "seed=5", "device=cpu", "output.dir=again")
    assert ended.exit_code == 0, ended.output
    assert first_difference(RunFolder(first), RunFolder(Path("again"))) == ""
    ids = [json.loads((folder / "run.json").read_text())["id"] for folder in (first, Path("again"))]
    assert ids[0] == ids[1]
    assert tracetorch("run", *where, "seed=6", "device=cpu", "output.dir=other").exit_code == 0
    assert first_difference(RunFolder(first), RunFolder(Path("other"))) != ""
    assert yaml.safe_load(Path("other/config.yaml").read_text())["task"]["seed"] == 6


def test_the_preset_says_what_it_is_and_holds_nothing_of_one_run(here):
    assert tune("seed=5", trials=1).exit_code == 0
    text = (here / "study/presets/experiment/best.yaml").read_text()
    first, what, run, override = text.splitlines()[:4]
    assert first == "# @package _global_"
    assert what.startswith("# Best: accuracy 0.") and "in trial 0, of study (poisson_clicks)." in what
    assert run == "# Run:       tracetorch run --config-dir study/presets experiment=best"
    assert override.endswith("experiment=best seed=6")
    held = yaml.safe_load(text)
    assert {"seed", "device", "threads", "output"}.isdisjoint(held) and "seed" not in held["task"]
    assert {"override /network": "lif_lis"} in held["defaults"]
    assert compose(["experiment=best"], Path("study/presets")).experiment == "best"


def test_the_preset_is_that_of_the_best_and_of_no_later_one(here):
    assert tune(trials=4).exit_code == 0
    best = max(journal(), key=lambda trial: (trial.value, -trial.number))
    held = yaml.safe_load((here / "study/presets/experiment/best.yaml").read_text())
    assert held["optimizer"]["lr"] == best.params["optimizer.lr"]


# ── --config-dir ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_choices_from_a_folder_of_ones_own_compose(presets):
    shown = tracetorch("show", "--config-dir", str(presets), "experiment=mine", "optimizer.lr=0.5")
    assert shown.exit_code == 0, shown.output
    config = yaml.safe_load(shown.stdout)
    assert (config["train"]["updates"], config["optimizer"]["lr"]) == (7, 0.5)
    assert shown.stdout.startswith("# experiment: mine\n")
    ended = tracetorch("run", "--config-dir", presets.name, "experiment=mine", *CLICKS, "output.dir=run")
    assert ended.exit_code == 0, ended.output


def test_a_choice_of_the_same_name_does_not_take_the_place_of_ours(presets):
    assert compose([], presets).config["optimizer"]["_target_"] == "torch.optim.Adam"
    ended = tracetorch("show", "optimizer=adam", "--config-dir", "it's mine")
    assert ended.exit_code == 2
    assert "a preset of this name comes with tracetorch; rename it's mine/optimizer/adam.yaml" in ended.stderr


def test_without_it_nobody_looks_there(presets):
    ended = tracetorch("show", "experiment=mine")
    assert ended.exit_code == 2 and "there is no such experiment" in ended.stderr


BROKEN = {
    "open": ("a: [", "is not valid YAML: while parsing"),
    "tab": ("\ta: 1\n", "is not valid YAML"),
    "number": ("3\n", "number.yaml is not a config"),
    "unused": ("# @package _global_\ndefaults:\n  - override /optimizer: slwo\n", "Did you mean 'slow'?"),
    "lost": ("# @package _global_\ntrain: {updates: '${nope}'}\n", "train.updates: "),
    "more": ("# @package _global_\nbogus: 1\n", "bogus: a config has no such key"),
    "evil": ("# @package _global_\ntask: {_target_: os.system}\n", "'os.system', which is not trusted"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_there_is_told_in_a_sentence(presets, name):
    text, phrase = BROKEN[name]
    (presets / "experiment" / f"{name}.yaml").write_text(text)
    ended = tracetorch("run", "--config-dir", str(presets), f"experiment={name}")
    assert ended.exit_code == 2, ended.output
    assert phrase in ended.stderr and len(ended.stderr.splitlines()) == 1
    assert not Path("outputs").exists()


@pytest.mark.parametrize("verb", ["run", "show"])
def test_keys_where_a_name_is_wanted_belong_into_a_file_and_that_works_as_typed(tmp_path, monkeypatch, verb):
    monkeypatch.chdir(tmp_path)
    for sign in ("", "+"):
        ended = tracetorch(verb, sign + "task={_target_: mine.Louder, seed: 3}")
        assert ended.exit_code == 2
        typed = "task=louder --config-dir FOLDER --trust mine"
        assert f"write these keys into FOLDER/task/louder.yaml, and type {typed}" in ended.stderr
    ended = tracetorch(verb, "task={_target_: tracetorch.tasks.Patterns, seed: 3}")
    assert ended.stderr.endswith("FOLDER/task/my_patterns.yaml, and type task=my_patterns --config-dir FOLDER\n")
    (tmp_path / "task").mkdir()
    (tmp_path / "task" / "my_patterns.yaml").write_text("_target_: tracetorch.tasks.Patterns\nseed: 3\nbatch_size: 4\n")
    tiny = ("network.hidden=[64]", "train.updates=1", "train.figures=false", "device=cpu", "output.dir=it")
    ended = tracetorch(verb, "task=my_patterns", "loss=mse", "network=lif_lif", "--config-dir", ".", *tiny)
    assert ended.exit_code == 0, ended.output
    if verb == "run":
        assert "batch_size: 4" in Path("it/config.yaml").read_text()  # of this file, not of a shipped preset


def test_a_module_that_is_not_found_is_told_with_where_modules_are_searched(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "task").mkdir()
    (tmp_path / "task" / "louder.yaml").write_text("_target_: mine_of_louder.Louder\n")
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place])
    words = ("run", "task=louder", "--config-dir", ".", "--trust", "mine_of_louder")
    ended = tracetorch(*words)
    assert ended.exit_code == 2
    assert "No module named 'mine_of_louder': install it with pip, or name its folder in the variable" in ended.stderr
    assert "the current folder is not searched without PYTHONPATH=." in ended.stderr
    (tmp_path / "mine_of_louder.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    ended = tracetorch(*words)
    assert "ZeroDivisionError: division by zero in <module> (mine_of_louder.py, line 1)" in ended.stderr


def test_a_task_that_was_named_by_its_class_gives_the_run_its_name():
    ended = tracetorch(
        "show", "~task", "+task._target_=tracetorch.tasks.Patterns", "+task.seed=0", "loss=mse", "network=lif_lif"
    )
    assert ended.stdout.startswith("# experiment: poisson_clicks-Patterns\n")


@pytest.mark.parametrize("verb", ["run", "show"])
@pytest.mark.parametrize(
    ("words", "phrase"),
    [
        (("--config-dir", "nowhere"), "--config-dir nowhere: there is no such folder"),
        (("--config-dir", "it's mine", "experiment=mien"), "Did you mean 'mine'? There are: "),
        (("--config-dir", "it's mine", "optimizer=slwo"), "Did you mean 'slow'? There are: "),
        (("--config-dir", "it's mine", "experiment=mine", "optimizer.lrr=1"), "Did you mean 'optimizer.lr'?"),
        (("--config-dir", "it's mine", "experiment=3"), "choose by name. There are: "),
        (("-m", "--config-dir", "it's mine", "experiment=mien", "seed=1,2"), "Did you mean 'mine'? There are: "),
    ],
)
def test_what_is_wrong_with_it(presets, verb, words, phrase):
    ended = tracetorch(verb, *words)
    assert ended.exit_code == 2, ended.output
    assert phrase in ended.stderr and len(ended.stderr.splitlines()) == 1


def test_what_is_not_public_is_trusted_by_name(presets):
    (presets / "experiment" / "evil.yaml").write_text("# @package _global_\nloss: {_target_: tests.common.nothing}\n")
    words = ("run", "--config-dir", str(presets), "experiment=evil")
    ended = tracetorch(*words)
    assert ended.exit_code == 2 and "if you trust it, add --trust tests" in ended.stderr
    ended = tracetorch(*words, "--trust", "tests", *CLICKS)
    assert "not trusted" not in ended.stderr


def test_show_checks_what_run_would_trust(presets):
    (presets / "experiment" / "evil.yaml").write_text("# @package _global_\nloss: {_target_: tests.common.nothing}\n")
    words = ("show", "--config-dir", str(presets), "experiment=evil")
    assert tracetorch(*words, "--trust", "tests").exit_code == 2  # it does not exist
    ended = tracetorch(*words, "--trust", "other")
    assert ended.exit_code == 2 and "if you trust it, add --trust tests" in ended.stderr
    ended = tracetorch("show", "--trust", "tests")
    assert ended.exit_code == 2 and "tracetorch show --config-dir DIR --trust PACKAGE" in ended.stderr


def test_choices_from_a_folder_of_ones_own_are_swept(presets):
    where = ("-m", "--config-dir", presets.name, "experiment=mine", "seed=0,1")
    shown = tracetorch("show", *where)
    assert shown.exit_code == 0, shown.output
    assert shown.stdout.startswith("# mine: 2 jobs")
    ended = tracetorch("run", *where, *CLICKS, "output.dir=sweep")
    assert ended.exit_code == 0, ended.output
    assert yaml.safe_load(Path("sweep/001_seed=1/config.yaml").read_text())["optimizer"]["lr"] == 0.001
    (presets / "experiment" / "mine.yaml").unlink()
    Path("sweep/001_seed=1/run.json").unlink()
    ended = tracetorch("resume", "sweep")
    assert ended.exit_code == 0 and "no longer compose" not in ended.output, ended.output


def test_a_pattern_in_a_sweep_finds_choices_of_ones_own(presets):
    shown = tracetorch("show", "-m", "--config-dir", presets.name, "optimizer=glob(s*)")
    assert shown.exit_code == 0, shown.output
    assert "optimizer=slow" in shown.stdout


def test_a_sweep_of_ones_own_presets_calls_what_is_trusted(presets):
    (presets / "experiment" / "evil.yaml").write_text("# @package _global_\nloss: {_target_: tests.common.nothing}\n")
    ended = tracetorch("run", "-m", "--config-dir", str(presets), "experiment=evil", "seed=0,1")
    assert ended.exit_code == 2 and "if you trust it, add --trust tests" in ended.stderr
    assert not Path("outputs").exists()
