"""Real shells at a terminal of their own: what is typed there, with TABs as a person presses them."""

import os
import pty
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

_PATIENCE = 60.0  # seconds, for a machine that is busy with other things
_ARRIVED = "READY>"
_SETUP = {
    "bash": (
        "bashrc",
        'eval "$(tracetorch completion bash)"\nPS1="READY"\\>\nbind "set show-all-if-ambiguous on"\n',
    ),
    "zsh": (
        ".zshrc",
        'autoload -Uz compinit; compinit -D -u\neval "$(tracetorch completion zsh)"\nPS1="READY"\\>\nunsetopt beep\n',
    ),
}
"""Where each shell looks for its settings, and what they are. The prompt is written so that no echo looks like it."""


def program(folder: Path) -> Path:
    """A `tracetorch` that completes; and otherwise only keeps the words that it is called with.

    Returns: the folder that it lies in, for the path.
    """
    place = folder / "bin"
    place.mkdir(parents=True)
    script = place / "tracetorch"
    script.write_text(
        "#!/bin/sh\n"
        'if [ -n "$_TRACETORCH_COMPLETE" ] || [ "$1" = completion ]; then\n'
        f"    exec {sys.executable} -c 'from tracetorch.cli.main import main; main()' \"$@\"\n"
        "fi\n"
        f"printf '%s\\037' \"$@\" >{folder}/typed.part\n"
        f"mv {folder}/typed.part {folder}/typed\n"
    )
    script.chmod(0o755)
    return place


def variables(folder: Path) -> dict[str, str]:
    """With the program of this folder, and no settings of the person who runs the tests."""
    places = f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("LC_")},
        **{"PATH": places, "HOME": str(folder), "ZDOTDIR": str(folder), "XDG_CONFIG_HOME": str(folder)},
        **{"TERM": "vt100", "LANG": "C.UTF-8", "OMP_NUM_THREADS": "1"},
    }


def need(shell: str) -> None:
    """Skip the test where this shell is not installed, or too old."""
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    if shell == "bash" and subprocess.run(["bash", "-c", "((BASH_VERSINFO >= 4))"], check=False).returncode:
        pytest.skip("this bash is older than 4")


class Terminal:
    """An interactive shell with our completion, as its user sees it.

    Args: shell: bash or zsh. folder: empty; the shell starts in it.
    """

    def __init__(self, shell: str, folder: Path):
        program(folder)
        name, settings = _SETUP[shell]
        (folder / name).write_text(settings)
        words = ["bash", "--rcfile", str(folder / name), "-i"] if shell == "bash" else ["zsh", "-d", "-i"]
        self.folder, self.shown = folder, ""
        self._ours, theirs = pty.openpty()
        self._process = subprocess.Popen(
            words,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            cwd=folder,
            env=variables(folder),
            start_new_session=True,
        )
        os.close(theirs)
        self._wait(lambda: _ARRIVED in self.shown)

    def type(self, line: str) -> list[str]:
        """Type a line, press enter. Returns: the words that the program was called with."""
        self.shown = ""
        typed = self.folder / "typed"
        os.write(self._ours, f"{line}\r".encode())
        self._wait(lambda: typed.exists() and _ARRIVED in self.shown)
        words = typed.read_text(encoding="utf-8").split("\037")[:-1]
        typed.unlink()
        return words

    def press(self, keys: str, shows: str) -> None:
        """Type without enter, and wait until the screen shows something."""
        self.shown = ""
        os.write(self._ours, keys.encode())
        self._wait(lambda: shows in self.shown)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._ours)

    def _wait(self, arrived) -> None:
        until = time.monotonic() + _PATIENCE
        while not arrived():
            assert time.monotonic() < until, f"the shell hangs, and shows {self.shown!r}"
            if select.select([self._ours], [], [], 0.05)[0]:
                self.shown += os.read(self._ours, 65536).decode(errors="replace")
