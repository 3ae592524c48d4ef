"""Sweeps in processes of their own, as a person starts them; what they leave; and clusters to run them on."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.command_line import CLICKS
from tracetorch.runs.folder import last_record, state_of
from tracetorch.runs.records import read_jsonl

ROOT = Path(__file__).parents[1]
CLUSTER = ROOT / "tests" / "slurm" / "cluster"
DAEMONS = ("munged", "slurmctld", "slurmd", "slurmdbd", "mariadbd")
COMMAND = (sys.executable, "-c", "from tracetorch.cli.main import main; main()")
SMALL = (*CLICKS, "threads=1", "train.updates=4", "train.log_every=1")

PATIENCE = 300.0
"""Seconds that anything may take before a test gives up."""


def faulty(folder: Path) -> tuple[str, ...]:
    """Overrides of small runs with a task whose faults lie in a folder."""
    return (*SMALL, "task._target_=tests.faulty_clicks.FaultyClicks", f"+task.faults={folder}")


def start(*words: str) -> subprocess.Popen[str]:
    """Start `tracetorch` with these words, in a process group of its own as a shell does."""
    surroundings = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "COLUMNS": "120"}
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([*COMMAND, *words], env=surroundings, process_group=0, **streams)


def finish(process: subprocess.Popen[str]) -> subprocess.CompletedProcess[str]:
    """Wait for it; what it started goes with it if it takes too long."""
    try:
        stdout, stderr = process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)


def wait_until(what: Callable[[], object]) -> None:
    """Raises: TimeoutError."""
    end = time.monotonic() + PATIENCE
    while not what():
        if time.monotonic() > end:
            raise TimeoutError
        time.sleep(0.05)


def job(sweep: Path, seed: int) -> Path:
    """The folder of one job of a sweep over seeds."""
    return sweep / f"{seed:03d}_seed={seed}"


def is_at_work(folder: Path) -> bool:
    """Whether a run has recorded something, and goes on."""
    return bool(last_record(folder)) and state_of(folder).status == "running"


def statuses(sweep: Path) -> dict[str, str]:
    """How each job stands, by its folder's name."""
    return {path.name: state_of(path).status for path in sorted(sweep.glob("[0-9]*"))}


def numbers(folder: Path) -> list[dict[str, object]]:
    """What a run recorded, without what depends on the clock."""
    clock = ("_seconds", "_per_second")
    return [{k: v for k, v in row.items() if not k.endswith(clock)} for row in read_jsonl(folder / "metrics.jsonl")]


def process_of(folder: Path) -> int:
    """The process that a run says it has."""
    return int(json.loads((folder / "run.json").read_text())["pid"])


def is_alive(process: int) -> bool:
    """Whether there is such a process, and not only its remains."""
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return False
    return "State:\tZ" not in status


def lacks_slurm() -> str:
    """Why no cluster can be started here; "" if one can."""
    if os.name != "posix" or os.geteuid() != 0:
        return "a Slurm cluster needs root"
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    missing = [name for name in DAEMONS if not shutil.which(name, path=path)]
    return f"not installed: {', '.join(missing)}" if missing else ""


@contextmanager
def cluster(folder: Path) -> Iterator[str]:
    """A Slurm cluster for as long as the body runs. Yields: its `SLURM_CONF`."""
    started = subprocess.run(
        [CLUSTER, "start", folder], stdout=subprocess.PIPE, text=True, check=True, timeout=PATIENCE
    )
    try:
        yield started.stdout.strip().removeprefix("export SLURM_CONF=")
    finally:
        subprocess.run([CLUSTER, "stop", folder], check=True, timeout=PATIENCE)


@contextmanager
def full_disk(folder: Path, when: Callable[[], object]) -> Iterator[Callable[[], None]]:
    """A folder that will lie on a disk with room for hardly more than a config. Yields: what makes more room.

    Args: when: the folder is made as soon as this is true, from a thread.
    """
    import threading

    def mount(*options: str) -> None:
        subprocess.run(["mount", *options, str(folder)], check=True)

    def make() -> None:
        wait_until(when)
        folder.mkdir()
        mount("-t", "tmpfs", "-o", "size=16k", "none")

    thread = threading.Thread(target=make, daemon=True)
    thread.start()
    try:
        yield lambda: mount("-o", "remount,size=16m")
    finally:
        thread.join()
        subprocess.run(["umount", "-l", str(folder)], check=False)  # lazily: a job that was killed may hold it yet
