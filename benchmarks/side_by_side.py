"""Several runs at once on the same processors: the time of an update, by how long a waiting thread spins.

python benchmarks/side_by_side.py --json side_by_side.json

Each run uses as many threads as `--threads` says, so that two runs of two threads share two processors. By
default, libgomp, the OpenMP library of torch on Linux, spins for 300,000 turns of a loop; `tracetorch` sets 3,000.
"""

from __future__ import annotations

import json as text
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer

import common

RUN = ["run", "experiment=mnist_sample", "task.batch_size=128", "train.passes=null", "train.figures=false"]

Spins = Annotated[list[int] | None, typer.Option("--spins", min=0, help="Turns of the empty loop; repeatable.")]
AtOnce = Annotated[list[int] | None, typer.Option("--at-once", min=1, help="Number of runs at once; repeatable.")]
Rules = Annotated[list[str] | None, typer.Option("--rule", help="A rule; repeatable.")]
Updates = Annotated[int, typer.Option(min=1, help="Updates of each run.")]


def main(
    *,
    rule: Rules = None,
    at_once: AtOnce = None,
    spins: Spins = None,
    updates: Updates = 200,
    rounds: common.Rounds = 3,
    threads: common.Threads = 2,
    quick: common.Quick = False,
    json: common.JSON = None,
) -> None:
    """Measure the ms of an update, median over all runs of all rounds."""
    machine = common.provenance(common.start("cpu", threads))
    common.console.print(common.describe(machine), "\n", markup=False)
    rules, counts, spin_counts = rule or ["trace", "bptt"], at_once or [1, 2], spins or [300_000, 3_000]
    if quick:
        rules, counts, spin_counts, updates, rounds = rules[:1], counts[-1:], spin_counts[-1:], 2, 1
    combinations = [(name, count, wait) for name in rules for count in counts for wait in spin_counts]
    seconds: dict[tuple[str, int, int], list[float]] = {combination: [] for combination in combinations}
    for _ in range(rounds):
        for name, count, wait in combinations:
            seconds[name, count, wait] += _run([f"rule={name}", f"train.updates={updates}"], count, wait, threads)
    rows = [
        {"rule": name, "at_once": count, "spins": wait, "seconds": common.summarize(found)}
        for (name, count, wait), found in seconds.items()
    ]
    common.write(json, "side_by_side", machine, rows)
    lines = []
    for row in rows:
        times = [common.milliseconds(row["seconds"][key]) for key in ("median", "min")]
        lines.append([row["rule"], str(row["at_once"]), f"{row['spins']:,}", *times])
    common.table(
        "an update, with other runs at the same time", ["rule", "runs at once", "spins", "median ms", "min ms"], lines
    )


def _run(overrides: list[str], count: int, spins: int, threads: int) -> list[float]:
    """Start so many runs at once. Returns: the seconds per update of each."""
    program = str(Path(sys.executable).with_name("tracetorch"))
    environment = os.environ | {"GOMP_SPINCOUNT": str(spins)}
    with tempfile.TemporaryDirectory(prefix="side-by-side-") as base:
        folders = [Path(base, str(number)) for number in range(count)]
        commands = [[program, *RUN, *overrides, f"threads={threads}", f"output.dir={folder}"] for folder in folders]
        started = [
            subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
            for command in commands
        ]
        for command, run in zip(commands, started, strict=True):
            _, errors = run.communicate()
            if run.returncode:
                raise RuntimeError(f"{' '.join(command)} failed:\n{errors.strip()}")
        return [text.loads((folder / "run.json").read_text())["summary"]["update_seconds"] for folder in folders]


if __name__ == "__main__":
    typer.run(main)
