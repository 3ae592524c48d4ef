"""Searches: what they leave and print, how trials end, studies that are stopped, killed, shared, damaged or foreign."""

import errno
import itertools
import json
import os
import re
import shutil
import signal
import threading
from contextlib import chdir
from pathlib import Path
from types import SimpleNamespace

import optuna
import pytest
import yaml
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from tests import sweeps
from tests.command_line import CLICKS, facts_in, ran, refused, start, tracetorch
from tests.sweeps import wait_until
from tests.terminals import terminal
from tracetorch import files
from tracetorch.cli.folders import find_run
from tracetorch.cli.tuning import study as study_module
from tracetorch.cli.tuning import trials
from tracetorch.cli.tuning.study import Study
from tracetorch.cli.tuning.study_folder import read_study
from tracetorch.cli.tuning.trials import TrialResult
from tracetorch.files import WriteError, write_whole
from tracetorch.runs import Run, RunFolder, lock
from tracetorch.runs.ending import Interrupt
from tracetorch.runs.folder import state_of

SMALL = (*CLICKS, "train.eval_every=1", "search.pruner=none")
FREE = tuple(word for word in SMALL if not word.startswith("network.hidden="))  # for a search over network.hidden


def tune(*words, trials=3, study="study", small=SMALL, call=ran):
    return call("tune", "search=learning_rate", *small, f"search.trials={trials}", "--study", study, *words)


def resume(*words, call=ran):
    return call("tune", "--study", "study", *words)


def folders(study="study") -> list[Path]:
    """The folders of the trials."""
    return sorted(Path(study).glob("0*"))


def statuses() -> list[str]:
    return [state_of(path).status for path in folders()]


def records(folder: Path, split: str = "validation") -> list[dict]:
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [row for row in rows if row["split"] == split]


def journal(study="study") -> list[optuna.trial.FrozenTrial]:
    backend = JournalFileBackend(str(Path(study).resolve() / "study.jsonl"))
    return optuna.load_study(study_name="tune", storage=JournalStorage(backend)).trials


def states() -> list[str]:
    return [trial.state.name for trial in journal()]


def best_trial(trials):
    return max(trials, key=lambda trial: (trial.value, -trial.number))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a study of 3 trials, made once, and what it printed."""
    folder = tmp_path_factory.mktemp("tuned")
    with chdir(folder):
        return folder / "study", tune().stdout


@pytest.fixture
def study(here, finished):
    """A copy of the finished study, in the working directory."""
    return shutil.copytree(finished[0], here / "study")


def test_a_study_has_a_folder_for_each_trial_and_prints_a_table_and_the_next_command(study, finished):
    assert statuses() == ["completed"] * 3
    left = {path.name for path in study.iterdir() if not path.name.startswith("0")}
    assert left == {".lock", "study.json", "study.jsonl", "presets", "plots"}
    assert {path.name for path in (study / "plots").iterdir()} == {"search.png", "search.svg"}
    lines, trials = finished[1].splitlines(), journal()
    assert lines[0] == "poisson_clicks: 3 trials → study"
    assert lines[1].split() == ["trial", "status", "accuracy", "best", "so", "far", "what", "varies"]
    for number, (line, path, trial) in enumerate(zip(lines[2:5], folders(), trials, strict=True)):
        assert path.name == f"{trial.number:04d}_lr={trial.params['optimizer.lr']:.4g}"
        assert trial.value == records(path)[-1]["accuracy"] and list(trial.intermediate_values) == [1, 2]
        typed = (path / "overrides.yaml").read_text()
        assert f"optimizer.lr={trial.params['optimizer.lr']!r}" in typed
        assert "search" not in typed + (path / "config.yaml").read_text()
        so_far = max(trial.value for trial in trials[: number + 1])
        values = [f"{trial.value:.4f}", f"{so_far:.4f}", f"lr={trial.params['optimizer.lr']:.4g}"]
        assert line.split() == [str(number), "completed", *values]
    top = best_trial(trials)
    lr = f"lr={top.params['optimizer.lr']:.4g}"
    assert lines[5:] == [
        f"best: accuracy {top.value:.4f}, trial {top.number}, {lr}",
        f"its run: study/{top.number:04d}_{lr}",
        "to run it with another seed: tracetorch run --config-dir study/presets experiment=best seed=1",
        "figure: study/plots/search.png",
    ]


def test_info_shows_the_search_and_the_status_of_a_study(study, here):
    shown = dict(line.split(maxsplit=1) for line in tracetorch("info", "study").stdout.splitlines())
    assert shown["study"] == "poisson_clicks" and shown["search"] == "maximize accuracy over optimizer.lr"
    assert (shown["status"], shown["trials"]) == ("completed", "3 completed of 3")
    assert shown["best"].startswith("accuracy 0.") and " in trial " in shown["best"]
    assert shown["to"] == "run it  tracetorch run --config-dir study/presets experiment=best seed=1"
    study.rename(here / "it's")
    path = here / "it's" / "study.json"
    path.write_text(path.read_text().replace('"trials": 3', '"trials": 9'))
    shown = tracetorch("info", "it's").stdout
    assert "not completed\n" in shown and "3 completed of 9\n" in shown
    assert """to continue  tracetorch tune --study 'it'"'"'s'\n""" in shown
    assert """to continue it: tracetorch tune --study 'it'"'"'s'""" in refused("resume", "it's")


def test_a_search_over_choices_and_whole_numbers_with_another_seed(here, finished):
    space = "search.space={network.hidden: {choices: [[4], [5, 6]]}, optimizer: {choices: [adam, sgd]}}"
    words = (space, "search.space.train.learn_every={low: 20, high: 40, step: 10}", "seed=1")
    tune(*words, "search.space.optimizer.lr={low: 1e-4, high: 0.3, log: true}", small=FREE)
    for path, trial in zip(folders(), journal(), strict=True):
        assert trial.params["network.hidden"] in ("[4]", "[5,6]") and trial.params["optimizer"] in ("adam", "sgd")
        assert type(trial.params["train.learn_every"]) is int
        assert path.name.startswith(f"{trial.number:04d}_hidden={trial.params['network.hidden']},optimizer=")
        config = yaml.safe_load((path / "config.yaml").read_text())
        assert config["network"]["hidden"] == json.loads(trial.params["network.hidden"])
        assert config["optimizer"]["_target_"].lower().endswith(trial.params["optimizer"])
    rates = [{trial.params["optimizer.lr"] for trial in some} for some in (journal(), journal(finished[0]))]
    assert not rates[0] & rates[1]


def test_a_search_by_return_writes_below_the_folder_of_its_experiment(here):
    parts = ["task.task.validation_trials=10", "task.task.test_trials=10", "task.task.batch_size=4"]
    small = ["experiment=clicks_reward", "train.updates=2", "train.figures=false", "network.hidden=[4]", *parts]
    words = ("search.metric=return", "--trials", "1", "output.root=results")
    ran("tune", "search=learning_rate", *small, *words)
    (folder,) = (here / "results" / "clicks_reward" / "studies").iterdir()
    (trial,) = journal(folder)
    assert trial.value == records(folders(folder)[0])[-1]["return"]


@pytest.mark.parametrize(("metric", "direction", "better"), [("accuracy", "maximize", max), ("loss", "minimize", min)])
def test_with_patience_the_value_is_the_best_validation_record(here, metric, direction, better):
    words = ("train.updates=5", "train.patience=9", f"search.metric={metric}", f"search.direction={direction}")
    ended = tune(*words, trials=2)
    found = [list(trial.intermediate_values.values()) for trial in journal()]
    assert found == [[row[metric] for row in records(path)] for path in folders()]
    values = [trial.value for trial in journal()]
    assert values == [better(some) for some in found]
    assert f"best: {metric} {better(values):.4f}, trial {values.index(better(values))}" in ended.stdout


def test_a_failed_trial_does_not_stop_the_others(here):
    ended = tune("search.space={optimizer.lr: {choices: [0.01, 1e30]}}", "train.updates=6", trials=6)
    assert set(states()) == {"COMPLETE", "FAIL"}
    assert statuses() == [{"FAIL": "failed", "COMPLETE": "completed"}[state] for state in states()]
    assert [(path / "error.txt").exists() for path in folders()] == [state == "FAIL" for state in states()]
    assert ["gradient" in trial.user_attrs.get("error", "") for trial in journal()] == [s == "FAIL" for s in states()]
    failed = [line for line in ended.stdout.splitlines() if " failed " in line]
    assert len(failed) == states().count("FAIL") and all("lr=1e+30: " in line for line in failed)


def test_a_run_that_cannot_begin_leaves_a_folder_with_the_error(here):
    tune("search.space={train.window: {choices: [1, 9998, 9999]}}", trials=4)
    refused = [path for path in folders() if state_of(path).status == "failed"]
    assert refused and all("train.window must lie between 1 and" in (p / "error.txt").read_text() for p in refused)


def test_a_pruned_trial_ends_early_but_not_at_its_last_update(here, monkeypatch):
    def should_prune(trial):
        return trial.number == 1 or trial.study.get_trials(deepcopy=False)[trial.number].last_step == 8

    monkeypatch.setattr(optuna.trial.Trial, "should_prune", should_prune)
    ended = tune("train.updates=8")
    assert states() == ["COMPLETE", "PRUNED", "COMPLETE"]
    pruned = folders()[1]
    run = facts_in(pruned)
    assert (run["status"], run["error"]) == ("interrupted", "pruned at update 2")  # after a quarter
    assert len(records(pruned)) == 2 and not records(pruned, "test")
    assert journal()[1].value == records(pruned)[-1]["accuracy"]
    assert [line.split()[1] for line in ended.stdout.splitlines()[2:5]] == ["completed", "pruned", "completed"]
    shown = tracetorch("info", "study").stdout
    assert "\nstatus     completed\ntrials     2 completed, 1 pruned of 3\n" in shown
    found = find_run(pruned)  # a trial whose process was killed between its run and its record
    for seed, result in ((0, TrialResult("pruned", journal()[1].value)), (1, None)):
        composed = found.composed._replace(config=found.composed.config | {"seed": seed})
        listener = trials.TrialListener(None, read_study(Path("study")).search, None, {})
        again = trials.run_trial(composed, [], pruned, listener)
        assert again == result or "holds a run with another config, which cannot be continued" in again.error
    assert facts_in(pruned) == run


def scripted(monkeypatch, *values, code=0, signals=()):
    """Let each run of a study have one of these values in the middle of its training, and end at once."""
    script = iter(values)

    def execute(composed, overrides, *, path, resume_from, display):
        display("progress", {"done": 5, "total": 10})
        row = {"split": "validation", "update": 5, "accuracy": value} if (value := next(script)) is not ... else {}
        pruned = display("record", row)
        for number in signals:
            signal.raise_signal(number)
        return SimpleNamespace(code=130 if pruned else code, error=None, message="why" * bool(code))

    monkeypatch.setattr(trials, "execute", execute)


def test_a_search_ends_after_five_failures_in_a_row(here, monkeypatch):
    scripted(monkeypatch, *[0.5] * 9, code=1)
    ended = tune(trials=9, call=tracetorch)
    assert ended.exit_code == 1 and states() == ["FAIL"] * 5
    assert "5 trials in a row failed, and none has completed" in ended.stderr
    assert not Path("study/presets").exists()


@pytest.mark.parametrize(("pruner", "sixth"), [("median", "PRUNED"), ("none", "COMPLETE")])
def test_the_sixth_trial_is_pruned_if_it_is_below_the_median(here, monkeypatch, pruner, sixth):
    scripted(monkeypatch, *[0.9] * 5, 0.1)
    tune(f"search.pruner={pruner}", trials=6)
    assert states() == [*["COMPLETE"] * 5, sixth]


def test_an_interrupted_study_ends_with_130_and_names_what_continues_it(here, monkeypatch):
    for code, state in ((130, "RUNNING"), (0, "COMPLETE")):  # the signal comes in the run, or after it
        scripted(monkeypatch, 0.5, code=code, signals=[signal.SIGINT])
        ended = tune("--trials", "2", call=tracetorch)
        assert (ended.exit_code, states()) == (130, [state])
        assert ended.stderr == "tracetorch: interrupted; to continue: tracetorch tune --study study\n"
        assert ("figure: " in ended.stdout) is ("best: " in ended.stdout) is (code == 0)


@pytest.mark.parametrize(
    ("value", "code", "why"),
    [
        (0.5, 1, "why"),
        (..., 0, "accuracy was never measured on validation trials"),
        (float("nan"), 0, "accuracy is not a finite number"),
    ],
)
def test_a_study_without_a_completed_trial_fails(here, monkeypatch, value, code, why):
    scripted(monkeypatch, value, code=code)
    ended = tune(trials=1, call=tracetorch)
    assert ended.exit_code == 1 and f": {why}\n" in ended.stdout and states() == ["FAIL"]
    assert ended.stderr == "tracetorch: no trial is completed: see error.txt in the folders of study\n"


@pytest.mark.slow
def test_a_trial_below_the_median_is_pruned_after_five_trials(here):
    tune("search.pruner=median", "train.updates=20", "optimizer=sgd", "train.eval_every=5", trials=14)
    assert set(states()[:5]) == {"COMPLETE"}
    completed = [trial for trial in journal() if trial.state.name == "COMPLETE"]
    for trial in [trial for trial in journal() if trial.state.name == "PRUNED"]:
        earlier = [other for other in completed if other.number < trial.number]
        middle = sorted(other.intermediate_values[trial.last_step] for other in earlier)
        assert max(trial.intermediate_values.values()) <= middle[len(middle) // 2]


TAME = ("network.hidden=[16]", "search.space.optimizer.lr.high=0.0003")  # learning rates that keep all neurons active
LONG = ("tune", "search=learning_rate", *CLICKS, *TAME, "train.eval_every=50", "search.pruner=none", "threads=1")
SPACE = "search.space={optimizer.lr: {low: 1e-4, high: 1e-2, log: true}, network.hidden: {choices: [[4], [5], [6]]}}"


def start_study(updates: int, trials: int) -> int:
    """Start a study in another process. Returns: its process ID."""
    return start(*LONG, f"train.updates={updates}", f"search.trials={trials}", "--study", "study")


def first_recording_trial() -> Path:
    """The folder of the first trial, once its run has recorded something."""
    wait_until(lambda: list(Path("study").glob("0000_*/metrics.jsonl")))
    return folders()[0]


def exit_code(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_ctrl_c_saves_the_run_and_its_trial_can_be_resumed(here):
    child = start_study(updates=200, trials=2)
    folder = first_recording_trial()
    os.kill(child, signal.SIGINT)
    assert exit_code(child) == 130
    assert state_of(folder).status == "interrupted" and (folder / "checkpoints" / "latest.pt").exists()
    assert states() == ["RUNNING"]
    resume()
    assert states() == ["COMPLETE"] * 2 and statuses() == ["completed"] * 2
    assert len(state_of(folder).facts["resumed"]) == 1


def test_a_nested_interrupt_passes_the_signal_to_the_outer_one():
    with Interrupt() as outer:
        with Interrupt() as inner:
            os.kill(os.getpid(), signal.SIGINT)
            assert inner.stop and outer.stop
        with Interrupt() as next_one:
            assert outer.stop and not next_one.stop
    with Interrupt() as alone:
        assert not alone.stop


def test_in_a_terminal_the_progress_of_a_trial_is_shown(monkeypatch):
    monkeypatch.setattr(sweeps, "PATIENCE", 3.0)
    monkeypatch.setenv("TERM", "xterm")
    with terminal(monkeypatch) as shown, trials.TrialTable("accuracy") as table:
        table.start(Path("study/0003_lr=1"))
        wait_until(lambda: b"0003_lr=1  starts" in shown.getvalue())
        table.show(1500, 20_000, 0.5)
        wait_until(lambda: "0003_lr=1  update 1,500 of 20,000 · accuracy 0.5000".encode() in shown.getvalue())


def outcome() -> tuple:
    """The trials of the study, and its preset."""
    preset = Path("study/presets/experiment/best.yaml").read_text()
    return [(one.state, one.params, one.value) for one in journal()], preset


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    with chdir(tmp_path_factory.mktemp("undisturbed")):
        tune(SPACE, small=FREE)
        return outcome()


@pytest.mark.parametrize(
    ("owner", "method", "count"),
    [
        pytest.param(JournalStorage, "set_trial_param", 4, id="between two values"),
        pytest.param(trials, "run_trial", 2, id="before its run"),
        pytest.param(optuna.Trial, "report", 4, id="in its run"),
        pytest.param(Study, "tell", 2, id="after its run"),
        pytest.param(trials, "write_best", 1, id="before its preset"),
    ],
)
def test_a_killed_study_resumes_with_the_same_trials(here, undisturbed, monkeypatch, owner, method, count):
    before, calls = getattr(owner, method), itertools.count(1)

    def call(*words, **options):
        if next(calls) == count:
            os.kill(os.getpid(), signal.SIGKILL)
        return before(*words, **options)

    with monkeypatch.context() as patched:
        patched.setattr(owner, method, call)
        words = ("tune", "search=learning_rate", *FREE, "search.trials=3", "--study", "study", SPACE)
        assert exit_code(start(*words)) == -signal.SIGKILL
    assert "3 trials" in resume().stdout
    assert outcome() == undisturbed
    assert statuses() == ["completed"] * 3 and not Path("study/.workers").exists()


@pytest.mark.slow
def test_a_resumed_study_runs_the_trials_of_an_uninterrupted_one(here):
    tune(trials=12, study="whole")
    tune("--trials", "5", trials=12)
    assert "12 trials, 5 already started" in resume().stdout
    assert [trial.params for trial in journal()] == [trial.params for trial in journal("whole")]  # 10 are random
    assert "12 already started" in resume().stdout and len(journal()) == 12


def test_several_processes_share_a_study(here):
    """They start it at the same moment: one of them makes the folder, the others join it."""
    children = [start_study(updates=60, trials=9) for _ in range(3)]
    assert [exit_code(child) for child in children] == [0, 0, 0]
    trials = journal()
    assert states() == ["COMPLETE"] * 9 and statuses() == ["completed"] * 9
    assert len({trial.params["optimizer.lr"] for trial in trials}) == 9
    assert len({trial.user_attrs["worker"] for trial in trials}) > 1
    assert f"in trial {best_trial(trials).number}" in Path("study/presets/experiment/best.yaml").read_text()
    assert not Path("study/.workers").exists()


def test_a_joining_process_waits_until_the_study_is_created(study, here):
    """The folder is made first. Then its file is written under a temporary name next to it, and renamed."""
    young = here / "young"
    young.mkdir()
    (young / ".study.json.4711").write_text("half of i")
    late = threading.Timer(0.3, write_whole, (young / "study.json", (study / "study.json").read_bytes()))
    late.start()
    assert read_study(young) == read_study(study)
    late.join()


def test_no_process_takes_a_trial_that_another_process_runs(here):
    child = start_study(updates=100_000, trials=2)
    first_recording_trial()
    try:
        shown = tracetorch("info", "study").stdout
        assert "\nstatus  running\ntrials  1 running of 2\n" in shown and "to continue" not in shown
        begun = json.loads(Path("study/study.json").read_text())
        for template in begun["configs"].values():
            template["config"]["train"]["updates"] = 2
        Path("study/study.json").write_text(json.dumps(begun))
        ended = resume()
    finally:
        os.kill(child, signal.SIGKILL)
        exit_code(child)
    assert states() == ["RUNNING", "COMPLETE"] and "other processes still run 1 trial" in ended.stdout


def test_a_study_that_stays_locked_is_waited_for_until_patience_ends(study, monkeypatch):
    slept, clock = [], iter(range(0, 1000, 25))  # seconds
    monkeypatch.setattr(study_module, "time", SimpleNamespace(monotonic=clock.__next__, sleep=slept.append))
    held = lock.Lock(study)
    said = resume("--trials", "4", call=refused)
    held.release()
    assert "another process has locked" in said and "study for a minute: wait for it, or stop it" in said and slept


def test_a_study_with_other_settings_is_not_joined(study):
    for words in (("search=decays",), ("search=learning_rate", "seed=3")):
        said = resume(*words, call=refused)
        assert "study is a study of search=learning_rate" in said
        assert "to continue: tracetorch tune --study study" in said
    tune()  # the same command continues the study


def test_a_partial_line_of_a_failed_write_is_removed_from_the_journal(study, monkeypatch):
    """Otherwise, the process would append its next line to the partial one."""
    real, before = os.fsync, (study / "study.jsonl").read_bytes()

    def fsync_without_space(number):
        if os.path.samestat(os.fstat(number), (study / "study.jsonl").stat()):
            os.truncate(number, len(before) + 7)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(number)

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", fsync_without_space)
        ended = resume("--trials", "4", call=tracetorch)
    assert ended.exit_code == 1 and "No space left on device" in ended.stderr, ended.output
    assert (study / "study.jsonl").read_bytes() == before
    with (study / "study.jsonl").open("a") as file:
        file.write('{"op_code":4,"worker_id":"')  # of a process that was killed
    resume("--trials", "4")
    assert states() == ["COMPLETE"] * 4


@pytest.mark.parametrize(
    ("name", "content", "phrase"),
    [
        ("study.jsonl", "{}\n", "study.jsonl is broken"),
        ("study.jsonl", "[1]\n{\n{}\n", "study.jsonl is broken (line 1 is not a JSON object)"),
        ("study.jsonl", "[" * 5_000 + "]" * 5_000 + "\n", "study.jsonl is broken (nested more than 64 deep)"),
        ("study.jsonl", os.mkfifo, "is not a regular file"),
        ("study.jsonl", lambda path: path.touch() or os.truncate(path, 65 << 20), "is larger than 67,108,864 bytes"),
        ("study.json", "{", "study.json is broken"),
        ("study.json", '{"experiment": "x", "typed": 3, "overrides": [], "search": {}}', "study.json is broken"),
        ("study.json", '{"experiment": "x", "typed": [3], "overrides": [], "search": {}}', "broken (TypeError)"),
        ("study.json", '{"experiment": "x", "typed": [], "overrides": [], "search": {}}', "search.space is empty"),
        (
            "study.json",
            '{"experiment": "x", "typed": [], "overrides": [], "search": 3}',
            "a search has metric, direction",
        ),
        ("study.json", lambda path: None, "is not the folder of a study"),
    ],
)
def test_a_damaged_study_is_refused(study, name, content, phrase):
    (study / name).unlink()
    if callable(content):
        content(study / name)
    else:
        (study / name).write_text(content)
    assert phrase in resume(call=refused)


def test_a_stale_optuna_lock_of_a_moved_study_does_not_block(study):
    place = study / "study.jsonl.lock"
    place.symlink_to("/nowhere/study.jsonl")
    assert "study.jsonl.lock is a link that leads out of study" in resume("--trials", "4", call=refused)
    place.unlink()
    place.symlink_to("nowhere")
    resume("--trials", "4")
    assert states() == ["COMPLETE"] * 4


NO_SPACE = "No space left on device"


def raise_no_space(*args, **options):
    raise OSError(errno.ENOSPC, NO_SPACE, "study/0000/metrics.jsonl")


def test_a_full_disk_leaves_no_study_and_a_folder_that_is_not_a_study_is_not_changed(here, monkeypatch):
    monkeypatch.setattr("tracetorch.runs.folder.write_whole", raise_no_space)
    assert NO_SPACE in tune(call=refused)
    (here / "study").mkdir()
    (here / "study" / "mine.txt").write_text("mine")
    assert "is not the folder of a study" in tune(call=refused)


@pytest.mark.parametrize("when", ["as it begins", "as it ends"])
def test_a_full_disk_leaves_no_worker_folder(here, monkeypatch, when):
    opened, end, ended_studies = lock.open_to_append, Study.__exit__, []

    def open_or_fail(path):
        if path.parent.parent.name == ".workers" if when == "as it begins" else path.parent in ended_studies:
            raise WriteError(errno.ENOSPC, NO_SPACE, str(path))
        return opened(path)

    with monkeypatch.context() as patched:
        patched.setattr(Study, "__exit__", lambda self, *error: ended_studies.append(self.folder) or end(self, *error))
        patched.setattr(lock, "open_to_append", open_or_fail)
        ended = tune(trials=1, call=tracetorch)
    assert ended.exit_code == (when == "as it begins"), ended.output
    assert list((here / "study").glob(".workers/*")) == []
    resume()
    assert not (here / "study" / ".workers").exists()


@pytest.mark.parametrize("when", ["in the run", "before it", "with the preset"])
def test_a_full_disk_does_not_fail_the_trial(here, monkeypatch, when):
    """The trial can be resumed once there is space."""
    owner, name, word = {
        "in the run": (Run, "record", ""),
        "before it": (RunFolder, "reserve", "0000"),
        "with the preset": (files, "write_whole", "best"),
    }[when]
    before = getattr(owner, name)
    with monkeypatch.context() as patched:
        patched.setattr(
            owner, name, lambda *args, **rest: raise_no_space() if word in str(args) else before(*args, **rest)
        )
        ended = tune(call=tracetorch)
    assert ended.exit_code == 1 and len(ended.stderr.splitlines()) == 1, ended.output
    advice = f"metrics.jsonl: {NO_SPACE}; once it is writable, to continue: tracetorch tune --study study"
    assert advice in ended.stderr
    assert states() == ["COMPLETE" if when == "with the preset" else "RUNNING"]
    resume()
    assert states() == ["COMPLETE"] * 3


OTHERS = ("'$x' is not a key of a config", "would read a file of another folder")
UNTRUSTED, ESCAPED = "os.system", r"\${oc.create:{_target_:os.mkdir,path:harmed}}"


def older(content):
    """A study of an older version: it holds no configs, and its overrides are composed."""
    del content["configs"]
    return content


@pytest.mark.parametrize(
    "how",
    [
        lambda content: older(content)["overrides"].append(f"+task.hook={{_target_: {UNTRUSTED}}}"),
        lambda content: content["search"]["space"].update({"task._target_": {"choices": [UNTRUSTED]}}),
        lambda content: older(content)["search"]["space"].update({"rule": {"choices": [{"_target_": UNTRUSTED}]}}),
        lambda content: content["configs"]["base"]["config"]["task"].update(_target_=UNTRUSTED),
        lambda content: content["configs"]["base"]["config"]["task"].update(label=ESCAPED),
        lambda content: older(content)["overrides"].append(f"task.label='{ESCAPED}'"),
        lambda content: older(content)["overrides"].append("$x=1"),
        lambda content: older(content)["search"]["space"].update({"task": {"choices": ["../../secret"]}}),
        lambda content: older(content)["search"]["space"].update({"task.label": {"choices": ["${oc.env:HOME}"]}}),
    ],
)
def test_a_foreign_study_calls_nothing_untrusted(study, how):
    content = json.loads((study / "study.json").read_text())
    how(content)
    (study / "study.json").write_text(json.dumps(content))
    said = resume("--trials", "4", call=refused)
    assert any(
        why in said for why in (f"'{UNTRUSTED}', which is not trusted", "is chosen by name", "task.label", *OTHERS)
    )


def test_a_foreign_journal_with_other_parameters_or_values_is_refused(study):
    path = study / "study.jsonl"
    found = path.read_text()
    words = found.replace('"param_name":"optimizer.lr"', r'"param_name":"../../x\u001b[31m"')
    choices = found.replace(r"\"high\": 0.3", r"\"high\": 0.4")
    values = re.sub(r'"param_value_internal":[^,}]+', '"param_value_internal":1e300', found)
    for text in (words, choices, values.replace('"state":1', '"state":0')):
        assert text != found
        path.write_text(text)
        said = resume("--trials", "4", call=refused)
        assert "belongs to another search than study.json" in said and "\x1b" not in said and "../.." not in said


def test_the_worker_of_a_foreign_journal_is_not_used_as_a_path(study):
    """The journal marks the trial as running, under a path to a locked folder: the trial is resumed."""
    path, outside = study / "study.jsonl", study.parent / "outside"
    outside.mkdir()
    held = lock.Lock(outside)
    lines = [line for line in path.read_text().splitlines() if not ('"state":1' in line and '"trial_id":2' in line)]
    path.write_text(re.sub('"worker":"[^"]*"', '"worker":"../../outside"', "\n".join(lines)) + "\n")
    before = journal()[2]
    assert states() == ["COMPLETE", "COMPLETE", "RUNNING"]
    resume()
    held.release()
    assert states() == ["COMPLETE"] * 3 and journal()[2].params == before.params
