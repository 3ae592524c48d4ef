"""A training of a network of a few neurons, for tests of the time loop, and ways to stop and compare it."""

import json
import signal
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from tracetorch import loss as losses
from tracetorch import nn, rules
from tracetorch.experiments import supervised
from tracetorch.runs import Run, RunFolder, load_checkpoint
from tracetorch.runs.provenance import first_difference
from tracetorch.tasks import Patterns

NET = partial(nn.feedforward, hidden=[8], neuron=nn.LIF, readout=nn.LI)
PATTERNS = {"patterns": 4, "inputs": 12, "outputs": 3, "steps": 10, "batch_size": 4, "repeats": 2}
LONG = {"updates": 12, "log_every": 5, "eval_every": 4, "schedule": "cosine"}
THE_CLOCK = ("_seconds", "_per_second", "_bytes")


def start(main: Any, parts: dict[str, Any], tmp_path: Path, **changes: Any) -> Run:
    """A tiny run of an experiment's `main` in tmp_path/name, or continuing in the folder `resume_from`."""
    where: dict[str, Any] = {name: changes.pop(name, None) for name in ("listener", "resume_from")}
    where["new_length"] = changes.pop("new_length", False)
    seed, name = changes.pop("seed", 0), changes.pop("name", "run")
    path = None if where["resume_from"] else tmp_path / name
    run = Run({"seed": seed}, experiment="tiny", root=tmp_path, path=path, **where)
    main(run, **{"device": "cpu", "figures": False} | parts | changes, seed=seed)
    return run


def train(tmp_path: Path, *, seed: int = 0, **changes: Any) -> Run:
    """A tiny training; `changes`: of its parts and options, and those of `start`, such as `listener`."""
    parts = {"task": Patterns(**PATTERNS, seed=seed), "network": NET, "rule": rules.Trace, "loss": losses.mse}
    parts |= {"optimizer": partial(torch.optim.Adam, lr=0.02), "updates": 4}
    return start(supervised.main, parts, tmp_path, seed=seed, **changes)


def facts(run: Run) -> dict[str, Any]:
    """What run.json says."""
    return json.loads((run.folder.path / "run.json").read_text())


class Killed(BaseException):
    """Ends a run as nothing that it expects would."""


def stopping(at: int, how: str) -> Any:
    """A listener that stops the run after so many updates. Args: how: "signal" or "kill"."""

    def listen(event, values):
        if event == "progress" and values["done"] == at:
            if how == "signal":
                signal.raise_signal(signal.SIGINT)
            else:
                raise Killed

    return listen


def timeless(run_or_folder: Any) -> list[dict[str, Any]]:
    """The records without what depends on the clock or the machine."""
    path = getattr(run_or_folder, "folder", run_or_folder).path
    rows = map(json.loads, (path / "metrics.jsonl").read_text().splitlines())
    return [{name: value for name, value in row.items() if not name.endswith(THE_CLOCK)} for row in rows]


def weights(folder: Any, name: str = "latest") -> dict[str, Any]:
    """The weights in a checkpoint of a folder."""
    net = NET(12, 3)
    load_checkpoint(folder.checkpoint(name), net)
    return net.state_dict()


def assert_resumes(loop: Any, tmp_path: Path, parts: Any, *, at: int, how: str, **options: Any) -> dict[str, Any]:
    """A run that is stopped after `at` updates ends as one that is not, state and records.

    Args: parts: makes the parts of each run. how: of `stopping`.
    Returns: the last checkpoint.
    """
    whole = loop(tmp_path, name="whole", **options, **parts())
    if how == "signal":
        assert loop(tmp_path, name="cut", listener=stopping(at, how), **options, **parts()).status == "interrupted"
    else:
        with pytest.raises(Killed):
            loop(tmp_path, name="cut", listener=stopping(at, how), **options, **parts())
    resumed = loop(tmp_path, resume_from=RunFolder(tmp_path / "cut"), **options, **parts())
    assert not first_difference(whole.folder, resumed.folder)
    ends = [torch.load(run.folder.checkpoint("latest"), weights_only=True) for run in (whole, resumed)]
    for end in ends:
        end["parts"].pop("log", None)  # it holds times
    for part in ("net", "state", "optimizer", "parts"):
        assert str(ends[0][part]) == str(ends[1][part])
    return ends[1]


def assert_same(one: Run, other: Run) -> None:
    """Records, weights and summaries are equal, costs aside."""
    assert timeless(one) == timeless(other)
    for name in ("latest", "best"):
        left, right = weights(one.folder, name), weights(other.folder, name)
        assert all(torch.equal(left[key], right[key]) for key in left)
    found = (facts(run)["summary"].items() for run in (one, other))
    left, right = ({key: value for key, value in items if not key.endswith(THE_CLOCK)} for items in found)
    assert left == right


class Watched:
    """A network factory that keeps what it makes, a rule that counts, an optimizer factory that keeps its own."""

    def __init__(self):
        self.resets, self.parts, self.taught = 0, [], 0
        watched = self

        class Rule(rules.Trace):
            def reset(self, *mask):
                watched.resets += 1
                super().reset(*mask)

            def forward(self, xs, **kwargs):
                watched.parts.append((xs.steps, kwargs["window"]))
                return super().forward(xs, **kwargs)

            def backward(self, signal, **kwargs):
                watched.taught += 1
                return super().backward(signal, **kwargs)

        self.rule = Rule

    def network(self, inputs, outputs):
        self.net = NET(inputs, outputs)
        return self.net

    def optimizer(self, parameters):
        self.optimizer_made = torch.optim.Adam(parameters, lr=0.02)
        return self.optimizer_made
