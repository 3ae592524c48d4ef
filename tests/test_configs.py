"""Every YAML file of `conf/`, found by glob: it says what it is, and the commands in its header work."""

import json
import re
import shlex
from pathlib import Path

import pytest
import yaml

from tests.terminals import tracetorch_in_terminal
from tracetorch.cli.adapter import GROUPS, PRESETS, compose, conf_dir
from tracetorch.cli.check import check
from tracetorch.runs import RunFolder

FILES = sorted(path for path in conf_dir().rglob("*.yaml") if path.parent.name not in PRESETS)  # tested elsewhere
EVERY_FILE = pytest.mark.parametrize("path", FILES, ids=[str(path.relative_to(conf_dir())) for path in FILES])
CHOICES = [path for path in FILES if path.parent != conf_dir()]

TINY = ["train.updates=2", "train.figures=false", "network.hidden=[32]", "device=cpu"]
SMALL = {"batch_size": 4, "test_trials": 6, "validation_trials": 6, "duration": [0.2], "repeats": 1, "source": "sample"}
SMALL |= {"lanes": 4, "test_episodes": 6, "validation_episodes": 6, "max_episode_steps": 9}
"""For whichever of these keys a task has, or one inside of it."""


def header(path: Path) -> list[str]:
    lines = [line[1:].strip() for line in path.read_text(encoding="utf-8").split("\n") if line.startswith("#")]
    return [line for line in lines if not line.startswith("@package")]


def command(path: Path, name: str) -> list[str]:
    """The overrides of the command that the header gives after "Run:" or "Override:"."""
    (line,) = [line for line in header(path) if line.startswith(f"{name}:")]
    words = shlex.split(line.partition(":")[2])
    assert words[:2] == ["tracetorch", "run"]
    return words[2:]


def parts_of(node: dict, where: str = "task") -> list[tuple[str, dict]]:
    """A part of a config and all parts inside of it, with their keys."""
    inside = [(f"{where}.{name}", value) for name, value in node.items() if isinstance(value, dict)]
    return [(where, node), *(found for name, value in inside for found in parts_of(value, name))]


def test_there_are_files():
    assert len(FILES) > 12
    assert {path.parent.name for path in CHOICES} == set(GROUPS)


@EVERY_FILE
def test_the_header_says_what_it_is_how_to_run_it_and_what_to_try(path):
    what, run, override = header(path)[:3]
    assert len(what) > 15 and re.search("[.:?]", what)
    assert run.startswith("Run: ") and override.startswith("Override: ")
    assert "=" in override


@EVERY_FILE
def test_it_is_plain_yaml_with_a_comment_before_anything_else(path):
    text = path.read_text(encoding="utf-8")
    assert text.startswith("#") and text.endswith("\n") and "\t" not in text
    assert isinstance(yaml.safe_load(text), dict)


@EVERY_FILE
def test_the_override_to_try_composes(path):
    check(compose(command(path, "Override")).config)


@EVERY_FILE
def test_the_run_command_chooses_it_and_trains_to_a_completed_run_in_a_terminal(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = command(path, "Run")
    task = compose(words).config["task"]
    if "tracetorch.tasks.Gym" in (part.get("_target_") for _, part in parts_of(task)):
        pytest.importorskip("gymnasium", reason="the extra rl is not installed")
    small = [f"{where}.{key}={value}" for where, part in parts_of(task) for key, value in SMALL.items() if key in part]
    endless = "passes" not in compose(words).config["train"]
    passes = () if endless else ("train.passes=null",)
    code, shown = tracetorch_in_terminal(monkeypatch, "run", *words, *TINY, *passes, *small)
    assert code == 0, shown
    metric = "return" if "return" in RunFolder(next(tmp_path.rglob("run.json")).parent).records()[-1] else "accuracy"
    assert re.search(rf"loss +\S+ · {metric} +\S", shown)
    (folder,) = (found.parent for found in tmp_path.rglob("run.json"))
    told = json.loads((folder / "run.json").read_text())
    assert (told["status"], told["summary"]["updates"]) == ("completed", 2)
    assert [row["split"] for row in RunFolder(folder).records()][-1] == "test"
    if path.parent.name == "experiment":
        assert told["experiment"] == path.stem
    elif path.parent != conf_dir():
        given = yaml.safe_load(path.read_text(encoding="utf-8"))
        part = yaml.safe_load((folder / "config.yaml").read_text())[path.parent.name]
        assert set(given) <= set(part)
        assert part.get("_target_") == given.get("_target_")


def test_the_experiments_are_deltas():
    for path in (conf_dir() / "experiment").glob("*.yaml"):
        text = path.read_text(encoding="utf-8")
        assert text.startswith("# @package _global_\n")
        assert "_target_" not in text
