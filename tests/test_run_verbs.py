"""Verbs that take the folder of a run: eval, info, plot, and run --from."""

import gzip
import json
from importlib import resources

import pytest
import torch

from tests.command_line import CLICKS, DIGITS, files, tracetorch
from tests.idx_files import NAMES, write_folder
from tracetorch.cli.adapter import compose
from tracetorch.cli.errors import UsageError
from tracetorch.cli.eval_verb import _check_effect
from tracetorch.runs import checkpoint
from tracetorch.runs.folder import state_of
from tracetorch.runs.identity import facts_of
from tracetorch.runs.provenance import provenance_changes


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run that is completed. Returns: its folder."""
    folder = tmp_path_factory.mktemp("finished") / "it"
    assert tracetorch("run", *CLICKS, f"output.dir={folder}").exit_code == 0
    return folder


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def mine(finished, here):
    """A copy of it that may be spoilt, in the present folder."""
    import shutil

    shutil.copytree(finished, here / "it")
    return here / "it"


def evaluations(folder):
    return sorted((folder / "eval").iterdir()) if (folder / "eval").exists() else []


def test_eval_gives_what_the_run_found_where_nothing_is_changed(mine):
    ended = tracetorch("eval", "it")
    assert ended.exit_code == 0, ended.output
    (folder,) = evaluations(mine)
    summaries = [json.loads((path / "run.json").read_text())["summary"] for path in (mine, folder)]
    assert all(summaries[0][name] == summaries[1][name] for name in ("accuracy", "loss", "ideal_accuracy"))
    assert (folder / "trials.csv").read_text() == (mine / "trials.csv").read_text()
    assert f"{summaries[1]['accuracy']:.4f}" in ended.stdout and str(folder.relative_to(mine.parent)) in ended.stdout


def test_eval_under_other_circumstances_leaves_the_run_as_it_was(mine):
    before = {name: (mine / name).read_bytes() for name in files(mine)}
    assert tracetorch("eval", "it", "task.duration=[0.4]", "train.figures=true").exit_code == 0
    assert tracetorch("eval", "it", "task.seed=5", "--checkpoint", "best").exit_code == 0
    first, second = evaluations(mine)
    found = {json.loads((path / "run.json").read_text())["summary"]["checkpoint"]: path for path in (first, second)}
    assert (found["latest"] / "plots" / "raster.png").exists()
    assert "- 0.4" in (found["latest"] / "config.yaml").read_text()
    assert (found["latest"] / "overrides.yaml").read_text() == "- 'task.duration=[0.4]'\n- 'train.figures=true'\n"
    assert {name: (mine / name).read_bytes() for name in before} == before


@pytest.mark.parametrize(
    ("words", "phrase"),
    [
        (("task.duratoin=[1]",), "Did you mean 'task.duration'?"),
        (("task=patterns",), "task was chosen when the run began"),
        (("+task.x=1",), "values can be changed here, not added or removed"),
        (("~task.seed",), "values can be changed here, not added or removed"),
        (("output.dir=x",), "an evaluation is written into the folder of its run"),
        (("network.hidden=[5]",), "connection.weight has the shape (4, 30) in it, and (5, 30) in this network"),
        (("task.duration=[-1]",), "duration"),
        (("train.window=100000",), "train.window must lie between 1 and"),
        (("rule._target_=os.system",), "'os.system', which is not trusted"),
        (("seed=0,1",), "is a sweep over several values"),
        (("seed=3",), "'seed=3' has no effect on a test: for other trials and spikes: task.seed=3"),
        (("train.updates=3",), "'train.updates=3' has no effect on a test"),
        (("task.delay=0.1", "optimizer.lr=1"), "'optimizer.lr=1' has no effect on a test"),
        (("experiment=mnist",), "experiment was chosen when the run began; change single values"),
    ],
)
def test_eval_refuses_what_cannot_be_and_leaves_nothing(mine, words, phrase):
    before = files(mine)
    ended = tracetorch("eval", "it", *words)
    assert ended.exit_code == 2, ended.output
    assert phrase in ended.stderr and len(ended.stderr.splitlines()) == 1
    assert files(mine) == before


def test_no_seed_inside_a_list_is_named_which_could_not_be_typed():
    config = {"task": {"parts": [{"seed": 1}], "first": {"seed": 2}}}
    with pytest.raises(UsageError, match=r"trials and spikes: task\.first\.seed=3$"):
        _check_effect(["seed=3"], config)


def test_a_checkpoint_of_another_name_is_refused_without_words_of_a_library(mine):
    ended = tracetorch("eval", "it", "--checkpoint", "first")
    assert ended.exit_code == 2
    assert "Invalid value for '--checkpoint': 'first' is not one of 'latest', 'best'" in ended.stderr


@pytest.mark.parametrize("verb", [("eval",), ("plot",), ("resume",), ("run", "--from"), ("info",)], ids=" ".join)
@pytest.mark.parametrize(
    ("spoil", "phrase"),
    [
        (None, "no folder|not the folder"),
        ("empty", "not the folder of a run|not a run folder"),
        ("system", "not trusted"),
        ("eval", "not trusted"),
        ("yaml", "has the tag .*os.system"),
    ],
)
def test_a_folder_that_is_no_run_or_a_hostile_one_harms_nothing(mine, verb, spoil, phrase):
    import re

    name = "it" if spoil else "elsewhere"
    config = mine / "config.yaml"
    if spoil == "empty":
        (mine.parent / "hollow").mkdir()
        name = "hollow"
    elif spoil == "system":
        config.write_text(config.read_text().replace("torch.optim.Adam", "os.system"))
    elif spoil == "eval":
        config.write_text(config.read_text().replace("tracetorch.rules.Trace", "builtins.eval"))
    elif spoil == "yaml":
        config.write_text("!!python/object/apply:os.system ['touch harmed']")
    if verb == ("resume",) and spoil not in (None, "empty"):
        (mine / "run.json").unlink()
    ended = tracetorch(*verb, name)
    if verb == ("info",) and spoil not in (None, "empty"):
        assert ended.exit_code == 0  # it calls nothing
        return
    assert ended.exit_code == 2, ended.output
    assert re.search(phrase, ended.stderr) and len(ended.stderr.splitlines()) == 1
    assert not (mine.parent / "harmed").exists()


def test_who_trusts_a_package_says_so(mine, monkeypatch, tmp_path):
    (tmp_path / "mypackage.py").write_text("from tracetorch.rules import Trace\n\n\nclass Mine(Trace):\n    pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    config = mine / "config.yaml"
    config.write_text(config.read_text().replace("tracetorch.rules.Trace", "mypackage.Mine"))
    ended = tracetorch("eval", "it")
    assert ended.exit_code == 2 and "--trust mypackage" in ended.stderr
    assert tracetorch("eval", "it", "--trust", "mypackage").exit_code == 0


@pytest.mark.parametrize(
    "name", ["checkpoints/latest.pt", "checkpoints", "plots", "metrics.jsonl", "config.yaml", "eval"]
)
def test_a_link_out_of_the_folder_is_not_followed(mine, name):
    path, outside = mine / name, mine.parent / "elsewhere"
    if path.exists():
        path.rename(outside)
    else:
        outside.mkdir()
    path.symlink_to(outside)
    for verb in ("eval", "plot", "resume"):
        ended = tracetorch(verb, "it")
        assert ended.exit_code == 2 and f"it/{name} is a link that leads out of" in ended.stderr
    assert not outside.is_dir() or name == "checkpoints" or list(outside.iterdir()) == []


def test_info_of_a_run_says_on_what_it_ran_and_how_it_ended(mine):
    ended = tracetorch("info", "it")
    assert ended.exit_code == 0
    lines = dict(line.split(maxsplit=1) for line in ended.stdout.splitlines())
    facts = json.loads((mine / "run.json").read_text())
    assert (lines["status"], lines["id"], lines["versions.torch"]) == ("completed", facts["id"], torch.__version__)
    assert lines["summary.accuracy"] == str(facts["summary"]["accuracy"])


def test_info_lets_no_control_letter_through_to_the_terminal(mine):
    facts = json.loads((mine / "run.json").read_text())
    (mine / "run.json").write_text(json.dumps(facts | {"experiment": "\x1b[2Jgone\u202e", "device": "x" * 9999}))
    ended = tracetorch("info", "it")
    assert ended.exit_code == 0
    assert "\x1b" not in ended.stdout and "\u202e" not in ended.stdout and len(ended.stdout) < 5000


# ── run --from ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_same_again_is_identical_and_says_so(finished, here):
    ended = tracetorch("run", "--from", str(finished), "output.dir=again")
    assert ended.exit_code == 0, ended.output
    assert f"identical to {finished}" in " ".join(ended.stdout.split())
    assert state_of(here / "again").status == "completed"


@pytest.mark.parametrize("name", ["../../escaped", "/tmp/escaped", "..", 7, "[/x]\x1b[31m"])
def test_a_name_that_is_none_leads_nowhere_else(mine, here, name):
    facts = json.loads((mine / "run.json").read_text())
    (mine / "run.json").write_text(json.dumps(facts | {"experiment": name, "resumed": 5}))
    ended = tracetorch("run", "--from", "it")
    assert ended.exit_code == 0, ended.output
    assert {path.name for path in here.iterdir()} == {"it", "outputs"}
    assert len(list((here / "outputs" / "run").iterdir())) == 1
    assert tracetorch("eval", "it").exit_code == 0 and "\x1b" not in ended.output


def test_an_interrupted_run_is_compared_as_far_as_it_came(mine):
    facts = json.loads((mine / "run.json").read_text())
    (mine / "run.json").write_text(json.dumps(facts | {"status": "interrupted"}))
    lines = (mine / "metrics.jsonl").read_text().splitlines(keepends=True)
    (mine / "metrics.jsonl").write_text("".join(lines[:1]))
    ended = tracetorch("run", "--from", "it", "output.dir=again")
    assert ended.exit_code == 0 and "as far as it ran: 1 records; the first run was interrupted" in ended.stdout


def test_a_config_that_unfolds_to_gigabytes_and_a_pipe_are_refused(mine):
    import os

    config = mine / "config.yaml"
    nested = ["a0: &a0 [x, x]", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12))]
    config.write_text("\n".join(nested) + "\n")
    ended = tracetorch("plot", "it")
    assert ended.exit_code == 2 and "has aliases" in ended.stderr
    config.unlink()
    config.write_bytes(b"seed: 0\n")
    (mine / "run.json").unlink()
    os.mkfifo(mine / "run.json")
    ended = tracetorch("info", "it")
    assert ended.exit_code == 2 and "is not a regular file" in ended.stderr


def test_it_goes_where_runs_go_and_not_where_the_file_says(mine, here):
    config = mine / "config.yaml"
    config.write_text(config.read_text().replace("root: outputs", "root: /nowhere/at/all"))
    assert tracetorch("run", "--from", "it").exit_code == 0
    assert len(list((here / "outputs" / "poisson_clicks").iterdir())) == 1


@pytest.mark.parametrize("what", ["a number", "a weight", "a record"])
def test_what_is_not_the_same_is_told(mine, what):
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
        torch.save(content | {"checksum": checkpoint._checksum(content)}, path)
    (mine / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    facts = json.loads((mine / "run.json").read_text())
    (mine / "run.json").write_text(json.dumps(facts | {"versions": facts["versions"] | {"torch": "1.0"}}))
    ended = tracetorch("run", "--from", "it", "output.dir=again")
    phrase = {"a number": "test: loss is", "a record": "records", "a weight": "the weights do not"}[what]
    assert ended.exit_code == 1
    assert "not identical" in ended.stderr and phrase in ended.stderr and "torch: 1.0 then" in ended.stderr


@pytest.mark.parametrize(
    ("words", "phrase"),
    [
        (("--from", "it", "seed=3"), "--from repeats a run"),
        (("--from", "it", "-m"), "--from repeats one run and -m makes many"),
        (("--trust", "x"), "--trust is for configs from a folder"),
        (("--from", "it", "output.dir=it"), "exists already"),
    ],
)
def test_what_does_not_go_with_it(mine, words, phrase):
    ended = tracetorch("run", *words)
    assert ended.exit_code == 2 and phrase in ended.stderr


def test_a_run_does_not_go_on_with_other_data(here):
    sample = resources.files("tracetorch.tasks") / "mnist_sample"
    write_folder(here / "data", lambda name: (sample / f"{name}.gz").read_bytes(), suffix=".gz")
    made = compose([*DIGITS, "task.source=data"])
    begun = facts_of(made.config)
    (here / "run").mkdir()
    (here / "run" / "config.yaml").write_text(made.yaml)
    (here / "run" / "run.json").write_text(json.dumps({"status": "interrupted", **begun}))
    labels = here / "data" / f"{NAMES[1]}.gz"
    labels.write_bytes(gzip.compress(gzip.decompress(labels.read_bytes()), mtime=1))
    ended = tracetorch("resume", "run")
    assert ended.exit_code == 2 and "task.source names data that have changed since run was started" in ended.stderr
    assert provenance_changes(begun, facts_of(made.config)) == ["the data of task.source had different content"]
    assert provenance_changes({}, begun) == provenance_changes(begun, begun) == []
