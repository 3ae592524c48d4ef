"""Every verb works on folders that an earlier version wrote, and calls by former names still work.

`earlier/` was written at revision bfe3c9d by `run`, `run -m` and `tune` with Ctrl-C in the middle. `expected.json`
holds what that revision made of the same runs: all records of a run that was not interrupted, the test by `eval` of
the interrupted one, and the names of the figures.
"""

import json
import shutil
from pathlib import Path

import pytest
import yaml

from tests.command_line import tracetorch
from tests.tiny_world import Lights
from tracetorch import backends, nn, renamed
from tracetorch.cli.adapter import compose
from tracetorch.compare.collect import read_run
from tracetorch.loss import Reflect
from tracetorch.rules import Trace
from tracetorch.runs.folder import state_of
from tracetorch.runs.identity import facts_of
from tracetorch.runs.records import COSTS, read_jsonl
from tracetorch.tasks import Environment, PoissonClicks, Reversal

EARLIER = Path(__file__).parent / "earlier"
EXPECTED = json.loads((EARLIER / "expected.json").read_text())


@pytest.fixture(autouse=True)
def copies(tmp_path, monkeypatch):
    shutil.copytree(EARLIER, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)


@pytest.fixture(params=EXPECTED)
def kind(request):
    if request.param == "reward":
        pytest.importorskip("gymnasium", reason="the extra rl is not installed")
    return request.param


def works(*words):
    result = tracetorch(*words)
    assert result.exit_code == 0, result.output
    return result.output


def check_records(folder, expected):
    """Equal, costs aside; floats up to rounding."""
    found = [{key: value for key, value in row.items() if not key.endswith(COSTS)} for row in read_jsonl(folder)]
    for row in expected:
        row |= {key: pytest.approx(value, rel=1e-4) for key, value in row.items() if isinstance(value, float)}
    assert found == expected


def test_eval_resume_and_plot(kind):
    works("eval", kind)
    (records,) = Path(kind, "eval").glob("*/metrics.jsonl")
    check_records(records, EXPECTED[kind]["eval"])
    works("resume", kind)
    check_records(Path(kind, "metrics.jsonl"), EXPECTED[kind]["records"])
    works("plot", kind)  # exits with 0 only if none fails
    assert {path.stem for path in Path(kind, "plots").glob("*.svg")} >= set(EXPECTED[kind]["figures"])


def evaluate_and_plot(run):
    works("eval", str(run))
    works("plot", str(run))
    assert len(list(run.glob("eval/*/metrics.jsonl"))) == 1 and list(run.glob("plots/*.svg"))


def test_compare_groups_an_earlier_and_a_new_run(kind):
    overrides = renamed.current_overrides(yaml.safe_load(Path(kind, "overrides.yaml").read_text()))
    then = state_of(Path(kind)).facts
    assert facts_of(compose(overrides).config).items() <= then.items()  # the same id and group
    Path(kind, "run.json").write_text(json.dumps(then | {"status": "completed"}))
    shutil.copytree(kind, "new")
    Path("new/config.yaml").write_text(compose([*overrides, "seed=7"]).yaml)
    earlier, new = read_run(Path(kind)), read_run(Path("new"))
    assert earlier.group == new.group and earlier.id != new.id
    assert "2 runs in 1 group" in works("compare", kind, "new", "--out", "compared")


def test_overrides_get_the_present_names_and_presets_no_new_keys():
    typed = ["+network.neuron.rate=line", "~network.neuron.bank", "task.lanes=2", "seed=0"]
    now = ["+network.neuron.rate_map=line", "~network.neuron.trace_bank", "task.num_envs=2", "seed=0"]
    assert renamed.current_overrides(typed) == now
    preset = {"train": {"_target_": "tracetorch.experiments.supervised.main"}, "task": "x"}
    assert renamed.renamed(preset) == preset != renamed.current(preset)


def test_a_sweep_is_resumed():
    path = Path("sweep/sweep.json")
    plan = json.loads(path.read_text())
    path.write_text(json.dumps(plan | {"figures": [{"against": "wall_seconds", "metric": None, "by": []}]}))
    assert "1 completed, 1 interrupted" in works("info", "sweep")
    typed = renamed.current_overrides(plan["typed"])
    assert "done in sweep/000_" in works("show", "-m", *typed)
    said = works("resume", "sweep")
    assert "2 of 2 completed" in said and "accuracy_against_wall_seconds.png, .svg and .csv in sweep/compare" in said
    assert "2 runs in 2 groups" in works("compare", "sweep")
    evaluate_and_plot(next(Path("sweep").glob("001_*")))


def test_a_study_is_continued_and_its_best_preset_is_read():
    pytest.importorskip("optuna", reason="the extra tune is not installed")
    assert "1 completed, 1 interrupted of 2" in works("info", "study")
    assert "trainable:\n    - weight\n" in works("show", "--config-dir", "study/presets", "experiment=best")
    works("tune", "--study", "study", "--trials", "3")
    assert "3 completed of 2" in works("info", "study")
    assert "3 runs in 3 groups" in works("compare", "study")
    evaluate_and_plot(next(Path("study").glob("0001_*")))


FORMER = {
    "network.neuron.learn=[]": "network.neuron.learn is now network.neuron.trainable",
    "network.neuron.bank=[]": "network.neuron.bank is now network.neuron.trace_bank",
    "+network.neuron.rate=line": "network.neuron.rate is now network.neuron.rate_map",
    "experiment=cartpole task.lanes=3": "task.lanes is now task.num_envs",
    "task._target_=tracetorch.tasks.Switching": "task._target_: tracetorch.tasks.Switching is now tracetorch.tasks.Reversal",  # noqa: E501
}


@pytest.mark.parametrize("typed", FORMER)
def test_a_former_name_on_the_command_line_is_refused_with_the_present_one(typed):
    for words in (["run"], *([["eval", "lifetime"]] if typed.startswith("network.") else [])):
        result = tracetorch(*words, *typed.split())
        assert result.exit_code == 2 and result.stderr == f"tracetorch: {FORMER[typed]}\n", result.output


def test_calls_with_former_names_warn_and_user_names_stay():
    calls = {
        "Own.held_out is now eval_batches": lambda: type("Own", (PoissonClicks,), {"held_out": None}),
        "Own.judge is now score": lambda: type("Own", (PoissonClicks,), {"judge": None}),
        "Own.phase is now context": lambda: type("Own", (PoissonClicks,), {"phase": None}),
        "Own.held_out_batch is now eval_batch_size": lambda: type("Own", (PoissonClicks,), {"held_out_batch": 7}),
        "Own.lanes is now num_envs": lambda: type("Own", (Lights,), {"lanes": 7}),
        "Lights.lanes is now num_envs": lambda: Lights().lanes,
        "Lights.begin is now reset": lambda: Lights().begin(),
        "learn is now trainable": lambda: nn.LIF(3, 2, learn=[]),
        "bank is now trace_bank": lambda: nn.Layer(3, 2, neuron=nn.neurons.LI, bank=[0.5]),
        "rate is now rate_map": lambda: nn.LIF(3, 2, rate="logistic"),
        "Trace.begin is now reset": lambda: Trace(nn.Sequential(nn.LIF(3, 2))).begin(),
        "draw is now uniform": lambda: backends.draw,
        "draw_below is now bernoulli": lambda: backends.draw_below,
    }
    for said, call in calls.items():
        with pytest.warns(DeprecationWarning, match=said) as warned:
            call()
        assert Path(warned[0].filename).name == Path(__file__).name
    for base in (Trace, Reflect, Environment, Reversal):
        with pytest.raises(TypeError, match=r"Own\.begin is never called: begin is now reset, rename it"):
            type("Own", (base,), {"begin": None})
    own = {"_target_": "tracetorch.nn.Layer", "rate": 1, "neuron": {"_target_": "mypackage.Neuron", "learn": 2}}
    assert renamed.current(own) == own == renamed.former(own)


def test_numbers_of_a_users_task_by_former_names_count():
    with pytest.warns(DeprecationWarning):
        own = type("Own", (PoissonClicks,), {"held_out_batch": 7})(validation_trials=8)
    assert [len(batch.target) for batch in own.eval_batches("validation")] == [7, 1]
    with pytest.warns(DeprecationWarning, match="Own.held_out_batch is now eval_batch_size"):
        own.held_out_batch = 5
    assert [len(batch.target) for batch in own.eval_batches("validation")] == [5, 3]


def test_a_users_environment_with_a_former_method_is_answered_on_the_command_line(here, monkeypatch):
    monkeypatch.syspath_prepend(here)
    (here / "own_world.py").write_text(
        "from tests.tiny_world import Lights\n\n\nclass World(Lights):\n    def begin(self):\n        pass\n"
    )
    result = tracetorch("run", "experiment=cartpole", "task._target_=own_world.World")
    assert result.exit_code == 2 and "World.begin is never called: begin is now reset, rename it" in result.output
