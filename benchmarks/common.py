"""Shared by all benchmarks: options, a description of the machine, tables, JSON."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import statistics
import sys
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

import contenders
from tracetorch import device as devices
from tracetorch.files import write_whole

Row = dict[str, Any]
"""One measurement, as in the JSON."""

JSON = Annotated[Path | None, typer.Option("--json", help="Write all numbers to this file.")]
Threads = Annotated[int, typer.Option(min=1, help="Threads of torch and of the compiled kernels.")]
Rounds = Annotated[int, typer.Option(min=1, help="How often each contender is measured, after a warm-up.")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
Quick = Annotated[bool, typer.Option("--quick", help="Tiny sizes, to check that it runs; the numbers mean nothing.")]
Networks = Annotated[list[str] | None, typer.Option("--network", help="Widths, such as 784-256-10; repeatable.")]
Names = Annotated[
    list[str] | None, typer.Option("--contender", help="A contender; repeatable. The usual ones, if not given.")
]

console = Console(highlight=False, soft_wrap=True)
PACKAGES = ("tracetorch", "torch", "numba", "triton", "snntorch", "spikingjelly", "norse")


@contextlib.contextmanager
def plain_errors() -> Iterator[None]:
    """Report a wrong option or file in one sentence, without a traceback."""
    try:
        yield
    except KeyError as error:
        raise typer.BadParameter(f"there is no entry {error} in the file: which benchmark wrote it?") from error
    except (OSError, ValueError) as error:
        raise typer.BadParameter(str(error)) from error


def start(device: str, threads: int) -> torch.device:
    """Set torch's threads. Returns: the device with this name. Raises: ValueError for an absent device."""
    torch.set_num_threads(threads)
    return devices.resolve(device)


def widths(network: str) -> tuple[int, ...]:
    """Neurons of each layer. Raises: ValueError unless the text is numbers with dashes between them."""
    parts = network.split("-")
    if len(parts) < 2 or not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise ValueError(f"a network is written as 784-256-10, got {network!r}")
    return tuple(map(int, parts))


def available(entries: dict[str, contenders.Entry], names: Sequence[str] | None) -> list[str]:
    """The contenders whose library is installed, of all if none is named; prints one line about the others."""
    found, line = contenders.present(entries, names or list(entries))
    if line:
        console.print(line, style="yellow", markup=False)
    return found


def provenance(device: torch.device) -> Row:
    """The machine and the versions: what a reader needs to judge the numbers."""
    versions = {}
    for package in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[package] = metadata.version(package)
    return {
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "memory_bytes": memory("MemTotal", "/proc/meminfo"),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        "versions": versions,
    }


def describe(machine: Row) -> str:
    """The machine and the versions in two lines."""
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    return (
        f"{machine['cpu']} ({machine['instructions']}), {machine['threads']} of {machine['cores']} cores, "
        f"device {machine['device']}\n{versions}, python {machine['python']}"
    )


def cpu_model() -> str:
    """The name of the processor in /proc, or else in `platform`."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def memory(name: str, path: str = "/proc/self/status") -> int | None:
    """An entry of a memory table of Linux, such as "VmHWM", in bytes; None if it is missing."""
    with contextlib.suppress(OSError):
        for line in Path(path).read_text(encoding="utf-8").splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) * 1024
    return None


def memory_room(device: torch.device, share: float = 0.7) -> int | None:
    """Bytes that a measurement may take: this share of the memory that is free now; None if unknown."""
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else memory("MemAvailable", "/proc/meminfo")
    return None if free is None else int(share * free)


def write(path: Path | None, benchmark: str, machine: Row, rows: Sequence[Row]) -> None:
    """Write all rows so far, so that a benchmark that is killed keeps its measurements; without a path, nothing."""
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        content = {"benchmark": benchmark, "provenance": machine, "rows": list(rows)}
        write_whole(path, json.dumps(content, indent=1) + "\n")


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a plain table; the first column is text, the others are numbers."""
    grid = Table(box=None, pad_edge=False)
    for at, column in enumerate(columns):
        grid.add_column(column, justify="right" if at else "left", no_wrap=True)
    for row in rows:
        grid.add_row(*row)
    natural = Measurement.get(console, console.options.update(max_width=1000), grid).maximum
    wide = Console(highlight=False, width=max(console.width, natural))  # so that no line is cut in a file
    wide.print(title, style="bold", markup=False, soft_wrap=True)  # a title of the table would wrap at its width
    wide.print(grid, "")


def summarize(values: Sequence[float]) -> Row:
    """Median, minimum and number of the measurements, and all of them."""
    return {"median": statistics.median(values), "min": min(values), "n": len(values), "all": list(values)}


def milliseconds(seconds: float) -> str:
    """Seconds in ms, with three significant digits below 1 s."""
    return f"{1000 * seconds:.3g}" if seconds < 1 else f"{1000 * seconds:,.0f}"


def mebibytes(count: float) -> str:
    """Bytes in MiB."""
    return f"{count / 2**20:,.1f}"
