"""Disks that are full or read-only, and broken files: one clear sentence, and nothing else is changed."""

import os
import shutil
import subprocess

import pytest

from tests.command_line import CLICKS, files, tracetorch
from tracetorch.files import WriteError
from tracetorch.runs.folder import state_of

# Enough hidden neurons for a checkpoint larger than the smallest disk below.
BIG = (*CLICKS, "network.hidden=[2000]", "train.updates=3", "train.log_every=1")


@pytest.fixture
def disk(here):
    """A disk of 256 KiB, mounted in the working directory; `disk("size=8m")` remounts it with that option."""
    place = here / "disk"
    place.mkdir()

    def mount(*words):
        return subprocess.run(["mount", *words, place], capture_output=True, check=False).returncode == 0

    if os.name != "posix" or not mount("-t", "tmpfs", "-o", "size=256k", "tmpfs"):
        pytest.skip("mounting a small disk takes root on Linux")
    yield lambda option: mount("-o", f"remount,{option}", "-t", "tmpfs", "tmpfs")
    subprocess.run(["umount", "-l", place], check=True)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished") / "it"
    assert tracetorch("run", *CLICKS, f"output.dir={folder}").exit_code == 0
    return folder


@pytest.fixture
def run_folder(finished, here):
    return shutil.copytree(finished, here / "it")


def flip(path):
    content = bytearray(path.read_bytes())
    for at in range(len(content) // 4, len(content), len(content) // 4):
        content[at] ^= 0xFF
    path.write_bytes(content)


def fails(*words, code=2):
    """The one sentence of a command that ends with this code."""
    ended = tracetorch(*words)
    assert ended.exit_code == code, ended.output
    assert len(ended.stderr.splitlines()) == 1
    return ended.stderr


def test_a_full_disk_fails_the_run_and_resume_continues_with_space(disk, here):
    said = fails("run", *BIG, "output.dir=disk/run", code=1)
    assert "No space left on device" in said and "tracetorch resume disk/run" in said
    assert state_of(here / "disk" / "run").status in (
        "failed",
        "killed",
    )  # killed: no status was written
    assert not [name for name in files(here / "disk") if name.rpartition("/")[2].startswith(".latest")]
    assert disk("size=8m")
    ended = tracetorch("resume", "disk/run")
    assert ended.exit_code == 0, ended.output
    assert tracetorch("run", *BIG, "output.dir=whole").exit_code == 0
    left, right = ((here / name / "trials.csv").read_text() for name in ("disk/run", "whole"))
    assert left == right


def test_every_verb_names_a_read_only_disk_and_changes_nothing(disk, here, finished):
    assert disk("size=8m")
    shutil.copytree(finished, here / "disk" / "done")
    stopped = shutil.copytree(finished, here / "disk" / "stopped") / "run.json"
    stopped.write_text(stopped.read_text().replace('"completed"', '"interrupted"'))
    before = files(here / "disk")
    assert disk("ro")
    for words in (
        ("run", *CLICKS, "output.dir=disk/run"),
        ("run", "-m", *CLICKS, "seed=0,1", "output.dir=disk/sweep"),
        ("eval", "disk/done"),
        ("resume", "disk/stopped"),
        ("plot", "disk/done"),
        ("clean", "--root", "disk", "--older-than", "0m", "--yes"),
    ):
        ended = tracetorch(*words)
        assert ended.exit_code in (1, 2), (words, ended.output)
        assert "Read-only file system" in ended.stderr and len(ended.stderr.splitlines()) == 1, words
        assert files(here / "disk") == before, words


@pytest.mark.parametrize(
    ("name", "spoil", "verb", "phrase"),
    [
        ("run.json", lambda content: content[:99], "info", "run.json is broken"),
        ("run.json", lambda content: b"[]", "info", "run.json is broken: it is not a JSON object"),
        ("run.json", lambda content: b'{"status": 7, "summary": 3}', "eval", ""),
        ("config.yaml", lambda content: b"\xff\xfe\x00", "eval", "config.yaml"),
        ("config.yaml", lambda content: content.replace(b"torch.optim.Adam", b"os.system"), "resume", "not trusted"),
        ("config.yaml", None, "resume", "neither config.yaml nor sweep.json"),
        ("metrics.jsonl", lambda content: content[:-99], "plot", ""),
        ("metrics.jsonl", lambda content: b'{"update": 1\n{"update": 2}\n', "plot", "line 1"),
        ("checkpoints/latest.pt", lambda content: content[:999], "eval", "latest.pt is damaged"),
        ("checkpoints/latest.pt", None, "eval", "there is no checkpoint"),
    ],
)
def test_a_broken_file_is_named(run_folder, name, spoil, verb, phrase):
    content = (run_folder / name).read_bytes()
    (run_folder / name).unlink()
    if spoil:
        (run_folder / name).write_bytes(spoil(content))
    if phrase:
        assert phrase in fails(verb, "it")
    else:
        ended = tracetorch(verb, "it")
        assert (ended.exit_code, ended.stderr) == (0, "")


@pytest.mark.parametrize(("verb", "name", "other"), [("eval", "latest", "best"), ("plot", "best", "latest")])
def test_with_one_damaged_checkpoint_the_intact_one_is_named(run_folder, verb, name, other):
    words = (verb, "it", "--checkpoint")
    flip(run_folder / "checkpoints" / f"{name}.pt")
    said = fails(*words, name)
    assert f"{name}.pt is damaged" in said and f"tracetorch {verb} it --checkpoint {other}" in said
    assert tracetorch(*words, other).exit_code == 0
    if name == "latest":  # from which a run resumes
        (run_folder / "run.json").write_text((run_folder / "run.json").read_text().replace('"completed"', '"running"'))
        copied = "cp it/checkpoints/best.pt it/checkpoints/latest.pt, then tracetorch resume it"
        assert f"is whole; to continue from there: {copied}" in fails("resume", "it")
    flip(run_folder / "checkpoints" / f"{other}.pt")
    assert "whole" not in fails(*words, name)
    (run_folder / "checkpoints" / f"{name}.pt").unlink()
    assert f"there is another: --checkpoint {other}" in fails(*words, name)


def test_resume_of_a_sweep_names_the_file_that_cannot_be_written(here, monkeypatch):
    assert tracetorch("run", "-m", *CLICKS, "seed=0", "output.dir=sweep").exit_code == 0
    (here / "sweep" / "000" / "run.json").unlink()

    def full(path):
        raise WriteError(28, "No space left on device", str(path))

    monkeypatch.setattr("tracetorch.runs.lock.open_to_append", full)
    ended = tracetorch("resume", "sweep")
    assert ended.exit_code == 1
    assert ended.stderr.endswith("cannot write to sweep/.lock: No space left on device\n")
