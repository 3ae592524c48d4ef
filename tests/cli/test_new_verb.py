"""`tracetorch new` writes parts that run as they stand: each passes its own test and trains by the printed command."""

import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.command_line import CLICKS, files, ran, refused, tracetorch, write
from tracetorch.cli.new_verb import _GROUPS

TASK = ("train.updates=2", "train.figures=false", "network.hidden=[8]", "device=cpu", "task.test_trials=20")
SMALL = {"task": TASK, "env": (*TASK[:-1], "task.test_episodes=20")}
"""The settings of a tiny run with a part of this kind; other kinds train on the clicks."""


@pytest.fixture
def clean(here, monkeypatch):
    """Modules that a test imports are forgotten, and the search path is restored."""
    known = set(sys.modules)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield here
    for name in set(sys.modules) - known:
        if name.startswith("newly_"):
            del sys.modules[name]


ONE_BY_ONE = ("connection", "env")  # the others train together as well


@pytest.mark.parametrize("trained", [ONE_BY_ONE, pytest.param(tuple(_GROUPS), marks=pytest.mark.slow)], ids=len)
def test_each_kind_passes_its_test_and_trains_by_the_printed_command(clean, trained):
    for kind, group in _GROUPS.items():
        name, before = f"newly_{kind}", files(clean)
        said = ran("new", kind, name).stdout.splitlines()
        written = {f"{name}.py", f"test_{name}.py", f"conf/{group}/{name}.yaml"}
        assert files(clean) - before - {"tracetorch.toml"} == written
        assert all(word in said[0] for word in written)
        assert not any("own_part" in Path(path).read_text().lower().replace(" ", "_") for path in written)
        (typed,) = [line.partition("tracetorch ")[2] for line in said if line.startswith("to train with it:")]
        assert f"to test it:        pytest test_{name}.py" in said
        if kind in trained:
            ran(*shlex.split(typed), *SMALL.get(kind, CLICKS), f"output.dir=outputs/{kind}")
            assert json.loads(Path(f"outputs/{kind}/run.json").read_text())["status"] == "completed"
        header = Path(f"conf/{group}/{name}.yaml").read_text().splitlines()
        assert header[1].startswith("# Run: ") and header[2].startswith("# Override: ")
        ran("show", *shlex.split(header[2].partition("tracetorch run ")[2]))
    together = ("task=newly_task", "network=newly_neuron", "rule=newly_rule", "loss=newly_loss")
    ran("run", *together, *TASK, "output.dir=outputs/all")
    ran("eval", "outputs/all")
    listed = tomllib.loads(Path("tracetorch.toml").read_text())["tracetorch"]
    assert listed == {"conf": "conf", "packages": [f"newly_{kind}" for kind in _GROUPS]}
    command = [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider"]
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0 and "passed" in done.stdout, done.stdout


@pytest.mark.parametrize(("kind", "name"), [("task", "task"), ("rule", "any"), ("loss", "loss"), ("env", "tensor"),
                                            ("neuron", "state"), ("connection", "none")])  # fmt: skip
def test_a_name_that_the_file_uses_otherwise_gets_another_class(here, kind, name):
    ran("new", kind, name)
    own = "my_loss" if kind == "loss" else f"My{name.capitalize()}"
    texts = [Path(path).read_text() for path in (f"{name}.py", f"test_{name}.py")]
    assert all(re.search(rf"\b{own}\b", text) for text in texts)
    for path, text in zip((f"{name}.py", f"test_{name}.py"), texts, strict=True):
        compile(text, path, "exec")


def test_a_name_may_hold_a_word_of_the_template(here):
    ran("new", "task", "my_own_part")
    assert "from my_own_part import MyOwnPart\n" in Path("test_my_own_part.py").read_text()


def test_nothing_is_overwritten_and_a_wrong_name_is_one_sentence(here):
    for typed, phrase in (
        ("task mnist", "task=mnist comes with tracetorch: give another name, such as my_mnist"),
        ("task Louder", "'Louder' cannot name a module: use small letters, digits and _, such as louder_half"),
        ("loss class", "'class' cannot name a module"),
        ("loss a-b", "'a-b' cannot name a module"),
        ("rule ../x", "'../x' cannot name a module"),
        ("task random", "there is a module random already, which random.py would hide"),
        ("rule torch", "there is a module torch already"),
        ("rule pytest", "there is a module pytest already"),
        ("task conf", "there is a module conf already"),
    ):
        assert phrase in refused("new", *typed.split()), typed
    assert tracetorch("new", "thing", "x").exit_code == tracetorch("new", "task").exit_code == 2
    ran("new", "task", "louder_half")
    assert "class LouderHalf(Task)" in Path("louder_half.py").read_text()
    said = refused("new", "rule", "louder_half")
    assert "louder_half.py, test_louder_half.py exist already: give another name, such as louder_half_2" in said
    Path("taken").mkdir()
    assert "taken exists already" in refused("new", "task", "taken")
    Path("lost.py").symlink_to("nowhere")
    assert "lost.py exists already" in refused("new", "task", "lost")
    write("conf/loss", "a file")
    said = refused("new", "loss", "blocked")
    assert "cannot write to" in said and "conf/loss" in said


@pytest.mark.parametrize(
    "before",
    ["", "[tracetorch]\n", "# ours\n[tracetorch]\nconf = 'conf'\npackages = []  # none yet\n",
     "[tracetorch]\npackages = [\n  'a',\n  'b',\n]\n", '[tracetorch]\npackages = ["a"]\nconf = "conf"'],
)  # fmt: skip
def test_a_project_of_ones_own_gets_one_more_package(here, before, monkeypatch):
    Path("conf").mkdir()
    Path("deep").mkdir()
    write("tracetorch.toml", before)
    monkeypatch.chdir(here / "deep")
    ran("new", "loss", "further")
    table, now = tomllib.loads(before).get("tracetorch", {}), (here / "tracetorch.toml").read_text()
    assert tomllib.loads(now)["tracetorch"] == {**table, "packages": [*table.get("packages", []), "further"]}
    assert ("# ours" in now) is ("# ours" in before) and ("# none yet" in now) is ("# none yet" in before)
    assert {"further.py", "test_further.py", "conf/loss/further.yaml"} <= files(here)


def test_a_list_that_cannot_be_changed_is_left_alone(here):
    Path("conf").mkdir()
    write("tracetorch.toml", "[tracetorch]\npackages = ['a',  # first\n 'b']\n")
    assert 'add "further" to packages in' in refused("new", "loss", "further")
    write("tracetorch.toml", "[tracetorch\n")
    assert "is not valid TOML" in refused("new", "loss", "further")
