"""Sweeps that have a name: the files in `conf/sweep/`, what is typed beside them, and what they draw at the end."""

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest
import yaml

from tests.command_line import CLICKS, files, tracetorch
from tests.test_docs import ROOT, blocks, header
from tracetorch.cli.adapter import conf_dir
from tracetorch.cli.sweep.plan import plan
from tracetorch.cli.sweep.preset import Figure, key_of, unfold

FILES = sorted((conf_dir() / "sweep").glob("*.yaml"))
EVERY_FILE = pytest.mark.parametrize("path", FILES, ids=[path.stem for path in FILES])
MINE = {"params": {"seed": "0,1", "optimizer.lr": 0.01}, "figures": [{"against": "task.delay", "by": "optimizer.lr"}]}


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content, sort_keys=False))
    return path


def first_values(path):
    """Changes that leave as little of a preset as possible: of every key one value, but for what all parts have."""
    content = yaml.safe_load(path.read_text())
    parts = content.get("parts", [{}])
    told = {**content["params"], **{key: value for part in parts for key, value in part.items()}}
    common = set.intersection(*map(set, parts))
    several = {key: value for key, value in told.items() if "," in str(value) and key not in common}
    return [f"{key}={value.partition(',')[0]}" for key, value in several.items()]


# ── the files ───────────────────────────────────────────────────────────────────────────────────────────────────────


@EVERY_FILE
def test_the_header_says_what_it_is_how_to_run_it_and_what_to_try(path):
    what, run, override = header(path)[:3]
    assert len(what) > 15 and re.search("[.:?]", what)
    assert run == f"Run:       tracetorch run -m sweep={path.stem}"
    assert override.startswith(f"Override:  tracetorch run -m sweep={path.stem} ")


@EVERY_FILE
def test_what_the_header_types_is_a_sweep_that_can_be_and_is_not_too_large(path):
    tried = plan(shlex.split(header(path)[2])[4:])
    assert 1 < len(tried.jobs) <= 20 and tried.figures
    assert len(plan([f"sweep={path.stem}", *first_values(path)]).jobs) <= 4


@EVERY_FILE
@pytest.mark.parametrize("line", [pytest.param(1, id="Run"), pytest.param(2, id="Override", marks=pytest.mark.slow)])
def test_what_the_header_types_runs_and_draws_what_its_runs_have(path, line, here):
    words = [word.partition(",")[0] for word in shlex.split(header(path)[line])[4:]]
    keys = {key_of(word) for word in words}
    words += [word for word in first_values(path) if key_of(word) not in keys]
    typed = ["task.batch_size=4", "train.updates=1", "task.test_trials=8", "task.validation_trials=8"]
    typed = [word for word in words if not word.startswith("train.updates=")] + typed
    ended = tracetorch("run", "-m", *typed, "output.dir=sweep")
    assert ended.exit_code == 0, ended.output
    assert "is not drawn" not in ended.stdout
    assert len(list((here / "sweep" / "compare").glob("*.png"))) == len(unfold([f"sweep={path.stem}"]).figures)


@pytest.mark.parametrize(("at", "jobs"), [(0, 9), (1, 24)])
def test_the_yaml_in_the_document_is_a_preset(here, at, jobs):
    write(here / "mine.yaml", blocks(ROOT / "docs" / "sweeps.md", "yaml")[at])
    assert len(plan(["sweep=mine.yaml"]).jobs) == jobs


# ── what is typed beside them ───────────────────────────────────────────────────────────────────────────────────────


def test_what_is_typed_counts_and_the_rest_is_as_the_file_says(here):
    write(here / "mine.yaml", MINE | {"params": MINE["params"] | {"train.updates": 3, "network.hidden": [8, 4]}})
    found = unfold(["seed=5", "sweep=mine.yaml", "++train.updates=2", "task.delay=0.2,0.4"])
    assert found.sweeps == [
        [
            *("optimizer.lr=0.01", "network.hidden=[8,4]"),
            *("seed=5", "++train.updates=2", "task.delay=0.2,0.4"),
        ]
    ]
    assert found.figures == [Figure("task.delay", None, ["optimizer.lr"])]
    assert found.origin == Path("mine.yaml")
    assert unfold(["seed=5"]).sweeps == [["seed=5"]]


def test_a_file_of_one_s_own_is_found_by_its_folder_and_ours_comes_first(here):
    write(here / "own" / "sweep" / "mine.yaml", MINE)
    write(here / "own" / "sweep" / "rules.yaml", MINE)
    shown = tracetorch("show", "-m", "--config-dir", "own", "sweep=mine")
    assert shown.exit_code == 0, shown.stderr
    assert [line.split()[0] for line in shown.stdout.splitlines()[1:]] == ["000_seed=0", "001_seed=1"]
    assert unfold(["sweep=rules"], here / "own").origin is None
    ended = tracetorch("run", "-m", "--config-dir", "own", "sweep=mine", *CLICKS, "output.dir=sweep")
    assert ended.exit_code == 0, ended.output
    stem = here / "sweep" / "compare" / "accuracy_against_task.delay"
    assert all(stem.with_name(f"{stem.name}.{kind}").is_file() for kind in ("png", "svg", "csv"))


def test_without_m_one_is_told_what_to_type():
    for verb in ("run", "show"):
        ended = tracetorch(verb, "sweep=rules")
        assert ended.exit_code == 2 and "makes many runs: tracetorch run -m sweep=rules" in ended.stderr


@pytest.mark.parametrize("verb", ["run", "run -m", "show", "show -m"])
def test_a_search_is_for_tune(verb):
    ended = tracetorch(*verb.split(), "search=decays")
    assert ended.exit_code == 2 and "makes many runs: tracetorch tune search=decays" in ended.stderr


def test_they_are_listed():
    ended = tracetorch("list", "sweep")
    assert ended.exit_code == 0
    assert [line.split()[0] for line in ended.stdout.splitlines()[1:]] == [path.stem for path in FILES]


EVIL = {"params": {"rule._target_": "os.system", "seed": "0,1"}}
WRONG = [
    ("sweep=", {}, "there is no such sweep"),
    ("sweep=rul", {}, "Did you mean 'rules'?"),
    ("sweep=nowhere.yaml", {}, "there is no such file"),
    ("sweep=rules,delays", {}, "one preset at a time"),
    ("sweep=rules sweep=delays", {}, "one preset at a time"),
    ("sweep.params.seed=1", {}, "type the key itself"),
    ("~sweep", {}, "type the key itself"),
    ("sweep=it.yaml", "[1, 2]", "is not a config"),
    ("sweep=it.yaml", "{", "is not valid YAML"),
    ("sweep=it.yaml", "a: &a [1]\nb: *a\n", "has aliases"),
    ("sweep=it.yaml", {}, "params must name keys and their values"),
    ("sweep=it.yaml", {"params": [1]}, "params must name keys and their values"),
    ("sweep=it.yaml", {"param": {"seed": 1}}, "Did you mean 'params'? It has params, parts, figures."),
    ("sweep=it.yaml", MINE | {"parts": {"seed": 1}}, "parts must be a list"),
    ("sweep=it.yaml", MINE | {"parts": []}, "parts must be a list"),
    ("sweep=it.yaml", MINE | {"parts": [{"seed": 1}, 3]}, "parts[1] must name keys and their values"),
    (
        "seed=0 rule=bptt sweep=it.yaml",
        {"parts": [{"seed": 0, "rule": "trace"}, {"seed": 1, "rule": "bptt"}]},
        "none of its parts has all of seed=0 rule=bptt",
    ),
    ("sweep=it.yaml", {"parts": [{"seed": 1}, {3: 1}]}, "parts[1]: 3 is not a key of a config"),
    ("sweep=it.yaml", {"params": {"é": 1}}, "params: 'é' is not a key of a config"),
    ("sweep=it.yaml", {"parts": [{"sweep": "rules"}]}, "parts[0].sweep chooses how runs are launched"),
    ("sweep=it.yaml", {"params": {"optimizer.lrr": "1,2"}}, "Did you mean 'optimizer.lr'?"),
    ("sweep=it.yaml", {"params": {"seed": "0,"}}, "a value is missing before or after a comma"),
    ("sweep=it.yaml", {"params": {"hydra/launcher": "joblib"}}, "how runs are launched: type it on the command line"),
    ("sweep=it.yaml", {"params": {"hydra.launcher.setup": ["touch harmed"]}}, "type it on the command line"),
    ("sweep=it.yaml", {"params": {"sweep": "rules"}}, "type it on the command line"),
    ("sweep=it.yaml", EVIL, "not trusted"),
    ("sweep=it.yaml", MINE | {"figures": "task.delay"}, "figures must be a list"),
    ("sweep=it.yaml", MINE | {"figures": ["task.delay"]}, "figures[0] must be a mapping such as {against: task.delay}"),
    ("sweep=it.yaml", MINE | {"figures": [{"aginst": "x"}]}, "figures[0] has no 'aginst'. Did you mean 'against'?"),
    ("sweep=it.yaml", MINE | {"figures": [{"metric": "loss"}]}, "figures[0].against must name a number"),
    (
        "sweep=it.yaml",
        MINE | {"figures": [{"against": "x", "metric": 3}]},
        "figures[0].metric must be a string or null",
    ),
    ("sweep=it.yaml", MINE | {"figures": [{"against": "x", "by": [3]}]}, "figures[0].by must be a key"),
    ("--trust math seed=0,1", {}, "--trust in a sweep applies to presets of your own"),
    ("--config-dir nowhere sweep=rules", {}, "--config-dir nowhere: there is no such folder"),
    ("--config-dir nowhere seed=0,1", {}, "tracetorch: --config-dir nowhere: there is no such folder"),
    ("--config-dir nowhere", {}, "tracetorch: --config-dir nowhere: there is no such folder"),
    ("seed=x", {}, "tracetorch: seed must be a whole number, got 'x'"),
]


@pytest.mark.parametrize(("typed", "content", "phrase"), WRONG, ids=lambda value: str(value)[:60])
def test_a_mistake_is_one_sentence_and_nothing_is_run(here, typed, content, phrase):
    write(here / "it.yaml", content)
    ended = tracetorch("run", "-m", *typed.split())
    assert ended.exit_code == 2, ended.output
    assert phrase in ended.stderr and len(ended.stderr.splitlines()) == 1
    assert files(here) == {"it.yaml"}


@pytest.mark.parametrize(
    ("module", "phrase"),
    [
        ("import sys\nsys.exit(3)\n", "SystemExit: a part called sys.exit(3)"),
        ("class Odd(BaseException): ...\nraise Odd('strange')\n", "Odd: strange"),
    ],
)
@pytest.mark.parametrize(
    "typed",
    [
        "run -m sweep=it.yaml --trust rude_module",
        "run task._target_=rude_module.Task",
        "run train._target_=rude_module.main",
    ],
)
def test_a_module_that_exits_as_it_is_imported_is_one_sentence(here, monkeypatch, module, phrase, typed):
    write(here / "it.yaml", {"params": {"task._target_": "rude_module.Task", "seed": "0,1"}})
    write(here / "rude_module.py", module)
    monkeypatch.syspath_prepend(str(here))
    monkeypatch.setattr("sys.dont_write_bytecode", True)
    ended = tracetorch(*typed.split())
    assert ended.exit_code == 2, ended.output
    assert phrase in ended.stderr and len(ended.stderr.splitlines()) == 1
    assert files(here) == {"it.yaml", "rude_module.py"}


# ── what they draw ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_figures_come_when_all_is_done_also_after_resume(here):
    write(here / "it.yaml", MINE | {"figures": [*MINE["figures"], {"against": "nothing"}, {"against": "rule"}]})
    ended = tracetorch("run", "-m", "sweep=it.yaml", *CLICKS, "output.dir=sweep")
    assert ended.exit_code == 0, ended.output
    said = " ".join(ended.stdout.split())
    assert "accuracy_against_task.delay.png, .svg and .csv in sweep/compare" in said
    assert "result against nothing is not drawn: --against nothing: no run has it" in said
    assert "result against rule is not drawn: --against rule: its values are not numbers (trace)" in said
    shutil.rmtree(here / "sweep" / "compare")
    assert tracetorch("resume", "sweep").exit_code == 0
    shutil.rmtree(here / "sweep" / "001_seed=1")
    drawn = here / "sweep" / "compare" / "accuracy_against_task.delay.csv"
    drawn.unlink()
    assert tracetorch("resume", "sweep").exit_code == 0
    assert drawn.read_text().splitlines()[1].split(",")[7] == "2"


def test_an_odd_plan_is_refused(here):
    write(here / "it.yaml", MINE)
    assert tracetorch("run", "-m", "sweep=it.yaml", *CLICKS, "output.dir=sweep").exit_code == 0
    path = here / "sweep" / "sweep.json"
    content = json.loads(path.read_text())
    for odd in ([3], "x", [{"against": 3}], [{"against": "a\x1b[2J"}], [{"against": "x", "by": {"y": 1}}]):
        path.write_text(json.dumps(content | {"figures": odd}))
        ended = tracetorch("resume", "sweep")
        assert ended.exit_code == 2 and "sweep.json is broken" in ended.stderr and "\x1b" not in ended.stderr
    del content["figures"]  # as from a sweep before there were any
    path.write_text(json.dumps(content))
    assert tracetorch("resume", "sweep").exit_code == 0
