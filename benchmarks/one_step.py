"""Extra peak memory and time of one training step in this process, as JSON on the last line.

`memory.py` starts a new process for each measurement: one_step.py ours 784-256-10 128 1000 cpu 2
"""

from __future__ import annotations

import json
from functools import partial

import typer

from common import console, start, widths
from contenders import TRAINERS, build
from inputs import Inputs
from rounds import Peak, out_of_memory, timed

WARM_UP = 10 * (200,)
"""Lengths of the warm-up training steps: longer than a rule's chunk, and enough steps to fill the allocators' pools."""


def main(*, contender: str, network: str, batch: int, steps: int, device: str, threads: int) -> None:
    """Measure one training step of one contender."""
    machine_device, sizes = start(device, threads), widths(network)
    rates, target = Inputs("uniform", sizes, batch, "sample", machine_device)(0)
    runner = build(TRAINERS[contender], sizes, machine_device)
    for length in WARM_UP:
        runner.prepare(rates, length, 0)
        runner.train_step(rates, length, 0, target)
    runner.prepare(rates, steps, 1)
    peak = Peak(machine_device)
    peak.start()
    result: dict[str, object] = {"detail": runner.detail, "skipped": ""}
    try:
        seconds = timed(partial(runner.train_step, rates, steps, 1, target), machine_device)
        result |= {"seconds": seconds, "extra_bytes": peak.read()}
    except Exception as error:
        if not out_of_memory(error):
            raise
        result |= {"skipped": "ran out of memory"}
    console.print(json.dumps(result), markup=False)


if __name__ == "__main__":
    typer.run(main)
