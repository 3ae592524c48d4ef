"""Time of `tracetorch runs` over many run folders.

python benchmarks/many_runs.py --json many_runs.json
python benchmarks/many_runs.py --quick                  # 20 folders

Each folder holds what the command reads of a run: run.json with the config, and tags.txt in one of a hundred.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import typer

import common
from tracetorch.cli.adapter import compose
from tracetorch.runs import provenance
from tracetorch.runs.records import to_json

COMMANDS = {"list": [], "5 best by accuracy": ["--best", "5", "--sort", "accuracy"], "one tag": ["--tag", "good"]}

Count = Annotated[int, typer.Option(min=1, help="Number of run folders.")]


def main(
    *,
    count: Count = 10_000,
    rounds: common.Rounds = 5,
    threads: common.Threads = 2,
    quick: common.Quick = False,
    json: common.JSON = None,
) -> None:
    """Measure the seconds from the start of `tracetorch runs` to its end, and those of the processor."""
    machine = common.provenance(common.start("cpu", threads))
    common.console.print(common.describe(machine), "\n", markup=False)
    rows: list[common.Row] = []
    with tempfile.TemporaryDirectory(prefix="many-runs-") as folder:
        make_folders(Path(folder), count := 20 if quick else count)
        for name, words in COMMANDS.items():
            times = [_run([*words, folder]) for _ in range(1 if quick else rounds)]
            wall, processor = (common.summarize(list(values)) for values in zip(*times, strict=True))
            rows.append({"command": name, "runs": count, "wall": wall, "processor": processor})
            common.write(json, "many_runs", machine, rows)
    lines = []
    for row in rows:
        seconds = [row[kind][key] for kind in ("wall", "processor") for key in ("median", "min")]
        lines.append([row["command"], *map(common.milliseconds, seconds)])
    common.table(f"tracetorch runs over {count:,} folders", ["", "ms", "min", "processor ms", "min"], lines)


def make_folders(root: Path, count: int) -> None:
    """Write the folders of completed runs of ten experiments."""
    config = compose([]).config
    versions = provenance.versions()
    for number in range(count):
        name, accuracy = f"experiment_{number % 10}", 0.5 + (number * 7919 % count) / count / 2
        folder = root / name / f"20260101-000000-{number:06d}"
        folder.mkdir(parents=True)
        facts: dict[str, Any] = {"status": "completed", "kind": "training", "experiment": name, "id": f"{number:012x}"}
        facts |= {"group": "0" * 12, "seed": number, "started": "2026-01-01T10:00:00+00:00", "versions": versions}
        results = {"updates": 300, "loss": 1 - accuracy, "accuracy": accuracy, "wall_seconds": 12.5}
        facts |= {"config": config, "summary": results, "timings": {"train_seconds": 10.0}, "error": None}
        (folder / "run.json").write_text(to_json(facts, indent=2), encoding="utf-8")
        if number % 100 == 0:
            (folder / "tags.txt").write_text("good\n", encoding="utf-8")


def _run(words: list[str]) -> tuple[float, float]:
    """Seconds of one command, and seconds of the processor."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, "-m", "tracetorch", "runs", *words], check=True, stdout=subprocess.DEVNULL)
    seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    typer.run(main)
