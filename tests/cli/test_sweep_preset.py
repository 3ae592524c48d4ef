"""Sweeps that have a name: the files in `conf/sweep/`, their parts, what is typed with them, and what they draw."""

import re
import shlex
import shutil
from pathlib import Path

import pytest
import yaml

from tests.cli.test_configs import header
from tests.command_line import CLICKS, ran, refused, tracetorch, write
from tests.sweeps import ROOT
from tracetorch.cli.adapter import conf_dir
from tracetorch.cli.sweep.plan import plan
from tracetorch.cli.sweep.preset import Figure, key_of, unfold

MINE = {"params": {"seed": "0,1", "optimizer.lr": 0.01}, "figures": [{"scatter": "task.delay", "by": "optimizer.lr"}]}


def first_values(path):
    """Changes that leave as little of a preset as possible: of every key one value, but for what all parts have."""
    content = yaml.safe_load(path.read_text())
    parts = content.get("parts", [{}])
    given = {**content["params"], **{key: value for part in parts for key, value in part.items()}}
    common = set.intersection(*map(set, parts))
    several = {key: value for key, value in given.items() if "," in str(value) and key not in common}
    return [f"{key}={value.partition(',')[0]}" for key, value in several.items()]


@pytest.mark.parametrize("path", sorted((conf_dir() / "sweep").glob("*.yaml")), ids=lambda path: path.stem)
def test_each_file_has_a_header_runs_and_draws_its_figures(path, here):
    what, run, override = header(path)[:3]
    assert len(what) > 15 and re.search("[.:?]", what)
    assert run == f"Run:       tracetorch run -m sweep={path.stem}"
    assert override.startswith(f"Override:  tracetorch run -m sweep={path.stem} ")
    tried = plan(shlex.split(override)[4:])
    assert 1 < len(tried.jobs) <= 20 and tried.figures
    assert len(plan([f"sweep={path.stem}", *first_values(path)]).jobs) <= 4
    words = [word for word in first_values(path) if key_of(word) != "train.updates"]
    tiny = ["task.batch_size=4", "train.updates=1", "task.test_trials=8", "task.validation_trials=8"]
    assert "is not drawn" not in ran("run", "-m", f"sweep={path.stem}", *words, *tiny, "output.dir=sweep").stdout
    assert len(list((here / "sweep" / "compare").glob("*.png"))) == len(unfold([f"sweep={path.stem}"]).figures)


def test_the_yaml_of_the_document_is_a_preset(here):
    blocks = re.findall(r"^```yaml\n(.*?)^```", (ROOT / "docs" / "sweeps.md").read_text(), re.MULTILINE | re.DOTALL)
    for block, jobs in zip(blocks[:2], (9, 24), strict=True):
        write(here / "mine.yaml", block)
        assert len(plan(["sweep=mine.yaml"]).jobs) == jobs


def test_typed_words_replace_those_of_the_file(here):
    write(
        here / "mine.yaml",
        MINE | {"params": MINE["params"] | {"task.seed": "${seed}", "train.updates": 3, "network.hidden": [8, 4]}},
    )
    found = unfold(["seed=5", "sweep=mine.yaml", "++train.updates=2", "task.delay=0.2,0.4"])
    typed = ["seed=5", "++train.updates=2", "task.delay=0.2,0.4"]
    assert found.sweeps == [["optimizer.lr=0.01", "task.seed=${seed}", "network.hidden=[8,4]", *typed]]
    assert found.figures == [Figure("task.delay", None, ["optimizer.lr"])]
    assert found.origin == Path("mine.yaml")
    assert unfold(["seed=5"]).sweeps == [["seed=5"]]


EVIL = {"params": {"rule._target_": "os.system", "seed": "0,1"}}
TWO = {"parts": [{"seed": 0, "rule": "trace"}, {"seed": 1, "rule": "bptt"}]}
X = {"seed": "0,1"}
WRONG = [
    ("sweep=", {}, "there is no such sweep"),
    ("sweep=rul", {}, "Did you mean 'rules'?"),
    ("sweep=nowhere.yaml", {}, "there is no such file"),
    ("sweep=rules,delays", {}, "one preset at a time"),
    ("sweep=rules sweep=delays", {}, "one preset at a time"),
    ("sweep.params.seed=1", {}, "type the key itself"),
    ("~sweep", {}, "type the key itself"),
    ("sweep=it.yaml", {}, "params must name keys and their values"),
    ("sweep=it.yaml", {"param": {"seed": 1}}, "Did you mean 'params'? It has params, parts, figures."),
    ("sweep=it.yaml", MINE | {"parts": {"seed": 1}}, "parts must be a list"),
    ("sweep=it.yaml", MINE | {"parts": []}, "parts must be a list"),
    ("sweep=it.yaml", MINE | {"parts": [{"seed": 1}, 3]}, "parts[1] must name keys and their values"),
    ("seed=0 rule=bptt sweep=it.yaml", TWO, "none of its parts has all of seed=0 rule=bptt"),
    ("sweep=it.yaml", {"params": {"é": 1}}, "params: 'é' is not a key of a config"),
    ("sweep=it.yaml", {"parts": [{"sweep": "rules"}]}, "parts[0].sweep chooses how runs are launched"),
    ("sweep=it.yaml", {"params": {"hydra/launcher": "joblib"}}, "how runs are launched: type it on the command line"),
    ("sweep=it.yaml", EVIL, "not trusted"),
    ("sweep=it.yaml", MINE | {"figures": "task.delay"}, "figures must be a list"),
    ("sweep=it.yaml", MINE | {"figures": ["task.delay"]}, "figures[0] must be a mapping such as {scatter: task.delay}"),
    ("sweep=it.yaml", MINE | {"figures": [{"scater": "x"}]}, "figures[0] has no 'scater'. Did you mean 'scatter'?"),
    ("sweep=it.yaml", MINE | {"figures": [{"metric": "loss"}]}, "figures[0].scatter must name a number"),
    ("sweep=it.yaml", {"params": X, "figures": [{"scatter": ""}]}, ".scatter must name a number, such as task.delay"),
    ("sweep=it.yaml", {"params": X, "figures": [{"scatter": "x", "metric": 3}]}, ".metric must be a string or null"),
    ("sweep=it.yaml", {"params": X, "figures": [{"scatter": "x", "by": [3]}]}, "figures[0].by must be a key"),
    ("--trust math seed=0,1", {}, "--trust in a sweep applies to presets of your own"),
    ("--config-dir nowhere sweep=rules", {}, "--config-dir nowhere: there is no such folder"),
    ("optimizer.lr=0.1,fast", {}, "job 1 of 2 (optimizer.lr=fast): optimizer.lr must be a number"),
    ("seed=0,1 output.dir=a,b", {}, "output.root and output.dir apply to the whole sweep"),
    ("seed=0,1 hydra.sweep.dir=/tmp/x", {}, "only hydra/launcher and its settings"),
    ("seed=range(0,0)", {}, "no jobs"),
    ("seed=range(0,nan)", {}, "no jobs: seed=range(0,nan): "),
    ("seed=interval(0,1)", {}, "no jobs: seed=interval(0,1): an interval lists no values; write range("),
    ("seed=0,", {}, "a value is missing before or after a comma"),
    ("seed=0,1 hydra/launcher=jobllib", {}, "hydra/launcher=jobllib: there is no such"),
    ("seed=0,1 hydra.launcher.n_jobs=2", {}, "hydra.launcher.n_jobs=2: the basic launcher"),
    ("hydra/launcher=joblib hydra.launcher.n_job=2", {}, "launcher has no such setting. Did you mean 'n_jobs'?"),
    ("hydra/launcher=joblib hydra.launcher.n_jobs=two", {}, "hydra.launcher.n_jobs=two: it must be a whole number"),
    ("seed=x", {}, "tracetorch: seed must be a whole number, got 'x'"),
]


@pytest.mark.parametrize(("typed", "content", "phrase"), WRONG, ids=[row[2] for row in WRONG])
def test_a_mistake_is_refused_in_one_sentence(here, typed, content, phrase):
    write(here / "it.yaml", content)
    assert phrase in refused("run", "-m", *typed.split())


EXITS = ("import sys\nsys.exit(3)\n", "SystemExit: a part called sys.exit(3)")
RAISES = ("class Odd(BaseException): ...\nraise Odd('strange')\n", "Odd: strange")


@pytest.mark.parametrize(
    ("module", "typed"),
    [
        (RAISES, "run -m sweep=it.yaml --trust rude_module"),
        (EXITS, "run task._target_=rude_module.Task"),
        (RAISES, "run train._target_=rude_module.main"),
    ],
)
def test_a_module_that_raises_at_its_import_is_one_sentence(here, monkeypatch, module, typed):
    write(here / "it.yaml", {"params": {"task._target_": "rude_module.Task", "seed": "0,1"}})
    write(here / "rude_module.py", module[0])
    monkeypatch.syspath_prepend(str(here))
    monkeypatch.setattr("sys.dont_write_bytecode", True)
    assert module[1] in refused(*typed.split())


PARTS = {
    "params": {"seed": "0,1", "train.updates": 2},
    "parts": [{"experiment": "poisson_clicks,cue_accumulation"}, {"experiment": "delayed_clicks", "task.delay": "1,2"}],
}


CLICKS_AND_CUES, DELAYED = "experiment=poisson_clicks,cue_accumulation", "experiment=delayed_clicks"
SEEDS, TWO_UPDATES = "seed=0,1 train.updates=2", "train.updates=2"


def test_the_parts_of_a_preset_are_sweeps_and_typed_words_change_those_that_have_the_key(here):
    write(here / "mine.yaml", PARTS)
    for typed, sweeps in {
        "": [f"{SEEDS} {CLICKS_AND_CUES}", f"{SEEDS} {DELAYED} task.delay=1,2"],
        "seed=5": [f"{TWO_UPDATES} {CLICKS_AND_CUES} seed=5", f"{TWO_UPDATES} {DELAYED} task.delay=1,2 seed=5"],
        "task.delay=3": [f"{SEEDS} {CLICKS_AND_CUES}", f"{SEEDS} {DELAYED} task.delay=3"],
        "experiment=cue_accumulation task.delay=3": [f"{SEEDS} experiment=cue_accumulation task.delay=3"],
        f"{DELAYED},poisson_clicks": [f"{SEEDS} experiment=poisson_clicks", f"{SEEDS} task.delay=1,2 {DELAYED}"],
        "experiment=patterns": [f"{SEEDS} experiment=patterns", f"{SEEDS} task.delay=1,2 experiment=patterns"],
    }.items():
        assert unfold(["sweep=mine.yaml", *typed.split()]).sweeps == [line.split(" ") for line in sweeps], typed


def test_a_part_may_set_a_shared_key_and_equal_jobs_run_once(here):
    write(here / "mine.yaml", {"params": {"seed": 0}, "parts": [{"rule": "trace"}, {"rule": "bptt", "seed": "1,2"}]})
    assert unfold(["sweep=mine.yaml"]).sweeps == [["seed=0", "rule=trace"], ["rule=bptt", "seed=1,2"]]
    assert unfold(["sweep=mine.yaml", "seed=7"]).sweeps == [["rule=trace", "seed=7"], ["rule=bptt", "seed=7"]]
    write(here / "mine.yaml", {"params": {}, "parts": [{"network.hidden": "[8],[4,4]"}]})
    assert unfold(["sweep=mine.yaml"]).sweeps == [["network.hidden=[8],[4,4]"]]
    assert unfold(["sweep=mine.yaml", "network.hidden=[8]"]).sweeps == [["network.hidden=[8]"]]
    write(here / "mine.yaml", {"parts": [{"seed": "0,1", "rule": "trace"}, {"rule": "trace,bptt", "seed": 1}]})
    jobs = plan(["sweep=mine.yaml"]).jobs
    assert [job.varies for job in jobs] == ["seed=0, rule=trace", "seed=1, rule=trace", "seed=1, rule=bptt"]


def test_a_preset_of_ones_own_runs_into_one_folder_and_draws_its_figures_at_the_end(here):
    own = here / "own" / "sweep"
    two = {"parts": [{"seed": "0,1", "optimizer.lr": 0.01}, {"seed": 5, "optimizer.lr": 0.02}]}
    write(own / "mine.yaml", two | {"figures": [*MINE["figures"], {"scatter": "nothing"}, {"scatter": "rule"}]})
    write(own / "rules.yaml", MINE)
    assert unfold(["sweep=rules"], here / "own").origin is None  # ours comes first
    shown = tracetorch("show", "-m", "--config-dir", "own", "sweep=mine")
    names = ["000_seed=0,lr=0.01", "001_seed=1,lr=0.01", "002_seed=5,lr=0.02"]
    assert [line.split()[0] for line in shown.stdout.splitlines()[1:]] == names
    ended = ran("run", "-m", "--config-dir", "own", "sweep=mine", *CLICKS, "output.dir=sweep")
    assert [path.name for path in sorted((here / "sweep").glob("0*"))] == names
    said = " ".join(ended.stdout.split())
    assert "accuracy_against_task.delay.png, .svg and .csv in sweep/compare" in said
    assert "result against nothing is not drawn: --scatter nothing: no run has it" in said
    assert "result against rule is not drawn: --scatter rule: its values are not numbers (trace)" in said
    drawn = here / "sweep" / "compare" / "accuracy_against_task.delay.csv"
    for gone in (drawn.parent, here / "sweep" / names[2]):  # all jobs are done, and not all
        shutil.rmtree(gone)
        drawn.unlink(missing_ok=True)
        ran("resume", "sweep")
        assert len(drawn.read_text().splitlines()) == 3
    config = yaml.safe_load((here / "sweep" / names[2] / "config.yaml").read_text())
    assert (config["seed"], config["optimizer"]["lr"]) == (5, 0.02)
