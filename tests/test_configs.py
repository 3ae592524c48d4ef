"""Every YAML file of `conf/`, found by glob: it says what it is, and the commands in its header work."""

import gc
import json
import re
import shlex
from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import pytest
import yaml

from tests.terminals import tracetorch_in_terminal
from tracetorch.cli.adapter import GROUPS, PRESETS, Composed, compose, conf_dir
from tracetorch.cli.check import check, check_new
from tracetorch.cli.errors import UsageError
from tracetorch.cli.execute import make_parts
from tracetorch.cli.signatures import signature
from tracetorch.runs import RunFolder

FILES = sorted(path for path in conf_dir().rglob("*.yaml") if path.parent.name not in PRESETS)  # tested elsewhere
EVERY_FILE = pytest.mark.parametrize("path", FILES, ids=[str(path.relative_to(conf_dir())) for path in FILES])
CHOICES = [path for path in FILES if path.parent != conf_dir()]

SMALL = {"batch_size": 4, "test_trials": 6, "validation_trials": 6, "duration": [0.2], "repeats": 1, "source": "sample"}
SMALL |= {"num_envs": 4, "test_episodes": 6, "validation_episodes": 6, "max_episode_steps": 9}
"""For whichever of these keys a task has, or one inside of it."""


class Ran(NamedTuple):
    """What a command of a header left."""

    code: int
    shown: str
    facts: dict  # run.json
    config: dict
    last: dict  # the last of its records


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


@pytest.fixture(scope="module", autouse=True)
def _old_objects_stay():
    """Each run collects garbage before it measures its memory: here among its own objects, not those of all modules."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


def shrink(composed: Composed) -> Composed:
    """The same config with as little work as its task and its training loop allow."""
    config = composed.config
    if "tracetorch.tasks.Gym" in (part.get("_target_") for _, part in parts_of(config["task"])):
        pytest.importorskip("gymnasium", reason="the extra rl is not installed")
    for _, part in parts_of(config["task"]):
        part.update({key: value for key, value in SMALL.items() if key in part})
    train, network = config["train"], config["network"]
    silent = "latency" in str(config["task"]) or network["readout"]["_target_"].endswith(".LIF")  # in the first updates
    train |= {"updates": 40 if silent else 2, "figures": False, **({"passes": None} if "passes" in train else {})}
    network["hidden"] = [min(count, 32) for count in network["hidden"]]
    config["device"] = "cpu"
    return composed


@cache  # several files show the same command
def ran(*words: str) -> Ran:
    """Run `tracetorch run` with these words, made small, in a terminal."""
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr("tracetorch.cli.adapter.compose", lambda *given: shrink(compose(*given)))
        code, shown = tracetorch_in_terminal(patch, "run", *words)
        assert code == 0, shown
        (facts,) = Path(folder).rglob("run.json")
        config = yaml.safe_load((facts.parent / "config.yaml").read_text())
        return Ran(code, shown, json.loads(facts.read_text()), config, RunFolder(facts.parent).records()[-1])


LINES = [(path, line) for path in FILES for line in ("Run", "Override")]


def each_line(slow: Callable[[Path, str], bool]) -> pytest.MarkDecorator:
    """Run a test for every command of every header; those for which `slow` holds only with `-m slow`."""
    rows = [
        pytest.param(*row, id=f"{row[0].relative_to(conf_dir())}-{row[1]}", marks=[pytest.mark.slow] * slow(*row))
        for row in LINES
    ]
    return pytest.mark.parametrize(("path", "line"), rows)


def is_of(path: Path, line: str, experiment: str, config: dict) -> None:
    """What a command gave is what its file names and holds."""
    if path.parent.name == "experiment":
        assert experiment == path.stem
    elif line == "Run" and path.parent != conf_dir():
        given, part = yaml.safe_load(path.read_text(encoding="utf-8")), config[path.parent.name]
        assert set(given) <= set(part)
        assert part.get("_target_") == given.get("_target_")


@each_line(slow=lambda path, line: False)
def test_what_the_header_types_passes_the_checks_and_its_parts_can_be_made(path, line):
    composed = compose(command(path, line))
    check_new(composed.config)
    is_of(path, line, composed.experiment, composed.config)
    make_parts(shrink(composed).config)


@each_line(slow=lambda path, line: path.parent.name != "experiment" or line != "Run")
def test_what_the_header_types_trains_to_a_completed_run_in_a_terminal(path, line):
    found = ran(*command(path, line))
    assert (found.facts["status"], found.facts["summary"]["updates"]) == ("completed", found.config["train"]["updates"])
    assert found.last["split"] == "test"
    metric = "return" if "return" in found.last else "accuracy"
    assert re.search(rf"loss +\S+ · {metric} +\S", found.shown)
    is_of(path, line, found.facts["experiment"], found.config)


def test_the_experiments_are_deltas():
    for path in (conf_dir() / "experiment").glob("*.yaml"):
        text = path.read_text(encoding="utf-8")
        assert text.startswith("# @package _global_\n")
        assert "_target_" not in text


@pytest.mark.parametrize("kind", ["supervised", "reinforcement", "lifetime"])
def test_the_options_that_main_passes_on_are_checked(kind):
    shared = {"window", "schedule", "precision", "log_every", "checkpoint_seconds", "figures"}
    known = signature(f"tracetorch.experiments.{kind}.main")
    keys = yaml.safe_load((conf_dir() / "train" / f"{kind}.yaml").read_text(encoding="utf-8")).keys()
    assert shared <= keys - {"_target_", "_partial_"} <= known.keys()
    assert {"task", "rule", "diagnostics"} <= known.keys()
    assert "feedback" not in known  # main sets it itself


def test_a_shared_option_of_train_keeps_its_annotation():
    composed = compose(["train=lifetime", "train.schedule=quadratic"])
    with pytest.raises(UsageError, match=r"train.schedule must be one of none, linear, cosine, got 'quadratic'"):
        check(composed.config)
