"""Removing runs: only those that were asked for, only below the root, and only when told to."""

import errno
import json
import os
import time

import pytest

from tests.command_line import tracetorch
from tracetorch.compare.collect import find_runs
from tracetorch.runs.cleanup import remove
from tracetorch.runs.lock import Lock

DAY = 86400


@pytest.fixture
def outputs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path / "outputs"


def run(outputs, name, status, *, accuracy=None, days=0.0, experiment="clicks"):
    folder = outputs / experiment / name
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps({"status": status, "experiment": experiment}))
    (folder / "config.yaml").write_text("seed: 0\n")
    if accuracy is not None:
        (folder / "metrics.jsonl").write_text(json.dumps({"update": 1, "split": "test", "accuracy": accuracy}) + "\n")
    for path in (*folder.iterdir(), folder):
        os.utime(path, (time.time() - days * DAY,) * 2)
    return folder


def left(outputs):
    return {path.parent.name for path in outputs.rglob("run.json")}


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
    (run(outputs, "broken", "failed") / "run.json").write_text("{")
    return outputs


def test_a_run_with_a_checkpoint_is_not_removed_because_its_record_is_broken(outputs):
    path = run(outputs, "broken", "completed")
    (path / "run.json").write_text("{")
    (path / "checkpoints").mkdir(exist_ok=True)
    (path / "checkpoints" / "latest.pt").write_bytes(b"weights")
    ended = tracetorch("clean", "--failed", "--unfinished", "--yes")
    assert ended.exit_code == 0 and path.is_dir()
    assert "skipped" in ended.output and "run.json is broken" in " ".join(ended.output.split())


CASES = [
    (("--failed",), {"failed", "failed-long-ago", "broken"}),
    (("--unfinished",), {"interrupted", "killed"}),
    (("--older-than", "7d"), {"good", "better", "failed-long-ago", "other"}),
    (("--older-than", "7d", "--keep-best", "1"), {"good", "failed-long-ago"}),
    (("--failed", "--older-than", "7d", "--keep-best", "3"), {"failed-long-ago"}),
    (("--failed", "--unfinished"), {"failed", "failed-long-ago", "broken", "interrupted", "killed"}),
    (
        ("--older-than", "12h"),
        {"good", "better", "failed", "failed-long-ago", "interrupted", "killed", "other"},
    ),
]


@pytest.mark.parametrize(
    ("words", "gone"), CASES, ids=lambda value: " ".join(value) if isinstance(value, tuple) else ""
)
def test_it_says_what_it_would_do_and_does_that_when_told_to(many, words, gone):
    everything = left(many)
    ended = tracetorch("clean", *words)
    assert ended.exit_code == 0, ended.output
    assert left(many) == everything
    named = {
        line.split()[2].rpartition("/")[2] for line in ended.stdout.splitlines() if line.startswith("would remove")
    }
    assert named == gone and f"{len(gone)} runs" in ended.stdout and "--yes" in ended.stdout
    ended = tracetorch("clean", *words, "--yes")
    assert ended.exit_code == 0 and f"{len(gone)} of {len(gone)} runs removed" in ended.stdout
    assert left(many) == everything - gone


def test_a_run_at_work_is_spared(many):
    lock = Lock(many / "clicks" / "killed")
    assert tracetorch("clean", "--unfinished", "--failed", "--yes").exit_code == 0
    assert "killed" in left(many)
    lock.release()


def test_links_are_not_followed_out_of_the_root(many, tmp_path):
    outside = run(tmp_path, "outside", "failed", experiment="elsewhere")
    (many / "link").symlink_to(outside.parent)
    (many / "clicks" / "it").symlink_to(outside)
    assert tracetorch("clean", "--failed", "--yes").exit_code == 0
    assert (outside / "run.json").exists()
    inside = many / "clicks" / "failed-link"
    inside.symlink_to(outside)
    with pytest.raises(ValueError, match="does not lie below"):
        remove(inside, many)
    with pytest.raises(ValueError, match="does not lie below"):
        remove(many / ".." / "elsewhere" / "outside", many)
    assert (outside / "run.json").exists()


def test_folders_that_are_empty_without_their_runs_go_too_but_not_the_root(outputs):
    run(outputs, "one", "failed")
    assert tracetorch("clean", "--failed", "--yes").exit_code == 0
    assert outputs.is_dir() and list(outputs.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "phrase"),
    [
        ((), "say which runs"),
        (("--older-than", "week"), "write a number and a unit"),
        (("--older-than", "-3d"), "write a number and a unit"),
        (("--failed", "--root", "nowhere"), "there is no folder nowhere"),
        (("--failed", "--keep-best", "-1"), "--keep-best"),
    ],
)
def test_what_cannot_be_is_told(outputs, words, phrase):
    outputs.mkdir()
    ended = tracetorch("clean", *words)
    assert ended.exit_code == 2 and phrase in ended.stderr


def test_nothing_to_do_is_said(outputs):
    outputs.mkdir()
    assert "nothing to remove" in tracetorch("clean", "--failed").stdout


def test_what_is_no_run_or_holds_others_is_left_alone(outputs):
    other = run(outputs, "project", "failed")
    (other / "config.yaml").unlink()
    outer = run(outputs, "outer", "failed")
    (outer / "good").mkdir()
    for name in ("run.json", "config.yaml"):
        (outer / "good" / name).write_text((outer / name).read_text().replace("failed", "completed"))
    assert "nothing to remove" in tracetorch("clean", "--failed", "--yes").stdout


def test_the_runs_of_a_sweep_at_work_are_spared(outputs):
    run(outputs, "one", "failed")
    lock = Lock(outputs / "clicks")
    assert "nothing to remove" in tracetorch("clean", "--failed", "--yes").stdout
    lock.release()
    assert "1 of 1 runs removed" in tracetorch("clean", "--failed", "--yes").stdout


def test_a_run_that_cannot_be_read_now_is_named_and_spared(many):
    (many / "clicks" / "good" / "run.json").unlink()
    (many / "clicks" / "good" / "run.json").symlink_to("run.json")  # which no user can open, not even root
    (many / "clicks" / "better" / "metrics.jsonl").unlink()
    (many / "clicks" / "better" / "metrics.jsonl").symlink_to("metrics.jsonl")
    before = left(many) | {"good"}
    for words in (("--failed",), ("--older-than", "1d", "--keep-best", "1")):
        ended = tracetorch("clean", *words, "--yes")
        assert ended.exit_code == 0 and "skipped  outputs/clicks/good" in ended.stdout
    assert "skipped  outputs/clicks/better" in ended.stdout
    assert (many / "clicks" / "good" / "config.yaml").exists() and (many / "clicks" / "better").exists()
    assert "failed" in before - left(many)


def test_a_run_in_which_an_evaluation_is_at_work_is_spared(outputs):
    folder = run(outputs, "one", "failed")
    (folder / "eval" / "x").mkdir(parents=True)
    lock = Lock(folder / "eval" / "x")
    assert "nothing to remove" in tracetorch("clean", "--failed", "--yes").stdout
    assert not remove(folder, outputs) and folder.exists()
    lock.release()
    assert "1 of 1 runs removed" in tracetorch("clean", "--failed", "--yes").stdout


def test_a_removal_that_was_cut_short_leaves_nothing_that_passes_for_a_run(outputs, monkeypatch):
    folder = run(outputs, "one", "failed")
    (folder / "plots").mkdir()

    def cannot(path, **_):
        raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))

    with monkeypatch.context() as patch:
        patch.setattr("shutil.rmtree", cannot)
        ended = tracetorch("clean", "--failed", "--yes")
    assert ended.exit_code == 1 and "some runs could not be removed" in ended.stderr
    assert not folder.exists() and find_runs([outputs]) == ([], [])
    (half,) = folder.parent.iterdir()
    lock = Lock(half)
    assert "nothing to remove" in tracetorch("clean", "--unfinished").stdout  # its process is at work
    lock.release()
    assert f"{half.name}  (half removed" in tracetorch("clean", "--unfinished").stdout
    assert "1 of 1 runs removed" in tracetorch("clean", "--unfinished", "--yes").stdout
    assert list(outputs.iterdir()) == []
