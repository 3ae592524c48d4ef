"""Folders of runs that were never run, for tests of what reads them."""

import json
import math
from pathlib import Path
from typing import Any

import yaml

from tracetorch.runs.identity import facts_of

TARGETS = {"trace": "Trace", "eprop": "EProp", "bptt": "BPTT"}
NOTHING: Any = object()


def config(
    *, seed: int = 0, lr: float = 0.002, hidden: tuple[int, ...] = (64,), rule: str = "trace", **more: Any
) -> Any:
    """A config as a run leaves it; `more` goes to its top."""
    return {
        "task": {"_target_": "tracetorch.tasks.PoissonClicks", "gamma": [0.25, 0.5], "label": "side", "seed": seed},
        "network": {
            "_target_": "tracetorch.nn.feedforward",
            "_partial_": True,
            "hidden": list(hidden),
            "neuron": {"_target_": "tracetorch.nn.LIF", "_partial_": True, "decay": 0.999, "trainable": ["weight"]},
        },
        "rule": {"_target_": f"tracetorch.rules.{TARGETS[rule]}", "_partial_": True},
        "optimizer": {"_target_": "torch.optim.Adam", "_partial_": True, "lr": lr, "betas": [0.9, 0.999]},
        "train": {"_target_": "tracetorch.experiments.supervised.main", "updates": 60},
        "output": {"root": "outputs", "dir": None},
        "seed": seed,
        "device": "auto",
        "threads": None,
        **more,
    }


def records(value: float, *, updates: int = 60, every: int = 6) -> list[dict[str, Any]]:
    """A course of learning that ends with this accuracy."""
    rows = []
    for update in range(every, updates + 1, every):
        accuracy = value - (value - 0.5) * math.exp(-4 * update / updates)
        row = {"update": update, "loss": 1.2 - accuracy, "accuracy": accuracy}
        rows.append({**row, "split": "train", "steps_per_second": 900.0, "train_seconds": 0.1 * update})
        rows.append({**row, "split": "validation"})
    return [*rows, {"update": updates, "split": "test", "loss": 1.2 - value, "accuracy": value}]


def run_folder(
    path: Path,
    value: float = 0.9,
    *,
    status: str = "completed",
    summary: Any = None,
    lines: list[dict[str, Any]] | None = None,
    facts: dict[str, Any] | None = None,
    **settings: Any,
) -> Path:
    """The folder of a run whose last accuracy is `value`; NOTHING in `facts` leaves a value of run.json out."""
    made = config(**settings)
    found = {
        "status": status,
        "experiment": "poisson_clicks",
        **facts_of(made),
        "device": "cpu",
        "started": "2026-01-01T10:00:00+00:00",
        "summary": summary if summary is not None else usual_summary(value),
        "error": None,
        **(facts or {}),
    }
    path.mkdir(parents=True)
    known = {name: fact for name, fact in found.items() if fact is not NOTHING}
    (path / "run.json").write_text(json.dumps(known))
    (path / "config.yaml").write_text(yaml.safe_dump(made, sort_keys=False))
    rows = records(value) if lines is None else lines
    (path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def usual_summary(value: float) -> dict[str, Any]:
    """What came of a run with this accuracy."""
    costs = {"steps_per_second": 1899.0, "peak_memory_bytes": 300 * 2**20, "wall_seconds": 20 + value}
    return {
        "updates": 60,
        "tested": "latest",
        "loss": 1.2 - value,
        "accuracy": value,
        "of_ideal": value / 0.95,
        **costs,
    }


def sweep(folder: Path, values: dict[float, list[float]]) -> Path:
    """A folder of runs: for each learning rate, the accuracy of each seed from 0 up."""
    for lr, accuracies in values.items():
        for seed, value in enumerate(accuracies):
            run_folder(folder / f"{len(list(folder.glob('*'))):03d}_lr={lr},seed={seed}", value, lr=lr, seed=seed)
    return folder
