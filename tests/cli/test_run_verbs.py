"""Verbs that make the folder of a run or take one: run, eval, info, plot, and run --from."""

import gzip
import json
import os
import re
import shutil
import signal
from importlib import resources

import pytest
import torch
import yaml

from tests.command_line import CLICKS, DIGITS, change, facts_in, files, ran, refused, tracetorch
from tests.idx_files import NAMES, write_folder
from tracetorch.cli import display
from tracetorch.cli.adapter import compose
from tracetorch.cli.errors import UsageError
from tracetorch.cli.eval_verb import _check_effect
from tracetorch.cli.execute import execute, record_refused
from tracetorch.cli.folders import find_run, plain_name
from tracetorch.runs import RunFolder, checkpoint
from tracetorch.runs.folder import state_of
from tracetorch.runs.identity import facts_of
from tracetorch.runs.lock import is_locked
from tracetorch.runs.provenance import provenance_changes


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A completed run: (its folder, what the command said)."""
    folder = tmp_path_factory.mktemp("r") / f"ein ä {'long' * 20}"  # which no table may fold
    return folder, tracetorch("run", *CLICKS, f"output.dir='{folder}'")


@pytest.fixture
def mine(finished, here):
    """A copy of it that may be spoilt, in the present folder."""
    shutil.copytree(finished[0], here / "it")
    return here / "it"


def edit(folder, before, after):
    path = folder / "config.yaml"
    assert before in path.read_text()
    path.write_text(path.read_text().replace(before, after))


def test_run_trains_prints_its_folder_and_result_and_leaves_these_files(finished):
    folder, result = finished
    assert (result.exit_code, result.stderr) == (0, "")
    assert f"poisson_clicks on cpu → {folder}" in result.stdout and "poisson_clicks: completed" in result.stdout
    for name in ("accuracy", "ideal_accuracy", "loss"):
        assert f"{facts_in(folder)['summary'][name]:.4f}" in result.stdout
    assert result.stdout.count(str(folder)) == 2
    lines = [line.strip() for line in result.stdout.splitlines()]
    assert re.fullmatch(r"update +1  validation  loss \S+  accuracy \S+", lines[1])
    table = {row[1].strip(): row[2].strip() for row in (line.split("│") for line in lines) if len(row) > 1}
    assert [*table][:2] == ["loss", "accuracy"] and [*table][-4:] == ["speed", "whole run", "memory", "folder"]
    assert "trained for" in table and re.fullmatch(r"[\d,]+ MiB peak; training [\d.]+ MiB", table["memory"])
    assert files(folder) == {
        *("run.json", "config.yaml", "overrides.yaml", "metrics.jsonl", "metrics.csv", "trials.csv", ".lock"),
        *("checkpoints/latest.pt", "checkpoints/best.pt"),
    }
    assert yaml.safe_load((folder / "overrides.yaml").read_text()) == [*CLICKS, f"output.dir='{folder}'"]
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert (config["task"]["seed"], config["network"]["hidden"], config["train"]["updates"]) == (0, [4], 2)


def test_keys_with_a_default_may_be_left_out_and_the_folder_is_made_in_outputs(here):
    typed = [word for word in CLICKS if "batch_size" not in word]
    result = ran("run", *typed, "~task.batch_size", "~optimizer.lr", "~train.log_every", "~output.root")
    (folder,) = (here / "outputs" / "poisson_clicks").iterdir()
    assert "completed" in result.stdout and str(folder.relative_to(here)) in result.stdout
    assert folder.name.endswith(facts_in(folder)["id"][:6])


@pytest.mark.parametrize(("times", "said"), [(1, "interrupted after 1 update; .* resume stopped"), (2, "interrupted")])
def test_an_interrupted_run_ends_with_130_and_names_its_folder(here, monkeypatch, times, said):
    def interrupt(self, values):
        for _ in range(times):
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(display.Display, "_progress", interrupt)
    result = tracetorch("run", *CLICKS, "output.dir=stopped")
    assert result.exit_code == 130 and re.fullmatch(f"tracetorch: {said}\n", result.stderr)
    assert times == 2 or facts_in(here / "stopped")["status"] == "interrupted"
    assert not is_locked(here / "stopped")


def test_a_failed_run_ends_with_1_and_names_its_folder(here):
    result = tracetorch("run", *CLICKS, "network.neuron.threshold=1e6", "output.dir=dead")
    said = r"tracetorch: update \d: layer 0 \(LIF\(30, 4\)\) is silent: .* lower its threshold.* \(see dead\)\n"
    assert result.exit_code == 1 and re.fullmatch(said, result.stderr)
    assert facts_in(here / "dead")["status"] == "failed"
    assert "is silent" in (here / "dead" / "error.txt").read_text() and not is_locked(here / "dead")
    result = tracetorch("run", "--from", "dead", "output.dir=again")
    assert result.exit_code == 1 and re.fullmatch(said.replace("dead", "again"), result.stderr)


def test_eval_repeats_the_result_of_the_run(mine):
    ended = ran("eval", "it")
    (folder,) = (mine / "eval").iterdir()
    found, again = facts_in(mine)["summary"], facts_in(folder)["summary"]
    assert all(found[name] == again[name] for name in ("accuracy", "loss", "ideal_accuracy"))
    assert (folder / "trials.csv").read_text() == (mine / "trials.csv").read_text()
    assert f"{again['accuracy']:.4f}" in ended.stdout and str(folder.relative_to(mine.parent)) in ended.stdout
    assert re.search(r"\nupdate +2  test        loss \S+  accuracy \S+\n", ended.stdout)
    torch.set_num_threads(2)
    ran("eval", "it", "train.precision=bfloat16", "threads=1")
    (other,) = (path for path in (mine / "eval").iterdir() if path != folder)
    assert facts_in(other)["summary"]["loss"] != found["loss"] and torch.get_num_threads() == 1


def test_eval_with_other_settings_does_not_change_the_run(mine):
    before = {name: (mine / name).read_bytes() for name in files(mine)}
    ran("eval", "it", "task.duration=[0.4]", "train.figures=true")
    ran("eval", "it", "task.seed=5", "--checkpoint", "best")
    found = {facts_in(path)["summary"]["checkpoint"]: path for path in (mine / "eval").iterdir()}
    assert found.keys() == {"latest", "best"} and (found["latest"] / "plots" / "raster.png").exists()
    assert "- 0.4" in (found["latest"] / "config.yaml").read_text()
    assert (found["latest"] / "overrides.yaml").read_text() == "- 'task.duration=[0.4]'\n- 'train.figures=true'\n"
    assert {name: (mine / name).read_bytes() for name in before} == before


REFUSED = [
    ("eval nowhere", "there is no folder nowhere"),
    ("run --from nowhere", "there is no folder nowhere"),
    ("info nowhere", "not the folder of a run, a sweep or a study"),
    ("plot hollow", "not a run folder"),
    ("resume hollow", "not the folder of a run or a sweep"),
    ("plot evil", "calls 'os.system', which is not trusted"),
    ("resume evil", "calls 'os.system', which is not trusted"),
    ("run --from evil", "calls 'os.system', which is not trusted"),
    ("eval it task=patterns", "task was chosen when the run began"),
    ("eval it +task.x=1", "values can be changed here, not added or removed"),
    ("eval it output.dir=x", "an evaluation is written into the folder of its run"),
    ("eval it network.hidden=[5]", "connection.weight has the shape (4, 30) in it, and (5, 30) in this network\n"),
    ("eval it task.duration=[-1]", "duration"),
    ("eval it task.batch_size=many", "task.batch_size must be a whole number, got 'many'"),
    ("eval it network.neuron._target_=os.system", "calls 'os.system', which is not trusted"),
    ("eval it train.window=100000", "train.window must lie between 1 and"),
    ("eval it seed=3", "'seed=3' has no effect on a test: for other trials and spikes: task.seed=3"),
    ("eval it train.updates=3", "'train.updates=3' has no effect on a test"),
    ("eval it task.delay=0.1 optimizer.lr=1", "'optimizer.lr=1' has no effect on a test"),
    ("eval it experiment=mnist", "experiment was chosen when the run began; change single values"),
    ("run --from it seed=3", "--from repeats a run"),
    ("run --from it -m", "--from repeats one run and -m makes many"),
    ("run --from it --config-dir .", "--config-dir does not apply to --from"),
    ("run --from it output.dir=it", "exists already"),
    ("run --trust x", "--trust is for configs from a folder"),
    ("run --fail-fast", "--fail-fast is for sweeps"),
    ("resume it seed=3", "a run continues with its own config"),
]


@pytest.mark.parametrize(("words", "phrase"), REFUSED)
def test_a_wrong_call_is_refused_and_leaves_nothing(mine, here, words, phrase):
    (here / "hollow").mkdir()
    shutil.copytree(mine, here / "evil")
    edit(here / "evil", "torch.optim.Adam", "os.system")
    assert phrase in refused(*words.split())


LONG = "x" * 20_000

# what is typed after the overrides that make a run tiny, and a pattern that the sentence must match
CLICK_ROWS = [
    ("output.dir='\udcff'", "output.dir=.* is not UTF-8"),
    ("output.dir=''", "output.dir is empty: give a folder"),
    ("+task=patterns", "there is a choice for task already; write task=patterns"),
    ("~device", "device is missing from the config"),
    ("optimizer.lr=???", "optimizer.lr is missing: give optimizer.lr=…"),
    ("+optimizer.betas=[0.9]", r"optimizer.betas must be a list of 2 numbers, got \[0.9\]"),
    ("train.epochs=3", "Did you mean 'train.passes'"),
    ("network.layers=[3]", "Did you mean 'network.hidden'"),
    ("optimizer.momentm=0.9", "Did you mean 'optimizer.momentum', which optimizer=rmsprop has"),
    ("task=1", "tracetorch: task=1: choose by name"),
    ("+foo=1", "foo: a config has no such key"),
    ("~output", "output.root is missing from the config"),
    ("seed=9223372036854775808", "seed must fit into 64 bits"),
    ("train._partial_=false", "train._partial_ must be true, got False"),
    ("output.dir=/dev/null/x", "cannot write to /dev/null/x: Not a directory; choose another output"),
    ("loss.floor=-1", "floor must lie between 0 and 1"),
    ("~task._target_", "task has no _target_"),
    ("network.neuron=3", "network.neuron(?!.*not callable)"),
    ("network.readout.trainable=[weight,threshold]", r"'threshold'; .*; type network\.readout\.trainable=\[weight\]"),
    ("train.precision=bfloat16 rule=bptt", "train.precision=bfloat16 needs rule=trace or three_factor: BPTT computes"),
    ("bogus=1", "bogus: there is no key 'bogus'.* there are task, network, rule"),
    ("rule.foo=1", r"rule.foo: there is no key 'foo'\.(?! Here rule has \.)"),
    ("task=poison_clicks", "task=poison_clicks: there is no such task. Did you mean 'poisson_clicks'"),
    ("task=", "task=: there is no such task. There are: .*mnist"),
    ("~loss", "loss is missing from the config; choose one with loss="),
    ("threads=1000000", "threads must be null or between 1 and the .* of this machine"),
    ("train.learn_every=5 train.update_every=often", "train.update_every must be a whole number or moment or null"),
    ("task.batch_size=true", r"task.batch_size must be a whole number, got true\.$"),
    ("task.stereo_click=1", "task.stereo_click must be true or false, got 1"),
    ("network.hidden=64", r"must be a list of whole numbers, got 64\. Write network\.hidden=\[64\]\."),
    ("task._target_=tracetorch.tasks.Nope", "task.*there is no 'tracetorch.tasks.Nope'"),
    ("device=gpu", "device=gpu is not a device: use auto, cpu, cuda"),
    ("device=cuda:99", "device=cuda:99: .*(sees no CUDA GPU|this machine has)"),
    ("train.updates=null", "train.updates and train.passes are both null: give one of them"),
    ("seed", "'seed' sets nothing: write key=value, such as seed=1"),
    ("=1", "tracetorch: '?=1"),
    ("", "sets nothing"),
    ("task.gamma=[1,2", "task.gamma: the value .* cannot be read; quote it twice"),
    ("seed=${nope}", "seed: .*nope"),
    (f"{LONG}=1", "there is no key 'xxxx"),
    (f"output.dir={LONG}", "cannot write to .*: File name too long"),
    ("diagnostics=gradiant", r"no such diagnostics\. Did you mean 'gradient'\? There are: gradient, none\."),
    ("diagnostics.every=3", "It belongs to diagnostics=gradient"),
    ("diagnostics=gradient diagnostics.every=often", "diagnostics.every must be a whole number, got 'often'"),
    ("diagnostics=gradient diagnostics.every=0", "diagnostics: every must be at least 1, got 0"),
    ("diagnostics=gradient diagnostics.surrogate=step", "diagnostics: surrogate must be one of fast_sigmoid"),
]
DIGIT_ROWS = [
    (f"task.source={LONG}", "source"),
    ("train.updates=null train.passes=-1", "train.passes must be above 0 and finite, got -1"),
    ("task.source=nowhere", "source=nowhere: there is no such folder; .*source=download or source=sample"),
    ("task.source=halves", "halves/train-images-idx3-ubyte.gz is damaged or cut short .*; fetch it again"),
    ("train.passes=2", "add train.passes=null to train for 2 updates, or train.updates=null to train for 2 passes"),
    ("train.updates=null train.passes=0.0001", "must give at least 1 update"),
]
ROWS = [*((CLICKS, *row) for row in CLICK_ROWS), *((DIGITS, *row) for row in DIGIT_ROWS)]


@pytest.fixture
def halves(here):
    """The working directory, and in it a folder of digits that are cut short."""
    (here / "halves").mkdir()
    for name in NAMES:
        sizes = [250] if "labels" in name else [250, 1, 1]
        whole = bytes([0, 0, 8, len(sizes)]) + b"".join(n.to_bytes(4, "big") for n in sizes) + bytes(range(250))
        (here / "halves" / f"{name}.gz").write_bytes(gzip.compress(whole)[:60])


@pytest.mark.parametrize(("tiny", "typed", "phrase"), ROWS, ids=[typed[:50] or "(empty)" for _, typed, _ in ROWS])
def test_a_wrong_word_is_refused_in_one_sentence(halves, tiny, typed, phrase):
    sentence = refused("run", *tiny, *typed.split(" "))
    assert len(sentence) < 600, f"{len(sentence)} letters: {sentence[:300]}"
    assert re.search(phrase, sentence), sentence
    assert not re.search("Traceback|should not have happened|Error:|unexpected keyword", sentence), sentence


def test_no_seed_inside_a_list_is_suggested():
    config = {"task": {"parts": [{"seed": 1}], "first": {"seed": 2}}}
    with pytest.raises(UsageError, match=r"trials and spikes: task\.first\.seed=3$"):
        _check_effect(["seed=3"], config)


def test_a_package_is_trusted_by_name(mine, monkeypatch, here):
    (here / "mypackage.py").write_text("from tracetorch.rules import Trace\n\n\nclass Mine(Trace):\n    pass\n")
    monkeypatch.syspath_prepend(str(here))
    edit(mine, "tracetorch.rules.Trace", "mypackage.Mine")
    (mine / "run.json").write_text((mine / "run.json").read_text().replace("tracetorch.rules.Trace", "mypackage.Mine"))
    assert "--trust mypackage" in refused("eval", "it")
    change(mine / "run.json", status="interrupted", config=None)
    for words in (["resume"], ["eval"], ["plot"], ["run", "--from"]):
        ran(*words, "it", "--trust", "mypackage")


@pytest.mark.parametrize("name", ["checkpoints/latest.pt", "checkpoints", "plots", "plots/raster.png", "config.yaml"])
def test_a_link_out_of_the_folder_is_not_followed(mine, name):
    path, outside = mine / name, mine.parent / "elsewhere"
    if path.exists():
        path.rename(outside)
    else:
        path.parent.mkdir(exist_ok=True)
        outside.mkdir()
    path.symlink_to(outside)
    before = files(mine.parent)
    for verb in ("eval", "plot", "resume"):
        assert f"it/{name} is a link that leads out of" in refused(verb, "it")
    assert files(mine.parent) == before


def test_info_of_a_run_prints_its_facts_without_control_characters(mine):
    (mine / "config.yaml").write_text("!!python/object/apply:os.system ['touch harmed']")  # which it does not read
    facts = facts_in(mine)
    change(mine / "run.json", experiment="\x1b[2Jgone\u202e", device="x" * 9999)
    ended = ran("info", "it")
    assert len(ended.stdout) < 5000
    lines = dict(line.split(maxsplit=1) for line in ended.stdout.splitlines())
    assert (lines["status"], lines["id"], lines["versions.torch"]) == ("completed", facts["id"], torch.__version__)
    assert lines["summary.accuracy"] == str(facts["summary"]["accuracy"])
    assert lines["experiment"] == "\N{REPLACEMENT CHARACTER}[2Jgone\N{REPLACEMENT CHARACTER}"
    (mine / "run.json").unlink()
    os.mkfifo(mine / "run.json")
    assert "is not a regular file" in refused("info", "it")


def test_a_repeated_run_is_identical(finished, here):
    torch.set_num_threads(2)
    ended = ran("run", "--from", str(finished[0]), "output.dir=again", "threads=1")
    assert torch.get_num_threads() == 1
    assert f"identical to {finished[0]}: all " in " ".join(ended.stdout.split())
    assert state_of(here / "again").status == "completed"


def test_a_repeated_run_ignores_the_output_of_the_file(mine, here):
    edit(mine, "root: outputs", "root: /nowhere/at/all")
    change(mine / "run.json", experiment="../[/x]\x1b[31m", resumed=5)
    for name in ("../../escaped", "/tmp/escaped", "..", "", "a" * 101, 7, "x\n"):
        assert plain_name(name) == "run", name
    assert plain_name("a.b-c_1+é") == "a.b-c_1+é"
    assert "\x1b" not in ran("run", "--from", "it").output
    assert {path.name for path in here.iterdir()} == {"it", "outputs"}
    assert len(list((here / "outputs" / "run").iterdir())) == 1
    ran("eval", "it")


def test_an_interrupted_run_is_compared_up_to_its_last_record(mine):
    change(mine / "run.json", status="interrupted")
    lines = (mine / "metrics.jsonl").read_text().splitlines(keepends=True)
    (mine / "metrics.jsonl").write_text(lines[0])
    ended = ran("run", "--from", "it", "output.dir=again")
    assert "as far as it ran: 1 records; the first run was interrupted" in ended.stdout
    (mine / "metrics.jsonl").write_text("[\n{}\n")
    ended = tracetorch("run", "--from", "it", "output.dir=more")
    assert ended.exit_code == 1 and ended.stderr.startswith("tracetorch: the two runs cannot be compared: ")


@pytest.mark.parametrize(
    ("what", "phrase"), [("a number", "test: loss is"), ("a weight", "the weights do not"), ("a record", "records")]
)
def test_a_difference_to_the_first_run_is_named(mine, what, phrase):
    lines = (mine / "metrics.jsonl").read_text().splitlines()
    if what == "a number":
        row = json.loads(lines[-1])
        lines[-1] = json.dumps(row | {"loss": row["loss"] + 1e-9})
    elif what == "a record":
        lines.pop()
    else:
        path = mine / "checkpoints" / "latest.pt"
        content = torch.load(path, weights_only=True)
        next(iter(content["net"].values())).add_(1.0)
        del content["checksum"]
        torch.save(content | {"checksum": checkpoint.checksum_of(content)}, path)
    (mine / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    change(mine / "run.json", versions=facts_in(mine)["versions"] | {"torch": "1.0"})
    ended = tracetorch("run", "--from", "it", "output.dir=again")
    assert ended.exit_code == 1
    assert "not identical" in ended.stderr and phrase in ended.stderr and "torch: 1.0 then" in ended.stderr


def test_a_run_that_another_process_has_just_completed_does_not_continue(mine):
    found = find_run(mine)
    with pytest.raises(UsageError, match="is completed: there is nothing to continue"):
        execute(found.composed, [], resume_from=found.folder)
    assert not is_locked(mine) and facts_in(mine)["status"] == "completed"


def test_a_refused_job_is_recorded_whole_or_not_at_all(here, monkeypatch):
    made = compose(list(CLICKS))
    record_refused(here / "whole", made, ["seed=1"], "why")
    assert files(here / "whole") >= {"overrides.yaml", "config.yaml", "error.txt", "run.json"}
    assert (state_of(here / "whole").status, state_of(here / "whole").error) == ("failed", "why")
    monkeypatch.setattr(RunFolder, "write_json", lambda *_: os.close(-1))  # OSError
    record_refused(here / "none", made, ["seed=1"], "why")
    assert not (here / "none").exists()


def test_an_interrupted_evaluation_names_the_verb_that_repeats_it(mine, monkeypatch):
    monkeypatch.setattr(display.Display, "_record", lambda *_: signal.raise_signal(signal.SIGINT))
    ended = tracetorch("eval", "it")
    assert (ended.exit_code, ended.stderr) == (130, "tracetorch: interrupted; to start again: tracetorch eval it\n")


def test_a_run_does_not_continue_with_other_data(here):
    sample = resources.files("tracetorch.tasks") / "mnist_sample"
    write_folder(here / "data", lambda name: (sample / f"{name}.gz").read_bytes(), suffix=".gz")
    made = compose([*DIGITS, "task.source=data"])
    begun = facts_of(made.config)
    (here / "run").mkdir()
    (here / "run" / "config.yaml").write_text(made.yaml)
    (here / "run" / "run.json").write_text(json.dumps({"status": "interrupted", **begun}))
    labels = here / "data" / f"{NAMES[1]}.gz"
    labels.write_bytes(gzip.compress(gzip.decompress(labels.read_bytes()), mtime=1))
    for _ in range(2):  # a refusal leaves no lock
        ended = tracetorch("resume", "run")
        assert ended.exit_code == 2 and "task.source names data that have changed since run was started" in ended.stderr
    assert provenance_changes(begun, facts_of(made.config)) == ["the data of task.source had different content"]
    assert provenance_changes({}, begun) == provenance_changes(begun, begun) == []
