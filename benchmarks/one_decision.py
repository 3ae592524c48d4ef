"""Time of one decision with learning, at batch 1 and 32: of a whole update, and of its parts.

python benchmarks/one_decision.py --json one_decision.json
python benchmarks/one_decision.py --program .venv/bin/tracetorch --program ../before/.venv/bin/tracetorch

Each case is a preset with overrides. The time of an update is taken from the run's own records (`train_seconds`), so
evaluation, figures and start-up do not count. The programs alternate, so that a change in the machine's load affects
all of them.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer

import common

CASES = {
    "clicks_lifetime": ["experiment=clicks_lifetime", "train.steps=null"],
    "cartpole": ["experiment=cartpole", "train.eval_every=1000000"],
    "cartpole, three-factor": [
        "experiment=cartpole",
        "rule=three_factor",
        "rule.decay=0.9",
        "train.eval_every=1000000",
    ],
}
PARTS = {
    "environment": [("tracetorch.tasks.Environment", "observe act")],
    "network forward": [("tracetorch.rules.base.Rule", "forward")],
    "loss and policy": [("tracetorch.loss.Reflect tracetorch.loss.ActorCritic", "policy observe __call__")],
    "gradients": [("tracetorch.rules.base.Rule", "observe backward backward_reward")],
    "optimizer": [("torch.optim.Optimizer", "step zero_grad")],
}
"""By part: the timed methods of classes and their subclasses. A call within a timed call counts for the outer one."""

Programs = Annotated[list[str] | None, typer.Option("--program", help="Path of a tracetorch to run; repeatable.")]
Rounds = Annotated[int, typer.Option(min=1, help="How many times each case is run.")]
Updates = Annotated[int, typer.Option(min=20, help="Updates of each run.")]


def main(
    *,
    case: Annotated[list[str] | None, typer.Option("--case", help=f"One of {', '.join(CASES)}; repeatable.")] = None,
    program: Programs = None,
    updates: Updates = 1000,
    rounds: Rounds = 5,
    threads: common.Threads = 1,
    quick: common.Quick = False,
    json_path: common.JSON = None,
) -> None:
    """Measure the ms of an update, median over the rounds; and once those of its parts, in this process."""
    machine = common.provenance(common.start("cpu", threads))
    common.console.print(common.describe(machine), "\n", markup=False)
    programs = program or [str(Path(sys.executable).with_name("tracetorch"))]
    cases = case or list(CASES)
    if quick:
        cases, updates, rounds = cases[:1], 20, 1
    pairs = [(case_name, program_path) for case_name in cases for program_path in programs]
    seconds: dict[tuple[str, str], list[float]] = {pair: [] for pair in pairs}
    for _ in range(rounds):
        for case_name, program_path in pairs:
            seconds[case_name, program_path].append(_update_seconds(program_path, case_name, updates, threads))
    rows: list[common.Row] = [
        {"case": case_name, "program": program_path, "update": common.summarize(values)}
        for (case_name, program_path), values in seconds.items()
    ]
    parts = {case_name: _parts(case_name, max(20, updates // 4), threads) for case_name in cases}
    rows += [{"case": case_name, "parts": values} for case_name, values in parts.items()]
    common.write(json_path, "one_decision", machine, rows)
    lines = []
    for (case_name, program_path), values in seconds.items():
        summary = common.summarize(values)
        first = common.summarize(seconds[case_name, programs[0]])["median"]
        lines.append(
            [
                case_name,
                program_path,
                *(common.milliseconds(summary[key]) for key in ("median", "min")),
                f"{summary['median'] / first:.2f}",
            ]
        )
    common.table("an update with learning", ["case", "program", "median ms", "min ms", "ratio to the first"], lines)
    names = [*PARTS, "the rest"]
    shares = [[case_name, *(f"{1000 * values[part]:.2f}" for part in names)] for case_name, values in parts.items()]
    common.table("parts, ms per update", ["case", *names], shares)


def _command(case: str, updates: int, threads: int, folder: Path) -> list[str]:
    options = [f"train.updates={updates}", f"train.log_every={max(1, updates // 10)}", "train.figures=false"]
    return ["run", *CASES[case], *options, f"threads={threads}", f"output.dir={folder}"]


def _update_seconds(program: str, case: str, updates: int, threads: int) -> float:
    """Mean seconds per update between the first and the last record of training."""
    with tempfile.TemporaryDirectory(prefix="one-decision-") as base:
        folder = Path(base, "run")
        completed = subprocess.run(
            [program, *_command(case, updates, threads, folder)], capture_output=True, text=True, check=False
        )
        if completed.returncode:
            raise RuntimeError(f"{case} failed:\n{(completed.stdout + completed.stderr).strip()}")
        lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    train = [line for line in lines if line["split"] == "train"]
    return (train[-1]["train_seconds"] - train[0]["train_seconds"]) / (train[-1]["update"] - train[0]["update"])


def _parts(case: str, updates: int, threads: int) -> dict[str, float]:
    """Seconds per update of each part, and of the rest, from a run in this process; the timers' own cost is included.

    Only calls during updates count, not those of the rehearsal and the test.
    """
    from importlib import import_module  # noqa: PLC0415

    from tracetorch.cli.main import app  # noqa: PLC0415
    from tracetorch.runs import Run  # noqa: PLC0415

    spent, is_inside, is_training = dict.fromkeys(PARTS, 0.0), [False], [False]
    training = Run.training

    @contextmanager
    def watched_training(run: Run) -> Iterator[None]:
        with training(run):
            is_training[0] = True
            try:
                yield
            finally:
                is_training[0] = False

    def timed(part: str, method: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(method)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            if is_inside[0] or not is_training[0]:
                return method(*args, **kwargs)
            is_inside[0], start = True, time.perf_counter()
            try:
                return method(*args, **kwargs)
            finally:
                spent[part] += time.perf_counter() - start
                is_inside[0] = False

        return wrapper

    replaced: list[tuple[type, str, Any]] = [(Run, "training", training)]
    Run.training = watched_training  # type: ignore[method-assign]
    for part, targets in PARTS.items():
        for classes, methods in targets:
            for path in classes.split():
                module, _, kind = path.rpartition(".")
                for owner in _subclasses(getattr(import_module(module), kind)):
                    for method in methods.split():
                        if method in vars(owner):
                            replaced.append((owner, method, vars(owner)[method]))
                            setattr(owner, method, timed(part, vars(owner)[method]))
    try:
        with tempfile.TemporaryDirectory(prefix="one-decision-") as base:
            folder = Path(base, "run")
            app(_command(case, updates, threads, folder), standalone_mode=False)
            lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    finally:
        for owner, method, original in replaced:
            setattr(owner, method, original)
    total = [line for line in lines if line["split"] == "train"][-1]["train_seconds"]
    return {part: seconds / updates for part, seconds in spent.items()} | {
        "the rest": (total - sum(spent.values())) / updates
    }


def _subclasses(kind: type) -> list[type]:
    """The class and all its subclasses, direct and indirect."""
    return [kind, *(derived for child in kind.__subclasses__() for derived in _subclasses(child))]


if __name__ == "__main__":
    typer.run(main)
