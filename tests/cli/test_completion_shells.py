"""Completion in bash, zsh and fish themselves: what a line becomes when TAB is pressed in it."""

import subprocess

import pytest

from tests.command_line import tracetorch
from tests.shells import Terminal, need, program, variables
from tracetorch.cli.completion_verb import SHELLS

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


@pytest.mark.parametrize(
    ("line", "words"),
    [
        # an X that stands alone says that a space came before it
        ("run --fa\tX", ["run", "--fail-fast", "X"]),
        ("run exp\tpo\tX", ["run", "experiment=poisson_clicks", "X"]),
        ("run 'network.hidden=[1,2]' \"device=a\tX", ["run", "network.hidden=[1,2]", "device=auto", "X"]),
        ("run nope\tX", ["run", "nopeX"]),
        ("plot x\tX", ["plot", f"{HOSTILE}/X"]),
        ("run output.root=grün output.dir=two\\ w\tX", ["run", "output.root=grün", "output.dir=two words/X"]),
        ("compare --out=res\tX", ["compare", "--out=results/X"]),
    ],
    ids=repr,
)
def test_tab(terminal, line, words):
    assert terminal.type(f"tracetorch {line}") == words
    assert not (terminal.folder / "hacked").exists()


@pytest.mark.parametrize("start", ["A=1 tracetorch", "true; ~/bin/tracetorch"])
def test_tab_however_the_program_is_called(terminal, start):
    assert terminal.type(f"{start} run device=a\tX") == ["run", "device=auto", "X"]


def test_tab_lists_where_there_is_a_choice(terminal):
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
        done = subprocess.run(
            words, cwd=folder, env=variables(folder), capture_output=True, text=True, encoding="utf-8", check=False
        )
        assert done.stderr == ""
        return dict(row.partition("\t")[::2] for row in done.stdout.splitlines())

    return offered


@pytest.mark.parametrize(
    ("line", "offers"),
    [
        ("tracetorch run experiment=mn", ["experiment=mnist", "experiment=mnist_sample"]),
        ('tracetorch run network.hidden=[1,2] "device=a', ["device=auto"]),
        ("tracetorch run nope", []),
        ("tracetorch plot two\\ w", ["two words/"]),
        ("tracetorch run output.root=res", ["output.root=results/"]),
        ("A=1 tracetorch run device=a", ["device=auto"]),
        ("true; ~/bin/tracetorch run device=a", ["device=auto"]),
    ],
)
def test_fish_offers(fish, line, offers):
    assert sorted(fish(line)) == offers


def test_fish_shows_what_each_offer_is(fish):
    assert fish("tracetorch run optimizer.")["optimizer.lr="] == "0.002"
    assert fish("tracetorch sh")["show"].startswith("Show a composed config")


@pytest.mark.parametrize("shell", SHELLS)
def test_a_script_says_where_it_belongs_and_is_well_formed(shell, tmp_path):
    result = tracetorch("completion", shell)
    assert result.exit_code == 0
    assert f"tracetorch completion {shell}" in "".join(result.stdout.splitlines()[:3])
    need(shell)
    script = tmp_path / "script"
    script.write_text(result.stdout)
    done = subprocess.run([shell, "-n", str(script)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
