"""The smallest commands for each verb and training loop, which the drivers disturb; and checks of the result."""

from __future__ import annotations

import csv
import hashlib
import json
import random
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from tests.faults.child import Ended, tracetorch
from tests.faults.disk import KILL, Injection

Words = tuple[str, ...]

_ANY = ("train.figures=false", "network.hidden=[4]", "device=cpu", "threads=1", "train.checkpoint_seconds=0")
_TRIALS = ("test_trials=6", "validation_trials=4", "duration=[0.1]", "delay=0.1", "batch_size=2")
_EVERY = ("train.log_every=1", "train.eval_every=2")
CLICKS: Words = (*_ANY, *_EVERY, "train.updates=4", *(f"task.{override}" for override in _TRIALS))
REWARD: Words = (
    *("experiment=clicks_reward", "train.updates=4"),
    *(*_ANY, *_EVERY),
    *(f"task.task.{override}" for override in _TRIALS),
)
LIFETIME: Words = (
    *("experiment=clicks_lifetime", "train.updates=4", "train.steps=null", "train.log_every=1", "task.every=2"),
    *_ANY,
    *(f"task.environment.task.{override}" for override in ("duration=[0.1]", "delay=0.1")),
)
CARTPOLE: Words = (
    *("experiment=cartpole", "rule=three_factor", "rule.decay=0.8", "train.updates=8", *_ANY),
    *("train.log_every=1", "train.eval_every=3", "train.checkpoint_seconds=1e9"),  # records after the last checkpoint
    *(
        "network.hidden=[8]",
        "task.num_envs=4",
        "task.steps=4",
        "task.encoding=poisson",
        "task.test_episodes=2",
        "task.validation_episodes=1",
        "task.max_episode_steps=9",
    ),
)
SEARCH: Words = ("search=learning_rate", *CLICKS)
SWEEP: Words = ("run", "-m", *CLICKS, "seed=0,1")
GYM = find_spec("gymnasium") is not None
WARM: tuple[Words, ...] = (
    ("run", *CLICKS, "train.figures=true", "output.dir=run"),
    ("run", *REWARD, "output.dir=reward"),
    ("run", *LIFETIME, "output.dir=lifetime"),
    *((("run", *CARTPOLE, "output.dir=cartpole"),) if GYM else ()),
    ("compare", "run", "reward", "--out", "compared"),
    ("tune", *SEARCH, "search.trials=1", "--study", "study"),
)


@dataclass(frozen=True)
class Case:
    """A command to be disturbed.

    Args:
        before: commands that make the files it needs; if `halfway`, the last one is killed halfway.
        continue_with: from the working directory to the commands that complete a disturbed one; None: the same command.
        may_change: pattern of the files of `before` that the command may change or remove.
    """

    name: str
    words: Words
    before: tuple[Words, ...] = ()
    halfway: bool = False
    continue_with: Callable[[Path], list[Words]] | None = None
    may_change: str = ""

    def __str__(self) -> str:
        return self.name

    def next_commands(self, workdir: Path) -> list[Words]:
        """The commands that complete this one after a disturbance."""
        return [self.words] if self.continue_with is None else self.continue_with(workdir)


def _run(*words: str, name: str = "it") -> Words:
    return ("run", *words, f"output.dir={name}")


def _resume(words: Words, name: str = "it", file: str = "config.yaml") -> Callable[[Path], list[Words]]:
    return lambda workdir: [("resume", name) if (workdir / name / file).exists() else words]


def _resumable(name: str, words: Words) -> Case:
    return Case(name, words, continue_with=_resume(words))


def _evaluated(workdir: Path) -> list[Words]:
    is_done = any('"completed"' in path.read_text() for path in workdir.glob("done/eval/*/run.json"))
    return [] if is_done else [("eval", "done")]


_DONE = _run(*CLICKS, name="done")
_OTHER = _run(*CLICKS, "seed=1", "optimizer.lr=0.01", name="other")
_FAILS = _run(*CLICKS, "network.neuron.threshold=1e6", name="failed")
_TUNE: Words = ("tune", *SEARCH, "search.trials=3", "--study", "it")
_SWEEP: Words = (*SWEEP, "output.dir=it")
_FROM: Words = ("run", "--from", "done", "output.dir=it")
_CLEAN: Words = ("clean", "--failed", "--unfinished", "--yes", "--root", ".")

CASES: list[Case] = [
    _resumable("run", _run(*CLICKS)),
    _resumable("run-reward", _run(*REWARD)),
    _resumable("run-lifetime", _run(*LIFETIME)),
    *([_resumable("run-cartpole", _run(*CARTPOLE))] if GYM else []),
    _resumable(
        "run-rarely-saved", _run(*CLICKS, "train.updates=6", "train.eval_every=4", "train.checkpoint_seconds=1e9")
    ),
    _resumable("run-figures", _run(*CLICKS, "train.figures=true")),
    Case("run-from", _FROM, (_DONE,), continue_with=_resume(_FROM)),
    Case("resume", ("resume", "it"), (_run(*CLICKS),), halfway=True, may_change="it/"),
    Case("resume-reward", ("resume", "it"), (_run(*REWARD),), halfway=True, may_change="it/"),
    Case("resume-lifetime", ("resume", "it"), (_run(*LIFETIME),), halfway=True, may_change="it/"),
    Case("eval", ("eval", "done"), (_DONE,), continue_with=_evaluated),
    Case("plot", ("plot", "done"), (_DONE,)),
    Case("compare", ("compare", "done", "other", "--out", "compared"), (_DONE, _OTHER)),
    Case("compare-below", ("compare", "."), (_DONE, _OTHER)),
    Case("clean", _CLEAN, (_DONE, _FAILS, _run(*CLICKS)), halfway=True, may_change="failed/|it/"),
    Case("sweep", _SWEEP, continue_with=_resume(_SWEEP, file="sweep.json")),
    Case("resume-sweep", ("resume", "it"), (_SWEEP,), halfway=True, may_change="it/"),
    Case(
        "tune",
        _TUNE,
        continue_with=lambda workdir: [("tune", "--study", "it") if (workdir / "it/study.json").exists() else _TUNE],
    ),
    Case("tune-again", ("tune", "--study", "it"), (_TUNE,), halfway=True, may_change="it/"),
]
JOBLIB = Case(
    "sweep-joblib",
    (*_SWEEP, "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"),
    continue_with=lambda workdir: [
        ("resume", "it", "hydra/launcher=basic") if (workdir / "it/sweep.json").exists() else JOBLIB.words,
    ],
)
"""Its jobs run in separate processes, so only the driver `kills` uses it."""
if find_spec("joblib") is not None:
    CASES.append(JOBLIB)


class Stage:
    """Makes a new folder for each try of a case.

    Args: base: an empty folder for all of these.
    """

    def __init__(self, base: Path):
        self._base, self._job, self._number = base, 0, 0
        self._folders: dict[tuple[tuple[Words, ...], bool], Path] = {}
        self._references: dict[str, tuple[list[str], dict[str, Any]]] = {}

    def of_job(self, job: int) -> Stage:
        """Give this copy, in a new process, folders of its own; it keeps the results so far."""
        self._job = job + 1
        return self

    def new_folder(self, case: Case) -> Path:
        """A new folder with the files that the case needs; the previous folder is removed."""
        source = self._prepared(case.before, case.halfway)
        self._number += 1
        parent = self._base / f"now{self._job}"
        shutil.rmtree(parent, ignore_errors=True)
        folder = parent / f"{self._number:05d}"
        shutil.copytree(source, folder, symlinks=True)
        return folder

    def reference(self, case: Case, reads: bool = False) -> tuple[list[str], dict[str, Any]]:
        """The operations of the undisturbed command, and its outcome. Args: reads: list reads instead of changes."""
        key = f"{case.name}{reads}"
        if key not in self._references:
            folder = self.new_folder(case)
            ended = tracetorch(*case.words, cwd=folder, injection=Injection(reads=reads))
            assert ended.code == 0, ended
            self._references[key] = ended.operations, outcome(folder)
        return self._references[key]

    def growth(self, case: Case, measure: Callable[[Path], int]) -> int:
        """By how much the undisturbed command enlarges its folder."""
        folder = self.new_folder(case)
        before = measure(folder)
        assert tracetorch(*case.words, cwd=folder).code == 0
        return measure(folder) - before

    def _prepared(self, before: tuple[Words, ...], halfway: bool) -> Path:
        if (before, halfway) in self._folders:
            return self._folders[before, halfway]
        folder = self._folders[before, halfway] = self._base / f"made{self._job}.{len(self._folders)}"
        folder.mkdir()
        for at, words in enumerate(before):
            injection = Injection()
            if halfway and at == len(before) - 1:
                trial = folder.with_name(f"{folder.name}.trial")
                shutil.copytree(folder, trial)
                injection = Injection(len(tracetorch(*words, cwd=trial).operations) // 2, KILL)
                shutil.rmtree(trial)
            ended = tracetorch(*words, cwd=folder, injection=injection)
            assert ended.code in (0, 1) or ended.is_killed, ended
        return folder


# ── checks of the result ──────────────────────────────────────────────────────────────────────────────────────────────

DOCUMENTED = (0, 1, 2, 3, 130)
_STAMP = re.compile(r"\d{8}-\d{6}-([0-9a-f]{6})(-\d+)?")
_CLOCK = re.compile(r"(_seconds|_per_second|_bytes)$")
_TEMPORARY = re.compile(r"(^|/)\.(?!lock$|output)")


def wrong_output(ended: Ended) -> str:
    """The fault in the exit code or the messages of a command; "" if there is none."""
    if ended.code not in DOCUMENTED:
        return f"exit code {ended.code}: {ended.err[-300:]}"
    output = ended.out + ended.err
    for phrase in ("Traceback", "should not have happened", "TheSecretOfThisUser"):
        if phrase in output:
            return f"it prints {phrase}: {output[max(0, output.find(phrase) - 100) :][:400]}"
    if odd := {letter for letter in output if not letter.isprintable() and letter != "\n"}:
        return f"control characters {odd} in {output[-300:]!r}"
    lines = ended.err.count("\n")
    if ended.code in (1, 2) and not (1 <= lines <= 2):
        return f"exit code {ended.code} with {lines} lines on stderr: {ended.err[-300:]}"
    if ended.alerts:
        return f"it started {ended.alerts}"
    return ""


def contents(workdir: Path) -> dict[str, str]:
    """The digest of each file below a folder, and the target of each link."""
    found = {}
    for path in sorted(workdir.rglob("*")):
        name = path.relative_to(workdir).as_posix()
        if path.is_symlink():
            found[name] = f"link to {path.readlink()}"
        elif path.is_file():
            found[name] = digest(path)
    return found


def digest(path: Path) -> str:
    """The digest of a file's content."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def first_lost(before: dict[str, str], workdir: Path, case: Case) -> str:
    """The first file of `before` that changed or disappeared although the command may not change it; "" if none."""
    may_change = re.compile(case.may_change) if case.may_change else None
    after = contents(workdir)
    for name, content in before.items():
        if name.endswith(".lock") or (may_change and may_change.match(name)) or name.startswith("done/plots/"):
            continue
        if after.get(name) != content:
            return f"{name} is {'missing' if name not in after else 'changed'}"
    return ""


def completed_files(workdir: Path) -> dict[str, str]:
    """Digests of the records and weights of completed runs, which must not change any more, by file."""
    found = {}
    for path in workdir.rglob("run.json"):
        if path.is_file() and not path.is_symlink() and '"status": "completed"' in path.read_text():
            for file in ("run.json", "config.yaml", "metrics.jsonl", "trials.csv", "checkpoints/latest.pt"):
                content = path.parent / file
                if content.is_file():
                    found[content.relative_to(workdir).as_posix()] = digest(content)
    return found


def unfinished(workdir: Path) -> list[str]:
    """Temporary files and folders of unfinished writes and removals."""
    names = [path.relative_to(workdir).as_posix() for path in workdir.rglob("*")]
    return sorted(name for name in names if _TEMPORARY.search(name))


def outcome(workdir: Path) -> dict[str, Any]:
    """The content of the files below a folder, without dates and durations; by name, without dates."""
    found: dict[str, Any] = {}
    for path in sorted(workdir.rglob("*")):
        name = _STAMP.sub(r"STAMP-\1", path.relative_to(workdir).as_posix())
        if path.name == ".lock" or ".output/" in name or not path.is_file():
            continue
        while name in found:
            name += "+"
        found[name] = _comparable(path)
    return found


def difference(expected: dict[str, Any], workdir: Path) -> str:
    """The first difference between a folder and the expected outcome; "" if there is none."""
    found = outcome(workdir)
    if missing := sorted(expected.keys() - found.keys()):
        return f"missing: {', '.join(missing[:5])}"
    if more := sorted(found.keys() - expected.keys()):
        return f"left over: {', '.join(more[:5])}"
    for name, value in expected.items():
        if found[name] != value:
            return f"{name} differs: {_first_difference(value, found[name])}"
    return ""


def _first_difference(one: Any, other: Any) -> str:
    if isinstance(one, dict) and isinstance(other, dict):
        for name in {**one, **other}:
            if one.get(name) != other.get(name):
                return f"{name}: {_first_difference(one.get(name), other.get(name))}"
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for at, (left, right) in enumerate(zip(one, other, strict=True)):
            if left != right:
                return f"{at}: {_first_difference(left, right)}"
    return f"{str(one)[:120]} → {str(other)[:120]}"


def _comparable(path: Path) -> Any:
    if path.name == "run.json":
        facts = json.loads(path.read_text())
        kept = {name: facts.get(name) for name in ("status", "experiment", "id", "group", "error", "planned_updates")}
        return kept | {"summary": _timeless(facts.get("summary") or {})}
    if path.name == "metrics.jsonl":
        return [_timeless(json.loads(line)) for line in path.read_text().splitlines()]
    if path.suffix == ".csv":
        with path.open(newline="") as file:
            rows = [_timeless(row) for row in csv.DictReader(file)]
        return [{name: _STAMP.sub("STAMP", str(value)) for name, value in row.items()} for row in rows]
    if path.suffix == ".pt":
        return _weights(path)
    if path.suffix in (".png", ".svg", ".html", ".jsonl"):
        return "exists"
    return _STAMP.sub("STAMP", path.read_text(errors="replace"))


def _timeless(row: dict[str, Any]) -> dict[str, Any]:
    ignored = ("started", "run", "age", "resumed")
    return {name: value for name, value in row.items() if not (_CLOCK.search(name) or name in ignored)}


def _weights(path: Path) -> str:
    content = torch.load(path, map_location="cpu", weights_only=True)
    state = hashlib.sha256()
    parts = {name: part for name, part in content.get("parts", {}).items() if name != "log"}  # "log" contains times
    for value in (*(content.get(name) for name in ("net", "state", "optimizer", "random")), parts):
        _feed(state, value)
    return f"{state.hexdigest()}, update {content.get('update')}"


def _feed(state: Any, value: Any) -> None:
    if isinstance(value, torch.Tensor):
        state.update(value.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    elif isinstance(value, dict):
        for name in value:
            state.update(repr(name).encode())
            _feed(state, value[name])
    elif isinstance(value, list | tuple):
        for inner in value:
            _feed(state, inner)
    else:
        state.update(repr(value).encode())


def complete(case: Case, workdir: Path) -> Iterator[Ended]:
    """Run the commands that complete a disturbed one."""
    for words in case.next_commands(workdir):
        yield tracetorch(*words, cwd=workdir)


def generator(*seed: object) -> random.Random:
    """A random number generator; the same seed gives the same numbers on any machine."""
    return random.Random(repr(seed))
