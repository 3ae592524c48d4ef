"""Removing runs: only those that were selected, only below the root, and only with --yes."""

import errno
import json
import os
import re
import time

import pytest

from tests.command_line import tracetorch
from tracetorch.compare.collect import find_runs
from tracetorch.runs.cleanup import RemovableRun, remove
from tracetorch.runs.lock import Lock

DAY = 86400
NOTHING = "nothing to remove"
OLD = {"failed", "failed-long-ago", "interrupted", "killed"}


@pytest.fixture
def outputs(here):
    (here / "outputs").mkdir()
    return here / "outputs"


def run(outputs, name, status="failed", *, accuracy=None, days=0.0, experiment="clicks"):
    folder = outputs / experiment / name
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps({"status": status, "experiment": experiment}) if status else "{")
    (folder / "config.yaml").write_text("seed: 0\n")
    if accuracy is not None:
        (folder / "metrics.jsonl").write_text(json.dumps({"update": 1, "split": "test", "accuracy": accuracy}) + "\n")
    for path in (*folder.iterdir(), folder):
        os.utime(path, (time.time() - days * DAY,) * 2)
    return folder


def left(outputs):
    return {path.parent.name for path in outputs.rglob("run.json")}


def clean(*words, code=0):
    ended = tracetorch("clean", *words)
    assert ended.exit_code == code, ended.output
    return " ".join(ended.output.split())


@pytest.fixture
def many(outputs):
    run(outputs, "good", "completed", accuracy=0.9, days=30)
    run(outputs, "better", "completed", accuracy=0.95, days=30)
    run(outputs, "new", "completed", accuracy=0.1)
    run(outputs, "failed", "failed", days=1)
    run(outputs, "failed-long-ago", "failed", days=30)
    run(outputs, "interrupted", "interrupted", days=1)
    run(outputs, "killed", "running", days=1)
    run(outputs, "other", "completed", accuracy=0.5, days=30, experiment="digits")
    for name, loss in {"lower": 0.1, "higher": 0.2}.items():
        folder = run(outputs, name, "completed", accuracy=loss, days=30, experiment="losses")
        records = folder / "metrics.jsonl"
        records.write_text(records.read_text().replace("accuracy", "loss"))
        os.utime(records, (time.time() - 30 * DAY,) * 2)
    run(outputs, "broken", None)
    return outputs


@pytest.mark.parametrize(
    ("words", "gone"),
    [
        ("--failed", {"failed", "failed-long-ago", "broken"}),
        ("--unfinished", {"interrupted", "killed"}),
        ("--older-than 7d --keep-best 1", {"good", "higher", "failed-long-ago"}),
        ("--failed --older-than 7d --keep-best 3", {"failed-long-ago"}),
        ("--older-than 24h", {*OLD, "good", "better", "higher", "lower", "other"}),
        ("--older-than 1440m", {*OLD, "good", "better", "higher", "lower", "other"}),
        ("--older-than 4w", {"failed-long-ago", "good", "better", "higher", "lower", "other"}),
    ],
)
def test_clean_lists_what_it_would_remove_and_removes_it_with_yes(many, words, gone):
    """The best of runs with an accuracy have the highest, of runs with a loss alone the lowest."""
    everything = left(many)
    said = clean(*words.split())
    assert {found.rpartition("/")[2] for found in re.findall(r"would remove (\S+)", said)} == gone
    assert f"{len(gone)} runs" in said and "--yes" in said and left(many) == everything
    assert f"{len(gone)} of {len(gone)} runs removed" in clean(*words.split(), "--yes")
    assert left(many) == everything - gone


def test_links_are_not_followed_out_of_the_root(many, here):
    outside = run(here, "outside", experiment="elsewhere")
    (many / "link").symlink_to(outside.parent)
    inside = many / "clicks" / "failed-link"
    inside.symlink_to(outside)
    clean("--failed", "--yes")
    for path in (inside, many / ".." / "elsewhere" / "outside", many):
        with pytest.raises(ValueError, match="does not lie below"):
            remove(path, many)
    assert (outside / "run.json").exists()


def test_invalid_options_are_refused(outputs):
    for words, phrase in {
        "": "say which runs",
        "--older-than week": "write a number and a unit",
        "--older-than -3d": "write a number and a unit",
        "--failed --root nowhere": "there is no folder nowhere",
        "--failed --keep-best -1": "--keep-best",
    }.items():
        assert phrase in clean(*words.split(), code=2), words


def test_folders_that_may_hold_anything_else_are_left_alone(outputs):
    (run(outputs, "project") / "config.yaml").unlink()
    run(outputs, "good", "completed", experiment=f"{run(outputs, 'outer').relative_to(outputs)}")
    weights = run(outputs, "broken", None) / "checkpoints" / "latest.pt"
    weights.parent.mkdir()
    weights.write_bytes(b"weights")
    before = left(outputs)
    said = clean("--failed", "--unfinished", "--yes")
    assert NOTHING in said and "skipped" in said and "run.json is broken" in said and left(outputs) == before


@pytest.mark.parametrize("at_work", ["outputs/clicks", "outputs/clicks/one", "outputs/clicks/one/eval/x"])
def test_a_folder_that_a_process_uses_is_spared(outputs, here, at_work):
    folder = run(outputs, "one")
    (folder / "eval" / "x").mkdir(parents=True)
    lock = Lock(here / at_work)
    assert NOTHING in clean("--failed", "--yes")
    assert at_work == "outputs/clicks" or not remove(folder, outputs)
    lock.release()
    assert folder.exists() and "1 of 1 runs removed" in clean("--failed", "--yes")
    assert [path.name for path in outputs.rglob("*")] in ([], ["clicks", ".lock"])  # the root itself stays


def test_a_run_that_cannot_be_read_now_is_named_and_spared(many):
    for name, file in (("good", "run.json"), ("better", "metrics.jsonl")):
        path = many / "clicks" / name / file
        path.unlink()
        path.symlink_to(file)  # which no user can open, not even root
    assert "skipped outputs/clicks/good" in clean("--failed", "--yes")
    said = clean("--older-than", "1d", "--keep-best", "1", "--yes")
    assert "skipped outputs/clicks/good" in said and "skipped outputs/clicks/better" in said
    assert {"good", "better"} <= {path.parent.name for path in many.rglob("config.yaml")} and "failed" not in left(many)


def test_a_removal_that_was_cut_short_leaves_nothing_that_passes_for_a_run(outputs, monkeypatch):
    folder = run(outputs, "one")
    (folder / "plots").mkdir()

    def cannot(path, **_):
        raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))

    with monkeypatch.context() as patch:
        patch.setattr("shutil.rmtree", cannot)
        assert "some runs could not be removed" in clean("--failed", "--yes", code=1)
    assert not folder.exists() and find_runs([outputs]) == ([], [])
    (half,) = folder.parent.iterdir()
    lock = Lock(half)
    assert NOTHING in clean("--unfinished")  # its process is at work
    lock.release()
    assert f"{half.name} (half removed, new, 0.0 MiB)" in clean("--unfinished")
    assert "1 of 1 runs removed" in clean("--unfinished", "--yes")
    assert list(outputs.iterdir()) == []


def test_the_age_is_in_days_or_hours_and_the_size_in_mebibytes(outputs):
    hours = {1.9: "new", 2: "2 hours old", 47.9: "48 hours old", 48: "2 days old"}
    assert {age: RemovableRun(outputs, "failed", 3600 * age, 0.0).age for age in hours} == hours
    (run(outputs, "old", days=3) / "weights.pt").write_bytes(bytes(3 << 20))
    os.utime(outputs / "clicks" / "old", (time.time() - 3 * DAY,) * 2)
    assert "outputs/clicks/old (failed, 3 days old, 3.0 MiB) 1 runs, 3.0 MiB" in clean("--failed")
    os.utime(outputs / "clicks" / "old" / "run.json")  # the last write counts
    assert NOTHING in clean("--failed", "--older-than", "1d")
