"""`tracetorch` in a fork of this process, which has loaded everything: with an injected failure or kill, and bounds."""

from __future__ import annotations

import gc
import importlib
import os
import pkgutil
import resource
import signal
import sys
import tempfile
import time
import traceback
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from tests.faults.disk import Disk, Injection

CPU_SECONDS = 60
WALL_SECONDS = 300.0
"""Long enough for a busy machine: only a process that hangs reaches it."""
MORE_BYTES = 2 << 30
"""Address space in addition to that of this process."""
TIMED_OUT, CRASHED = -100, -101
"""In place of an exit code: the command did not end in time, or an exception ended it."""


@dataclass
class Ended:
    """How a command ended."""

    words: tuple[str, ...]
    code: int
    out: str
    err: str
    operations: list[str]
    cpu_seconds: float
    peak_bytes: int  # in addition to the memory of this process
    alerts: list[str]  # programs that it started, and connections

    @property
    def is_killed(self) -> bool:
        """Whether SIGKILL ended it."""
        return self.code == -signal.SIGKILL

    def __str__(self) -> str:
        output = (self.err or self.out).strip()[-600:]
        return f"tracetorch {' '.join(self.words)!r} ended with {self.code}: {output}"


def prepare() -> None:
    """Load all modules that a verb may load, and compile the kernels."""
    import torch

    import tracetorch.cli
    from tests import command_line

    torch.set_num_threads(1)  # a fork has none of its parent's threads, and would wait for them without end
    for found in pkgutil.walk_packages(tracetorch.cli.__path__, "tracetorch.cli."):
        importlib.import_module(found.name)
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    Figure.savefig, ConstrainedLayoutEngine.execute = _save, lambda self, fig: None  # type: ignore[method-assign]
    with tempfile.TemporaryDirectory(prefix="tracetorch-faults-") as workdir:
        from tests.faults.cases import WARM

        before = Path.cwd()
        os.chdir(workdir)
        try:
            for words in WARM:
                ended = command_line.tracetorch(*words)
                assert ended.exit_code == 0, ended.output
        finally:
            os.chdir(before)
    gc.collect()
    gc.freeze()


def _save(self: Any, buffer: Any, *, format: str = "png", **others: Any) -> None:
    """Replaces `Figure.savefig`: drawing takes a second per figure, and other tests check the content."""
    content = b"\x89PNG figure" if format == "png" else b"<svg/>"
    if hasattr(buffer, "write"):
        buffer.write(content)
    else:
        Path(buffer).write_bytes(content)


def tracetorch(*words: str, cwd: Path, injection: Injection | None = None) -> Ended:
    """Run `tracetorch` in a folder."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err, tempfile.TemporaryFile() as seen:
        sys.stdout.flush()
        sys.stderr.flush()
        child = os.fork()
        if not child:
            _run(words, cwd, injection or Injection(), out, err, seen)
        code, used = _wait(child)
        texts = [_content(file) for file in (out, err, seen)]
    operations, _, alerts = texts[2].partition("\0")
    peak = used.ru_maxrss * 1024 - _resident()
    return Ended(words, code, *texts[:2], operations.splitlines(), used.ru_utime + used.ru_stime, peak, alerts.split())


def _run(words: tuple[str, ...], cwd: Path, injection: Injection, out: BinaryIO, err: BinaryIO, seen: BinaryIO) -> None:
    code, alerts = CRASHED, list[str]()

    def report() -> None:
        with suppress(OSError):
            seen.write(("\n".join(injection.operations) + "\0" + " ".join(alerts)).encode(errors="replace"))
            seen.flush()

    try:
        os.setpgid(0, 0)
        os.chdir(cwd)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for number, file in ((1, out), (2, err)):
            os.dup2(file.fileno(), number)
        bounds = {resource.RLIMIT_CPU: CPU_SECONDS, resource.RLIMIT_CORE: 0, resource.RLIMIT_AS: _addresses()}
        for kind, bound in bounds.items():
            resource.setrlimit(kind, (bound, bound))
        os.environ |= {"COLUMNS": "120", "SECRET": "TheSecretOfThisUser"}
        sys.argv = ["tracetorch", *words]
        _watch(alerts)
        Disk(str(cwd), injection, report).install()
        from tracetorch.cli.main import start

        try:
            start()  # not `main`, which also ends the process and runs the exit handlers of the driver
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException:
        with suppress(Exception):
            err.write(traceback.format_exc().encode())
            err.flush()
    finally:
        report()
        os._exit(code & 0xFF if code >= 0 else 255)


def _watch(alerts: list[str]) -> None:
    """Record the programs that are started, except git, which a run calls, and connections."""

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event in ("os.system", "os.exec", "os.posix_spawn", "socket.connect") or (
            event == "subprocess.Popen" and "git" not in str(arguments[:2])
        ):
            alerts.append(event)

    sys.addaudithook(hook)


def _wait(child: int) -> tuple[int, Any]:
    deadline = time.monotonic() + WALL_SECONDS
    pause = 0.002
    while True:
        found, status, used = os.wait4(child, os.WNOHANG)
        if found:
            code = os.waitstatus_to_exitcode(status)
            break
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
            _, _, used = os.wait4(child, 0)
            code = TIMED_OUT
            break
        time.sleep(pause)
        pause = min(pause * 1.5, 0.05)
    with suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)  # processes that it started and left running
    return (CRASHED if code == 255 else code), used


def _content(file: BinaryIO) -> str:
    file.seek(0)
    return file.read(1 << 20).decode(errors="replace")


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def _addresses() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize() + MORE_BYTES
