"""Memory of one training step in addition to the network, and its time, against its length.

python benchmarks/memory.py --json memory.json          # T = 100 … 1,000,000; every measurement in its own process
python benchmarks/memory.py --batch 16 --contender ours --contender snntorch --memory-limit 8
python benchmarks/memory.py --quick
"""

from __future__ import annotations

import json as _json
import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

import common
from contenders import TRAINERS, USUAL
from rounds import Forecast

STEPS = (100, 1_000, 10_000, 100_000, 1_000_000)
ONE_STEP = Path(__file__).with_name("one_step.py")
OWN_PAGES = {"MALLOC_MMAP_THRESHOLD_": "65536"}
"""For glibc: larger blocks get pages of their own, which return to the system when freed. By default, glibc keeps freed
memory, more the longer a process runs, so the peak shows the allocator's behaviour rather than the step's need."""
TRAINING = [name for name in USUAL if name != "floor"]

Network = Annotated[str, typer.Option(help="Widths, such as 784-256-10.")]
Batch = Annotated[int, typer.Option(min=1, help="Rows in a batch.")]
Steps = Annotated[list[int] | None, typer.Option("--steps", min=1, help="Time steps; repeatable.")]
Limit = Annotated[
    float | None, typer.Option(min=0, help="GiB that a step may take. 70 % of the free memory, if not given.")
]
Budget = Annotated[float, typer.Option(min=0, help="Seconds that one step may take.")]


def main(
    *,
    network: Network = "784-256-10",
    batch: Batch = 128,
    steps: Steps = None,
    contender: common.Names = None,
    memory_limit: Limit = None,
    budget_seconds: Budget = 1800.0,
    device: common.Device = "auto",
    threads: common.Threads = 2,
    quick: common.Quick = False,
    json: common.JSON = None,
) -> None:
    """Measure peak extra memory and seconds of one training step, for each length that the limits allow."""
    with common.plain_errors():
        machine_device = common.start(device, threads)
        network = "12-8-4" if quick else network
        common.widths(network)
        names = common.available(TRAINERS, contender or TRAINING)
        room = int(memory_limit * 2**30) if memory_limit is not None else common.memory_room(machine_device)
        if machine_device.type != "cuda" and common.memory("VmHWM") is None:
            raise ValueError("the peak memory of a process is read from Linux's /proc, which this system lacks")
    machine = common.provenance(machine_device) | {"memory_limit_bytes": room}
    common.console.print(common.describe(machine), "\n", markup=False)
    shape = {"network": network, "batch": 2 if quick else batch}
    timed = machine_device.type == "cpu" and not quick
    rows: list[common.Row] = []
    for name in names:
        forecast = Forecast(budget_seconds)
        for length in sorted(steps or ((2, 4) if quick else STEPS)):
            cell = {"contender": name, **shape, "steps": length}
            common.console.print(f"{name}, T = {length:,} …", markup=False)
            rows.append(cell | _measure(cell, [str(machine_device), str(threads)], forecast, room, timed=timed))
            common.write(json, "memory", machine, rows)
            if rows[-1]["skipped"]:  # longer ones would fail as well
                break
    common.console.print()
    _print(rows, shape, room)


def _measure(cell: common.Row, settings: list[str], forecast: Forecast, room: int | None, *, timed: bool) -> common.Row:
    """Measure one length, or return its forecast if it exceeds the limits.

    Args:
        cell: contender, network, batch, steps.
        settings: device and threads; with `cell`, the arguments of `one_step.py`.
        forecast: from the shorter lengths.
        room: memory limit in bytes.
        timed: whether to take the time from a second process with the default allocator.
    """
    steps = cell["steps"]
    predicted: common.Row = {}
    if forecast.measured:
        predicted = {"forecast": {"seconds": forecast.seconds(steps), "extra_bytes": forecast.memory(steps)}}
        refusal = forecast.refusal(steps, 1, room)
        if refusal:
            return {"skipped": refusal} | predicted
    command = [sys.executable, str(ONE_STEP), *map(str, cell.values()), *settings]
    row = _start(command, OWN_PAGES)
    if not row["skipped"] and timed:
        usual = _start(command, {})
        row |= {"skipped": usual["skipped"]}
        row |= {} if row["skipped"] else {"seconds": usual["seconds"], "extra_bytes_usual": usual["extra_bytes"]}
    if row["skipped"]:
        return {"skipped": row["skipped"]} | predicted
    forecast.note(steps, row["seconds"], max(row["extra_bytes"], row.get("extra_bytes_usual", 0)))
    return row


def _start(command: list[str], variables: dict[str, str]) -> common.Row:
    """Run `one_step.py` in a new process, with these environment variables. Returns: its JSON."""
    ended = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | variables)
    if ended.returncode < 0:
        return {"skipped": f"killed by signal {-ended.returncode}, as the system does when memory runs out"}
    if ended.returncode:
        raise RuntimeError(f"{' '.join(command[1:])} failed:\n{ended.stderr.strip()}")
    row: common.Row = _json.loads(ended.stdout.strip().splitlines()[-1])
    return row


def _print(rows: list[common.Row], shape: common.Row, room: int | None) -> None:
    """Print the table."""
    limit = f", memory limit {room / 2**30:.1f} GiB" if room else ""
    lines = []
    for row in rows:
        line = [row["contender"], f"{row['steps']:,}", "", "", "", row["skipped"]]
        if not row["skipped"]:
            per_step = f"{1e6 * row['seconds'] / row['steps']:,.0f}"
            line[2:5] = [common.mebibytes(row["extra_bytes"]), common.milliseconds(row["seconds"]), per_step]
        lines.append(line)
    columns = ["", "T", "extra MiB", "ms", "µs per time step", "note"]
    common.table(f"one training step, {shape['network']}, batch {shape['batch']}{limit}", columns, lines)


if __name__ == "__main__":
    typer.run(main)
