"""Every YAML file of `conf/` and every example in the help works; combinations that mislead are refused."""

import gc
import inspect
import json
import os
import re
import shlex
from collections.abc import Callable
from functools import cache
from importlib import import_module
from itertools import product
from pathlib import Path
from tempfile import mkdtemp

import pytest
import yaml
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from omegaconf import OmegaConf

from tests.command_line import CLICKS, ran, refused, tracetorch
from tests.data.event_files import gesture_folder, nmnist_folder, shd_folder
from tests.terminals import tracetorch_in_terminal
from tracetorch.cli import adapter
from tracetorch.cli.adapter import GROUPS, PRESETS, Composed, compose, conf_dir, fill, template
from tracetorch.cli.check import check, check_new
from tracetorch.cli.errors import UsageError
from tracetorch.cli.execute import make_parts
from tracetorch.cli.main import GROUPS as VERBS
from tracetorch.cli.main import verb_name
from tracetorch.cli.signatures import signature
from tracetorch.cli.tuning import tune
from tracetorch.runs import RunFolder
from tracetorch.training.setup import Setup

FILES = sorted(path for path in conf_dir().rglob("*.yaml") if path.parent.name not in PRESETS)  # tested elsewhere

SMALL = {"batch_size": 4, "test_trials": 6, "validation_trials": 6, "duration": [0.2], "repeats": 1, "source": "sample"}
SMALL |= {"num_envs": 4, "test_episodes": 6, "validation_episodes": 6, "max_episode_steps": 9}
"""For whichever of these keys a task has, or one inside of it."""

DATA = str(Path(__file__).parents[1] / "data" / "two_classes.npz")
EVENTS = {"shd": shd_folder, "nmnist": nmnist_folder, "dvs_gesture": gesture_folder}
"""Tiny files for the tasks that download theirs."""


@cache
def event_folder(make: Callable[[Path], Path]) -> str:
    """A folder of event files, made once for all tests."""
    return str(make(Path(mkdtemp()) / "events"))


def header(path: Path) -> list[str]:
    lines = [line[1:].strip() for line in path.read_text(encoding="utf-8").split("\n") if line.startswith("#")]
    return [line for line in lines if not line.startswith("@package")]


def command(path: Path, name: str) -> list[str]:
    """The overrides of the command that the header gives after "Run:" or "Override:"."""
    (line,) = [line for line in header(path) if line.startswith(f"{name}:")]
    words = shlex.split(line.partition(":")[2])
    assert words[:2] == ["tracetorch", "run"]
    return words[2:]


def parts_of(node: dict) -> list[dict]:
    """A part of a config and all parts inside of it."""
    return [node, *(found for value in node.values() if isinstance(value, dict) for found in parts_of(value))]


def shrink(composed: Composed) -> Composed:
    """The same config with as little work as its task and its training loop allow."""
    config = composed.config
    for part in parts_of(config["task"]):
        if part.get("_target_") == "tracetorch.tasks.Gym":
            pytest.importorskip("gymnasium", reason="the extra rl is not installed")
        if part.get("_target_") == "tracetorch.tasks.File":
            part.update(path=DATA, pattern=None)
        part.update({key: value for key, value in SMALL.items() if key in part})
        if part.get("_target_") == "tracetorch.tasks.Manifolds":
            part["duration"] = 0.2  # which is not drawn for each trial
        if folder := EVENTS.get(str(part.get("_target_")).rpartition(".")[2]):
            part |= {"source": event_folder(folder), "validation": 0.1, "max_rate": 20.0}  # they hold few events
    train, network = config["train"], config["network"]
    silent = "latency" in str(config["task"]) or network["readout"]["_target_"].endswith(".LIF")  # in the first updates
    train |= {"updates": 40 if silent else 2, "figures": False, **({"passes": None} if "passes" in train else {})}
    network["hidden"] = [min(count, 32) for count in network["hidden"]]
    config["device"] = "cpu"
    return composed


def test_each_file_is_plain_yaml_with_a_header():
    assert {path.parent.name for path in FILES} == {"conf", *GROUPS}
    for path in FILES:
        text = path.read_text(encoding="utf-8")
        assert text.startswith("#") and text.endswith("\n") and "\t" not in text, path
        assert isinstance(yaml.safe_load(text), dict), path
        what, run, override = header(path)[:3]
        assert len(what) > 15 and re.search("[.:?]", what), path
        assert run.startswith("Run: ") and override.startswith("Override: ") and "=" in override, path
        if path.parent.name == "experiment":  # a delta
            assert text.startswith("# @package _global_\n") and "_target_" not in text, path


@pytest.mark.parametrize("group", ["conf", *GROUPS])
def test_the_commands_of_each_header_pass_the_checks(group):
    for path, line in product((path for path in FILES if path.parent.name == group), ("Run", "Override")):
        try:
            composed = compose(command(path, line))
            check_new(composed.config)
            make_parts(shrink(composed).config)
        except UsageError as error:
            pytest.fail(f"{line} of {path}: {error}")
        if group == "experiment":
            assert composed.experiment == ("file_data" if path.stem == "file" else path.stem)  # of data.npz
        elif line == "Run" and group != "conf":
            given, part = yaml.safe_load(path.read_text(encoding="utf-8")), composed.config[group]
            assert set(given) <= set(part) and part.get("_target_") == given.get("_target_"), path


@pytest.fixture(scope="module")
def _old_objects_stay():
    """Each run collects garbage before it measures its memory: here among its own objects, not those of all modules."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.parametrize("experiment", sorted(path.stem for path in FILES if path.parent.name == "experiment"))
def test_each_experiment_completes_in_a_terminal(experiment, here, monkeypatch, _old_objects_stay):
    monkeypatch.setattr("tracetorch.cli.adapter.compose", lambda *given, **options: shrink(compose(*given, **options)))
    own = [f"task.path={DATA}"] if experiment in ("file", "spoken_digits") else []
    code, shown = tracetorch_in_terminal(monkeypatch, "run", f"experiment={experiment}", *own)
    assert code == 0, shown
    (path,) = here.rglob("run.json")
    facts, config = json.loads(path.read_text()), yaml.safe_load((path.parent / "config.yaml").read_text())
    name = f"file_{Path(DATA).stem}" if experiment == "file" else experiment
    wanted = ("completed", name, config["train"]["updates"])
    assert (facts["status"], facts["experiment"], facts["summary"]["updates"]) == wanted
    last = RunFolder(path.parent).records()[-1]
    assert last["split"] == "test" and gc.isenabled()
    assert ("MiB at the start, " in shown) is ("memory_first_bytes" in facts["summary"])
    assert re.search(rf"loss +\S+ · {'return' if 'return' in last else 'accuracy'} +\S", shown)


@pytest.mark.parametrize("kind", ["supervised", "reinforcement", "lifetime"])
def test_the_options_of_each_main_are_checked_and_have_the_defaults_of_its_yaml(kind):
    shared = {"window", "schedule", "precision", "log_every", "checkpoint_seconds", "figures"}
    known = signature(f"tracetorch.experiments.{kind}.main")
    keys = yaml.safe_load((conf_dir() / "train" / f"{kind}.yaml").read_text(encoding="utf-8"))
    assert shared <= keys.keys() - {"_target_", "_partial_"} <= known.keys()
    assert {"task", "rule", "diagnostics"} <= known.keys()
    assert "feedback" not in known  # main sets it itself
    main = import_module(f"tracetorch.experiments.{kind}").main
    default = {one.name: one.default for of in (Setup, main) for one in inspect.signature(of).parameters.values()}
    written = {name: value for name, value in keys.items() if name[0] != "_" and name != "updates"}
    assert json.loads(json.dumps({name: default[name] for name in written})) == written
    with pytest.raises(UsageError, match=r"train.schedule must be one of none, linear, cosine, got 'quadratic'"):
        check(compose([f"train={kind}", "train.schedule=quadratic"]).config)


PATTERNS = (
    *("task=patterns", "loss=mse", "network=lif_lif", "train.updates=1", "train.figures=false", "task.repeats=1"),
    "device=cpu",
)
NOTE = (
    "task=patterns with the settings of the default experiment (poisson_clicks); "
    "presets for this task: tracetorch run experiment=patterns"
)


@pytest.mark.parametrize(
    ("verb", "first"),
    [
        ("run", f"{NOTE} poisson_clicks-patterns on cpu → outputs/poisson_clicks-patterns/"),
        ("run -m seed=0,1", f"{NOTE} poisson_clicks-patterns: 2 jobs → outputs/poisson_clicks-patterns/sweeps/"),
        ("show -m seed=0,1", f"{NOTE} poisson_clicks-patterns: 2 jobs → "),
        ("tune search=learning_rate --trials 1", f"{NOTE} poisson_clicks-patterns: 1 trials → "),
        ("show", f"experiment: poisson_clicks-patterns {NOTE} task:"),
    ],
)
def test_a_verb_prints_first_whose_settings_it_takes(here, verb, first):
    ended = ran(*verb.split(), *PATTERNS)
    assert " ".join(ended.stdout.replace("#", "").split()).startswith(first)
    for path in (here / "outputs").glob("*/*/run.json"):
        assert json.loads(path.read_text())["experiment"] == path.parents[1].name == "poisson_clicks-patterns"


def test_the_experiment_of_a_run_names_its_preset_and_task():
    for typed, name, phrase in (
        ("task=poisson_clicks", "poisson_clicks", ""),
        ("experiment=bandit_sample task=bandit_sample", "bandit_sample", ""),  # it builds on another preset
        ("task=mnist", "poisson_clicks-mnist", "experiment=mnist, tracetorch run experiment=mnist_sample"),
        ("task=gym", "poisson_clicks-gym", "there is no preset for this task"),
        ("~experiment", "poisson_clicks", ""),
        ("experiment=patterns task=gym", "patterns-gym", "with the settings of experiment=patterns; there is"),
    ):
        shown = tracetorch("show", *typed.split()).stdout.splitlines()
        assert shown[0] == f"# experiment: {name}"
        assert phrase in shown[1] and shown[1].startswith("#") == bool(phrase)


def test_presets_of_ones_own_are_listed_and_unreadable_ones_are_not_suggested(here):
    own = here / "own" / "experiment"
    own.mkdir(parents=True)
    for name, text in {
        "mine": "# @package _global_\n# Mine: a test.\ndefaults:\n  - patterns\ntask: {seed: '${seed}'}\n",
        "odd": "# @package _global_\ndefaults: 3\n",
        "broken": "a: [",
        "circle": "# @package _global_\ndefaults:\n  - circle\n",
    }.items():
        (own / f"{name}.yaml").write_text(text)
    shown = tracetorch("show", "--config-dir", "own", *PATTERNS)
    assert "presets for this task: tracetorch run experiment=mine, tracetorch run experiment=patterns\n" in shown.stdout
    shown = tracetorch("show", "--config-dir", "own", "experiment=mine")
    assert shown.stdout.splitlines()[:2] == ["# experiment: mine", "task:"]
    (own / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    rows = [line.split() for line in tracetorch("list", "experiment", "--config-dir", "own").stdout.splitlines()]
    assert ["binary", "own/experiment/binary.yaml", "cannot", "be", "read"] in rows
    assert ["mine", "Mine:", "a", "test."] in rows
    assert "--config-dir nowhere: there is no such folder" in refused("list", "experiment", "--config-dir", "nowhere")
    for words, advice in {  # a name of another group
        "run --config-dir own task=mine": "there is no such task; mine is an experiment: experiment=mine",
        "run rule=adam": "there is no such rule; adam is an optimizer: optimizer=adam",
        "run task=rules": "there is no such task; rules is a sweep: tracetorch run -m sweep=rules",
        "run -m sweep=decays": "there is no such sweep; decays is a search: tracetorch tune search=decays",
    }.items():
        assert advice in refused(*words.split())


WRONG = [
    ("network=lif_lif", "loss: cross_entropy needs probabilities, and a readout LIF gives firing rates: "
     "choose loss=mse, or network=lif_lis"),
    ("network.readout._target_=tracetorch.nn.LI", "choose loss=cross_entropy_with_logits, or network=lif_lis"),
    ("loss=cross_entropy_with_logits", "needs logits, .* LIS gives probabilities: choose loss=cross_entropy"),
    ("experiment=bandit_sample network=lif_lif", "Reflect needs probabilities, .* rates: choose network=lif_lis"),
    ("task=patterns", "Patterns has several bits .* cross_entropy scores .*: choose loss=mse network=lif_lif"),
    ("experiment=patterns network=lif_li loss=cross_entropy_with_logits", "_with_logits scores probabilities of one"),
    ("experiment=cartpole network=lif_lis", "ActorCritic needs logits, .* probabilities: choose network=lif_li"),
    ("train.updates=-5", "train.updates must be at least 1, got -5"),
    ("train.log_every=0", "train.log_every must be at least 1, got 0"),
    ("task.delay=5..1", "task.delay=5..1 is a range from high to low: write 1..5"),
    ("experiment=clicks_lifetime task.environment.task.duration=2..1e-1",
     "task.environment.task.duration=2..1e-1 is a range from high to low: write 1e-1..2"),
]  # fmt: skip


@pytest.mark.parametrize(("typed", "message"), WRONG)
def test_a_combination_that_no_run_can_use_is_refused(typed, message):
    with pytest.raises(UsageError, match=message):
        check_new(compose(typed.split()).config)


def test_a_fitting_or_unknown_part_is_not_refused():
    refusals = {}
    for typed in (
        "loss=mse network=lif_lif train.eval_every=null",
        "loss=mse task.duration=[5,1] task.delay=1..1 train.updates=1",
        "network.readout._target_=mine.Readout",
        "experiment=patterns network=lif_li",
        f"threads={os.cpu_count()} seed={2**63 - 1}",
        "threads=1",
    ):
        try:
            check_new(compose(typed.split()).config)
        except UsageError as error:
            refusals[typed] = str(error)
    assert not refusals


@pytest.mark.parametrize("verb", ["run", "run -m", "show", "show -m", "tune search=learning_rate"])
def test_every_verb_that_starts_a_run_refuses_it(here, verb):
    assert refused(*verb.split(), "train.updates=-5") == "tracetorch: train.updates must be at least 1, got -5\n"


def test_a_run_of_an_older_version_continues(here, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("tracetorch.cli.check.check_new", lambda config: None)
        typed = (*CLICKS, "network=lif_lif", "network.hidden=[64]", "task.duration=0.2..0.1", "output.dir=old")
        ran("run", *typed)
    ran("eval", "old")
    ran("run", "--from", "old", "output.dir=again")
    statuses = [json.loads(Path(name, "run.json").read_text())["status"] for name in ("old", "again")]
    assert statuses == ["completed"] * 2 and len(list(Path("old/eval").iterdir())) == 1


@pytest.mark.parametrize(
    "typed",
    [
        "++optimizer.lr=0.3 ++optimizer.fused=true optimizer.lr=0.1 optimizer.lr=0.2 ~task.noise",
        "~optimizer.lr=0.002 +optimizer.lr=1 network.neuron={decay:0.5} network.hidden=[1,2] network.hidden.0=3",
        "+network.neuron={decay:0.5,more:[1]} +network.hidden=[1,2,3] ~optimizer.lr",
        "++network.neuron={more:0.5} +x.y.z=1 x.y.z=2 ~x.y",
        "+x={a:{b:1}} +x={a:{c:2}} ++y=null +y=3 +seed.x=3",
        "optimizer.lr=${seed} seed=3",
        "task=mnist rule=bptt ++task.seed=7 device=null",
    ],
)
def test_a_changed_config_is_the_one_that_hydra_composes(typed):
    with initialize_config_dir(config_dir=str(conf_dir()), version_base="1.3"):
        wanted = OmegaConf.to_container(hydra_compose("config", overrides=typed.split()), resolve=True)
    found = compose(typed.split()).config
    assert found == wanted and list(found) == list(wanted)


def test_a_template_is_filled_as_a_config_is_composed(monkeypatch):
    monkeypatch.setenv("LABEL", "side")
    typed = ["+task.a=${network.hidden}", "+task.b=${network.neuron}", "task.label='${oc.env:LABEL}'"]
    changes = ["network.neuron={decay: 0.5}", "network.hidden=[3, 4]"]
    assert fill(template(typed), changes).config == compose([*typed, *changes]).config


def test_a_change_that_cannot_be_made_is_named():
    for typed, phrase in (
        ("+optimizer.lr=0.3", "there is a value for optimizer.lr already; write optimizer.lr=0.3"),
        ("~optimizer.lr=0.1", "~optimizer.lr=0.1: optimizer.lr is 0.002; write ~optimizer.lr"),
        ("seed.x=3", "seed.x: seed is a value (0) and has no parts"),
        ("network.neuron={decya:0.5}", "network.neuron has no 'decya'. Did you mean 'decay'?"),
        ("seed@x=1", "seed@x=1: seed is not a config group"),
        ("search=x", "makes many runs: tracetorch tune search=x"),
    ):
        with pytest.raises(UsageError) as caught:
            compose(typed.split())
        assert phrase in str(caught.value) and "\n" not in str(caught.value)


EXAMPLES = [
    (verb, example) for verbs in VERBS.values() for verb, (_, *examples) in verbs.items() for example in examples
]
SLOW = {"plot outputs/mine/20260101-000000-abcdef --trust mypackage", "tune search=decays --trials 60 task.delay=2"}
"""A second run to draw, and a second search; both verbs have an example that is not here."""

RUN, MINE = "outputs/poisson_clicks/20260101-000000-abcdef", "outputs/mine/20260101-000000-abcdef"
SWEEP = "outputs/poisson_clicks/sweeps/20260101-000000-abcdef"


def make_small(patch):
    """Every run, sweep and search that begins is small, until the patches end."""
    plan, validate = (import_module(f"tracetorch.cli.{name}") for name in ("sweep.plan", "tuning.validate"))
    template, go = validate.template, tune._run
    patch.setattr(adapter, "compose", lambda *given, **options: shrink(compose(*given, **options)))
    patch.setattr(plan, "compose", lambda *given, **options: shrink(compose(*given, **options)))
    patch.setattr(validate, "template", lambda *given, **options: shrink(template(*given, **options)))
    patch.setattr(tune, "_run", lambda *given: go(*given[:-1], 1))


@pytest.fixture(scope="module")
def project_folder(tmp_path_factory):
    """A folder with the runs and the sweep that the examples name."""
    path = tmp_path_factory.mktemp("project")
    with pytest.MonkeyPatch.context() as patch:
        make_small(patch)
        patch.chdir(path)
        for folder in (RUN, MINE):
            ran("run", f"output.dir={folder}")
        ran("run", "-m", "seed=0,1", f"output.dir={SWEEP}")
    return path


@pytest.fixture
def project(project_folder, monkeypatch):
    make_small(monkeypatch)
    monkeypatch.chdir(project_folder)


@pytest.mark.parametrize(
    ("verb", "example"),
    [pytest.param(*one, id=one[1], marks=[pytest.mark.slow] * (one[1] in SLOW)) for one in EXAMPLES],
)
@pytest.mark.usefixtures("project")
def test_an_example_of_the_help_works(verb, example):
    assert example.split()[0] == verb_name(verb)
    ran(*shlex.split(example))
