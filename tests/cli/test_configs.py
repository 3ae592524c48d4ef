"""Every YAML file of `conf/`, found by glob: it says what it is, and the commands in its header work."""

import gc
import json
import re
import shlex
from itertools import product
from pathlib import Path

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

SMALL = {"batch_size": 4, "test_trials": 6, "validation_trials": 6, "duration": [0.2], "repeats": 1, "source": "sample"}
SMALL |= {"num_envs": 4, "test_episodes": 6, "validation_episodes": 6, "max_episode_steps": 9}
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


def parts_of(node: dict) -> list[dict]:
    """A part of a config and all parts inside of it."""
    return [node, *(found for value in node.values() if isinstance(value, dict) for found in parts_of(value))]


def shrink(composed: Composed) -> Composed:
    """The same config with as little work as its task and its training loop allow."""
    config = composed.config
    for part in parts_of(config["task"]):
        if part.get("_target_") == "tracetorch.tasks.Gym":
            pytest.importorskip("gymnasium", reason="the extra rl is not installed")
        part.update({key: value for key, value in SMALL.items() if key in part})
    train, network = config["train"], config["network"]
    silent = "latency" in str(config["task"]) or network["readout"]["_target_"].endswith(".LIF")  # in the first updates
    train |= {"updates": 40 if silent else 2, "figures": False, **({"passes": None} if "passes" in train else {})}
    network["hidden"] = [min(count, 32) for count in network["hidden"]]
    config["device"] = "cpu"
    return composed


def test_each_file_is_plain_yaml_with_a_header_that_says_what_it_is():
    assert {path.parent.name for path in FILES} == {"conf", *GROUPS}
    for path in FILES:
        text = path.read_text(encoding="utf-8")
        assert text.startswith("#") and text.endswith("\n") and "\t" not in text, path
        assert isinstance(yaml.safe_load(text), dict), path
        what, run, override = header(path)[:3]
        assert len(what) > 15 and re.search("[.:?]", what), path
        assert run.startswith("Run: ") and override.startswith("Override: ") and "=" in override, path
        if path.parent.name == "experiment":  # a delta
            assert text.startswith("# @package _global_\n") and "_target_" not in text, path


@pytest.mark.parametrize("group", ["conf", *GROUPS])
def test_what_the_headers_type_passes_the_checks_and_its_parts_can_be_made(group):
    for path, line in product((path for path in FILES if path.parent.name == group), ("Run", "Override")):
        try:
            composed = compose(command(path, line))
            check_new(composed.config)
            make_parts(shrink(composed).config)
        except UsageError as error:
            pytest.fail(f"{line} of {path}: {error}")
        if group == "experiment":
            assert composed.experiment == path.stem
        elif line == "Run" and group != "conf":
            given, part = yaml.safe_load(path.read_text(encoding="utf-8")), composed.config[group]
            assert set(given) <= set(part) and part.get("_target_") == given.get("_target_"), path


@pytest.fixture(scope="module")
def _old_objects_stay():
    """Each run collects garbage before it measures its memory: here among its own objects, not those of all modules."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.parametrize("experiment", sorted(path.stem for path in FILES if path.parent.name == "experiment"))
def test_each_experiment_trains_to_a_completed_run_in_a_terminal(experiment, here, monkeypatch, _old_objects_stay):
    monkeypatch.setattr("tracetorch.cli.adapter.compose", lambda *given: shrink(compose(*given)))
    code, shown = tracetorch_in_terminal(monkeypatch, "run", f"experiment={experiment}")
    assert code == 0, shown
    (path,) = here.rglob("run.json")
    facts, config = json.loads(path.read_text()), yaml.safe_load((path.parent / "config.yaml").read_text())
    wanted = ("completed", experiment, config["train"]["updates"])
    assert (facts["status"], facts["experiment"], facts["summary"]["updates"]) == wanted
    last = RunFolder(path.parent).records()[-1]
    assert last["split"] == "test"
    assert re.search(rf"loss +\S+ · {'return' if 'return' in last else 'accuracy'} +\S", shown)


@pytest.mark.parametrize("kind", ["supervised", "reinforcement", "lifetime"])
def test_the_options_that_main_passes_on_are_checked(kind):
    shared = {"window", "schedule", "precision", "log_every", "checkpoint_seconds", "figures"}
    known = signature(f"tracetorch.experiments.{kind}.main")
    keys = yaml.safe_load((conf_dir() / "train" / f"{kind}.yaml").read_text(encoding="utf-8")).keys()
    assert shared <= keys - {"_target_", "_partial_"} <= known.keys()
    assert {"task", "rule", "diagnostics"} <= known.keys()
    assert "feedback" not in known  # main sets it itself
    with pytest.raises(UsageError, match=r"train.schedule must be one of none, linear, cosine, got 'quadratic'"):
        check(compose([f"train={kind}", "train.schedule=quadratic"]).config)
