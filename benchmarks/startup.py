"""Time of whole commands and of the first training step, with warm and with cold caches.

python benchmarks/startup.py --json startup.json
python benchmarks/startup.py --quick                    # --help only

Cold caches contain no bytecode of any package, including torch, and no compiled kernel, as after an installation that
compiled nothing. The operating system's file cache is not cleared.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer

import common

FIRST_STEP = """
import torch, tracetorch as tt
torch.set_num_threads({threads})
net = tt.nn.feedforward(784, 10, hidden=[256], neuron=tt.nn.LIF, readout=tt.nn.LIS)
optimizer = torch.optim.Adam(net.parameters())
mean = net.run(tt.encode.poisson(torch.full((128, 784), .1), steps=20), reduce="mean")
loss, signal = tt.loss.cross_entropy(mean, torch.zeros(128, dtype=torch.int64))
net.backward(signal)
optimizer.step()
"""

ColdRounds = Annotated[int, typer.Option(min=1, help="Runs of each command with cold caches, which are slow.")]


def main(
    *,
    rounds: common.Rounds = 5,
    cold_rounds: ColdRounds = 3,
    threads: common.Threads = 2,
    quick: common.Quick = False,
    json: common.JSON = None,
) -> None:
    """Measure the seconds from the start of a command to its end."""
    machine = common.provenance(common.start("cpu", threads))
    common.console.print(common.describe(machine), "\n", markup=False)
    rows: list[common.Row] = []
    with tempfile.TemporaryDirectory(prefix="startup-") as folder:
        caches = Path(folder)
        for at, (name, command) in enumerate(_commands(threads, quick).items()):
            _run(command, caches / "warm")  # fills the caches
            warm = [_run(command, caches / "warm") for _ in range(1 if quick else rounds)]
            cold = [_run(command, caches / f"cold {at} {n}") for n in range(1 if quick else cold_rounds)]
            rows.append({"command": name, "warm": common.summarize(warm), "cold": common.summarize(cold)})
            common.write(json, "startup", machine, rows)
    lines = []
    for row in rows:
        seconds = [row[cache][key] for cache in ("warm", "cold") for key in ("median", "min")]
        lines.append([row["command"], *map(common.milliseconds, seconds)])
    common.table("from the start of a command to its end", ["", "warm ms", "min", "cold ms", "min"], lines)


def _commands(threads: int, quick: bool) -> dict[str, list[str]]:
    """The commands, by their names in the table."""
    program = str(Path(sys.executable).with_name("tracetorch"))
    commands = {
        "tracetorch --help": [program, "--help"],
        "tracetorch show": [program, "show"],
        "first training step in Python": [sys.executable, "-c", FIRST_STEP.format(threads=threads)],
        "tracetorch run train.updates=1": [program, "run", "train.updates=1"],
    }
    return dict(list(commands.items())[:1]) if quick else commands


def _run(command: list[str], caches: Path) -> float:
    """Seconds of one run in an empty folder, with all caches in `caches`."""
    folders = {"NUMBA_CACHE_DIR": caches / "numba", "PYTHONPYCACHEPREFIX": caches / "python"}
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment |= {name: str(folder) for name, folder in folders.items()}
    with tempfile.TemporaryDirectory(prefix="startup-run-") as folder:
        start = time.perf_counter()
        ended = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        seconds = time.perf_counter() - start
    if ended.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{ended.stderr.strip()}")
    return seconds


if __name__ == "__main__":
    typer.run(main)
