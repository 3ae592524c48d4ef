"""A run of an earlier version goes on: its folder, its checkpoint with other names of parameters, its optimizer.

`earlier_run/interrupted` was made when a layer was one module, by `tracetorch run experiment=poisson_clicks` with
learned decays, groups of neurons and a free trace, and was interrupted. `final.json` holds the parameters with which
that version ended it: single numbers, and for weights the sum of their squares.
"""

import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml

from tests.command_line import CLICKS, tracetorch
from tracetorch import backends, renamed
from tracetorch.cli.adapter import compose
from tracetorch.compare.collect import read_run
from tracetorch.loss import Reflect, RewardLoss
from tracetorch.nn import LI, LIF, LIS, Layer, Sequential, neurons
from tracetorch.rules import Rule, Trace
from tracetorch.runs import checkpoint
from tracetorch.runs.identity import facts_of
from tracetorch.tasks import Gym, PoissonClicks

HERE = Path(__file__).parent / "earlier_run"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(HERE / "interrupted", "interrupted")
    return Path("interrupted")


def test_it_resumes_to_what_it_would_have_become(folder):
    result = tracetorch("resume", str(folder))
    assert result.exit_code == 0, result.output
    net = torch.load(folder / "checkpoints/latest.pt", weights_only=True)["net"]
    found = {name.replace("input_trace.raw_", "raw_trace_"): value for name, value in net.items()}
    found = {name.replace("connection.", "").replace("neuron.", ""): value for name, value in found.items()}
    for name, wanted in json.loads((HERE / "final.json").read_text()).items():
        value = found[name].flatten() if isinstance(wanted, list) else found[name].square().sum()
        torch.testing.assert_close(value, torch.tensor(wanted), rtol=1e-3, atol=1e-3)


def test_it_can_be_evaluated_and_drawn(folder):
    assert tracetorch("resume", str(folder)).exit_code == 0
    for verb in ("eval", "plot"):
        result = tracetorch(verb, str(folder))
        assert result.exit_code == 0, result.output


def test_a_changed_config_is_refused_for_what_was_changed(folder):
    path = folder / "config.yaml"
    path.write_text(path.read_text().replace("decay: 0.999", "decay: 0.5"))
    result = tracetorch("resume", str(folder))
    assert result.exit_code == 2 and "network.readout.decay is 0.5, but the run started with 0.999" in result.output


def as_it_is_now(folder: Path) -> list[str]:
    """The overrides of the run, by the present names; and a default of that time."""
    lines = [*yaml.safe_load((folder / "overrides.yaml").read_text()), "train.update_every=null"]
    for before, now in renamed.LAYER_ARGUMENTS.items():
        lines = [line.replace(f".{before}=", f".{now}=") for line in lines]
    return lines


def test_a_new_run_with_its_settings_is_the_same_run_and_in_the_same_group(folder):
    config = compose(as_it_is_now(folder)).config
    assert config["network"]["neuron"]["trainable"] and "learn" not in config["network"]["neuron"]
    then = json.loads((folder / "run.json").read_text())
    assert {name: facts_of(config)[name] for name in ("id", "group")} == {name: then[name] for name in ("id", "group")}
    other = facts_of(compose([*as_it_is_now(folder), "network.neuron.trainable=[weight]"]).config)
    assert other["group"] != then["group"]


def test_it_is_compared_with_a_new_run_of_its_settings(folder):
    """They share a group, and keys have their present names."""
    runs = []
    for name, seed, trained in (("then", 3, None), ("now", 4, None), ("other", 4, "[weight]")):
        shutil.copytree(folder, name)
        facts = json.loads(Path(name, "run.json").read_text())
        Path(name, "run.json").write_text(json.dumps(facts | {"status": "completed", "seed": seed}))
        if name != "then":
            lines = [*as_it_is_now(folder), f"seed={seed}", f"task.seed={seed}"]
            made = compose([*lines, *([f"network.neuron.trainable={trained}"] if trained else [])])
            Path(name, "config.yaml").write_text(made.yaml)
        runs.append(read_run(Path(name)))
    then, now, other = runs
    assert then.group == now.group != other.group and then.id != now.id
    assert then.config.keys() == now.config.keys() and "network.neuron.trainable" in then.config
    result = tracetorch("compare", "then", "now", "other", "--by", "network.neuron.learn")
    assert result.exit_code == 2 and "network.neuron.learn is now network.neuron.trainable" in result.output


def test_a_former_key_that_is_typed_is_answered_with_the_present_one(folder, tmp_path):
    for key, now in renamed.LAYER_ARGUMENTS.items():
        said = f"network.neuron.{key} is now network.neuron.{now}\n"
        for typed in (["run", f"network.neuron.{key}=[]"], ["run", f"+network.neuron.{key}=[]"]):
            result = tracetorch(*typed)
            assert result.exit_code == 2 and said in result.output, result.output
        result = tracetorch("eval", str(folder), f"network.neuron.{key}=[]")
        assert result.exit_code == 2 and said in result.output, result.output
    assert not Path("outputs").exists()


def put_former_names(path: Path) -> None:
    """Into a file that a sweep or a study keeps."""
    text = path.read_text()
    for before, now in renamed.LAYER_ARGUMENTS.items():
        assert f'"{now}"' in text
        text = text.replace(f'"{now}"', f'"{before}"')
    path.write_text(text)


def test_a_sweep_that_was_begun_with_the_former_names_goes_on(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert tracetorch("run", "-m", *CLICKS, "seed=0,1", "output.dir=sweep").exit_code == 0
    put_former_names(Path("sweep/sweep.json"))
    again = tracetorch("resume", "sweep")
    assert again.exit_code == 0 and "all 2 jobs of sweep are completed" in again.output, again.output
    (left,) = Path("sweep").glob("001_*")
    shutil.rmtree(left)
    assert tracetorch("resume", "sweep").exit_code == 0
    assert "all 2 jobs of sweep are completed" in tracetorch("resume", "sweep").output
    assert (left / "run.json").is_file()


def test_a_study_that_was_begun_with_the_former_names_goes_on(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    typed = ("tune", "search=learning_rate", *CLICKS, "train.eval_every=1", "search.pruner=none", "--study", "study")
    assert tracetorch(*typed, "search.trials=1").exit_code == 0
    put_former_names(Path("study/study.json"))
    result = tracetorch("tune", "--study", "study", "--trials", "2")
    assert result.exit_code == 0 and len(list(Path("study").glob("0*/run.json"))) == 2, result.output


def test_a_config_of_ones_own_layer_keeps_its_keys():
    own = {"_target_": "mypackage.Layer", "learn": 3, "inner": {"_target_": "tracetorch.nn.LIF", "learn": []}}
    assert renamed.current(own) == own | {"inner": {"_target_": "tracetorch.nn.LIF", "trainable": []}}
    assert renamed.former(renamed.current(own)) == own


@pytest.mark.parametrize("target", ["tracetorch.tasks.Patterns", "tracetorch.loss.Reflect", "mypackage.LIF"])
def test_a_key_of_another_part_with_the_former_name_of_a_layers_argument_stays(target):
    part = {"_target_": target, "rate": 0.5, "learn": True, "bank": [1]}
    assert renamed.current(part) == part and renamed.former(part) == part


FORMER_TASK = {
    "_target_": "tracetorch.tasks.Switching",
    "every": 9,
    "environment": {"_target_": "tracetorch.tasks.Gym", "lanes": 3, "id": "CartPole-v1"},
}
PRESENT_TASK = {
    "_target_": "tracetorch.tasks.Reversal",
    "every": 9,
    "environment": {"_target_": "tracetorch.tasks.Gym", "num_envs": 3, "id": "CartPole-v1"},
}


def test_a_task_that_is_called_otherwise_now_is_the_same_task_in_the_same_group():
    assert renamed.current({"task": FORMER_TASK}) == {"task": PRESENT_TASK}
    assert renamed.former({"task": PRESENT_TASK}) == {"task": FORMER_TASK}
    then, now = (facts_of({"task": task, "seed": 0}) for task in (FORMER_TASK, PRESENT_TASK))
    assert then == now


SWITCHING = (
    *("experiment=clicks_lifetime", "device=cpu", "network.hidden=[8]", "task.environment.task.batch_size=4"),
    *("train.updates=4", "train.teach_every=2", "train.figures=false", "output.dir=life"),
    *("task.environment.task.validation_trials=0", "task.environment.task.test_trials=20"),
)


def test_a_run_of_a_task_that_is_called_otherwise_now_goes_on(tmp_path, monkeypatch):
    """Its config, what run.json says of it, and the parts in its checkpoint have the former names."""
    monkeypatch.chdir(tmp_path)
    assert tracetorch("run", *SWITCHING).exit_code == 0
    for path in (Path("life/config.yaml"), Path("life/run.json")):
        text = path.read_text()
        assert "tracetorch.tasks.Reversal" in text
        text = text.replace("tracetorch.tasks.Reversal", "tracetorch.tasks.Switching")
        path.write_text(text.replace('"status": "completed"', '"status": "interrupted"'))
    latest = Path("life/checkpoints/latest.pt")
    content = checkpoint.read_checkpoint(latest)
    content["parts"]["put_by"] = content["parts"].pop("reward_accumulator")
    torch.save({**content, "checksum": checkpoint._checksum(content)}, latest)
    for verb in ("resume", "eval"):
        result = tracetorch(verb, "life")
        assert result.exit_code == 0, result.output
    assert json.loads(Path("life/run.json").read_text())["status"] == "completed"


def test_a_target_that_is_typed_by_its_former_name_is_answered_with_the_present_one():
    result = tracetorch("run", *SWITCHING, "task._target_=tracetorch.tasks.Switching")
    said = "task._target_: tracetorch.tasks.Switching is now tracetorch.tasks.Reversal"
    assert result.exit_code == 2 and said in result.output, result.output


def test_a_key_of_a_task_that_is_typed_by_its_former_name_is_answered_with_the_present_one():
    pytest.importorskip("gymnasium")
    result = tracetorch("run", "experiment=cartpole", "task.lanes=3")
    assert result.exit_code == 2 and "task.lanes is now task.num_envs\n" in result.output, result.output


def test_an_environment_takes_its_former_names():
    pytest.importorskip("gymnasium")
    with pytest.warns(DeprecationWarning, match="^lanes is now num_envs$"):
        world = Gym(lanes=3)
    assert world.num_envs == world.lanes == 3
    state = world.state_dict()
    state["moments"] = state.pop("statistics")
    other = Gym(num_envs=3)
    other.load_state_dict(state)
    assert torch.equal(other.statistics.mean, world.statistics.mean) and other.statistics.count == 3


def test_a_task_of_ones_own_may_define_its_methods_by_their_former_names():
    with pytest.warns(DeprecationWarning, match="^Own.judge is now score$") as warned:

        class Own(PoissonClicks):
            def judge(self, output, batch):
                return {"accuracy": output[:, 0]}

    assert Path(warned[0].filename).name == Path(__file__).name
    output = torch.rand(3, 2)
    assert torch.equal(Own().score(output, None)["accuracy"], output[:, 0])


@pytest.mark.parametrize("neuron", ["tracetorch.nn.neurons.LIF", "mypackage.Neuron"])
def test_a_layer_in_a_config_passes_the_rate_on_to_a_neuron_of_ones_own(neuron):
    given = {"_target_": "tracetorch.nn.Layer", "neuron": {"_target_": neuron, "_partial_": True}, "rate": "logistic"}
    ours = neuron.startswith("tracetorch.")
    now = renamed.current(given)
    assert ("rate_map" if ours else "rate") in now and len(now) == len(given)
    assert renamed.former(now) == given


MAKE = {
    "LIF": LIF,
    "LI": LI,
    "LIS": LIS,
    "Layer": lambda *sizes, **options: Layer(*sizes, neuron=neurons.LIF, **options),
}


@pytest.mark.parametrize("kind", MAKE)
def test_a_layer_takes_the_former_names_of_its_arguments_with_a_warning(kind):
    with pytest.warns(DeprecationWarning, match="^learn is now trainable$") as warned:
        layer = MAKE[kind](3, 2, learn="decay")
    assert len(warned) == 1 and Path(warned[0].filename).name == Path(__file__).name
    assert layer.neuron.raw_decay.requires_grad and not layer.weight.requires_grad
    if kind in ("LIF", "Layer"):
        with pytest.warns(DeprecationWarning, match="^rate is now rate_map$"):
            assert MAKE[kind](3, 2, rate="logistic").neuron.rate_map == "logistic"
        with pytest.warns(DeprecationWarning, match="^bank is now trace_bank$"):
            assert torch.equal(MAKE[kind](3, 2, bank=[0.5]).input_trace.trace_bank, torch.tensor([0.5]))
    with pytest.raises(TypeError, match="learn is now trainable: give one of them"):
        MAKE[kind](3, 2, learn="decay", trainable="weight")


def test_a_state_that_was_saved_under_the_former_names_is_taken():
    layer = LIF(3, 2)
    layer.run(torch.ones(4, 1, 3))
    state = layer.save_state()
    other = LIF(3, 2)
    other.load_state({"second" if name == "trace_sensitivity" else name: value for name, value in state.items()})
    assert state["trace_sensitivity"].any()
    assert all(torch.equal(value, state[name]) for name, value in other.save_state().items())


@pytest.mark.parametrize("kind", [Rule, Trace, RewardLoss, Reflect])
def test_a_rule_or_loss_with_a_former_method_is_refused(kind):
    with pytest.raises(TypeError, match=r"^Own\.begin is never called: begin is now reset, rename it$"):
        type("Own", (kind,), {"begin": lambda self, lanes=None: None})

    class Mixin:
        def begin(self):
            """As `begin` was called."""

    with pytest.raises(TypeError, match=r"^Own\.begin is never called"):
        type("Own", (Mixin, kind), {})


def test_a_loss_that_was_saved_under_the_former_names_is_taken():
    reflect, other = Reflect(decay=0.5, baseline=[0.5, 0.9]), Reflect(decay=0.5, baseline=[0.5, 0.9])
    reflect.observe(torch.tensor([[0.5, 0.5]]), torch.tensor([1]))
    reflect(torch.tensor([1.0]))
    state = reflect.state_dict()
    other.load_state_dict({"expect" if name == "baseline" else name: value for name, value in state.items()})
    assert state["baseline"]["sums"].any()
    assert torch.equal(other.state_dict()["baseline"]["sums"], state["baseline"]["sums"])


def test_a_call_of_begin_is_one_of_reset_and_warns():
    rule, reflect = Trace(Sequential(LIF(3, 2))), Reflect()
    rule.forward(torch.ones(4, 2, 3))
    reflect.observe(torch.full((2, 2), 0.5), torch.tensor([0, 1]))
    for one in (rule, reflect):
        with pytest.warns(DeprecationWarning, match=r"begin is now reset") as warned:
            one.begin()
        assert Path(warned[0].filename).name == Path(__file__).name
    assert rule.net[0].state is None
    with pytest.raises(RuntimeError, match="no action was observed"):
        reflect(torch.ones(2))


@pytest.mark.parametrize(("before", "now"), renamed.RANDOM.items())
def test_random_numbers_have_their_former_names_with_a_warning(before, now):
    with pytest.warns(DeprecationWarning, match=rf"^tracetorch\.backends\.{before} is now {now}$"):
        assert getattr(backends, before) is getattr(backends, now)
    with pytest.raises(AttributeError, match="has no attribute 'drew'"):
        backends.drew  # noqa: B018
