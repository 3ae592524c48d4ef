"""Kill a run with SIGKILL again and again at random moments, resume it each time, and see what comes of it.

    python -m tests.kill_often --kills 50

Prints when it was killed; fails if the result is not that of the same run undisturbed. What is killed is a fork of
this process, in which everything is loaded already: so the kills fall into the run and not into its imports.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import tempfile
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import torch

from tests.command_line import CLICKS
from tests.tiny_training import train
from tracetorch.runs import RunFolder
from tracetorch.runs.same import difference
from tracetorch.runs.state import last_record

UPDATES = 800
SETTINGS = (*CLICKS, "threads=1", f"train.updates={UPDATES}", "train.log_every=7", "train.eval_every=500")
OFTEN = ("train.checkpoint_seconds=0.02",)


def start(*words: str) -> int:
    """Run `tracetorch` with these words in a fork of this process. Returns: its process."""
    child = os.fork()
    if child:
        return child
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    try:
        from tracetorch.cli.main import app

        app(list(words), standalone_mode=True)
    except SystemExit as end:
        os._exit(int(end.code or 0))
    finally:
        os._exit(70)


def finish(child: int) -> int:
    """Wait for it. Returns: its exit code."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def wait_until(done: Callable[[], bool], child: int) -> None:
    """Or until the process has ended."""
    while not done() and not os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT):
        time.sleep(0.002)


def on_record(folder: Path) -> int:
    """The last update that the run has recorded."""
    return int(last_record(folder).get("update", 0))


def kill_often(folder: Path, kills: int, seed: int) -> list[int]:
    """Kill and resume. Returns: for each kill, the last update that was on record; the run is completed in the end."""
    chance, moments = random.Random(seed), list[int]()
    words = ("run", *SETTINGS, *OFTEN, f"output.dir={folder}")
    while len(moments) < kills:
        child, until = start(*words), on_record(folder) + chance.uniform(0, 1.2 * UPDATES / kills)
        if chance.random() < 0.8:  # else it may be while the run is still being put together
            # So many updates, and no time: a machine that has much else to do kills it at the same moments.
            wait_until(lambda child=child: RunFolder(folder).facts().get("pid") == child, child)
            wait_until(lambda until=until: on_record(folder) >= until, child)
            time.sleep(chance.uniform(0, 0.03))
        else:
            time.sleep(chance.uniform(0, 0.8))
        os.kill(child, signal.SIGKILL)
        code = finish(child)
        if code == 0:  # it was done before the signal came
            break
        assert code == -signal.SIGKILL, f"it ended by itself with {code}"
        moments.append(on_record(folder))
        words = ("resume", str(folder)) if (folder / "config.yaml").exists() else words
        if words[0] == "run" and folder.exists():  # killed before it had written its config: begin again
            for path in folder.iterdir():
                path.unlink()
            folder.rmdir()
    assert finish(start(*words)) == 0
    return moments


def check(kills: int, seed: int = 0) -> list[int]:
    """Returns: what `kill_often` does. Raises: AssertionError if the result is another than undisturbed."""
    for name in ("adapter", "check", "display", "execute", "folders", "main", "resume", "sweep.plan"):
        import_module(f"tracetorch.cli.{name}")  # here, and not in every fork

    torch.set_num_threads(1)  # forks of a process whose threads have been at work would wait for them for ever
    with tempfile.TemporaryDirectory(prefix="kill-often-") as place:
        train(Path(place), name="warm-up")  # compiled kernels are loaded once, here, and not in every fork
        whole, stopped = Path(place) / "whole", Path(place) / "stopped"
        assert finish(start("run", *SETTINGS, *OFTEN, f"output.dir={whole}")) == 0
        moments = kill_often(stopped, kills, seed)
        differs = difference(RunFolder(whole), RunFolder(stopped))
        assert not differs, differs
        facts = RunFolder(stopped).facts()
        assert facts["status"] == "completed" and len(facts["resumed"]) <= len(moments)
    return moments


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    found = check(given.kills, given.seed)
    print(f"killed {len(found)} times, with {', '.join(map(str, found))} updates on record")
    print("records and weights are those of the undisturbed run")
