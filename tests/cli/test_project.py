"""A folder with tracetorch.toml is a project: its configs are found, its modules imported, its packages trusted."""

import json
import shutil
import sys
from pathlib import Path

import pytest

from tests.cli.test_completion import ask  # noqa: F401 (a fixture)
from tests.command_line import CLICKS, TINY, ran, refused, tracetorch, write
from tracetorch.cli import project

PART = """
import os
from pathlib import Path
from {module}_helper import NOTHING
from tracetorch.tasks import Patterns

Path({marker!r}).write_text("imported")

class Own(Patterns):
    def __init__(self, *, shade: str = "dark", **options):
        super().__init__(**options)

def evil(**options):
    os.mkdir("harmed")
"""
FITTING = ("loss=mse", "network=lif_lif", *TINY, "network.hidden=[64]", "task.repeats=1")


@pytest.fixture
def module(here, monkeypatch, request):
    """A project in the working directory, with one module. Returns: the module's name, which no other test uses."""
    name = f"own_{abs(hash(request.node.nodeid)) % 10**9}"
    monkeypatch.setattr(sys, "path", [*sys.path])
    write("tracetorch.toml", f'[tracetorch]\npackages = ["{name}"]\n')
    write(f"{name}.py", PART.format(module=name, marker=str(here / "marker")))
    write(f"{name}_helper.py", "NOTHING = None\n")
    write(
        "conf/task/own.yaml", f"# Own: a task of this project.\n_target_: {name}.Own\nbatch_size: 4\nseed: ${{seed}}\n"
    )
    write("conf/experiment/own_preset.yaml", "# @package _global_\ndefaults:\n  - override /task: own\n")
    write("conf/sweep/own_sweep.yaml", {"params": {"task": "own", "seed": "0,1", "task.shade": "a"}})
    yield name
    sys.modules.pop(name, None)


def imported(here):
    """Whether the module of the project was imported."""
    return (here / "marker").exists()


def test_what_only_looks_finds_the_configs_and_imports_nothing(here, module, ask, monkeypatch):  # noqa: F811
    (here / "sub" / "deeper").mkdir(parents=True)
    monkeypatch.chdir(here / "sub" / "deeper")
    assert "Own: a task of this project." in ran("list", "task").stdout
    shown = ran("show", "task=own", "loss=mse", "network=lif_lif", "task.shade=pale").stdout
    assert f"_target_: {module}.Own" in shown and "shade: pale" in shown
    assert "own_preset" in ran("show", "experiment=own_preset", "loss=mse", "network=lif_lif").stdout
    assert "2 jobs" in ran("show", "-m", "sweep=own_sweep", "loss=mse", "network=lif_lif").stdout
    assert [value for _, value, _ in ask("run task=ow")] == ["task=own"]
    assert [value for _, value, _ in ask("run task=own task.sh")] == ["task.shade="]
    assert [value for _, value, _ in ask(f"run task._target_={module}.Own task.sh")] == ["task.shade="]
    assert "there is no key 'shde'. Did you mean 'task.shade'?" in refused("show", "task=own", "task.shde=1")
    assert "Did you mean 'shade'?" in refused("show", f"task._target_={module}.Own", "task.shde=1")
    row = next(line for line in ran("info").stdout.splitlines() if line.startswith("project"))
    assert str(here / "tracetorch.toml") in row and module in row
    tracetorch("--help")
    ran("run", *CLICKS)  # a run that calls nothing of the project
    assert not imported(here) and str(here) not in sys.path


def test_its_parts_run_and_its_run_folders_are_trusted_where_they_lie(here, module, monkeypatch):
    ran("run", "task=own", *FITTING, "output.dir=outputs/it", "task.shade=x")
    assert imported(here) and "shade: x" in Path("outputs/it/config.yaml").read_text()
    ran("eval", "outputs/it")
    ran("plot", "outputs/it")
    ran("run", "--from", "outputs/it", "output.dir=outputs/again")
    facts = json.loads(Path("outputs/it/run.json").read_text())
    Path("outputs/it/run.json").write_text(json.dumps(facts | {"status": "interrupted"}))
    assert "updates" in ran("resume", "outputs/it").output
    ran("run", "-m", "sweep=own_sweep", *FITTING, "output.dir=outputs/sweep")
    shutil.rmtree("outputs/sweep/001_seed=1")
    ran("resume", "outputs/sweep")
    elsewhere = here.parent / f"{here.name}_elsewhere"
    shutil.copytree("outputs", elsewhere)
    for words in (("eval", "it"), ("plot", "it"), ("resume", "sweep"), ("run", "--from", "it")):
        said = refused(*words[:-1], str(elsewhere / words[-1]))
        assert f"'{module}.Own', which is not trusted; if you trust it, add --trust {module}" in said
    ran("eval", str(elsewhere / "it"), "--trust", module)
    (here / "linked").symlink_to(elsewhere)  # the user's own link, such as to a larger disk
    ran("eval", "linked/it")
    monkeypatch.chdir(elsewhere)
    assert f"or run this in {here}, its project" in refused("eval", str(here / "outputs" / "it"))


def test_a_search_knows_the_project(here, module):
    pytest.importorskip("optuna", reason="the extra tune is not installed")
    write("conf/search/own_search.yaml", {"trials": 1, "metric": "loss", "direction": "minimize",
                                          "space": {"optimizer.lr": {"low": 0.1, "high": 0.2}}})  # fmt: skip
    ran("tune", "search=own_search", "task=own", *FITTING, "--study", "study")
    ran("tune", "--study", "study", "--trials", "2")
    best = ("--config-dir", "study/presets", "experiment=best", "seed=1")
    assert f"_target_: {module}.Own" in ran("show", *best).stdout
    ran("run", *best, *FITTING, "output.dir=best")


def test_a_job_in_another_process_knows_the_project(here, module, monkeypatch):
    pytest.importorskip("joblib", reason="the extra parallel is not installed")
    launcher = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
    ended = ran("run", "-m", "task=own", "seed=0,1", *FITTING, "output.dir=s", *launcher)
    assert "2 of 2 completed" in ended.output
    monkeypatch.chdir("/")
    monkeypatch.setattr(project, "_chosen", [None])
    project.choose(here)  # what a job of Slurm does, wherever it runs
    assert project.current().packages == (module,)


def test_its_configs_call_only_what_it_lists_and_what_is_typed_may_call_anything(here, module):
    write("conf/task/other.yaml", "# Other: of no package.\n_target_: os.mkdir\npath: harmed\n")
    advice = (
        f"which is not trusted; if you trust it, add it to packages in {here / 'tracetorch.toml'}, or add --trust os"
    )
    for verb in (["run"], ["show"], ["run", "-m"]):
        assert advice in refused(*verb, "task=other", "loss=mse", "network=lif_lif"), verb
    write("conf/task/borrowed.yaml", f"# Borrowed.\n_target_: {module}.os.mkdir\npath: harmed\n")
    assert f"{module} does not define it" in tracetorch("run", "task=borrowed", "loss=mse", "network=lif_lif").stderr
    ran("run", f"task._target_={module}.Own", *FITTING, "output.dir=a")
    ran("run", "task={_target_: tracetorch.tasks.Patterns}", "optimizer._target_=torch.optim.NAdam", *FITTING,
        "output.dir=b")  # fmt: skip
    assert not Path("harmed").exists()
    write("conf/task/patterns.yaml", "# Patterns: a name that is taken.\n_target_: tracetorch.tasks.Patterns\n")
    assert "comes with tracetorch; rename" in refused("show", "task=patterns")
    outside = here.parent / f"{here.name}_presets"
    write(outside / "task" / "strange.yaml", f"# Strange.\n_target_: {module}.evil\n")
    words = ("run", "--config-dir", str(outside), "task=strange", "loss=mse", "network=lif_lif")
    assert f"add --trust {module}" in refused(*words)  # a stranger's presets may not call the project


def test_a_project_ends_at_a_home_folder_and_where_anyone_may_write(here, module, monkeypatch):
    inner = here / "a" / "b"
    inner.mkdir(parents=True)
    monkeypatch.chdir(inner)
    assert project.current().root == here
    monkeypatch.setenv("HOME", str(here))
    assert project.current() is None
    monkeypatch.chdir(here)
    assert project.current().root == here
    monkeypatch.setenv("HOME", "/nowhere")
    monkeypatch.chdir(inner)
    here.chmod(0o777)
    assert project.current() is None
    here.chmod(0o700)
    assert project.current().packages == (module,)


BROKEN = {
    "a = ": "is not valid TOML: Invalid value",
    "[tracetorch": "is not valid TOML: ",
    "packages = ['x']": "it has 'packages'; it takes one table, [tracetorch], with conf and packages",
    "tracetorch = 3": "tracetorch is a value; it takes one table",
    "[tracetorch]\npackage = ['x']": "there is no 'package'. Did you mean 'packages'? It takes conf, packages",
    "[tracetorch]\npackages = 'x'": 'packages must be a list of names, such as ["mine"], got',
    "[tracetorch]\npackages = ['x-y']": "packages: 'x-y' is not the name of a module",
    "[tracetorch]\npackages = ['os']": "packages: os is not a package of your own",
    "[tracetorch]\npackages = ['torch.nn']": "packages: torch.nn is not a package of your own",
    "[tracetorch]\nconf = 'nowhere'": "conf = 'nowhere': there is no such folder",
    "[tracetorch]\nconf = '..'": "conf = '..' lies outside of the project",
    "[tracetorch]\nconf = 3": "conf must name a folder, such as 'conf', got 3",
    "x = " + "[" * 5000: "is not valid TOML: ",
}


@pytest.mark.parametrize("text", BROKEN)
def test_a_broken_file_is_one_sentence(here, text):
    write("tracetorch.toml", text)
    for verb in (
        ("list",),
        ("show",),
        ("run", "train.updates=1"),
        ("run", "-m", "seed=0,1"),
        ("tune", "search=decays"),
    ):
        said = refused(*verb)
        assert f"{here / 'tracetorch.toml'}" in said and BROKEN[text] in said, said
    assert tracetorch("--help").exit_code == 0


def test_a_file_that_is_not_a_regular_one_is_refused(here):
    Path("tracetorch.toml").mkdir()
    assert "tracetorch.toml is not valid TOML: is not a regular file" in refused("list")
