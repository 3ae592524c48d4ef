"""What needs Unix is imported where it is used: without it, as on Windows, everything else works."""

import subprocess
import sys
from pathlib import Path

import torch

from tests.command_line import CLICKS
from tracetorch import memory

UNIX = ("fcntl", "resource", "pwd", "grp", "termios", "tty", "pty")
SCRIPT = f"""
import signal, sys

sys.modules |= dict.fromkeys({UNIX})
for name in ("SIGHUP", "SIGUSR1", "SIGUSR2", "SIGKILL", "pthread_sigmask"):
    delattr(signal, name)
from typer.testing import CliRunner
from tracetorch.cli.main import app

for words in (["list", "rule"], ["show"], ["show", "-m", "seed=0,1"], ["info"], ["run", *sys.argv[1:]], ["info", "a"]):
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, (words, result.output)
"""


def test_every_verb_works_without_what_unix_alone_has(here):
    words = [sys.executable, "-c", SCRIPT, *CLICKS, "output.dir=a"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_peak_of_memory_is_unknown_where_no_system_tells(monkeypatch):
    monkeypatch.setattr(memory, "_STATUS", Path("no such file"))
    monkeypatch.setattr(memory, "resource", None)
    assert memory.peak_memory_bytes(torch.device("cpu")) is None
