"""Checks that need a GPU, one part after another, each with its own time limit. Installs the packages that it needs.

benchmarks/gpu_check.sh FOLDER                    # on a machine with a GPU: at most 8 minutes, with installation
DEVICE=cpu benchmarks/gpu_check.sh FOLDER         # tries the same parts with short settings on a CPU

At its end, each part writes its result to FOLDER/NAME.json and its output to FOLDER/NAME.txt; summary.json lists all.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SECONDS = 480
READY = "import tracetorch, tracetorch.cli.main, pytest, hypothesis, typer; print(tracetorch.__file__)"
ENVIRONMENT = """
import importlib.metadata as metadata, json, torch
found = {"torch": torch.__version__, "cuda": torch.version.cuda, "available": torch.cuda.is_available()}
for name in ("triton", "numba", "numpy", "snntorch", "spikingjelly", "norse"):
    try: found[name] = metadata.version(name)
    except metadata.PackageNotFoundError: found[name] = None
if found["available"]:
    at = torch.cuda.get_device_properties(0)
    found |= {"gpu": at.name, "capability": [at.major, at.minor], "memory_bytes": at.total_memory}
import tracetorch.backends as backends
found["kernels"] = backends.names()
print(json.dumps(found))
"""
TINY = ("train.passes=null", "network.hidden=[32]", "task.steps=4")


class FailedError(Exception):
    """A command ended with another exit code than expected."""

    def __init__(self, code: int):
        super().__init__(code)
        self.code = code


class Check:
    """Runs the parts, one after another. Args: seconds: time limit of all parts together."""

    def __init__(self, folder: Path, device: str, seconds: float):
        self.folder, self.device, self.is_gpu = folder.resolve(), device, device == "cuda"
        self.deadline = time.monotonic() + seconds
        self.limit, self.text = 0.0, folder
        self.python = sys.executable
        self.found: dict[str, Any] = {}

    def part(self, work: Callable[[Check], None], share: float) -> dict[str, Any]:
        """Run one part within a share of the time that is left. Returns: its status, exit code, seconds and limit."""
        began, name = time.monotonic(), work.__name__
        self.limit, self.text, self.found = began + share * (self.deadline - began), self.folder / f"{name}.txt", {}
        status, code = "passed", 0
        try:
            work(self)
        except FailedError as error:
            status, code = "failed", error.code
        except subprocess.TimeoutExpired:
            status, code = "timed out", 124
        except Exception as error:  # an error of this script: the next parts still run
            status, code, self.found["error"] = "failed", 1, repr(error)
        seconds, allowed = time.monotonic() - began, self.limit - began
        row = {"status": status, "exit": code, "seconds": round(seconds, 1), "limit": round(allowed, 1)}
        printed = self.text.read_text("utf-8", "replace") if self.text.exists() else ""
        self.write(name, {"part": name, **row, "found": self.found, "output_tail": printed[-4000:]})
        return row

    def write(self, name: str, content: dict[str, Any]) -> None:
        """Write a JSON file atomically."""
        temporary = self.folder / f".{name}.json"
        temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        temporary.replace(self.folder / f"{name}.json")

    def call(self, *words: str, code: int = 0, until: Path | None = None, **variables: str) -> str:
        """Run a command. Returns: its output.

        Args:
            code: the expected exit code.
            until: the file on whose appearance the command gets a Ctrl-C.
            variables: environment variables to add.
        Raises: FailedError for another exit code; TimeoutExpired, after the command and its children were killed.
        """
        with self.text.open("a+b") as file:
            file.write(f"$ {' '.join(words)}\n".encode())
            file.flush()
            start = file.seek(0, os.SEEK_END)
            process = subprocess.Popen(
                words, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT,
                start_new_session=True, env=os.environ | variables,
            )  # fmt: skip
            try:
                while until is not None and not until.exists() and process.poll() is None:
                    if time.monotonic() > self.limit:
                        raise subprocess.TimeoutExpired(words, 0)
                    time.sleep(0.05)
                if until is not None:
                    process.send_signal(signal.SIGINT)
                ended = process.wait(max(0.0, self.limit - time.monotonic()))
            except BaseException:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                raise
            file.seek(start)
            printed = file.read().decode("utf-8", "replace")
        if ended != code:
            raise FailedError(ended or 1)
        return printed

    def tracetorch(self, *words: str, **options: Any) -> str:
        """Run `tracetorch` with these arguments."""
        return self.call(self.python, "-c", "from tracetorch.cli.main import main; main()", *words, **options)

    def benchmark(self, name: str, *words: str, to: str = "") -> None:
        """Run a benchmark, which writes its rows into FOLDER/NAME.numbers.json, or FOLDER/TO.numbers.json."""
        script = str(ROOT / "benchmarks" / f"{name}.py")
        numbers = str(self.folder / f"{to or name}.numbers.json")
        settings = words if self.is_gpu else ("--quick",)
        self.call(self.python, script, "--device", self.device, "--json", numbers, *settings)


# ── the parts ───────────────────────────────────────────────────────────────────────────────────────────────────────


def install(check: Check) -> None:
    """Use traceTorch of this Python, or install it in a new environment that keeps a torch which sees the GPU."""
    try:
        if str(ROOT) in check.call(sys.executable, "-c", READY):
            return
    except FailedError:
        pass
    check.call(sys.executable, "-m", "venv", "--system-site-packages", str(check.folder / "venv"))
    check.python = str(check.folder / "venv" / "bin" / "python")
    constraints = (ROOT / "constraints.txt").read_text("utf-8")
    try:
        check.call(check.python, "-c", "import torch; assert torch.cuda.is_available()")
        constraints = re.sub(r"(?m)^(torch|triton|numpy)==.*\n", "", constraints)
    except FailedError:
        pass
    (check.folder / "constraints.txt").write_text(constraints, encoding="utf-8")
    pip = (check.python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    try:
        check.call(*pip, "-c", str(check.folder / "constraints.txt"), "-e", f"{ROOT}[dev]")
        last = (*pip, "--no-deps", "-r", str(ROOT / "benchmarks" / "requirements.txt"))
    except FailedError:  # for example without a network: use the installed packages
        last = (*pip, "--no-deps", "--no-build-isolation", "-e", str(ROOT))
    check.call(*last)


def machine(check: Check) -> None:
    """Record driver, GPU and versions."""
    check.found = json.loads(check.call(check.python, "-W", "ignore", "-c", ENVIRONMENT).splitlines()[-1])
    if check.is_gpu:
        check.found["nvidia-smi"] = check.call("nvidia-smi", "-q", "-d", "CLOCK,POWER,MEMORY,UTILIZATION")
        if not check.found["available"]:
            raise FailedError(1)


def kernels(check: Check) -> None:
    """Test each CUDA kernel against its reference, in float64 too; on a CPU, some of them in Triton's interpreter."""
    scans = "-k", "triton and float64_reference", "tests/backends/test_scans.py"
    chosen = ("-m", "gpu", "tests") if check.is_gpu else scans
    pytest = (check.python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-rf", "--tb=short", *chosen)
    try:
        check.call(*pytest)
    finally:
        counts = re.findall(r"(\d+) (passed|failed|error|errors|skipped)\b", check.text.read_text("utf-8", "replace"))
        check.found = {word: int(count) for count, word in counts}


def run(check: Check) -> None:
    """Run a whole training, with its test and figures."""
    words = ("experiment=mnist_sample", f"device={check.device}", f"output.dir={check.folder / 'run'}")
    check.tracetorch("run", *words, *(() if check.is_gpu else ("train.updates=4", *TINY)))
    check.found = outcome(check.folder / "run")


def across(check: Check) -> None:
    """Evaluate the run's network on a CPU; interrupt a run on a CPU, and resume it on the device of `device=auto`."""
    check.tracetorch("eval", str(check.folder / "run"), "device=cpu")
    moved = check.folder / "moved"
    words = ("experiment=mnist_sample", "device=auto", f"output.dir={moved}")
    short = () if check.is_gpu else ("train.updates=300", *TINY)
    check.tracetorch("run", *words, *short, code=130, until=moved / "metrics.jsonl", CUDA_VISIBLE_DEVICES="")
    check.found["interrupted"] = outcome(moved)
    check.tracetorch("resume", str(moved))
    check.found["resumed"] = outcome(moved)
    check.found |= {path.parent.name: outcome(path.parent) for path in (check.folder / "run").glob("eval/*/run.json")}


def train_step(check: Check) -> None:
    """Time a training step of all contenders; the headline comes first."""
    lengths = ("--steps", "200", "--steps", "20", "--steps", "2000")
    cells = ("--network", "784-256-10", "--network", "784-1024-1024-10", "--batch", "128", "--batch", "1", *lengths)
    check.benchmark("train_step", *cells, "--input", "uniform", "--rounds", "5", "--budget-seconds", "5")


def memory(check: Check) -> None:
    """Measure the memory of a training step, by its length; longer ones for ours alone, since others take minutes."""
    check.benchmark("memory", "--steps", "100", "--steps", "1000", "--budget-seconds", "10")
    check.benchmark("memory", "--contender", "ours", "--steps", "10000", "--steps", "100000", to="memory_longer")


def stream(check: Check) -> None:
    """Measure the steps per second of one stream."""
    check.benchmark("stream", "--seconds", "0.2", "--rounds", "3")


PARTS = {install: 170, machine: 15, kernels: 110, run: 50, across: 45, train_step: 40, memory: 25, stream: 25}
"""The parts, and their shares of the time; later parts share the time that a part does not use."""


def outcome(folder: Path) -> dict[str, Any]:
    """The main entries of run.json."""
    facts = json.loads((folder / "run.json").read_text("utf-8"))
    return {name: facts.get(name) for name in ("status", "device", "versions", "summary", "timings")}


def main() -> int:
    """Run all parts. Returns: 0 if all passed, else 1."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="a new folder for the results")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="time limit of all parts together (%(default)s)")
    options = parser.parse_args()
    try:
        options.folder.mkdir(parents=True)
    except FileExistsError:
        parser.error(f"{options.folder} exists already; name another folder")
    began, check = time.monotonic(), Check(options.folder, options.device, options.seconds)
    left, parts = float(sum(PARTS.values())), {}
    for work, share in PARTS.items():
        parts[work.__name__] = row = check.part(work, share / left)
        left -= share
        sys.stdout.write(f"{work.__name__:12} {row['status']:10} {row['seconds']:6.1f} s\n")
        sys.stdout.flush()
        check.write(
            "summary", {"device": options.device, "seconds": round(time.monotonic() - began, 1), "parts": parts}
        )
    return int(any(row["status"] != "passed" for row in parts.values()))


if __name__ == "__main__":
    sys.exit(main())
