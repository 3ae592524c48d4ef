"""Several runs at once: the time of an update, for different lengths of busy waiting.

python benchmarks/side_by_side.py --json side_by_side.json

Each run uses `--threads` threads. Runs share processors if together they have more threads than the machine has
processors: on a machine with more than two, raise `--threads` or `--at-once`, or use taskset. By default, libgomp, the
OpenMP library of torch on Linux, spins for 300,000 turns of a loop; `tracetorch` sets 3,000.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer

import common

RUN = ["run", "experiment=mnist_sample", "task.batch_size=128", "train.passes=null", "train.figures=false"]

Spins = Annotated[
    list[int] | None, typer.Option("--spins", min=0, help="Turns of a waiting thread's loop; repeatable.")
]
AtOnce = Annotated[list[int] | None, typer.Option("--at-once", min=1, help="Number of runs at once; repeatable.")]
Rules = Annotated[list[str] | None, typer.Option("--rule", help="A rule; repeatable.")]
Rounds = Annotated[int, typer.Option(min=1, help="How many times each case is run.")]
Updates = Annotated[int, typer.Option(min=1, help="Updates of each run.")]


def main(
    *,
    rule: Rules = None,
    at_once: AtOnce = None,
    spins: Spins = None,
    updates: Updates = 200,
    rounds: Rounds = 3,
    threads: common.Threads = 2,
    quick: common.Quick = False,
    json_path: common.JSON = None,
) -> None:
    """Measure the ms of an update, median over all runs of all rounds."""
    machine = common.provenance(common.start("cpu", threads))
    common.console.print(common.describe(machine), "\n", markup=False)
    rules, counts, spin_counts = rule or ["trace", "bptt"], at_once or [1, 2], spins or [300_000, 3_000]
    if quick:
        rules, counts, spin_counts, updates, rounds = rules[:1], counts[-1:], spin_counts[-1:], 2, 1
    combinations = [(name, num_runs, turns) for name in rules for num_runs in counts for turns in spin_counts]
    seconds: dict[tuple[str, int, int], list[float]] = {combination: [] for combination in combinations}
    for _ in range(rounds):
        for name, num_runs, turns in combinations:
            overrides = [f"rule={name}", f"train.updates={updates}"]
            seconds[name, num_runs, turns] += _run(overrides, num_runs, turns, threads)
    rows = [
        {"rule": name, "at_once": num_runs, "spins": turns, "seconds": common.summarize(values)}
        for (name, num_runs, turns), values in seconds.items()
    ]
    common.write(json_path, "side_by_side", machine, rows)
    lines = []
    for row in rows:
        times = [common.milliseconds(row["seconds"][key]) for key in ("median", "min")]
        lines.append([row["rule"], str(row["at_once"]), f"{row['spins']:,}", *times])
    common.table(
        "an update, with other runs at the same time", ["rule", "runs at once", "spins", "median ms", "min ms"], lines
    )


def _run(overrides: list[str], count: int, spins: int, threads: int) -> list[float]:
    """Start `count` runs at once. Returns: seconds per update of each run."""
    program = str(Path(sys.executable).with_name("tracetorch"))
    environment = os.environ | {"GOMP_SPINCOUNT": str(spins)}
    with tempfile.TemporaryDirectory(prefix="side-by-side-") as base:
        folders = [Path(base, str(number)) for number in range(count)]
        commands = [[program, *RUN, *overrides, f"threads={threads}", f"output.dir={folder}"] for folder in folders]
        processes = [
            subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
            for command in commands
        ]
        for command, run in zip(commands, processes, strict=True):
            _, errors = run.communicate()
            if run.returncode:
                raise RuntimeError(f"{' '.join(command)} failed:\n{errors.strip()}")
        return [json.loads((folder / "run.json").read_text())["summary"]["update_seconds"] for folder in folders]


if __name__ == "__main__":
    typer.run(main)
