"""The share of active inputs from which a dense product is faster than a sum of the weights of active inputs, on a CPU.

python benchmarks/sparsity.py
python benchmarks/sparsity.py --network 784-1024-10 --batch 1
python benchmarks/sparsity.py --quick
"""

from __future__ import annotations

import math
import statistics
from functools import partial
from typing import Annotated

import torch
import typer
from torch import Tensor

import common
import tracetorch as tt
from rounds import interleave
from tracetorch.backends import dispatch

SHARES = (0.01, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5)
PRECISIONS = {"float32": None, "bfloat16": torch.bfloat16}

Batch = Annotated[int, typer.Option(min=1, help="Sequences at once.")]
Steps = Annotated[int, typer.Option(min=1, help="Length of each.")]


def main(
    *,
    network: Annotated[str, typer.Option(help="Widths, such as 784-256-10.")] = "784-256-10",
    batch: Batch = 128,
    steps: Steps = 100,
    rounds: common.Rounds = 7,
    threads: common.Threads = 2,
    quick: common.Quick = False,
    json: common.JSON = None,
) -> None:
    """Time forward passes on both paths at each share of active inputs; medians of interleaved rounds."""
    with common.plain_errors():
        device, widths = common.start("cpu", threads), common.widths("12-8-4" if quick else network)
    batch, steps, rounds = (2, 3, 1) if quick else (batch, steps, rounds)
    machine, rows = common.provenance(device), list[common.Row]()
    common.console.print(common.describe(machine), "\n", markup=False)
    torch.manual_seed(0)
    net = tt.nn.feedforward(widths[0], widths[-1], hidden=list(widths[1:-1]), neuron=tt.nn.LIF, readout=tt.nn.LIS)
    default = dict(dispatch.DENSE_FROM)
    for name, precision in PRECISIONS.items():
        for share in SHARES:
            rates = torch.full((batch, widths[0]), share)
            net.precision = precision
            workloads = {path: partial(_forward, net, rates, steps, path) for path in ("sparse", "dense")}
            interleave(workloads, 1, device)
            timings = interleave(workloads, rounds, device)
            seconds = {path: statistics.median(values) for path, values in timings.items()}
            rows.append(
                {"precision": name, "share": share, **seconds, "dense_from": default[precision or torch.float32]}
            )
            common.write(json, "sparsity", machine, rows)
    common.table(
        f"forward pass, {'-'.join(map(str, widths))}, batch {batch}, T = {steps}",
        ["precision", "active share", "sparse: ms", "dense: ms", "sparse / dense", "chosen"],
        [
            [
                row["precision"],
                f"{row['share']:.0%}",
                common.milliseconds(row["sparse"]),
                common.milliseconds(row["dense"]),
                f"{row['sparse'] / row['dense']:.2f}",
                "sparse" if row["share"] <= row["dense_from"] else "dense",
            ]
            for row in rows
        ],
    )


def _forward(net: tt.nn.Sequential, rates: Tensor, steps: int, path: str, number: int) -> None:
    default = dict(dispatch.DENSE_FROM)
    dispatch.DENSE_FROM |= dict.fromkeys(default, math.inf if path == "sparse" else -1.0)
    try:
        net.reset()
        net.run(tt.encode.poisson(rates, steps, number), reduce="mean")
    finally:
        dispatch.DENSE_FROM |= default


if __name__ == "__main__":
    typer.run(main)
