"""Files of unknown origin: their text is taken literally, and calls, reads and expands nothing."""

import importlib
import json
import math
import os
import shutil
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import yaml

from tests.command_line import CLICKS, files, tracetorch
from tracetorch.cli.adapter import amend, compose, composing, load, make, overrides, read_yaml
from tracetorch.cli.adapter.making import is_defined_in, locate
from tracetorch.cli.adapter.reading import parse_yaml, to_yaml
from tracetorch.cli.check import check, check_trusted
from tracetorch.cli.errors import UsageError
from tracetorch.cli.folders import check_unchanged, config_difference
from tracetorch.cli.signatures import is_trusted
from tracetorch.cli.sweep.plan import Job, Plan, read_plan, sealed, write_plan
from tracetorch.runs import RunFolder
from tracetorch.runs.identity import facts_of

CALLS = {
    "escaped": r"\${oc.create:{_target_:os.mkdir,path:harmed}}",
    "escaped twice": r"\\${oc.create:{_target_:os.mkdir,path:harmed}}",
    "create": "${oc.create:{_target_:os.mkdir,path:harmed}}",
    "environment": "${oc.env:TOKEN}",
    "decoded": "${oc.decode:'${oc.env:TOKEN}'}",
    "hydra": "${hydra:runtime.cwd}",
    "custom": "${mine:1}",
    "nested": "${task.${oc.env:TOKEN}}",
    "within": "a ${seed} b ${oc.env:TOKEN}",
}
"""Words that OmegaConf would call a function for, at the first reading or the second."""


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TOKEN", "s3cret")
    return tmp_path


@pytest.fixture(scope="module")
def config():
    return compose(list(CLICKS)).config


def run_folder(path, config, *, older=False):
    """The folder of a run that was interrupted before its first checkpoint."""
    path.mkdir()
    (path / "config.yaml").write_text(to_yaml(config))
    content = {"status": "interrupted", **facts_of(config), **({} if older else {"config": config})}
    (path / "run.json").write_text(json.dumps(content))
    return RunFolder(path)


def refused(before, here, *words):
    """Run a command that is refused. Returns: the sentence."""
    ended = tracetorch(*words)
    assert ended.exit_code == 2, ended.output
    assert len(ended.stderr.splitlines()) == 1 and "s3cret" not in ended.output
    assert files(here) == before and not Path("harmed").exists()
    return ended.stderr


# ── the config of a run ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("word", [*CALLS.values(), "${seed}"], ids=[*CALLS, "name"])
@pytest.mark.parametrize("place", ["value", "list", "part", "key"])
def test_nothing_in_the_config_of_a_run_is_followed(here, config, word, place):
    task = {"value": {"label": word}, "list": {"gamma": [word]}, "part": {"x": {"y": word}}, "key": {word: 1}}[place]
    (here / "config.yaml").write_text(yaml.safe_dump({**config, "task": {**config["task"], **task}}))
    with pytest.raises(UsageError, match=r"is not resolved here|is not a key of a config"):
        load(here / "config.yaml")


@pytest.mark.parametrize("verb", ["eval", "plot", "resume", "run --from"])
def test_every_verb_refuses_it(here, config, verb):
    for number, word in enumerate([CALLS["escaped"], CALLS["environment"]]):
        evil = {**config, "output": {"root": word, "dir": None}}
        run_folder(here / f"it{number}", evil)
        assert "output.root contains" in refused(files(here), here, *verb.split(), f"it{number}")


@pytest.mark.parametrize(
    ("text", "phrase"),
    [
        ("a: &a [1]\nb: [*a, *a]", "has aliases"),
        ("a: !!python/object/apply:os.system ['true']", "has the tag"),
        (f"a: {'[' * 5000}", "nested more than"),
        ("1: a", "1 is not a key of a config"),
        ("true: a", "True is not a key of a config"),
        ("a: 1\na: 2", "'a' occurs twice"),
        ("a: [", "is not valid YAML"),
        ("- a", "is not a config"),
        ("", "is not a config"),
    ],
)
def test_yaml_that_is_no_plain_config(text, phrase):
    with pytest.raises(UsageError, match=phrase):
        parse_yaml(text, Path("config.yaml"))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_pipes_and_large_files_are_refused_at_once(here):
    os.mkfifo("pipe.yaml")
    with Path("large.yaml").open("wb") as file:
        file.truncate(2 << 20)
    for name, phrase in (("pipe", "not a regular file"), ("large", "larger than"), ("none", "cannot be read")):
        with pytest.raises(UsageError, match=phrase):
            read_yaml(Path(f"{name}.yaml"))


def test_what_is_written_is_read_back_the_same():
    words = ["1e-4", "yes", ".inf", "2020-01-01", "null", "0.1..1.2", "", "é\n", "<<", "- a", "#"]
    numbers = [1e-4, 1e17, -0.5, 1, True, None, math.inf, -math.inf, 2**62]
    content = {"words": words, "numbers": numbers, **{word: {"twice": words} for word in words}}
    assert repr(parse_yaml(to_yaml(content), Path("config.yaml"))) == repr(content)
    assert parse_yaml("a: 1e-4\nb: 1.\nc: .5\nd: 1_000", Path("x")) == {"a": 1e-4, "b": 1.0, "c": 0.5, "d": 1000}


@pytest.mark.parametrize("typed", ["output.root='${oc.env:TOKEN}'", "output.root=$\\{seed\\}", "output.root='\\${x}'"])
def test_what_is_typed_for_a_config_that_stands_is_no_reference(here, config, typed):
    with pytest.raises(UsageError, match=r"output.root contains .*write the value itself"):
        amend(config, [typed])
    assert amend(config, ["output.root=a"]).config == {**config, "output": {**config["output"], "root": "a"}}


def test_a_composed_config_has_nothing_left_to_follow(monkeypatch):
    monkeypatch.setenv("TOKEN", "7")
    assert compose(["seed='${oc.decode:${oc.env:TOKEN}}'"]).config["seed"] == 7  # what is typed may call what it likes
    with pytest.raises(UsageError, match=r"task\.label contains"):
        compose([r"task.label='\${seed}'"])


# ── making ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_words_are_given_to_what_is_made_as_they_are():
    word = CALLS["escaped"]
    node = {"_target_": "types.SimpleNamespace", "a": word, "b": [word, {"c": word}], "_convert_": "all"}
    part = {"_target_": "builtins.dict", "_partial_": True, "_args_": [[["x", 1]]], "inner": node}
    made = make(part, "part")
    assert (
        isinstance(made, partial)
        and made.func is dict
        and vars(made()["inner"]) == {"a": word, "b": [word, {"c": word}]}
    )
    assert made() == {"x": 1, "inner": made()["inner"]}


@pytest.mark.parametrize(
    "target", ["torch", "torch._C", "torch.nn.Module.__init__", "os.", "builtins", "x.y", "torch.nn.Nothing", 3]
)
def test_only_public_names_lead_to_what_is_made(target):
    with pytest.raises((ValueError, ImportError)):
        locate(target)
    with pytest.raises(UsageError, match=r"^part: "):
        make({"_target_": target}, "part")


def test_what_is_trusted_is_of_tracetorch_or_torch():
    modules = ("constrain", "diagnostics", "encode", "loss", "nn", "rules", "tasks", "rules.surrogate", "nn.neurons")
    for name in (*(f"tracetorch.{module}" for module in modules), "torch.nn", "torch.optim"):
        module = importlib.import_module(name)
        trusted = [one for one in vars(module) if is_trusted(f"{name}.{one}")]
        assert trusted
        for one in trusted:
            assert getattr(module, one).__module__.startswith(name.split(".")[0]), f"{name}.{one}"
    for target in ("torch.load", "torch.hub.load", "torch.utils.cpp_extension.load", "tracetorch.files.os.system"):
        assert not is_trusted(target)
    assert not is_trusted("tracetorch.tasks.os.system") and not is_trusted("tracetorch.encode.Tensor")


def test_a_trusted_package_may_call_only_what_it_defines(here, monkeypatch, config):
    Path("mine.py").write_text("import os\nfrom os import system\nclass Loss:\n    from os import path\n")
    monkeypatch.syspath_prepend(str(here))
    assert is_defined_in("mine.Loss", "mine")
    for target in ("mine.os.system", "mine.system", "mine.os", "mine.Loss.path.join"):
        assert not is_defined_in(target, "mine")
        with pytest.raises(UsageError, match="mine does not define it"):
            check_trusted({**config, "loss": {"_target_": target}}, Path("x"), ["mine"])
    sys.modules.pop("mine")


# ── presets ─────────────────────────────────────────────────────────────────────────────────────────────────────────

GLOBAL = "# @package _global_\n"
PRESETS = {
    **{name: (f"{GLOBAL}task: {{label: '{word.replace(chr(39), chr(39) * 2)}'}}", "task.label contains")
       for name, word in CALLS.items()},
    "alias": (f"{GLOBAL}a: &a [1]\nb: *a", "has aliases"),
    "headless": ("seed: 3\n", "begin it with '# @package _global_'"),
    "empty": ("", "begin it with '# @package _global_'"),
    "items": ("- a\n", "items.yaml is not a config"),
    "outside": (f"{GLOBAL}defaults: [override /task: ../../secret]", "is not a choice such as"),
    "launcher": (f"{GLOBAL}defaults: [override /hydra/launcher: joblib]", "is not a choice such as"),
    "hydra": (f"{GLOBAL}hydra: {{run: {{dir: x}}}}", "has settings of Hydra"),
}  # fmt: skip


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_of_another_folder_calls_and_reads_nothing(here, name):
    text, phrase = PRESETS[name]
    Path("there/experiment").mkdir(parents=True)
    Path(f"there/experiment/{name}.yaml").write_text(text)
    said = refused(files(here), here, "run", "--config-dir", "there", f"experiment={name}")
    assert phrase in said and f"{name}.yaml" in said


def test_files_there_that_are_no_presets_are_named(here):
    folder = Path("a${x}b/experiment")
    (folder / "folder.yaml").mkdir(parents=True)
    (folder / "lost.yaml").symlink_to("nowhere")
    Path("secret.yaml").write_text(f"{GLOBAL}seed: 5\n")
    (folder / "out.yaml").symlink_to(here / "secret.yaml")
    (folder / "short.yml").write_text(GLOBAL)
    for name, phrase in {
        "folder": "folder.yaml is not a regular file",
        "lost": "lost.yaml is a link that leads nowhere",
        "short": "short.yml is not read, because of its ending: rename it to .yaml",
        "out": "is a link that leads out of",
    }.items():
        assert phrase in refused(files(here), here, "show", "--config-dir", "a${x}b", f"experiment={name}")
    text = f"\ufeff{GLOBAL}defaults:\r\n  - override /task: patterns\r\nseed: 3\ntask: {{seed: '${{seed}}'}}\n"
    (folder / "marked.yaml").write_text(text)
    assert compose(["experiment=marked"], Path("a${x}b")).config["task"]["seed"] == 3


def doubling(start, more):
    """Ten values, each of which names the one before nine times."""
    return {"l0": start} | {f"l{at}": more(f"${{l{at - 1}}}") for at in range(1, 10)}


BOMBS = {
    "text": (doubling("x" * 16, lambda name: name * 9), "l6 unfolds to more than 1,048,576 characters"),
    "lists": (doubling([1, 2], lambda name: [name] * 9), "l6 unfolds to more than"),
    "relative": (doubling("x", lambda name: {"a": [name.replace("l", "...l")] * 9}), "unfolds to more than"),
    "often": ({"l0": "x" * 4000, "l1": ["${l0}"] * 1000}, "l1 unfolds to more than"),
    "deep": ({"l0": 1} | {f"l{at}": [f"${{l{at - 1}}}"] for at in range(1, 400)}, "lists and references lie within"),
    "deep, seen from above": (
        {f"l{at}": [f"${{l{at - 1}}}"] for at in range(400, 0, -1)},
        "128 lists and references lie within",
    ),
    "through another": (
        {"l0": {"x": "y" * 9}, "l1": "${l0}", "l2": "${l1.x}"},
        "${l1.x} passes through another reference, ${l0}: name the value itself",
    ),
    "a circle": ({"l0": "${l1}${l1}", "l1": "${l0}${l0}"}, "Recursive interpolation detected"),
}
"""Presets of a few lines that unfold to gigabytes, or for ever."""


@pytest.mark.parametrize("name", BOMBS)
def test_a_preset_that_would_unfold_is_refused_before_anything_is_resolved(here, name):
    content, phrase = BOMBS[name]
    Path("there/experiment").mkdir(parents=True)
    body = yaml.safe_dump({"defaults": [{"override /task": "patterns"}], **content}, sort_keys=False)
    Path("there/experiment/it.yaml").write_text(f"{GLOBAL}{body}")
    assert phrase in refused(files(here), here, "show", "--config-dir", "there", "experiment=it")


@pytest.mark.parametrize("word", ["'${oc.env:TOKEN}'", r"'\${x}'", r"$\{oc.env:TOKEN\}", "{a: '${oc.env:TOKEN}'}"])
def test_the_file_of_a_sweep_calls_nothing(here, word):
    Path("it.yaml").write_text(yaml.safe_dump({"params": {"seed": "0,1", "task.label": word}}))
    assert "task.label" in refused(files(here), here, "run", "-m", "sweep=it.yaml", *CLICKS)
    Path("it.yaml").write_text(yaml.safe_dump({"params": {"seed": "0,1", "task": "../../it"}}))
    assert "would read a file of another folder" in refused(files(here), here, "run", "-m", "sweep=it.yaml")


MANY = {
    "range": {"seed": "range(0,20000000)"},
    "infinite": {"seed": "range(0,inf)"},
    "backwards": {"seed": "range(inf,0,-1)"},
    "shuffled": {"seed": "shuffle(range(0,1e18,1e-18))"},
    "product": {f"task.{at}": ",".join(map(str, range(60))) for at in "abcdefgh"},
    "patterns": dict.fromkeys(("experiment", "task", "rule", "optimizer", "loss"), "glob(*)"),
}
"""Sweeps of one line that have more jobs than there is memory."""


@pytest.mark.parametrize("name", MANY)
def test_the_jobs_of_a_sweep_are_counted_before_any_is_made(here, monkeypatch, name):
    Path("it.yaml").write_text(yaml.safe_dump({"params": MANY[name]}))
    monkeypatch.setattr(overrides, "product", None)  # what makes the jobs
    assert "this sweep has more than 10,000 jobs" in refused(files(here), here, "run", "-m", "sweep=it.yaml")


def test_the_parts_of_a_sweep_are_counted_together(here):
    parts = [{"seed": "range(0,6000)"}, {"seed": "range(6000,12000)"}]
    Path("it.yaml").write_text(yaml.safe_dump({"parts": parts}))
    assert "this sweep has more than 10,000 jobs" in refused(files(here), here, "run", "-m", "sweep=it.yaml")
    Path("it.yaml").write_text(yaml.safe_dump({"params": {"seed": f"range(0,{'9' * 5000})"}}))
    assert "seed: the value 'range(0,999" in refused(files(here), here, "run", "-m", "sweep=it.yaml")


def test_a_wrong_key_among_many_is_found_without_composing_each(monkeypatch):
    composed, original = [], composing._compose
    monkeypatch.setattr(composing, "_compose", lambda *args: composed.append(1) or original(*args))
    many = [f"optimizer.lr=0.0{at}" for at in range(1, 41)]
    with pytest.raises(UsageError, match="bogus: there is no key"):
        compose([*many, "bogus=1"])
    with pytest.raises(UsageError, match=r"task\.label=\$\{nope:1\}|task.label"):
        compose([*many, "task.label=${nope:1}", *many])
    with pytest.raises(UsageError, match=r"^\+seed=1: there is a value for seed already; write seed=1"):
        compose([*many, "+seed=1", *many])
    assert len(composed) == 3


# ── sweeps ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_plan_holds_the_config_of_every_job(here, config):
    configs = [{**config, "seed": seed, "loss": {**config["loss"], "floor": math.inf}} for seed in range(1000)]
    del configs[1]["diagnostics"]
    jobs = [Job(f"{seed:03d}", "", [], "", "clicks", one) for seed, one in enumerate(configs)]
    written = write_plan(Plan("clicks", [], [], jobs, here, here), here)
    found = read_plan(here)
    assert found.jobs == jobs and found.seal == written.seal
    assert repr([list(job.config) for job in found.jobs]) == repr([list(one) for one in configs])
    assert (here / "sweep.json").stat().st_size < 1000 * len(json.dumps(config)) / 2
    write_plan(replace(found, typed=["seed=1"]), here)
    with pytest.raises(UsageError, match="was changed while the sweep was running"):
        sealed(here, written.seal)


@pytest.fixture
def presets(here, monkeypatch):
    """A copy of `conf/`, in use."""
    conf = shutil.copytree(composing.conf_dir(), here / "conf")
    monkeypatch.setattr(composing, "conf_dir", lambda: conf)
    return conf


def edit(presets):
    task = presets / "task" / "poisson_clicks.yaml"
    task.write_text(task.read_text().replace("delay: 0.4", "delay: 0.2"))


@pytest.mark.parametrize("older", [False, True], ids=["", "a plan without configs"])
def test_presets_that_are_edited_change_no_job_of_a_sweep(here, presets, monkeypatch, older):
    from tracetorch.cli.sweep import job as job_module

    ran = []

    def instead(composed, overrides, **kwargs):
        ran.append(composed.config["task"]["delay"])
        edit(presets)
        raise UsageError("enough")

    monkeypatch.setattr(job_module, "execute", instead)
    ended = tracetorch("run", "-m", *CLICKS, "seed=0,1", "output.dir=s")
    assert ended.exit_code == 3 and ran == [0.4, 0.4]
    if older:
        content = json.loads(Path("s/sweep.json").read_text())
        jobs = [{name: job[name] for name in ("name", "varies", "overrides", "id")} for job in content["jobs"]]
        del content["config"]
        Path("s/sweep.json").write_text(json.dumps({**content, "jobs": jobs}))
    ended = tracetorch("resume", "s")
    assert ended.exit_code == 3 and ran[2:] == ([0.2, 0.2] if older else [0.4, 0.4])
    told = "the presets have changed since the start of the sweep (task.delay); it continues with its own config"
    assert (told in ended.output) is not older


@pytest.mark.parametrize(
    ("spoil", "phrase"),
    [
        (lambda plan: plan["config"]["task"].update(label=CALLS["escaped"]), "task.label contains"),
        (
            lambda plan: plan["jobs"][1]["config"].update(loss={"_target_": "os.system", "_partial_": True}),
            "not trusted",
        ),
        (lambda plan: plan.update(config=[1]), "is broken"),
        (lambda plan: plan["jobs"][1].update(config=3), "is broken"),
        (lambda plan: plan["jobs"][1].update(more=3), "is broken"),
        (lambda plan: old(plan)["overrides"].append("task.label='${oc.env:TOKEN}'"), "task.label contains"),
        (lambda plan: old(plan)["overrides"].append(r"task.label=$\{oc.env:TOKEN\}"), "task.label contains"),
        (lambda plan: old(plan)["overrides"].append("task=../../secret"), "file of another folder"),
        (lambda plan: plan["settings"].append(f"hydra.launcher.partition='{CALLS['escaped']}'"), "may run commands"),
        (lambda plan: plan["settings"].append("hydra.launcher.partition={_target_: os.system}"), "may run commands"),
    ],
)
def test_a_plan_of_another_calls_nothing(here, config, spoil, phrase):
    jobs = [Job(f"{at}", "", ["seed=1"], "", "x", {**config, "seed": at}) for at in range(2)]
    write_plan(Plan("x", [], ["hydra/launcher=submitit_slurm"], jobs, here, here), here)
    content = json.loads(Path("sweep.json").read_text())
    spoil(content)
    Path("sweep.json").write_text(json.dumps(content))
    assert phrase in refused({"sweep.json"}, here, "resume", ".")


def old(plan):
    del plan["config"]
    for job in plan["jobs"]:
        del job["config"], job["experiment"]
    return plan["jobs"][1]


# ── a run that goes on ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("part", "key", "value"),
    [
        ("optimizer", "lr", 0.5),
        ("task", "delay", 0.7),
        ("train", "updates", 9),
        ("", "seed", 1),
    ],
)
def test_a_config_that_was_edited_is_refused_by_its_key(here, config, part, key, value):
    run_folder(here / "it", config)
    edited = {**config, part: {**config[part], key: value}} if part else {**config, key: value}
    (here / "it" / "config.yaml").write_text(to_yaml(edited))
    said = refused(files(here), here, "resume", "it")
    assert f"config.yaml: {part}{'.' * bool(part)}{key} is {value}, but the run started with" in said


def test_where_and_on_what_a_run_goes_on_may_change(here, config):
    folder = run_folder(here / "it", config)
    check_unchanged(folder, {**config, "device": "auto", "threads": 1, "output": {"root": "x", "dir": None}})
    older = run_folder(here / "older", config, older=True)
    check_unchanged(older, {**config, "seed": 3})
    assert config_difference({"a": [1, {"b": 1.0}]}, {"a": [1.0, {"b": 1}]}) is None
    assert (
        config_difference({"a": [1]}, {"a": [1, 2]}).key == "a" and config_difference({"a": None}, {"a": 0}).key == "a"
    )


# ── studies ─────────────────────────────────────────────────────────────────────────────────────────────────────────

RATE = {"metric": "accuracy", "trials": 1, "space": {"optimizer.lr": {"low": 0.001, "high": 0.01}}}


def test_presets_that_are_edited_change_no_trial(here, presets):
    from tracetorch.cli.tuning.validate import Composer

    changes = ["optimizer=sgd", "optimizer.lr=0.5", "network.readout.decay_gradient=stationary"]
    first = Composer(["experiment=learned_decays"], None, [])
    composed, typed = first(changes)
    expected = compose(typed)
    assert repr(composed) == repr(expected)
    assert composed.config["network"]["neuron"]["decay_gradient"] == "stationary"  # it refers to the readout's
    stored = json.loads(json.dumps(first.content()))
    edit(presets)
    assert Composer(["experiment=learned_decays"], Path("study.json"), [], stored)(changes)[0] == expected
    with pytest.raises(UsageError, match=r"study\.json holds no config for optimizer=adamw"):
        Composer([], Path("study.json"), [], stored)(["optimizer=adamw"])


@pytest.mark.parametrize("word", [CALLS[name] for name in ("escaped", "environment", "within")])
def test_a_study_of_another_calls_nothing(here, config, word):
    study = {"experiment": "x", "typed": [], "overrides": list(CLICKS), "search": RATE}
    evil = {**config, "task": {**config["task"], "label": word}}
    escaped = word.replace("'", "\\'")
    for content in (
        {**study, "configs": {"base": {"config": evil, "experiment": "x", "choices": {}}}},
        {**study, "overrides": [*CLICKS, f"task.label='{escaped}'"]},
        {**study, "search": {**RATE, "space": {"task.label": {"choices": [word]}}}},
    ):
        Path("study").mkdir(exist_ok=True)
        Path("study/study.json").write_text(json.dumps(content))
        assert "task.label" in refused({"study/study.json"}, here, "tune", "--study", "study")


def test_presets_of_ones_own_check(config):
    check(config)
    check_trusted(config, Path("config.yaml"))
    assert config == amend(config, []).config
