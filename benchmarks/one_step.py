"""One training step in this process, which then ends: its peak memory and its time, as JSON on the last line.

`memory.py` starts it, once for each contender and length: one_step.py ours 784-256-10 128 1000 cpu 2
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
"""Steps of the runs before: more than a chunk, and often enough that allocators hold what they are going to hold."""


def main(*, contender: str, network: str, batch: int, steps: int, device: str, threads: int) -> None:
    """Measure."""
    where, sizes = start(device, threads), widths(network)
    rates, target = Inputs("uniform", sizes, batch, "sample", where)(0)
    made = build(TRAINERS[contender], sizes, where)
    for length in WARM_UP:
        made.prepare(rates, length, 0)
        made.train_step(rates, length, 0, target)
    made.prepare(rates, steps, 1)
    peak = Peak(where)
    peak.start()
    answer: dict[str, object] = {"detail": made.detail, "skipped": ""}
    try:
        seconds = timed(partial(made.train_step, rates, steps, 1, target), where)
        answer |= {"seconds": seconds, "extra_bytes": peak.read()}
    except Exception as error:
        if not out_of_memory(error):
            raise
        answer |= {"skipped": "ran out of memory"}
    console.print(json.dumps(answer), markup=False)


if __name__ == "__main__":
    typer.run(main)
