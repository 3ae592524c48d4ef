"""Completion in bash, zsh and fish, each at a terminal of its own: what a line becomes when TAB is pressed in it."""

import os
import pty
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.command_line import ran
from tracetorch.cli.completion_verb import SHELLS

_PATIENCE = 60.0  # seconds, for a machine that is busy with other things
_ARRIVED = "READY>"
_SETUP = {
    "bash": ("bashrc", 'eval "$(tracetorch completion bash)"\nPS1="READY"\\>\nbind "set show-all-if-ambiguous on"\n'),
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
        streams = {"stdin": theirs, "stdout": theirs, "stderr": theirs, "start_new_session": True}
        self._process = subprocess.Popen(words, cwd=folder, env=variables(folder), **streams)
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


FOLDERS = ("results/first", "two words/inner", "runs=old", "grün")
HOSTILE = "x;touch hacked $(touch hacked) 'q"


def furnish(folder):
    """Some folders to complete."""
    for name in (*FOLDERS, HOSTILE):
        (folder / name).mkdir(parents=True)
    (folder / "results.txt").touch()  # no folder
    return folder


@pytest.fixture(scope="module", params=["bash", "zsh"])
def terminal(request, tmp_path_factory):
    need(request.param)
    opened = Terminal(request.param, furnish(tmp_path_factory.mktemp(request.param)))
    yield opened
    opened.close()


TABS = [  # an X that stands alone says that a space came before it
    ("tracetorch run --fa\tX", ["run", "--fail-fast", "X"]),
    ("tracetorch run exp\tpo\tX", ["run", "experiment=poisson_clicks", "X"]),
    ("tracetorch run 'a.b=[1,2]' \"device=a\tX", ["run", "a.b=[1,2]", "device=auto", "X"]),
    ("tracetorch run nope\tX", ["run", "nopeX"]),
    ("tracetorch plot x\tX", ["plot", f"{HOSTILE}/X"]),
    ("tracetorch run output.root=grün output.dir=two\\ w\tX", ["run", "output.root=grün", "output.dir=two words/X"]),
    ("tracetorch compare --out=res\tX", ["compare", "--out=results/X"]),
    ("A=1 tracetorch run device=a\tX", ["run", "device=auto", "X"]),
    ("true; ~/bin/tracetorch run device=a\tX", ["run", "device=auto", "X"]),
]


@pytest.mark.parametrize(("line", "words"), TABS, ids=repr)
def test_tab_completes_a_word(terminal, line, words):
    assert terminal.type(line) == words
    assert not (terminal.folder / "hacked").exists()


def test_tab_lists_several_choices(terminal):
    terminal.press("tracetorch run optimizer.\t", "weight_decay=")
    assert terminal.type("lr=1") == ["run", "optimizer.lr=1"]


@pytest.fixture(scope="module")
def fish(tmp_path_factory):
    """Call with a line; returns what fish would offer, with what it shows next to it."""
    need("fish")
    folder = furnish(tmp_path_factory.mktemp("fish"))
    program(folder)

    def offered(line):
        words = ["fish", "-c", 'tracetorch completion fish | source; complete -C "$argv[1]"', "--", line]
        how = {"cwd": folder, "env": variables(folder), "capture_output": True, "encoding": "utf-8"}
        done = subprocess.run(words, **how, check=True)
        assert done.stderr == ""
        return dict(row.partition("\t")[::2] for row in done.stdout.splitlines())

    return offered


def test_fish_offers_choices_with_their_descriptions(fish):
    for line, offers in {
        "tracetorch run experiment=mn": ["experiment=mnist", "experiment=mnist_sample"],
        'tracetorch run network.hidden=[1,2] "device=a': ["device=auto"],
        "tracetorch run nope": [],
        "tracetorch plot two\\ w": ["two words/"],
        "tracetorch run output.root=res": ["output.root=results/"],
        "A=1 tracetorch run device=a": ["device=auto"],
        "true; ~/bin/tracetorch run device=a": ["device=auto"],
    }.items():
        assert sorted(fish(line)) == offers, line
    assert fish("tracetorch run optimizer.")["optimizer.lr="] == "0.002"
    assert fish("tracetorch sh")["show"].startswith("Show a composed config")


@pytest.mark.parametrize("shell", SHELLS)
def test_a_script_names_its_command_and_is_well_formed(shell, tmp_path):
    result = ran("completion", shell)
    assert f"tracetorch completion {shell}" in "".join(result.stdout.splitlines()[:3])
    need(shell)
    script = tmp_path / "script"
    script.write_text(result.stdout)
    done = subprocess.run([shell, "-n", str(script)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
