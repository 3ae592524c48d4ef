"""The best of a study as a preset, and `--config-dir`, which finds it."""

import sys
from pathlib import Path

import pytest
import yaml

from tests.cli.test_tune import best_trial, journal, tune
from tests.command_line import CLICKS, facts_in, ran, refused, tracetorch, write
from tracetorch.cli.adapter import compose
from tracetorch.runs import RunFolder
from tracetorch.runs.provenance import first_difference


@pytest.fixture
def presets(here):
    """A folder with an experiment of one's own, and other files."""
    folder = here / "it's mine"
    good = "# @package _global_\ndefaults:\n  - override /optimizer: slow\ntrain: {updates: 7}\n"
    write(folder / "experiment" / "mine.yaml", good)
    write(folder / "experiment" / "evil.yaml", "# @package _global_\nloss: {_target_: tests.common.nothing}\n")
    write(folder / "optimizer" / "slow.yaml", {"_target_": "torch.optim.SGD", "_partial_": True, "lr": 0.001})
    write(folder / "optimizer" / "adam.yaml", {"_target_": "os.system"})
    return folder


def test_the_preset_of_the_best_trial_repeats_its_numbers(here):
    words = ("seed=5", "optimizer=sgd", "network=lif_li", "loss=cross_entropy_with_logits", "task.gamma=0.1..3")
    tune(*words, "search.space={optimizer.momentum: {low: 0, high: 0.9}}")
    top = best_trial(journal())
    text = (here / "study/presets/experiment/best.yaml").read_text()
    assert text.splitlines()[:4] == [
        "# @package _global_",
        f"# Best: accuracy {top.value:.4f} in trial {top.number}, of study (poisson_clicks).",
        "# Run:       tracetorch run --config-dir study/presets experiment=best",
        "# Override:  tracetorch run --config-dir study/presets experiment=best seed=6",
    ]
    held = yaml.safe_load(text)
    assert {"seed", "device", "threads", "output"}.isdisjoint(held) and "seed" not in held["task"]
    assert {"override /network": "lif_li"} in held["defaults"]
    assert held["optimizer"]["momentum"] == top.params["optimizer.momentum"]
    assert compose(["experiment=best"], Path("study/presets")).experiment == "best"
    (first,) = (here / "study").glob(f"{top.number:04d}_*")
    where = ("--config-dir", "study/presets", "experiment=best", "device=cpu")
    ran("run", *where, "seed=5", "output.dir=again")
    assert first_difference(RunFolder(first), RunFolder(Path("again"))) == ""
    assert facts_in(first)["id"] == facts_in(Path("again"))["id"]
    ran("run", *where, "seed=6", "output.dir=other")
    assert first_difference(RunFolder(first), RunFolder(Path("other"))) != ""
    assert yaml.safe_load(Path("other/config.yaml").read_text())["task"]["seed"] == 6


def test_choices_of_a_folder_of_ones_own_compose_and_replace_none_of_ours(presets):
    shown = ran("show", "--config-dir", str(presets), "experiment=mine", "optimizer.lr=0.5")
    config = yaml.safe_load(shown.stdout)
    assert (config["train"]["updates"], config["optimizer"]["lr"]) == (7, 0.5)
    assert shown.stdout.startswith("# experiment: mine\n")
    ran("run", "--config-dir", presets.name, "experiment=mine", *CLICKS, "output.dir=run")
    assert compose([], presets).config["optimizer"]["_target_"] == "torch.optim.Adam"


def test_choices_of_ones_own_are_swept_and_found_by_a_pattern(presets):
    where = ("-m", "--config-dir", presets.name)
    assert ran("show", *where, "experiment=mine", "seed=0,1").stdout.startswith("# mine: 2 jobs")
    assert "optimizer=slow" in tracetorch("show", *where, "optimizer=glob(s*)").stdout
    ran("run", *where, "experiment=mine", "seed=0,1", *CLICKS, "output.dir=sweep")
    assert yaml.safe_load(Path("sweep/001_seed=1/config.yaml").read_text())["optimizer"]["lr"] == 0.001
    (presets / "experiment" / "mine.yaml").unlink()
    Path("sweep/001_seed=1/run.json").unlink()
    assert "no longer compose" not in ran("resume", "sweep").output


BROKEN = {
    "open": ("a: [", "is not valid YAML: while parsing"),
    "number": ("3\n", "number.yaml is not a config"),
    "unused": ("# @package _global_\ndefaults:\n  - override /optimizer: slwo\n", "Did you mean 'slow'?"),
    "lost": ("# @package _global_\ntrain: {updates: '${nope}'}\n", "train.updates: "),
    "more": ("# @package _global_\nbogus: 1\n", "bogus: a config has no such key"),
    "group": ("# @package _global_\ndefaults: [/taks: mnist]\n", "In 'experiment/group': Could not find 'taks/mnist'"),
    "evil": ("# @package _global_\ntask: {_target_: os.system}\n", "'os.system', which is not trusted"),
}
MINE = ("--config-dir", "it's mine")
WRONG = [
    *[(("run", *MINE, f"experiment={name}"), phrase) for name, (_, phrase) in BROKEN.items()],
    (("show", "experiment=mine"), "there is no such experiment"),
    (("show", *MINE, "optimizer=adam"), "this name comes with tracetorch; rename it's mine/optimizer/adam.yaml"),
    (("show", "--config-dir", "nowhere"), "--config-dir nowhere: there is no such folder"),
    (("show", *MINE, "experiment=mien"), "Did you mean 'mine'? There are: "),
    (("show", *MINE, "experiment=mine", "optimizer.lrr=1"), "Did you mean 'optimizer.lr'?"),
    (("run", *MINE, "experiment=3"), "choose by name. There are: "),
    (("run", "-m", *MINE, "experiment=mien", "seed=1,2"), "Did you mean 'mine'? There are: "),
]


@pytest.mark.parametrize(("words", "phrase"), WRONG, ids=[" ".join(words) for words, _ in WRONG])
def test_a_mistake_is_one_sentence(presets, words, phrase):
    for name, (text, _) in BROKEN.items():
        (presets / "experiment" / f"{name}.yaml").write_text(text)
    assert phrase in refused(*words)


def test_a_package_of_ones_own_is_trusted_by_name(presets):
    words = (*MINE, "experiment=evil")
    for typed in (("run", *words), ("show", *words, "--trust", "other"), ("run", "-m", *words, "seed=0,1")):
        assert "if you trust it, add --trust tests" in refused(*typed)
    for typed in (("run", *words, *CLICKS), ("show", *words)):
        assert "loss._target_: tests.common has no nothing" in refused(*typed, "--trust", "tests")
    assert "tracetorch show --config-dir DIR --trust PACKAGE" in refused("show", "--trust", "tests")


def test_a_part_of_ones_own_is_typed_or_in_a_file(here):
    tiny = (
        "network.hidden=[64]",
        "train.updates=1",
        "train.figures=false",
        "device=cpu",
        "loss=mse",
        "network=lif_lif",
    )
    ran("run", "task={_target_: tracetorch.tasks.Patterns, seed: 3, batch_size: 5}", *tiny, "output.dir=typed")
    assert "batch_size: 5" in Path("typed/config.yaml").read_text()
    (here / "task").mkdir()
    (here / "task" / "my_patterns.yaml").write_text("_target_: tracetorch.tasks.Patterns\nseed: 3\nbatch_size: 4\n")
    ran("run", "task=my_patterns", "--config-dir", ".", *tiny, "output.dir=it")
    assert "batch_size: 4" in Path("it/config.yaml").read_text()  # of this file, not of a shipped preset
    named = ("~task", "+task._target_=tracetorch.tasks.Patterns", "+task.seed=0", "loss=mse", "network=lif_lif")
    assert tracetorch("show", *named).stdout.startswith("# experiment: poisson_clicks-Patterns\n")


def test_a_missing_module_is_named_with_where_modules_are_searched(here, monkeypatch):
    (here / "task").mkdir()
    (here / "task" / "louder.yaml").write_text("_target_: mine_of_louder.Louder\n")
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place])
    words = ("run", "task=louder", "--config-dir", ".", "--trust", "mine_of_louder")
    said = refused(*words)
    assert "No module named 'mine_of_louder': install it with pip, or add the folder" in said
    assert "the current folder is not searched without PYTHONPATH=." in said
    (here / "mine_of_louder.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(here)
    ended = tracetorch(*words)
    assert "ZeroDivisionError: division by zero in <module> (mine_of_louder.py, line 1)" in ended.stderr
