"""Studies that are damaged, and those of strangers."""

import errno
import json
import os
import re
import shutil
from contextlib import chdir

import pytest

from tests.command_line import tracetorch
from tests.test_tune import journal, states, tune
from tracetorch.files import WriteError
from tracetorch.runs import RunFolder


@pytest.fixture(scope="module")
def one_trial(tmp_path_factory):
    """A study of one trial, made once."""
    folder = tmp_path_factory.mktemp("tuned")
    with chdir(folder):
        assert tune(trials=1).exit_code == 0
    return folder / "study"


@pytest.fixture
def study(here, one_trial):
    """A copy of it, in the working directory."""
    return shutil.copytree(one_trial, here / "study")


# ── damaged ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_a_failed_write_has_left_in_the_journal_is_taken_off_at_once(study, monkeypatch):
    """A process that goes on after it would write the next line behind the half one."""
    real, before = os.fsync, (study / "study.jsonl").read_bytes()

    def full(number):
        if os.path.samestat(os.fstat(number), (study / "study.jsonl").stat()):
            os.truncate(number, len(before) + 7)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(number)

    monkeypatch.setattr(os, "fsync", full)
    ended = tracetorch("tune", "--study", study, "--trials", "2")
    assert ended.exit_code == 1 and "No space left on device" in ended.stderr, ended.output
    assert (study / "study.jsonl").read_bytes() == before
    monkeypatch.undo()
    assert tracetorch("tune", "--study", study, "--trials", "2").exit_code == 0


def test_a_journal_that_was_cut_short_is_mended(study):
    with (study / "study.jsonl").open("a") as file:
        file.write('{"op_code":4,"worker_id":"')
    ended = tracetorch("tune", "--study", "study", "--trials", "2")
    assert ended.exit_code == 0, ended.output
    assert states() == ["COMPLETE"] * 2


@pytest.mark.parametrize(
    ("name", "content", "phrase"),
    [
        ("study.jsonl", "{}\n", "study.jsonl is broken"),
        ("study.jsonl", "[1]\n{\n{}\n", "study.jsonl is broken"),
        ("study.jsonl", b"\xff\xfe\n\n\n", "study.jsonl is broken"),
        ("study.jsonl", "[" * 5_000 + "]" * 5_000 + "\n", "study.jsonl is broken (nested more than 64 deep)"),
        ("study.jsonl", os.mkfifo, "is not a regular file"),
        ("study.jsonl", lambda path: path.touch() or os.truncate(path, 65 << 20), "is larger than 67,108,864 bytes"),
        ("study.json", "{", "study.json is broken"),
        ("study.json", "[]", "study.json is broken"),
        ("study.json", '{"experiment": "x", "typed": 3, "overrides": [], "search": {}}', "study.json is broken"),
        ("study.json", '{"experiment": "x", "typed": [], "overrides": [], "search": {}}', "search.space is empty"),
        ("study.json", None, "is not the folder of a study"),
    ],
)
def test_a_damaged_study_is_refused(study, name, content, phrase):
    path = study / name
    path.unlink()
    if callable(content):
        content(path)
    elif content is not None:
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    ended = tracetorch("tune", "--study", "study")
    assert ended.exit_code == 2, ended.output
    assert phrase in ended.stderr and len(ended.stderr.splitlines()) == 1


def test_a_folder_that_is_no_study_is_left_alone(here):
    (here / "study").mkdir()
    (here / "study" / "mine.txt").write_text("mine")
    ended = tune()
    assert ended.exit_code == 2 and "is not the folder of a study" in ended.stderr
    assert [path.name for path in (here / "study").iterdir()] == ["mine.txt"]


def test_optunas_lock_of_a_study_that_was_moved_keeps_nothing_waiting(study):
    (study / "study.jsonl.lock").symlink_to("/nowhere/study.jsonl")
    ended = tracetorch("tune", "--study", "study", "--trials", "2")
    assert ended.exit_code == 2 and "study.jsonl.lock is a link that leads out of study" in ended.stderr
    (study / "study.jsonl.lock").unlink()
    (study / "study.jsonl.lock").symlink_to("nowhere")
    ended = tracetorch("tune", "--study", "study", "--trials", "2")
    assert ended.exit_code == 0 and states() == ["COMPLETE"] * 2


def test_where_nothing_can_be_written_nothing_is_left(here, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device", "study/study.json")

    monkeypatch.setattr("tracetorch.runs.folder.write_whole", full)
    ended = tune()
    assert ended.exit_code == 2 and "No space left on device" in ended.stderr
    assert list(here.iterdir()) == []


def test_a_disk_that_is_full_later_is_told(here, monkeypatch):
    from tracetorch import files

    def full(*args):
        raise OSError(28, "No space left on device", "best.yaml")

    monkeypatch.setattr(files, "write_whole", full)
    ended = tune()
    assert ended.exit_code == 1 and len(ended.stderr.splitlines()) == 1
    assert "No space left on device; once it is writable, to continue: tracetorch tune --study study" in ended.stderr


@pytest.mark.parametrize("when", ["as it begins", "as it ends"])
def test_a_disk_that_is_full_or_broken_leaves_no_process_at_work(here, monkeypatch, when):
    from tracetorch.cli.tuning.study import Study
    from tracetorch.runs import lock

    opened, ends = lock.open_to_append, []

    def fails(path):
        at_fault = path.parent.parent.name == ".workers" if when == "as it begins" else ends and path.parent == ends[0]
        if at_fault:
            raise WriteError(28, "No space left on device", str(path))
        return opened(path)

    end = Study.__exit__
    with monkeypatch.context() as patched:
        patched.setattr(Study, "__exit__", lambda self, *error: ends.append(self.folder) or end(self, *error))
        patched.setattr(lock, "open_to_append", fails)
        ended = tune(trials=1)
    assert ended.exit_code == (when == "as it begins"), ended.output
    assert list((here / "study").glob(".workers/*")) == []
    assert tracetorch("tune", "--study", "study").exit_code == 0
    assert not (here / "study" / ".workers").exists()


@pytest.mark.parametrize("when", ["in the run", "before it"])
def test_a_full_disk_is_not_the_fault_of_what_was_tried(here, monkeypatch, when):
    """The trial is taken up again when there is room."""

    def full(*args, **options):
        raise OSError(28, "No space left on device", "study/0000/metrics.jsonl")

    place = "tracetorch.runs.Run.record" if when == "in the run" else "tracetorch.runs.RunFolder.reserve"
    with monkeypatch.context() as patched:
        before = RunFolder.reserve
        patched.setattr(
            place, full if when == "in the run" else lambda *words: full() if "0000" in str(words) else before(*words)
        )
        ended = tune()
    assert ended.exit_code == 1 and len(ended.stderr.splitlines()) == 1, ended.output
    assert (
        "metrics.jsonl: No space left on device; once it is writable, to continue: tracetorch tune --study study"
        in ended.stderr
    )
    assert states() == ["RUNNING"]
    assert tracetorch("tune", "--study", "study").exit_code == 0
    assert states() == ["COMPLETE"] * 3


# ── of strangers ────────────────────────────────────────────────────────────────────────────────────────────────────

EVIL = "os.system"


def older(content):
    """A study of an older version: it holds no configs, and its overrides are composed."""
    del content["configs"]
    return content


@pytest.mark.parametrize(
    "how",
    [
        lambda content: older(content)["overrides"].append(f"task._target_={EVIL}"),
        lambda content: content["search"]["space"].update({"task._target_": {"choices": [EVIL]}}),
        lambda content: older(content)["search"]["space"].update({"rule": {"choices": [{"_target_": EVIL}]}}),
        lambda content: older(content)["overrides"].append(f"+task.hook={{_target_: {EVIL}}}"),
        lambda content: content["configs"]["base"]["config"]["task"].update(_target_=EVIL),
    ],
)
def test_a_study_from_elsewhere_calls_only_what_is_trusted(study, how):
    path = study / "study.json"
    content = json.loads(path.read_text())
    how(content)
    path.write_text(json.dumps(content))
    ended = tracetorch("tune", "--study", "study", "--trials", "2")
    assert ended.exit_code == 2, ended.output
    assert len(ended.stderr.splitlines()) == 1 and len(journal()) == 1
    assert f"'{EVIL}', which is not trusted" in ended.stderr or "is chosen by name" in ended.stderr


def test_a_journal_from_elsewhere_must_be_of_the_search(here):
    assert tune("search.space={optimizer: {choices: [adam, sgd]}}", trials=1).exit_code == 0
    path = here / "study" / "study.jsonl"
    text = path.read_text()
    distribution = r"\"choices\": [\"adam\", \"sgd\"]"
    assert distribution in text
    path.write_text(text.replace(distribution, r"\"choices\": [\"../../x\", \"\\u001b[31m\"]"))
    ended = tracetorch("tune", "--study", "study", "--trials", "2")
    assert ended.exit_code == 2 and "belongs to another search than study.json" in ended.stderr
    assert "\x1b" not in ended.output and "../.." not in ended.output


def test_values_in_a_journal_from_elsewhere_must_lie_in_the_space(study):
    path = study / "study.jsonl"
    text = re.sub(r'"param_value_internal":[^,}]+', '"param_value_internal":1e300', path.read_text())
    path.write_text(text.replace('"state":1', '"state":0'))
    ended = tracetorch("tune", "--study", "study", "--trials", "2")
    assert ended.exit_code == 2 and "belongs to another search than study.json" in ended.stderr


def test_the_worker_in_a_journal_from_elsewhere_is_no_path(here):
    """A trial that says that it is at work, and is not: it is taken up again."""
    assert tune(trials=2).exit_code == 0
    path = here / "study" / "study.jsonl"
    lines = [line for line in path.read_text().splitlines() if not ('"state":1' in line and '"trial_id":1' in line)]
    path.write_text("\n".join(lines).replace('"worker":"', '"worker":"../../../') + "\n")
    before = journal()[1]
    assert states() == ["COMPLETE", "RUNNING"]
    ended = tracetorch("tune", "--study", "study")
    assert ended.exit_code == 0, ended.output
    assert states() == ["COMPLETE", "COMPLETE"] and journal()[1].params == before.params
