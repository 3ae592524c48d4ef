"""Paths, wherever they are typed: in the home folder, and with names that a shell or a config would interpret."""

import os
import shlex
import shutil
from pathlib import Path

import pytest
import typer

from tests.command_line import CLICKS, ran, refused, tracetorch
from tracetorch.cli.main import app
from tracetorch.cli.shared_arguments import with_home
from tracetorch.files import expanded

VERBS = typer.main.get_command(app).commands


@pytest.fixture
def home(here, monkeypatch):
    """A home folder that is not the working directory."""
    monkeypatch.setenv("HOME", str(here / "home"))
    (here / "home").mkdir()
    return here / "home"


def test_every_folder_option_expands_the_home_folder(home):
    found = [(verb, param) for verb, made in VERBS.items() for param in made.params]
    found = [(verb, param) for verb, param in found if (param.metavar or "").strip("[].") == "DIR"]
    assert len(found) > 8
    for verb, param in found:
        option = [param.opts[0]] if param.param_type_name == "option" else []
        others = ["first"] if option and verb == "compare" else ["--format", "nir"] if verb == "export" else []
        context = VERBS[verb].make_context(verb, [*others, *option, "~/runs"])
        assert context.params[param.name] in (home / "runs", [home / "runs"]), (verb, param.opts)


def test_a_value_that_starts_with_the_home_folder_is_expanded(home):
    read = {
        "output.dir=~/x": f"output.dir='{home}/x'",
        "task.source=~/a,~/b": f"task.source='{home}/a','{home}/b'",
        "+task.source=~": f"+task.source='{home}'",
        "task.source='~/a'": "task.source='~/a'",
        "sweep=~/mine.yaml": "sweep=~/mine.yaml",
        "~task.delay": "~task.delay",
        "output.dir=a~b": "output.dir=a~b",
    }
    assert {typed: with_home(typed) for typed in read} == read
    assert expanded("~no-user-has-this-name/x") == Path("~no-user-has-this-name/x")


def test_verbs_find_a_run_in_the_home_folder(home):
    for words in (["run", *CLICKS, "output.dir=~/a b"], ["info", "~/a b"], ["compare", "~/a b", "--out=~/c"]):
        ran(*words)
    assert (home / "a b" / "run.json").exists() and (home / "c" / "comparison.html").exists()
    assert [path.name for path in Path().iterdir()] == ["home"]


def suggested(text):
    """The words of the command at the end of a text, as a shell splits them."""
    return shlex.split(text[text.rindex("tracetorch ") :].strip())


def test_a_folder_may_have_any_name_and_suggested_commands_are_quoted(here):
    name = 'it\'s  ${x} :x: "q" $HOME ünïcödé 実験;/-dash'
    run, swept = f"{name}/r", f"{name}/s"
    made = ["run", *CLICKS, "output.dir=r"], ["run", "-m", *CLICKS, "seed=0,1", "output.dir='it\\'s $HOME 実験/s'"]
    assert [tracetorch(*words).exit_code for words in made] == [0, 0]
    Path(name).mkdir(parents=True)
    Path("r").rename(run)
    Path("it's $HOME 実験/s").rename(swept)
    shutil.rmtree(Path(swept, "001_seed=1"))
    for words in (["info", run], ["eval", run], ["compare", name, "--out", f"{name}/c"], ["resume", swept]):
        ran(*words)
    assert Path(name, "c", "comparison.html").exists() and tracetorch("run", "--from", run).exit_code == 0
    assert suggested(tracetorch("resume", run).stdout) == ["tracetorch", "plot", run]
    assert suggested(refused("resume", str(next(Path(run, "eval").iterdir()))))[-1] == str(here / run)
    assert suggested(tracetorch("plot", run, "task.delay=1").stderr) == ["tracetorch", "eval", run, "task.delay=1"]
    assert tracetorch("plot", run, "seed=1").stderr.endswith("leave it out\n")  # `eval` would refuse it as well
    assert suggested(tracetorch("run", "seed=1,2").stderr) == ["tracetorch", "run", "-m", "seed=1,2"]


def test_without_a_working_directory_every_verb_ends_with_a_sentence(here):
    (here / "gone").mkdir()
    os.chdir(here / "gone")
    (here / "gone").rmdir()
    folder = ("resume", "plot", "compare", "eval", "info")
    for verb in VERBS:
        own = {"completion": ["bash"], "new": ["task", "x"], "tag": ["x", "y"], "export": ["x", "--format", "nir"]}
        words = own.get(verb, ["x"] if verb in folder else [])
        result = tracetorch(verb, *words)
        said = "tracetorch: the working directory no longer exists; change to another\n"
        assert (result.exit_code, result.stderr) == (2, said), verb
    os.chdir(here)
