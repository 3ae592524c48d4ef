"""Files of unknown origin: their text is taken literally, and calls, reads and expands nothing."""

import importlib
import json
import math
import shutil
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import yaml

from tests import command_line
from tests.command_line import CLICKS, tracetorch, write
from tracetorch.cli.adapter import amend, compose, composing, load, make, overrides, presets
from tracetorch.cli.adapter.making import is_defined_in, locate
from tracetorch.cli.adapter.reading import parse_yaml, to_yaml
from tracetorch.cli.check import check, check_trusted
from tracetorch.cli.errors import UsageError
from tracetorch.cli.folders import check_unchanged, config_difference
from tracetorch.cli.signatures import is_trusted
from tracetorch.cli.sweep import job as job_module
from tracetorch.cli.sweep.plan import Job, Plan, changed_since, read_plan, sealed, write_plan
from tracetorch.cli.tuning.validate import Composer
from tracetorch.runs import RunFolder
from tracetorch.runs.identity import facts_of

ESCAPED = r"\${oc.create:{_target_:os.mkdir,path:harmed}}"
ENVIRONMENT = "${oc.env:TOKEN}"
CALLS = [ESCAPED, ENVIRONMENT, "${hydra:runtime.cwd}", "${task.${oc.env:TOKEN}}", "a ${seed} b ${oc.env:TOKEN}"]
"""Words for which OmegaConf would call a function, at the first reading or the second."""


@pytest.fixture(autouse=True)
def secret(here, monkeypatch):
    monkeypatch.setenv("TOKEN", "s3cret")


@pytest.fixture(scope="module")
def config():
    return compose(list(CLICKS)).config


def run_folder(name, config, *, older=False):
    """The folder of a run that was interrupted before its first checkpoint."""
    path = Path(name)
    path.mkdir()
    (path / "config.yaml").write_text(to_yaml(config))
    content = {"status": "interrupted", **facts_of(config), **({} if older else {"config": config})}
    (path / "run.json").write_text(json.dumps(content))
    return RunFolder(path)


def refused(*words):
    """Run a command that is refused, and whose sentence holds no secret. Returns: the sentence."""
    sentence = command_line.refused(*words)
    assert "s3cret" not in sentence
    return sentence


def test_a_reference_that_is_not_plain_is_refused_and_not_called_a_function():
    for text in ("${network.hidden[0]}", r"\${seed}", "${seed", "${oc.env:TOKEN}"):
        with pytest.raises(UsageError) as refusal:
            parse_yaml(f"a: 'b {text}'", Path("it.yaml"), references=True)
        fault = f"a contains '{text}', which is not a plain reference such as ${{seed}}: write the value itself"
        assert str(refusal.value) == f"it.yaml: {fault}"
    assert parse_yaml("a: b ${seed}", Path("it.yaml"), references=True) == {"a": "b ${seed}"}
    assert parse_yaml("", Path("it.yaml"), references=True) == {}


def test_no_reference_in_the_config_of_a_run_is_resolved(config):
    for at, call in enumerate(CALLS):
        change = [{"label": call}, {"gamma": [call]}, {"x": {"y": call}}, {call: 1}][at % 4]
        write("config.yaml", {**config, "task": {**config["task"], **change}})
        with pytest.raises(UsageError, match="is not a key of a config" if at == 3 else "is not resolved here"):
            load(Path("config.yaml"))
    run_folder("it", {**config, "output": {"root": ESCAPED, "dir": None}})
    for verb in (["eval"], ["plot"], ["resume"], ["run", "--from"]):
        assert "output.root contains" in refused(*verb, "it"), verb


def test_yaml_that_is_not_a_plain_config_is_refused():
    for text, phrase in (
        ("a: &a [1]\nb: [*a, *a]", "has aliases"),
        ("a: !!python/object/apply:os.system ['true']", "has the tag"),
        (f"a: {'[' * 5000}", "nested more than"),
        ("true: a", "True is not a key of a config"),
        ("a: 1\na: 2", "'a' occurs twice"),
        ("", "is not a config"),
    ):
        with pytest.raises(UsageError, match=phrase):
            parse_yaml(text, Path("config.yaml"))


def test_a_written_config_is_read_back_unchanged():
    words = ["1e-4", "yes", ".inf", "2020-01-01", "null", "0.1..1.2", "", "é\n", "<<", "- a", "#"]
    numbers = [1e-4, 1e17, -0.5, 1, True, None, math.inf, -math.inf, 2**62]
    content = {"words": words, "numbers": numbers, **{word: {"twice": words} for word in words}}
    assert repr(parse_yaml(to_yaml(content), Path("config.yaml"))) == repr(content) and "é" in to_yaml(content)
    assert parse_yaml(f"a: {'[' * 63}{']' * 63}", Path("x"))  # the deepest
    assert parse_yaml("a: 1e-4\nb: 1.\nc: .5\nd: 1_000", Path("x")) == {"a": 1e-4, "b": 1.0, "c": 0.5, "d": 1000}


def test_a_word_typed_for_an_existing_config_is_not_a_reference(config, monkeypatch):
    for typed in (f"output.root='{ENVIRONMENT}'", "output.root=$\\{seed\\}"):
        with pytest.raises(UsageError, match=r"output.root contains .*write the value itself"):
            amend(config, [typed])
    assert amend(config, ["output.root=a"]).config == {**config, "output": {**config["output"], "root": "a"}}
    check(config)
    check_trusted(config, Path("config.yaml"))
    monkeypatch.setenv("TOKEN", "7")
    assert compose(["seed='${oc.decode:${oc.env:TOKEN}}'"]).config["seed"] == 7  # what is typed may call what it likes
    with pytest.raises(UsageError, match=r"task\.label contains"):
        compose([r"task.label='\${seed}'"])


def test_parts_get_their_words_as_they_are_and_only_public_names_make_a_part():
    listed = [{"_target_": "builtins.dict", "d": 1}]
    inner = {"_target_": "types.SimpleNamespace", "a": ESCAPED, "b": [ESCAPED, {"c": ESCAPED}], "_convert_": "all"}
    inner["e"] = listed
    made = make({"_target_": "builtins.dict", "_partial_": True, "_args_": [[["x", 1]]], "inner": inner}, "part")
    assert isinstance(made, partial) and made.func is dict
    assert vars(made()["inner"]) == {"a": ESCAPED, "b": [ESCAPED, {"c": ESCAPED}], "e": [{"d": 1}]}
    assert made() == {"x": 1, "inner": made()["inner"]}
    for target in ("torch", "torch.nn.Module.__init__", "torch.nn.Nothing", 3):
        with pytest.raises((ValueError, ImportError)):
            locate(target)
        with pytest.raises(UsageError, match=r"^part: "):
            make({"_target_": target}, "part")
    for node, fault in (
        ({"_target_": "torch.nn.Nothing"}, "torch.nn has no Nothing"),
        ({"_target_": "math.nothing"}, "math has no nothing"),
        ({"_target_": "math.pi"}, "math.pi cannot be called"),
        ({"_target_": "builtins.dict", "_args_": 3}, "_args_ must be a list, got 3"),
    ):
        with pytest.raises(UsageError) as caught:
            make(node, "part")
        assert str(caught.value) == f"part: {fault}"
    assert locate("wsgiref.util.FileWrapper").__module__ == "wsgiref.util"  # which nothing else has imported


def test_trusted_names_are_defined_in_tracetorch_or_torch():
    modules = ("constrain", "diagnostics", "encode", "loss", "nn", "rules", "tasks", "rules.surrogate", "nn.neurons")
    for name in (*(f"tracetorch.{module}" for module in modules), "torch.nn", "torch.optim"):
        module = importlib.import_module(name)
        trusted = [one for one in vars(module) if is_trusted(f"{name}.{one}")]
        assert trusted
        for one in trusted:
            assert getattr(module, one).__module__.startswith(name.split(".")[0]), f"{name}.{one}"
        if name.startswith("torch."):
            assert trusted == [one for one, found in vars(module).items() if isinstance(found, type)]
    for target in ("torch.load", "torch.hub.load", "tracetorch.files.os.system", "tracetorch.encode.Tensor"):
        assert not is_trusted(target), target
    for target in ("torch.nn.factory_kwargs", "torch.nn.modules.Linear", "torch.nn.init.zeros_", "torch.nn.Callable"):
        assert not is_trusted(target), target


def test_a_config_from_a_folder_may_call_a_module_of_torch_with_its_arguments(config):
    connection = {"_target_": "torch.nn.Conv2d", "in_channels": 1, "out_channels": 8, "kernel_size": [5, 5]}
    used = {**config, "network": {**config["network"], "readout": {**config["network"]["readout"]}}}
    used["network"]["readout"]["in_features"] = connection
    check_trusted(used, Path("x"))
    assert make(connection, "connection").kernel_size == (5, 5)
    check(used)
    del connection["kernel_size"]
    connection["kernel"] = 5
    with pytest.raises(UsageError, match=r"readout\.in_features\.kernel: torch\.nn\.Conv2d takes no 'kernel'"):
        check(used)


def test_a_trusted_package_may_only_call_what_it_defines(here, monkeypatch, config):
    write("mine.py", "import os\nfrom os import system\nclass Loss:\n    from os import path\n")
    monkeypatch.syspath_prepend(str(here))
    assert is_defined_in("mine.Loss", "mine")
    for target in ("mine.os.system", "mine.system", "mine.os", "mine.Loss.path.join"):
        assert not is_defined_in(target, "mine")
        with pytest.raises(UsageError, match="mine does not define it"):
            check_trusted({**config, "loss": {"_target_": target}}, Path("x"), ["mine"])
    sys.modules.pop("mine")


GLOBAL = "# @package _global_\n"
MANY = "this sweep has more than 10,000 jobs"


def test_a_foreign_preset_calls_and_reads_nothing():
    for text, phrase in (
        (f"{GLOBAL}task: {{label: '{ESCAPED}'}}", "task.label contains"),
        (f"{GLOBAL}a: &a [1]\nb: *a", "has aliases"),
        ("# my experiment\nseed: 3\n", "begin it with '# @package _global_'"),
        (f"{GLOBAL}defaults: [override /task: ../../secret]", "is not a choice such as"),
        (f"{GLOBAL}defaults: [override /hydra/launcher: joblib]", "is not a choice such as"),
        (f"{GLOBAL}hydra: {{run: {{dir: x}}}}", "has settings of Hydra"),
    ):
        write("there/experiment/it.yaml", text)
        said = refused("run", "--config-dir", "there", "experiment=it")
        assert phrase in said and "it.yaml" in said


def test_foreign_files_that_are_not_presets_are_named(here):
    folder = Path("a${x}b/experiment")
    (folder / "folder.yaml").mkdir(parents=True)
    (folder / "lost.yaml").symlink_to("nowhere")
    write("secret.yaml", f"{GLOBAL}seed: 5\n")
    (folder / "out.yaml").symlink_to(here / "secret.yaml")
    write(folder / "short.yml", GLOBAL)
    for name, phrase in {
        "folder": "folder.yaml is not a regular file",
        "lost": "lost.yaml is a link that leads nowhere",
        "short": "short.yml is not read, because of its ending: rename it to .yaml",
        "out": "is a link that leads out of",
    }.items():
        assert phrase in refused("show", "--config-dir", "a${x}b", f"experiment={name}")
    text = f"\ufeff{GLOBAL}defaults:\r\n  - override /task: patterns\r\nseed: 3\ntask: {{seed: '${{seed}}'}}\n"
    write(folder / "marked.yaml", text)
    assert compose(["experiment=marked"], Path("a${x}b")).config["task"]["seed"] == 3


def doubling(start, more):
    """Ten values, each of which names the one before nine times: a few lines that unfold to gigabytes."""
    return {"l0": start} | {f"l{at}": more(f"${{l{at - 1}}}") for at in range(1, 10)}


BELOW = {"deep": {"l0": "x" * 1024, "l1": "${.l0}" * 32, "l2": "${..deep.l1}" * 33}}
DEEP = {f"l{at}": [f"${{l{at - 1}}}"] for at in range(1200, 0, -1)}
THROUGH = {"l0": {"x": "y" * 9}, "l1": "${l0}", "l2": "${l1.x}"}


def test_a_preset_that_unfolds_is_refused_before_it_is_resolved():
    for content, phrase in (
        (doubling("x" * 16, lambda name: name * 9), "l6 is longer than 1,048,576 characters"),
        (doubling("x", lambda name: {"a": [name.replace("l", "...l")] * 9}), "is longer than"),
        (BELOW, "deep.l2 is longer than"),
        (DEEP, "lists and references are nested more than 128 deep"),
        (THROUGH, "${l1.x} passes through another reference, ${l0}: name the value itself"),
        ({"l0": {"k" * 1024: 1}, "l1": ["${l0}"] * 1100}, "l1 is longer than"),
        ({"l0": "${network.hidden.1}"}, "l0: Interpolation key 'network.hidden.1' not found"),
        ({"l0": "${network.hidden.x}"}, "Index 'x' (str) is not an int"),
        ({"l0": "${seed.0}"}, "node `seed` is not a container"),
        ({"l0": "${l1}${l1}", "l1": "${l0}${l0}"}, "Recursive interpolation detected"),
    ):
        body = yaml.safe_dump({"defaults": [{"override /task": "patterns"}], **content}, sort_keys=False)
        write("there/experiment/it.yaml", f"{GLOBAL}{body}")
        assert phrase in refused("show", "--config-dir", "there", "experiment=it")


@pytest.mark.parametrize(
    ("content", "phrase"),
    [
        ({"params": {"seed": "0,1", "task.label": r"$\{oc.env:TOKEN\}"}}, "task.label"),
        ({"params": {"seed": "0,1", "task": "../../it"}}, "would read a file of another folder"),
        ({"params": {"seed": f"range(0,{'9' * 5000})"}}, "seed: the value 'range(0,999"),
        ({"params": {"seed": "shuffle(range(0,1e18,1e-18))"}}, MANY),
        ({"params": dict.fromkeys(("experiment", "task", "rule", "optimizer", "loss"), "glob(*)")}, MANY),
        ({"parts": [{"seed": "range(0,6000)"}, {"seed": "range(6000,12000)"}]}, MANY),
    ],
)
def test_a_sweep_file_calls_nothing_and_its_jobs_are_counted_before_they_are_made(monkeypatch, content, phrase):
    write("it.yaml", content)
    if "params" in content and phrase == MANY:
        monkeypatch.setattr(overrides, "product", None)  # what makes them
    assert phrase in refused("run", "-m", "sweep=it.yaml")


ENDLESS = [math.inf, -math.inf, math.nan]


def test_a_plan_holds_the_config_of_every_job(here, config):
    configs = [{**config, "seed": seed, "loss": {**config["loss"], "floor": ENDLESS}} for seed in range(100)]
    del configs[1]["diagnostics"]
    jobs = [Job(f"{seed:03d}", "", [], "", "clicks", one) for seed, one in enumerate(configs)]
    written, found = write_plan(Plan("clicks", [], [], jobs, here, here), here), read_plan(here)
    assert repr(found.jobs) == repr(jobs) and found.seal == written.seal
    assert (here / "sweep.json").stat().st_size < 100 * len(json.dumps(config)) / 2
    write_plan(replace(found, typed=["seed=1"]), here)
    with pytest.raises(UsageError, match="was changed while the sweep was running"):
        sealed(here, written.seal)


@pytest.fixture
def edit(here, monkeypatch):
    """A copy of `conf/`, in use. Returns: a function that edits it."""
    conf = shutil.copytree(composing.conf_dir(), here / "conf")
    for module in (composing, presets):
        monkeypatch.setattr(module, "conf_dir", lambda: conf)
    task = conf / "task" / "poisson_clicks.yaml"
    return lambda: task.write_text(task.read_text().replace("delay: 0.4", "delay: 0.2"))


def test_edited_presets_change_no_job_of_a_sweep(edit, monkeypatch):
    ran = []

    def instead(composed, overrides, **kwargs):
        ran.append(composed.config["task"]["delay"])
        edit()
        raise UsageError("enough")

    monkeypatch.setattr(job_module, "execute", instead)
    ended = tracetorch("run", "-m", *CLICKS, "seed=0,1", "output.dir=s")
    assert ended.exit_code == 3 and ran == [0.4, 0.4]
    assert "the presets were edited during the sweep: task.delay has another value; all jobs ran with" in ended.stdout
    ended = tracetorch("resume", "s")
    assert ended.exit_code == 3 and ran[2:] == [0.4, 0.4]
    message = "the presets have changed since the start of the sweep: task.delay has another value; it continues with"
    assert message in ended.output
    content = json.loads(Path("s/sweep.json").read_text())
    old(content)  # a plan without configs is of an old version
    write("s/sweep.json", json.dumps(content))
    ended = tracetorch("resume", "s")
    assert ended.exit_code == 3 and ran[4:] == [0.2, 0.2] and message not in ended.output


def test_what_has_changed_in_the_presets_is_a_clause(edit, here, config):
    typed = [*CLICKS, "task.seed=${seed}"]
    plan = Plan("clicks", [], [], [Job("000_", "", typed, "", "clicks", config)], here, here)
    assert changed_since(plan, plan.jobs) == ""
    edit()
    assert changed_since(plan, plan.jobs) == "task.delay has another value"
    task = composing.conf_dir() / "task" / "poisson_clicks.yaml"
    task.write_text("a: [")
    fault = f"a file in {composing.conf_dir()} is not valid YAML: while parsing"
    assert changed_since(plan, plan.jobs).startswith(f"they no longer compose ({fault}")
    task.unlink()
    assert changed_since(plan, plan.jobs).startswith("they no longer compose (")


def old(plan):
    """The overrides of the second job, in a plan that holds no configs."""
    del plan["config"]
    for job in plan["jobs"]:
        del job["config"], job["experiment"]
    return plan["jobs"][1]["overrides"]


CALLED = {"_target_": "os.system", "_partial_": True}


@pytest.mark.parametrize(
    ("spoil", "phrase"),
    [
        (lambda plan: plan["config"]["task"].update(label=ESCAPED), "task.label contains"),
        (lambda plan: plan["jobs"][1]["config"].update(loss=CALLED), "not trusted"),
        (lambda plan: old(plan).append(r"task.label=$\{oc.env:TOKEN\}"), "task.label contains"),
        (lambda plan: old(plan).append("task=../../secret"), "file of another folder"),
        (lambda plan: old(plan).append("rule._target_=os.system"), "'os.system', which is not trusted"),
        (lambda plan: plan["settings"].append(f"hydra.launcher.partition='{ESCAPED}'"), "may run commands"),
        (lambda plan: plan["settings"].append("hydra.launcher.setup=[touch harmed]"), "may run commands"),
        (lambda plan: plan.update(settings=["hydra/launcher=mine"]), "may run commands"),
        (lambda plan: plan["jobs"][1].update(name="../../x"), "would lie outside"),
        (lambda plan: plan.update(jobs=3), "sweep.json is broken"),
        (lambda plan: plan.update(figures=[{"scatter": "a\x1b[2J"}]), "sweep.json is broken"),
        (lambda plan: plan["jobs"][1].update(varies="a\x1b[2J"), "sweep.json is broken"),
        (lambda plan: "{", "sweep.json is broken"),
    ],
)
def test_a_foreign_or_broken_plan_is_refused_and_calls_nothing(here, config, spoil, phrase):
    jobs = [Job(f"{at}", "", ["seed=1"], "", "x", {**config, "seed": at}) for at in range(2)]
    write_plan(Plan("x", [], ["hydra/launcher=submitit_slurm"], jobs, here, here), here)
    content = json.loads(Path("sweep.json").read_text())
    text = spoil(content)
    write("sweep.json", text if text == "{" else json.dumps(content))
    said = refused("resume", ".")
    assert phrase in said and "\x1b" not in said


def test_a_run_continues_with_another_device_and_output_and_no_other_change(config):
    run = run_folder("it", config)
    check_unchanged(run, {**config, "device": "auto", "threads": 1, "output": {"root": "x", "dir": None}})
    check_unchanged(run_folder("older", config, older=True), {**config, "seed": 3})
    assert config_difference({"a": [1, {"b": 1.0}]}, {"a": [1.0, {"b": 1}]}) is None
    assert config_difference({"a": [1]}, {"a": [1, 2]}).key == config_difference({"a": None}, {"a": 0}).key == "a"
    for key, value in (("optimizer.lr", 0.5), ("seed", 1)):
        write("it/config.yaml", to_yaml(amend(config, [f"{key}={value}"]).config))
        assert f"config.yaml: {key} is {value}, but the run started with" in refused("resume", "it")


def test_edited_presets_change_no_trial(edit):
    changes = ["optimizer=sgd", "optimizer.lr=0.5", "network.readout.decay_gradient=stationary"]
    first = Composer(["experiment=learned_decays"], None, [])
    composed, typed = first(changes)
    assert repr(composed) == repr(compose(typed))
    assert composed.config["network"]["neuron"]["decay_gradient"] == "stationary"  # it refers to the readout's
    stored = json.loads(json.dumps(first.content()))
    edit()
    assert Composer(["experiment=learned_decays"], Path("study.json"), [], stored)(changes)[0] == composed
    with pytest.raises(UsageError, match=r"study\.json holds no config for optimizer=adamw"):
        Composer([], Path("study.json"), [], stored)(["optimizer=adamw"])
    stored["base"]["config"] = [3]
    with pytest.raises(UsageError, match=r"study\.json is broken: a config must have keys, got \[3\]"):
        Composer([], Path("study.json"), [], stored)


def test_a_choice_outside_of_the_folder_of_presets_is_refused(here):
    Path("own/task").mkdir(parents=True)
    Path("outside.yaml").write_text("_target_: tracetorch.tasks.Patterns\n")
    said = refused("show", "--config-dir", "own", "task=../../outside")
    assert said == f"tracetorch: task/../../outside.yaml lies outside of {Path('own').resolve()}\n"
