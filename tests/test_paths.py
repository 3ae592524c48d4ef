"""Paths, wherever they are typed: in the home folder, and with names that a shell or a config would interpret."""

import os
import shlex
from pathlib import Path

import pytest
import typer

from tests.command_line import CLICKS, tracetorch
from tracetorch.cli.main import app
from tracetorch.cli.shared_arguments import with_home
from tracetorch.files import expanded


@pytest.fixture
def home(here, monkeypatch):
    """A home folder that is not the working directory."""
    monkeypatch.setenv("HOME", str(here / "home"))
    (here / "home").mkdir()
    return here / "home"


# ── the home folder ─────────────────────────────────────────────────────────────────────────────────────────────────


FOLDERS = [
    pytest.param(name, param, id=f"{name} {param.opts[0]}")
    for name, verb in typer.main.get_command(app).commands.items()
    for param in verb.params
    if (param.metavar or "").strip("[].") == "DIR"
]


@pytest.mark.parametrize(("verb", "param"), FOLDERS)
def test_every_option_that_takes_a_folder_knows_the_home_folder(verb, param, home):
    option = [param.opts[0]] if param.param_type_name == "option" else []
    others = ["first"] if option and verb == "compare" else []
    context = typer.main.get_command(app).commands[verb].make_context(verb, [*others, *option, "~/runs"])
    assert context.params[param.name] in (home / "runs", [home / "runs"])


def test_there_are_folders_to_test():
    assert len(FOLDERS) > 8


@pytest.mark.parametrize(
    ("typed", "read"),
    [
        ("output.dir=~/x", "output.dir='{home}/x'"),
        ("task.source=~/a,~/b", "task.source='{home}/a','{home}/b'"),
        ("+task.source=~", "+task.source='{home}'"),
        ("task.source='~/a'", "task.source='~/a'"),
        ("sweep=~/mine.yaml", "sweep=~/mine.yaml"),
        ("~task.delay", "~task.delay"),
        ("output.dir=a~b", "output.dir=a~b"),
    ],
)
def test_a_value_that_begins_with_the_home_folder_is_read_as_its_path(typed, read, home):
    assert with_home(typed) == read.format(home=home)


def test_a_user_that_does_not_exist_has_no_home_folder():
    assert expanded("~no-user-has-this-name/x") == Path("~no-user-has-this-name/x")


def test_a_run_in_the_home_folder_is_found_there_by_the_other_verbs(home):
    assert tracetorch("run", *CLICKS, "output.dir=~/a b").exit_code == 0
    assert (home / "a b" / "run.json").exists()
    for words in (["info", "~/a b"], ["compare", "~/a b", "--out=~/c"], ["eval", "~/a b"]):
        result = tracetorch(*words)
        assert result.exit_code == 0, result.output
    assert (home / "c" / "comparison.html").exists()
    assert [path.name for path in Path().iterdir()] == ["home"]


# ── names that a shell, a config or a terminal would interpret ──────────────────────────────────────────────────────

NAME = 'it\'s  ${x} :x: "q" $HOME'


def suggested(text: str) -> list[str]:
    """The words of the command at the end of a text, as a shell splits them."""
    return shlex.split(text[text.rindex("tracetorch ") :].strip())


@pytest.fixture(scope="module")
def oddly_named(tmp_path_factory):
    """A folder with a strange name, and a run in it."""
    folder = tmp_path_factory.mktemp("odd")
    assert tracetorch("run", *CLICKS, f"output.dir='{folder}/r'").exit_code == 0
    (folder / NAME).mkdir()
    (folder / "r").rename(folder / NAME / "r")
    return folder


def test_every_verb_takes_a_folder_of_any_name(oddly_named, monkeypatch):
    monkeypatch.chdir(oddly_named)
    run = f"{NAME}/r"
    for words in (["info", run], ["eval", run], ["compare", NAME, "--out", f"{NAME}/c"], ["run", "--from", run]):
        result = tracetorch(*words)
        assert result.exit_code == 0, (words, result.output)
    assert (oddly_named / NAME / "c" / "comparison.html").exists()


def test_a_suggested_command_is_quoted_for_the_shell(oddly_named, monkeypatch):
    monkeypatch.chdir(oddly_named)
    run = f"{NAME}/r"
    assert suggested(tracetorch("resume", run).stdout) == ["tracetorch", "plot", run]
    assert tracetorch("eval", run).exit_code == 0
    evaluation = next(Path(run, "eval").iterdir())
    refused = tracetorch("resume", str(evaluation))
    assert refused.exit_code == 2 and suggested(refused.stderr)[-1] == str(oddly_named / run)
    moved = tracetorch("plot", run, "task.delay=1")
    assert suggested(moved.stderr) == ["tracetorch", "eval", run, "task.delay=1"]
    assert tracetorch("plot", run, "seed=1").stderr.endswith("leave it out\n")  # `eval` would refuse it as well
    swept = tracetorch("run", "seed=1,2")
    assert suggested(swept.stderr) == ["tracetorch", "run", "-m", "seed=1,2"]


# ── a working directory that is gone ────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("verb", typer.main.get_command(app).commands)
def test_without_a_working_directory_a_verb_ends_with_a_sentence(verb, here):
    (here / "gone").mkdir()
    os.chdir(here / "gone")
    (here / "gone").rmdir()
    words = {"completion": ["bash"]}.get(verb, ["x"] if verb in ("resume", "plot", "compare", "eval", "info") else [])
    result = tracetorch(verb, *words)
    os.chdir(here)
    assert (result.exit_code, result.stderr) == (
        2,
        "tracetorch: the working directory no longer exists; change to another\n",
    )
