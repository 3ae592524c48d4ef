"""How runs end and begin: one place says how it ended, whatever was raised, and each step can be repeated."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import matplotlib
import numpy as np
import pytest
import torch

import tracetorch.runs.folder as folder_module
import tracetorch.training.report as report_module
from tests.command_line import CLICKS, TINY, tracetorch
from tests.test_resume import LONG, assert_same
from tests.tiny_training import PATTERNS, facts, train
from tests.tiny_world import Lights, play
from tracetorch import plot
from tracetorch.cli.adapter import compose
from tracetorch.cli.errors import FAILED, INTERRUPTED, UsageError
from tracetorch.cli.execute import conclude, contained
from tracetorch.files import WriteError, remove_remains, remove_remains_of, write_whole
from tracetorch.runs import Run, RunFolder
from tracetorch.runs.cleanup import choose
from tracetorch.runs.ending import Interrupt
from tracetorch.runs.lock import Lock
from tracetorch.runs.records import plain, to_json
from tracetorch.tasks import Patterns
from tracetorch.training import TrainingError

NOT_UTF8 = os.fsdecode(b"caf\xe9.npz")


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def make(**changes):
    return Run({"seed": 3}, **{"experiment": "tiny", "root": Path("outputs"), "path": Path("r")} | changes)


def part(error):
    """What a user's part does."""
    raise error


# ── what parts raise ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("error", "phrase"),
    [
        (SystemExit(0), " called sys.exit(0): the run counts as failed"),
        (SystemExit("bye"), "called sys.exit('bye')"),
        (GeneratorExit(), "GeneratorExit in part"),
        (MemoryError(), "MemoryError in part"),
        (KeyError("subject"), "KeyError: 'subject' in part (test_endings.py"),
        (FileNotFoundError(2, "No such file or directory", "data.npz"), "FileNotFoundError: [Errno 2]"),
        (FileExistsError(17, "File exists", "/"), "FileExistsError: [Errno 17]"),
        (OSError(28, "No space left on device", "data.npz"), "OSError: [Errno 28]"),
        (RuntimeError(NOT_UTF8), "RuntimeError: caf"),
        (ValueError(), "ValueError in part"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_whatever_a_part_raises_the_run_has_failed_and_says_where(here, error, phrase):
    def loop():
        with run:
            run.record({"update": 1})
            part(error)

    run = make()
    outcome = conclude(run, 1, loop)
    assert outcome.code == FAILED and phrase in outcome.message and outcome.message.endswith("(see r)")
    assert (facts(run)["status"], run.status) == ("failed", "failed")
    assert facts(run)["error"].startswith(type(error).__name__)
    assert "in part\n" in (here / "r" / "error.txt").read_text()
    assert (here / "r" / "metrics.csv").read_text() == "update\n1\n"
    with pytest.raises(UsageError) as refused:  # the same before the run has begun
        conclude(make(path=Path("q")), 1, lambda: part(error))
    before = phrase.removesuffix(": the run counts as failed")  # there is no run
    assert before in str(refused.value) and "counts as failed" not in str(refused.value) and not Path("q").exists()


PART = """
import sys
from tracetorch.tasks import Patterns

class Metricless(Patterns):
    metrics = ()

class Untyped(Patterns):
    metrics = None

class Batchless(Patterns):
    batch_size = property(lambda self: {}["subject"], lambda self, value: None)

class Worded(Patterns):
    batch_size = property(lambda self: "many", lambda self, value: None)

class Quitter(Patterns):
    batch_size = property(lambda self: sys.exit(0), lambda self, value: None)

class Sizeless(Patterns):
    input_size = property(lambda self: {}["subject"], lambda self, value: None)
"""
SAID = {
    "Metricless": "task: Metricless.metrics must be names such as ('accuracy',), at least one; it is ()",
    "Untyped": "task: Untyped.metrics must be names such as ('accuracy',), at least one; it is None",
    "Batchless": "task: KeyError: 'subject' in Batchless.<lambda> (endings_part.py, line 12)",
    "Worded": "task: Worded.batch_size must be a whole number; it is 'many'",
    "Quitter": "task: Quitter.<lambda> (endings_part.py, line 18) called sys.exit(0)",
}


@pytest.fixture
def user_part(here, monkeypatch):
    (here / "endings_part.py").write_text(PART)
    monkeypatch.syspath_prepend(str(here))
    yield
    sys.modules.pop("endings_part", None)


@pytest.mark.parametrize("kind", SAID)
def test_a_part_that_fails_between_its_making_and_the_run_is_named(here, user_part, kind):
    words = ("experiment=patterns", f"task._target_=endings_part.{kind}", *TINY)
    ended = tracetorch("run", *words)
    assert (ended.exit_code, ended.stderr) == (2, f"tracetorch: {SAID[kind]}\n") and not Path("outputs").exists()


def test_a_study_names_a_part_that_fails_too(here, user_part):
    words = ("experiment=patterns", "search=learning_rate", *TINY)
    for kind in ("Metricless", "Sizeless"):
        ended = tracetorch("tune", *words, f"task._target_=endings_part.{kind}")
        said = SAID.get(kind, "task: KeyError: 'subject' in Sizeless.<lambda> (endings_part.py, line 21)")
        assert (ended.exit_code, ended.stderr) == (2, f"tracetorch: {said}\n")


def test_a_part_that_changes_the_working_directory_changes_it_for_its_run_alone(here, tmp_path_factory):
    with contained() as base, make() as run:
        os.chdir(tmp_path_factory.mktemp("elsewhere"))
        run.record({"update": 1})
    assert Path.cwd() == base == here
    assert facts(run)["status"] == "completed" and str(run.shown) == "r" and run.folder.path == here / "r"


def test_a_listener_that_fails_is_asked_no_more_but_told_of_the_end(here):
    heard = []

    def listen(event, values):
        heard.append(event)
        raise SystemExit(1) if event == "record" else ValueError(event)

    with make(listener=listen) as run:
        run.record({"update": 1})
    assert facts(run)["status"] == "completed" and heard == ["start", "end"]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.float32(1), 1.0),
        (np.int64(2), 2),
        (np.bool_(True), True),
        (torch.tensor(1.5, requires_grad=True), 1.5),
        (np.array([1.0, np.inf]), [1.0, None]),
        ("word", "word"),
        ([1, None, (2.0,)], [1, None, [2.0]]),
        ({1: {"a": torch.tensor(3)}}, {"1": {"a": 3}}),
        (b"bytes", "b'bytes'"),
        (1 + 2j, "(1+2j)"),
        (float("nan"), None),
    ],
)
def test_a_summary_of_any_kind_is_written_with_its_plain_meaning(value, expected):
    assert plain(value) == expected and type(plain(value)) is type(expected)
    assert json.loads(to_json({"mine": value})) == {"mine": expected}


def test_a_value_that_holds_itself_is_written_too():
    value = []
    value += [value, value]
    assert plain(value) == ["[[...], [...]]", "[[...], [...]]"]


def test_a_summary_does_not_replace_what_the_run_itself_counted(tmp_path):
    class Mine(Patterns):
        def summary(self, trials):
            return {"updates": "many", "mine": np.float32(0.5)}

    found = facts(train(tmp_path, task=Mine(**PATTERNS), updates=2))
    assert found["summary"]["updates"] == 2 and found["summary"]["mine"] == 0.5


@pytest.mark.parametrize("name", ["update", "split", "loss", "steps_per_second", "my_seconds"])
def test_a_metric_with_a_name_that_is_taken_is_refused_before_anything_is_written(tmp_path, name):
    class Mine(Patterns):
        metrics = (name,)

    with pytest.raises(ValueError, match=f"Mine.metrics: '{name}' .* give the metric another name"):
        train(tmp_path, task=Mine(**PATTERNS))
    assert list(tmp_path.iterdir()) == []


def test_a_reward_that_is_no_number_is_called_one(tmp_path):
    class Broken(Lights):
        def act(self, action):
            outcome = super().act(action)
            return outcome._replace(reward=outcome.reward.index_fill(0, torch.tensor([2]), torch.nan))

    with pytest.raises(TrainingError, match="update 1: the reward of Broken in environment 2 is nan"):
        play(tmp_path, task=Broken())


# ── signals ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("during", ["the last update", "the test", "the record of the test", "the figures"])
def test_ctrl_c_after_training_leaves_an_interrupted_run_whose_test_is_repeated(tmp_path, monkeypatch, during):
    def ringing(function):
        def ring(*args, **kwargs):
            signal.raise_signal(signal.SIGINT)
            return function(*args, **kwargs)

        return ring

    def listen(event, values):
        if during == "the last update" and event == "progress" and values["done"] == values["total"]:
            signal.raise_signal(signal.SIGINT)
        if during == "the record of the test" and event == "record" and values["split"] == "test":
            signal.raise_signal(signal.SIGINT)

    whole = train(tmp_path, name="whole", **LONG)
    with monkeypatch.context() as patch:
        if during == "the test":
            patch.setattr(report_module, "evaluate", ringing(report_module.evaluate))
        if during == "the figures":
            patch.setattr(report_module, "draw", ringing(report_module.draw))
        run = train(tmp_path, listener=listen, **LONG | {"figures": during == "the figures"})
    assert (facts(run)["status"], run.asked_to_stop) == ("interrupted", True)
    assert_same(train(tmp_path, resume_from=RunFolder(tmp_path / "run"), **LONG), whole)


def test_a_job_that_was_completed_in_spite_of_a_signal_lets_no_other_begin(tmp_path, monkeypatch):
    from tracetorch.cli.sweep import job

    def execute(*args, **kwargs):
        run = make(path=tmp_path / "r")
        return conclude(run, 1, lambda: run.__enter__().__exit__(None, None, None) or run._interrupt._wish(2, None))

    monkeypatch.setattr(job, "execute", execute)
    assert job._run(tmp_path / "r", SimpleNamespace(composed=None, overrides=[]), None)[0] == INTERRUPTED


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="Windows has no SIGHUP")
def test_a_terminal_that_hangs_up_is_a_wish_as_often_as_it_says_so_and_none_under_nohup():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Interrupt() as wish:
            signal.raise_signal(signal.SIGHUP)
        assert not wish.stop and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        with Interrupt() as wish:
            signal.raise_signal(signal.SIGHUP)
            signal.raise_signal(signal.SIGHUP)
            assert wish.stop
            signal.raise_signal(signal.SIGTERM)  # the first of its kind
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGHUP, before)


# ── figures ─────────────────────────────────────────────────────────────────────────────────────────────────────────


class Drawing(Patterns):
    def figures(self, trials):
        with plot.figure() as fig:
            fig.subplots().plot([0, 1])
        return {"../../x": fig, "mine": fig} if self.seed else {}["subject"]


@pytest.mark.parametrize(
    ("seed", "phrases"), [(0, ["no figure of Drawing: KeyError: 'subject' in Drawing.figures"]), (1, ["'../../x'"])]
)
def test_a_figure_that_cannot_be_drawn_is_a_warning_and_none_lies_outside_of_plots(tmp_path, seed, phrases):
    run = train(tmp_path, task=Drawing(**PATTERNS, seed=seed), updates=2, figures=True)
    found = facts(run)
    assert found["status"] == "completed" and len(found["warnings"]) == len(phrases)
    assert all(phrase in warning for phrase, warning in zip(phrases, found["warnings"], strict=True))
    drawn = {path.stem for path in run.folder.plot("x").parent.iterdir()}
    assert {"learning", "raster"} <= drawn and ("mine" in drawn) == bool(seed)
    assert not list(tmp_path.glob("x*")) and {path.name for path in tmp_path.iterdir()} == {"run"}


def test_a_figure_needs_no_latex_whatever_a_person_has_set(tmp_path):
    with matplotlib.rc_context({"text.usetex": True}), plot.figure() as fig:
        fig.subplots().plot([0, 1])
    with matplotlib.rc_context({"text.usetex": True}):
        assert all(path.exists() for path in plot.save(fig, tmp_path / "it"))


def test_a_disk_that_is_full_when_figures_are_drawn_is_no_fault_of_a_figure(tmp_path, monkeypatch):
    def full(path, content):
        raise WriteError(28, "No space left on device", str(path))

    monkeypatch.setattr("tracetorch.plot.style.write_whole", full)
    with pytest.raises(WriteError):
        train(tmp_path, updates=2, figures=True)


# ── steps that can be repeated ──────────────────────────────────────────────────────────────────────────────────────


def test_the_last_file_of_each_end_says_that_the_others_are_there(here, monkeypatch):
    names = []

    def note(path, content):
        names.append(path.name)
        write_whole(path, content)

    monkeypatch.setattr(folder_module, "write_whole", note)
    with make(files={"overrides.yaml": "[]\n", "config.yaml": "seed: 3\n"}) as run:
        assert names == ["overrides.yaml", "config.yaml", "run.json"]
        (run.folder.path / "config.yaml").unlink()
    assert names[3:] == ["config.yaml", "metrics.csv", "run.json"]


def test_a_run_without_run_json_goes_on_under_its_name_and_an_evaluation_does_not(here):
    assert tracetorch("run", *CLICKS, "output.dir=it").exit_code == 0
    name = json.loads(Path("it/run.json").read_text())["experiment"]
    for path in ("it/run.json", "it/metrics.csv"):
        Path(path).unlink()
    assert tracetorch("resume", "it").exit_code == 0
    assert json.loads(Path("it/run.json").read_text())["experiment"] == name != "run"
    assert Path("it/metrics.csv").exists()

    assert tracetorch("eval", "it").exit_code == 0
    (folder,) = Path("it/eval").iterdir()
    assert json.loads((folder / "run.json").read_text())["kind"] == "evaluation"
    Path("link").symlink_to(folder)
    around = f"{folder}/../{folder.name}"
    for _ in range(2):  # the second time as an old one, or one that was killed early
        for words in (("resume", str(folder)), ("run", "--from", str(folder)), ("resume", "link"), ("resume", around)):
            ended = tracetorch(*words)
            assert ended.exit_code == 2 and "is an evaluation; to start another: tracetorch eval" in ended.stderr
        (folder / "run.json").unlink(missing_ok=True)
    assert not (folder / "checkpoints").exists()


def test_a_config_that_can_be_read_only_once_is_named(here, monkeypatch):
    import tracetorch.cli.folders as folders

    def broken(path):
        raise OSError(5, "Input/output error", str(path))

    Path("it").mkdir()
    Path("it/config.yaml").write_text(compose([]).yaml)
    Path("it/run.json").write_text('{"status": "failed", "experiment": "mine"}')
    monkeypatch.setattr(folders, "read_text", broken)
    assert folders.find_run(Path("it")).composed.experiment == "mine"
    Path("it/run.json").unlink()
    with pytest.raises(UsageError, match=r"it/config\.yaml cannot be read: Input/output error"):
        folders.find_run(Path("it"))


def test_records_that_vanish_under_a_run_end_it_as_failed(here):
    def loop(when):
        with run:
            run.record({"update": 1})
            (run.folder.path / "metrics.jsonl").unlink()
            if when == "in between":
                run.record({"update": 2})

    for when in ("in between", "at the end"):
        run = make(path=Path(when.replace(" ", "")))
        outcome = conclude(run, 1, lambda when=when: loop(when))
        assert outcome.code == FAILED and "metrics.jsonl was changed during the run" in outcome.message
        assert facts(run)["status"] == "failed"


@pytest.mark.parametrize("kind", ["training", "evaluation"])
def test_a_full_disk_is_told_as_what_it_is_and_leaves_no_folder(here, monkeypatch, kind):
    def full(path, content):
        if path.name == "run.json":
            raise WriteError(28, "No space left on device", str(path))
        write_whole(path, content)

    monkeypatch.setattr(folder_module, "write_whole", full)
    with pytest.raises(UsageError, match=r"cannot write to .*run\.json: No space left on device; ") as refused:
        conclude(run := make(kind=kind), 1, run.__enter__)
    assert ("free some space" in str(refused.value)) == (kind == "evaluation")
    assert list(here.iterdir()) == []


def test_an_output_folder_that_exists_is_named(here):
    Path("r").mkdir()
    Path("r/mine").write_text("mine")
    Path("empty").mkdir()
    Path("link").symlink_to("empty")
    for name in ("r", "link"):
        with pytest.raises(UsageError, match=rf"output\.dir=.*{name} exists already; name another folder"):
            conclude(run := make(path=Path(name)), 1, run.__enter__)
    assert sorted(path.name for path in here.rglob("*")) == ["empty", "link", "mine", "r"]


def test_an_empty_folder_is_taken_and_given_back_empty(here):
    """A run that is killed between making its folder and locking it leaves one."""
    Path("r").mkdir()
    with pytest.raises(TypeError), make(files={"overrides.yaml": "", "config.yaml": None}):
        pass
    assert list(here.iterdir()) == [here / "r"] and list(Path("r").iterdir()) == []
    with make() as run:
        pass
    assert facts(run)["status"] == "completed"


@pytest.mark.parametrize("when", ["at work", "done"])
def test_of_two_runs_that_find_the_same_empty_folder_one_gets_it(here, monkeypatch, when):
    Path("r").mkdir()
    before, reserve, others = signal.getsignal(signal.SIGINT), RunFolder.reserve, []

    def late(*words):
        folder = reserve(*words)
        if not others:
            others.append(make())
            others[0].__enter__()
            others[0].record({"update": 1})
            if when == "done":
                others[0].__exit__(None, None, None)
        return folder

    monkeypatch.setattr(RunFolder, "reserve", late)
    phrase = "another process is at work in" if when == "at work" else "exists already; name another folder"
    with pytest.raises(UsageError, match=phrase):
        conclude(run := make(), 1, run.__enter__)
    if when == "at work":
        others[0].__exit__(None, None, None)
    assert facts(others[0])["status"] == "completed" and others[0].folder.records() == [{"update": 1}]
    assert signal.getsignal(signal.SIGINT) is before, "the one that began last ended first"


@pytest.mark.parametrize(("name", "left"), [("sweep", ".sweep.json.4711"), ("study", ".study.json.4711")])
@pytest.mark.parametrize("moment", ["made", "locked", "half written"])
def test_a_sweep_or_study_that_was_killed_before_its_file_is_begun_again(here, name, left, moment):
    words = ("run", "-m", *CLICKS, "seed=0", "output.dir=sweep")
    if name == "study":
        pytest.importorskip("optuna", reason="the extra tune is not installed")
        words = ("tune", "search=learning_rate", *CLICKS, "--trials", "1", "--study", "study")
    Path(name).mkdir()
    for file in {"made": (), "locked": (".lock",), "half written": (".lock", left)}[moment]:
        Path(name, file).write_text("")
    ended = tracetorch(*words)
    assert ended.exit_code == 0, ended.output
    assert Path(name, f"{name}.json").exists() and not Path(name, left).exists()


def test_a_folder_of_a_run_that_was_killed_before_its_config_is_taken_again(here):
    (here / "r").mkdir()
    for name in (".lock", "overrides.yaml", ".config.yaml.123"):
        (here / "r" / name).write_text("")
    with make(path=Path("r"), files={"overrides.yaml": "- a=1\n", "config.yaml": "a: 1\n"}) as run:
        run.record({"update": 1, "split": "train", "loss": 0.5})
    assert {path.name for path in (here / "r").iterdir()} >= {"run.json", "config.yaml", "overrides.yaml"}
    assert (here / "r" / "overrides.yaml").read_text() == "- a=1\n" and not (here / "r" / ".config.yaml.123").exists()
    (here / "s").mkdir()
    (here / "s" / ".lock").write_text("")
    (here / "s" / "mine.txt").write_text("mine")
    with pytest.raises(OSError), make(path=Path("s")):
        pass
    assert (here / "s" / "mine.txt").read_text() == "mine"


def test_what_a_killed_process_had_begun_to_write_goes_and_what_a_living_one_writes_stays(here):
    ended = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    dead, alive = here / f".a.png.{ended.stdout.decode().strip()}", here / f".a.png.{os.getppid()}"
    for path in (dead, alive, here / ".hidden.txt"):
        path.write_text("")
    remove_remains_of(here / "a.png")
    assert not dead.exists() and alive.exists() and (here / ".hidden.txt").exists()
    remove_remains(here)
    assert not alive.exists() and (here / ".hidden.txt").exists()


def test_an_evaluation_removes_those_that_are_not_complete_and_clean_lists_those_of_runs(here):
    for name in ("eval/killed", "eval/other", "runs/killed"):
        (here / name).mkdir(parents=True)
        for file in (".lock", "overrides.yaml", ".config.yaml.4194304"):
            (here / name / file).write_text("")
    (here / "eval" / "other" / "mine").write_text("")
    (here / "eval" / "a-file").write_text("")
    for status in ("running", "failed", "interrupted", "completed", "at work"):
        (here / "eval" / status).mkdir()
        (here / "eval" / status / "run.json").write_text(json.dumps({"status": status.replace("at work", "running")}))
    lock = Lock(here / "eval" / "at work")
    (here / "eval" / ".removing-x" / "half").mkdir(parents=True)
    (here / "eval" / "link").symlink_to(here / "eval" / "failed")
    with make(root=here, below="eval", path=None, kind="evaluation") as run:
        run.record({"update": 1, "split": "test", "loss": 0.5})
    lock.release()
    left = {path.name for path in (here / "eval").iterdir()}
    assert left == {"a-file", "at work", "completed", "link", "other", run.folder.path.name}
    assert (here / "eval" / "other" / "mine").exists()
    chosen, unread = choose(here / "runs", failed=False, unfinished=True, older_than_seconds=None, keep_best=0)
    assert [(one.path.name, one.status) for one in chosen] == [("killed", "killed")] and not unread


# ── the end of the process ──────────────────────────────────────────────────────────────────────────────────────────

END = """
import atexit, os, sys, threading, time
from tracetorch.cli.main import leave
atexit.register(print, "handler")
threading.Timer(0.2, print, ["thread"]).start()
class Unloaded:
    def __del__(self):
        os.write(1, b"unloaded\\n")
kept = Unloaded()
kept.itself = kept
file = open(sys.argv[2], sys.argv[1])
if sys.argv[1] == "w":
    file.write("the last line")
leave(7)
sys.exit(8)
"""


@pytest.mark.skipif(not Path("/dev/fd").is_dir(), reason="which files are open is not known")
@pytest.mark.parametrize(("mode", "code", "rest"), [("r", 7, ""), ("w", 8, "unloaded\n")])
def test_a_process_ends_without_unloading_unless_a_file_is_open_for_writing(here, mode, code, rest):
    Path("mine.txt").write_text("")
    done = subprocess.run([sys.executable, "-c", END, mode, "mine.txt"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (code, f"thread\nhandler\n{rest}", "")
    assert Path("mine.txt").read_text() == ("the last line" if mode == "w" else "")


def test_a_pipe_gets_what_was_written_to_it(here):
    os.mkfifo("pipe")
    with subprocess.Popen([sys.executable, "-c", END, "w", "pipe"], stdout=subprocess.DEVNULL) as process:
        assert Path("pipe").read_text() == "the last line"
    assert process.returncode == 7
