"""Studies that are stopped, killed, or shared by several processes."""

import itertools
import json
import os
import signal
import threading
import time
from contextlib import chdir
from pathlib import Path

import optuna
import pytest
from optuna.storages import JournalStorage

from tests.command_line import CLICKS, start, tracetorch
from tests.test_tune import SMALL, journal, states, statuses, tune
from tracetorch.cli.tuning import trials
from tracetorch.cli.tuning.study import Study
from tracetorch.cli.tuning.study_folder import read_study
from tracetorch.files import write_whole
from tracetorch.runs.folder import state_of

TAME = ("network.hidden=[16]", "search.space.optimizer.lr.high=0.0003")  # which kills no neurons
LONG = ("tune", "search=learning_rate", *CLICKS, *TAME, "train.eval_every=50", "search.pruner=none", "threads=1")


def wait_for(found, seconds=60.0):
    """What `found` finds, once it finds something."""
    until = time.monotonic() + seconds
    while not (there := found()):
        assert time.monotonic() < until, "it takes too long"
        time.sleep(0.02)
    return there


def begin(updates: int, trials: int) -> int:
    return start(*LONG, f"train.updates={updates}", f"search.trials={trials}", "--study", "study")


def at_work(number: int) -> Path:
    """The folder of a trial, once its run has recorded something."""
    return wait_for(lambda: next(Path("study").glob(f"{number:04d}_*/metrics.jsonl"), None)).parent


def code(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


# ── stopped and killed ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_the_run_in_order_and_the_trial_goes_on(here, number):
    child = begin(updates=500, trials=2)
    folder = at_work(0)
    os.kill(child, number)
    assert code(child) == 130
    assert state_of(folder).status == "interrupted" and (folder / "checkpoints" / "latest.pt").exists()
    assert states() == ["RUNNING"]
    ended = tracetorch("tune", "--study", "study")
    assert ended.exit_code == 0, ended.output
    assert states() == ["COMPLETE"] * 2 and statuses(here / "study") == ["completed"] * 2
    assert len(state_of(folder).facts["resumed"]) == 1


SPACE = "search.space={optimizer.lr: {low: 1e-4, high: 1e-2, log: true}, network.hidden: {choices: [[4], [5], [6]]}}"
SEARCHED = tuple(word for word in SMALL if not word.startswith("network.hidden="))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    with chdir(folder):
        assert tune(SPACE, small=SEARCHED).exit_code == 0
        return journal(), preset_of(folder)


def preset_of(folder: Path) -> str:
    return (folder / "study/presets/experiment/best.yaml").read_text()


@pytest.mark.parametrize(
    ("place", "name", "count"),
    [
        pytest.param(JournalStorage, "set_trial_param", 4, id="between two values"),
        pytest.param(trials, "run_trial", 2, id="before its run"),
        pytest.param(optuna.Trial, "report", 4, id="in its run"),
        pytest.param(Study, "tell", 2, id="after its run"),
        pytest.param(trials, "write_best", 1, id="before its preset"),
    ],
)
def test_a_study_that_was_killed_tries_what_it_would_have_tried(here, undisturbed, monkeypatch, place, name, count):
    before, calls = getattr(place, name), itertools.count(1)

    def call(*words, **options):
        if next(calls) == count:
            os.kill(os.getpid(), signal.SIGKILL)
        return before(*words, **options)

    with monkeypatch.context() as patched:
        patched.setattr(place, name, call)
        words = ("tune", "search=learning_rate", *SEARCHED, "search.trials=3", "--study", "study", SPACE)
        assert code(start(*words)) == -signal.SIGKILL
    ended = tracetorch("tune", "--study", "study")
    assert ended.exit_code == 0 and "3 trials" in ended.stdout, ended.output
    wanted, wanted_preset = undisturbed
    assert [(one.state, one.params, one.value) for one in journal()] == [
        (one.state, one.params, one.value) for one in wanted
    ]
    assert preset_of(here) == wanted_preset
    assert statuses(here / "study") == ["completed"] * 3 and not (here / "study" / ".workers").exists()


# ── shared ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_several_processes_share_a_study(here):
    """They begin it at the same moment: one of them makes the folder, the others join it."""
    children = [begin(updates=60, trials=9) for _ in range(3)]
    assert [code(child) for child in children] == [0, 0, 0]
    found = journal()
    assert [trial.state.name for trial in found] == ["COMPLETE"] * 9
    assert len({trial.params["optimizer.lr"] for trial in found}) == 9
    assert len({trial.user_attrs["worker"] for trial in found}) > 1
    assert statuses(here / "study") == ["completed"] * 9
    best = max(found, key=lambda trial: (trial.value, -trial.number))
    assert f"in trial {best.number}" in (here / "study/presets/experiment/best.yaml").read_text()
    assert not (here / "study" / ".workers").exists()


@pytest.mark.parametrize("there", [(), (".study.json.4711",)])
def test_who_joins_waits_for_a_study_that_is_being_begun(here, there):
    """The folder is made first; then its file is written beside, and renamed."""
    assert tune(trials=1).exit_code == 0
    young = here / "young"
    young.mkdir()
    for name in there:
        (young / name).write_text("half of i")
    late = threading.Timer(0.3, write_whole, (young / "study.json", (here / "study" / "study.json").read_bytes()))
    late.start()
    assert read_study(young) == read_study(here / "study")
    late.join()


def test_nobody_takes_what_another_is_at_work_on(here):
    child = begin(updates=100_000, trials=2)
    at_work(0)
    try:
        begun = json.loads((here / "study" / "study.json").read_text())
        for template in begun["configs"].values():
            template["config"]["train"]["updates"] = 2
        (here / "study" / "study.json").write_text(json.dumps(begun))
        ended = tracetorch("tune", "--study", "study")
    finally:
        os.kill(child, signal.SIGKILL)
        code(child)
    assert ended.exit_code == 0, ended.output
    assert states() == ["RUNNING", "COMPLETE"] and "other processes still run 1 trial" in ended.stdout


def test_a_study_of_something_else_is_not_joined(here):
    assert tune(trials=1).exit_code == 0
    for words in (("search=decays",), ("search=learning_rate", "seed=3")):
        ended = tracetorch("tune", *words, "--study", "study")
        assert ended.exit_code == 2 and "study is a study of search=learning_rate" in ended.stderr
        assert "to continue: tracetorch tune --study study" in ended.stderr
    assert tune(trials=1).exit_code == 0  # the very same
