"""Disks that are full, read-only or gone, and files that are broken: a clear sentence, and nothing else harmed."""

import json
import math
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.command_line import CLICKS, files, tracetorch
from tests.tiny_training import PATTERNS, train
from tracetorch.files import WriteError
from tracetorch.runs.folder import last_record, state_of
from tracetorch.tasks import Patterns
from tracetorch.training.progress import Best

# Hidden neurons enough for a checkpoint that is larger than the smallest disk below.
BIG = (*CLICKS, "network.hidden=[2000]", "train.updates=3", "train.log_every=1")


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def disk(here):
    """A disk of its own, 256 KiB large, mounted in the present folder; `disk("size=8m")` mounts it again as said."""
    place = here / "disk"
    place.mkdir()

    def mount(*words):
        return subprocess.run(["mount", *words, place], capture_output=True, check=False).returncode == 0

    if os.name != "posix" or not mount("-t", "tmpfs", "-o", "size=256k", "tmpfs"):
        pytest.skip("mounting a small disk takes root on Linux")
    yield lambda option: mount("-o", f"remount,{option}", "-t", "tmpfs", "tmpfs")
    subprocess.run(["umount", "-l", place], check=True)


def test_a_full_disk_fails_the_run_and_resume_goes_on_once_there_is_room(disk, here):
    ended = tracetorch("run", *BIG, "output.dir=disk/run")
    assert ended.exit_code == 1, ended.output
    assert "No space left on device" in ended.stderr and "tracetorch resume disk/run" in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
    assert state_of(here / "disk" / "run").status in ("failed", "killed")  # killed, if not even that could be written
    assert not [name for name in files(here / "disk") if name.rpartition("/")[2].startswith(".latest")]
    assert disk("size=8m")
    ended = tracetorch("resume", "disk/run")
    assert ended.exit_code == 0, ended.output
    assert tracetorch("run", *BIG, "output.dir=whole").exit_code == 0
    left, right = ((here / name / "trials.csv").read_text() for name in ("disk/run", "whole"))
    assert left == right


def test_a_disk_that_is_full_from_the_start_takes_no_folder(disk, here):
    (here / "disk" / "full").write_bytes(bytes(256 * 1024))
    ended = tracetorch("run", *CLICKS, "output.dir=disk/run")
    assert ended.exit_code == 2, ended.output
    assert "No space left on device" in ended.stderr and "choose another output.dir" in ended.stderr
    assert files(here / "disk") == {"full"}


@pytest.mark.parametrize("verb", ["run", "sweep", "eval", "resume", "plot", "clean"])
def test_a_disk_that_cannot_be_written_is_told_by_every_verb(disk, here, verb):
    assert disk("size=8m")
    assert tracetorch("run", *CLICKS, "output.dir=disk/done").exit_code == 0
    facts = json.loads((here / "disk" / "done" / "run.json").read_text())
    if verb == "resume":
        (here / "disk" / "done" / "run.json").write_text(json.dumps(facts | {"status": "interrupted"}))
    before = files(here / "disk")
    assert disk("ro")
    words = {
        "run": ("run", *CLICKS, "output.dir=disk/run"),
        "sweep": ("run", "-m", *CLICKS, "seed=0,1", "output.dir=disk/sweep"),
        "eval": ("eval", "disk/done"),
        "resume": ("resume", "disk/done"),
        "plot": ("plot", "disk/done"),
        "clean": ("clean", "--root", "disk", "--older-than", "0m", "--yes"),
    }[verb]
    ended = tracetorch(*words)
    assert ended.exit_code in (1, 2), ended.output
    assert "Read-only file system" in ended.stderr and len(ended.stderr.splitlines()) == 1
    assert files(here / "disk") == before


def test_a_folder_that_is_removed_under_a_run_ends_it_with_a_sentence(here, monkeypatch):
    from tracetorch.cli.display import Display

    def listen(self, values):
        if values["done"] == 2 and Path("it").exists():
            shutil.rmtree("it")

    monkeypatch.setattr(Display, "_progress", listen)
    ended = tracetorch("run", *CLICKS, "train.updates=4", "train.log_every=1", "output.dir=it")
    assert ended.exit_code == 1, ended.output
    assert "it was removed during the run" in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
    assert not Path("it").exists()


def test_folders_may_have_any_name(here):
    name = 'a b ünïcödé 実験/quote\'s "$HOME";/-dash'
    quoted = name.replace("'", "\\'")
    ended = tracetorch("run", *CLICKS, f"output.dir='{quoted}/run'")
    assert ended.exit_code == 0, ended.output
    folder = here / name / "run"
    assert state_of(folder).status == "completed"
    assert tracetorch("info", str(folder)).exit_code == 0
    assert tracetorch("eval", str(folder)).exit_code == 0
    assert tracetorch("plot", str(folder)).exit_code == 0
    ended = tracetorch("run", "-m", *CLICKS, "seed=0,1", f"output.dir='{quoted}/sweep'")
    assert ended.exit_code == 0, ended.output
    shutil.rmtree(here / name / "sweep" / "001_seed=1")
    assert tracetorch("resume", str(here / name / "sweep")).exit_code == 0


# ── broken files ────────────────────────────────────────────────────────────────────────────────────────────────────


def half(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path):
    content = bytearray(path.read_bytes())
    for at in range(len(content) // 4, len(content), len(content) // 4):
        content[at] ^= 0xFF
    path.write_bytes(content)


BROKEN = [
    ("run.json", half, "info", 2, "run.json is broken"),
    ("run.json", half, "eval", 0, ""),
    ("run.json", lambda path: path.write_text("[]"), "info", 2, "run.json"),
    ("run.json", lambda path: path.write_text("3"), "eval", 0, ""),
    ("run.json", lambda path: path.write_text('{"status": 7, "summary": 3}'), "eval", 0, ""),
    ("run.json", lambda path: path.write_bytes(b"\xff\xfe\x00"), "info", 2, "run.json is broken"),
    ("config.yaml", half, "eval", 2, "config"),
    ("config.yaml", lambda path: path.write_bytes(b"\xff\xfe\x00"), "eval", 2, "config.yaml"),
    ("config.yaml", lambda path: path.write_text("- a\n- b\n"), "eval", 2, "is not a config"),
    ("config.yaml", lambda path: path.write_text("seed: ${seed}\n"), "eval", 2, "seed"),
    ("config.yaml", lambda path: path.write_text("a: &a [*a]\n"), "eval", 2, "config.yaml"),
    ("metrics.jsonl", half, "plot", 0, ""),
    ("metrics.jsonl", lambda path: path.write_text('{"update": 1\n{"update": 2}\n'), "plot", 2, "line 1"),
    ("metrics.jsonl", lambda path: path.write_text('[1]\n"x"\n'), "plot", 2, "metrics.jsonl"),
    ("trials.csv", half, "plot", 2, "trials.csv"),
    ("checkpoints/latest.pt", half, "eval", 2, "latest.pt is damaged"),
    ("checkpoints/latest.pt", flip, "eval", 2, "latest.pt is damaged"),
    ("checkpoints/latest.pt", flip, "plot", 2, "latest.pt is damaged"),
    ("checkpoints/latest.pt", lambda path: path.unlink(), "eval", 2, "there is no checkpoint"),
    ("checkpoints/latest.pt", lambda path: (path.unlink(), path.mkdir()), "eval", 2, "there is no checkpoint"),
]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished") / "it"
    assert tracetorch("run", *CLICKS, f"output.dir={folder}").exit_code == 0
    return folder


@pytest.mark.parametrize(("name", "spoil", "verb", "code", "phrase"), BROKEN)
def test_a_broken_file_is_told_by_its_name(finished, here, name, spoil, verb, code, phrase):
    shutil.copytree(finished, here / "it")
    spoil(here / "it" / name)
    ended = tracetorch(verb, "it")
    assert ended.exit_code == code, ended.output
    assert phrase in ended.stderr
    assert len(ended.stderr.splitlines()) == (1 if code else 0)


@pytest.mark.parametrize("verb", ["eval", "plot"])
@pytest.mark.parametrize(("name", "other"), [("latest", "best"), ("best", "latest")])
def test_of_a_damaged_checkpoint_the_whole_one_is_named(finished, here, verb, name, other):
    shutil.copytree(finished, here / "it")
    flip(here / "it" / "checkpoints" / f"{name}.pt")
    ended = tracetorch(verb, "it", "--checkpoint", name)
    assert ended.exit_code == 2
    assert f"{name}.pt is damaged" in ended.stderr and f"tracetorch {verb} it --checkpoint {other}" in ended.stderr
    assert tracetorch(verb, "it", "--checkpoint", other).exit_code == 0
    flip(here / "it" / "checkpoints" / f"{other}.pt")
    assert "whole" not in tracetorch(verb, "it", "--checkpoint", name).stderr
    (here / "it" / "checkpoints" / f"{name}.pt").unlink()
    missing = tracetorch(verb, "it", "--checkpoint", name)
    assert missing.exit_code == 2 and f"there is another: --checkpoint {other}" in missing.stderr


def test_a_run_whose_latest_checkpoint_is_damaged_resumes_from_the_best(finished, here):
    shutil.copytree(finished, here / "it")
    latest, best = (here / "it" / "checkpoints" / f"{name}.pt" for name in ("latest", "best"))
    flip(latest)
    facts = here / "it" / "run.json"
    facts.write_text(facts.read_text().replace('"completed"', '"running"'))
    ended = tracetorch("resume", "it")
    assert ended.exit_code == 2
    copied = "cp it/checkpoints/best.pt it/checkpoints/latest.pt, then tracetorch resume it"
    assert f"is whole; to continue from there: {copied}" in ended.stderr
    shutil.copy(best, latest)
    assert tracetorch("resume", "it").exit_code == 0


def test_a_metric_that_is_no_number_is_no_obstacle(tmp_path):
    best = Best(patience=2)
    assert [best.update(score) for score in (math.nan, 0.5, math.nan, 0.4)] == [True, True, False, False]
    assert best.is_final

    class Blind(Patterns):
        """A task whose judge is never sure."""

        def score(self, output, batch):
            judged = super().score(output, batch)
            return judged | {"accuracy": judged["accuracy"].double() * math.nan}

    run = train(tmp_path, task=Blind(**PATTERNS, seed=0), patience=3)
    assert run.status == "completed"
    assert last_record(run.folder.path)["accuracy"] is None
    assert json.loads((run.folder.path / "run.json").read_text())["summary"]["accuracy"] is None


def test_a_sweep_that_cannot_be_continued_says_what_cannot_be_written(here, monkeypatch):
    assert tracetorch("run", "-m", *CLICKS, "seed=0", "output.dir=sweep").exit_code == 0
    (here / "sweep" / "000" / "run.json").unlink()

    def full(path):
        raise WriteError(28, "No space left on device", str(path))

    monkeypatch.setattr("tracetorch.runs.lock.open_to_append", full)
    ended = tracetorch("resume", "sweep")
    assert ended.exit_code == 1
    assert ended.stderr.endswith("cannot write to sweep/.lock: No space left on device\n")
