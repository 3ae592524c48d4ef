"""Inference on one endless stream of batch 1, encoding included: time steps per second.

python benchmarks/stream.py --json stream.json
python benchmarks/stream.py --network 21-64-2 --seconds 0.2
python benchmarks/stream.py --quick
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import count
from typing import Annotated

import torch
import typer

import common
from contenders import STREAMERS, build
from inputs import Inputs
from rounds import interleave, timed

NETWORKS = ("21-64-2", "784-256-10", "784-1024-1024-10")
REFERENCE = "snntorch"

Seconds = Annotated[float, typer.Option(min=0.001, help="About how long one measurement takes.")]


def main(
    *,
    network: common.Networks = None,
    contender: common.Names = None,
    seconds: Seconds = 0.5,
    rounds: common.Rounds = 7,
    device: common.Device = "auto",
    threads: common.Threads = 2,
    quick: common.Quick = False,
    json: common.JSON = None,
) -> None:
    """Measure time steps per second: the median and the best of interleaved rounds."""
    with common.plain_errors():
        machine_device = common.start(device, threads)
        names = common.available(STREAMERS, contender)
        networks = [common.widths(text) for text in network or (["12-8-4"] if quick else NETWORKS)]
    machine = common.provenance(machine_device)
    common.console.print(common.describe(machine), "\n", markup=False)
    rows: list[common.Row] = []
    for sizes in networks:
        round_seconds, repeats = (0.001, 1) if quick else (seconds, rounds)
        new_rows = _race(names, sizes, machine_device, round_seconds, repeats)
        rows += [{"network": "-".join(map(str, sizes))} | row for row in new_rows]
        common.write(json, "stream", machine, rows)
        _print(sizes, new_rows)


def _race(
    names: list[str], sizes: tuple[int, ...], device: torch.device, round_seconds: float, rounds: int
) -> list[common.Row]:
    """Run each contender on its own stream for about `round_seconds` per round."""
    rates, _ = Inputs("uniform", sizes, 1, "sample", device)(0)
    runners = {name: build(STREAMERS[name], sizes, device) for name in names}
    for contender in runners.values():
        contender.reset()
    steps = {name: _calibrate(partial(runners[name].stream, rates), device, round_seconds) for name in names}
    workloads = {name: partial(runners[name].stream, rates, steps[name]) for name in names}
    timings = interleave(workloads, rounds, device)
    speeds = {name: [steps[name] / value for value in values] for name, values in timings.items()}
    rows = []
    for name in names:
        speed = common.summarize(speeds[name])
        row = {"contender": name, "steps": steps[name], "steps_per_second": speed | {"max": max(speeds[name])}}
        if REFERENCE in speeds:
            row[f"to_{REFERENCE}"] = speed["median"] / common.summarize(speeds[REFERENCE])["median"]
        rows.append(row)
    return rows


def _calibrate(stream: Callable[[int, int], None], device: torch.device, round_seconds: float) -> int:
    """Return the number of steps that take about `round_seconds`.

    The number doubles until the time is long enough to measure, which is also a warm-up.
    """
    for power in count(5):
        taken = timed(partial(stream, 2**power, 0), device)
        if power > 5 and taken > round_seconds / 5:  # the first run compiles
            return max(1, int(2**power * round_seconds / taken))
    raise AssertionError("unreachable: count() does not end")


def _print(sizes: tuple[int, ...], rows: list[common.Row]) -> None:
    """Print the table of one network."""
    lines = []
    for row in rows:
        speed, key = row["steps_per_second"], f"to_{REFERENCE}"
        ratio = f"{row[key]:.2f}" if key in row else ""
        lines.append([row["contender"], f"{speed['median']:,.0f}", f"{speed['max']:,.0f}", ratio, str(speed["n"])])
    title = f"{'-'.join(map(str, sizes))}, one stream"
    common.table(title, ["", "median steps/s", "best steps/s", f"× {REFERENCE}", "rounds"], lines)


if __name__ == "__main__":
    typer.run(main)
