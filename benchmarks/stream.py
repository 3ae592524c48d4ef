"""How fast a network follows one endless stream, batch 1, without learning; encoding included.

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
from rounds import timed, turns

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
    """Time steps per second: median and best of interleaved rounds."""
    with common.plain_errors():
        where = common.start(device, threads)
        names = common.taking_part(STREAMERS, contender)
        kinds = [common.widths(text) for text in network or (["12-8-4"] if quick else NETWORKS)]
    machine = common.provenance(where)
    common.console.print(common.describe(machine), "\n", markup=False)
    rows: list[common.Row] = []
    for sizes in kinds:
        lasting, repeats = (0.001, 1) if quick else (seconds, rounds)
        found = _race(names, sizes, where, lasting, repeats)
        rows += [{"network": "-".join(map(str, sizes))} | row for row in found]
        common.write(json, "stream", machine, rows)
        _print(sizes, found)


def _race(
    names: list[str], sizes: tuple[int, ...], device: torch.device, lasting: float, rounds: int
) -> list[common.Row]:
    """Each contender follows its own stream for about so many seconds a round."""
    rates, _ = Inputs("uniform", sizes, 1, "sample", device)(0)
    made = {name: build(STREAMERS[name], sizes, device) for name in names}
    for contender in made.values():
        contender.rest()
    steps = {name: _calibrate(partial(made[name].stream, rates), device, lasting) for name in names}
    works = {name: partial(made[name].stream, rates, steps[name]) for name in names}
    speeds = {name: [steps[name] / value for value in values] for name, values in turns(works, rounds, device).items()}
    rows = []
    for name in names:
        speed = common.summarize(speeds[name])
        row = {"contender": name, "steps": steps[name], "steps_per_second": speed | {"max": max(speeds[name])}}
        if REFERENCE in speeds:
            row[f"to_{REFERENCE}"] = speed["median"] / common.summarize(speeds[REFERENCE])["median"]
        rows.append(row)
    return rows


def _calibrate(stream: Callable[[int, int], None], device: torch.device, lasting: float) -> int:
    """Steps that take about so many seconds. Doubles them until the time can be told, so it warms up as well."""
    for power in count(5):
        taken = timed(partial(stream, 2**power, 0), device)
        if power > 5 and taken > lasting / 5:  # the first run compiles
            return max(1, int(2**power * lasting / taken))
    raise AssertionError("counting ends never")


def _print(sizes: tuple[int, ...], rows: list[common.Row]) -> None:
    """One table."""
    lines = []
    for row in rows:
        speed, key = row["steps_per_second"], f"to_{REFERENCE}"
        times = f"{row[key]:.2f}" if key in row else ""
        lines.append([row["contender"], f"{speed['median']:,.0f}", f"{speed['max']:,.0f}", times, str(speed["n"])])
    title = f"{'-'.join(map(str, sizes))}, one stream"
    common.table(title, ["", "median steps/s", "best steps/s", f"× {REFERENCE}", "rounds"], lines)


if __name__ == "__main__":
    typer.run(main)
