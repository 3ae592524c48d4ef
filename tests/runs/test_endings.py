"""How runs begin and end: any error gives a status, a message and error.txt, and each step can be repeated."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import torch

import tracetorch.runs.folder as folder_module
from tests.command_line import CLICKS, TINY, tracetorch
from tests.tiny_training import LONG, PATTERNS, assert_same, facts, train
from tracetorch import plot
from tracetorch.cli import folders
from tracetorch.cli.adapter import compose
from tracetorch.cli.errors import FAILED, UsageError
from tracetorch.cli.execute import conclude, restoring_directory
from tracetorch.files import WriteError, write_whole
from tracetorch.runs import BusyError, Run, RunFolder
from tracetorch.runs.cleanup import choose
from tracetorch.runs.ending import Interrupt, sentence, where
from tracetorch.runs.identity import name_of
from tracetorch.runs.lock import Lock
from tracetorch.runs.records import plain, to_json
from tracetorch.tasks import Patterns
from tracetorch.training import report

NOT_UTF8 = os.fsdecode(b"caf\xe9.npz")


def make(**changes):
    return Run({"seed": 3}, **{"experiment": "tiny", "root": Path("outputs"), "path": Path("r")} | changes)


def part(error):
    raise error


WHERE = f"part (test_endings.py, line {part.__code__.co_firstlineno + 1})"


def full(name):
    """A `write_whole` for a disk without room for a file of this name."""

    def write(path, content):
        if path.name == name:
            raise WriteError(28, "No space left on device", str(path))
        write_whole(path, content)

    return write


@pytest.mark.parametrize(
    ("error", "phrase"),
    [
        (SystemExit("bye"), f"{WHERE} called sys.exit('bye')"),
        (GeneratorExit(), f"GeneratorExit in {WHERE}"),
        (KeyError("subject"), f"KeyError: 'subject' in {WHERE}"),
        (RuntimeError(NOT_UTF8), "RuntimeError: caf"),
    ],
    ids=repr,
)
def test_any_error_of_a_part_fails_the_run_and_names_its_line(here, error, phrase):
    def loop():
        with run:
            run.record({"update": 1})
            part(error)

    run = make()
    outcome = conclude(run, 1, loop)
    assert outcome.code == FAILED and phrase in outcome.message and outcome.message.endswith("(see r)")
    assert (facts(run)["status"], run.status) == ("failed", "failed")
    assert facts(run)["error"].startswith(type(error).__name__)
    trace = (here / "r" / "error.txt").read_text()
    assert trace.startswith("Traceback") and "in part\n" in trace
    assert (here / "r" / "metrics.csv").read_text() == "update\n1\n"
    with pytest.raises(UsageError) as refused:  # the same before the run has begun
        conclude(make(path=Path("q")), 1, lambda: part(error))
    assert phrase in str(refused.value) and "counts as failed" not in str(refused.value) and not Path("q").exists()


def test_an_error_inside_of_the_library_names_the_function_of_the_library():
    with pytest.raises(AttributeError) as caught:
        name_of(3)
    caught.value.__traceback__ = caught.value.__traceback__.tb_next  # as if the library itself had called it
    origin = f"name_of (identity.py, line {name_of.__code__.co_firstlineno + 2})"
    assert sentence(caught.value) == f"AttributeError: 'int' object has no attribute 'rpartition' in {origin}"
    assert (where(caught.value), where(caught.value, ours=False)) == (origin, "")


PART = """
from tracetorch.tasks import Patterns
class Part(Patterns):
    {name} = property({get}, lambda self, value: None)
"""


@pytest.mark.parametrize(
    ("verb", "name", "get", "said"),
    [
        ("run", "metrics", "lambda _: ()", "Part.metrics must be names such as ('accuracy',), at least one; it is ()"),
        (
            "run",
            "metrics",
            "lambda _: (3,)",
            "Part.metrics must be names such as ('accuracy',), at least one; it is (3,)",
        ),
        ("run", "batch_size", "lambda self: 'many'", "Part.batch_size must be a whole number; it is 'many'"),
        ("run", "batch_size", "lambda self: exit(0)", "Part.<lambda> (endings_part.py, line 4) called sys.exit(0)"),
        ("tune", "input_size", "lambda self: {}[1]", "KeyError: 1 in Part.<lambda> (endings_part.py, line 4)"),
    ],
)
def test_a_part_that_fails_between_its_making_and_the_run_is_named(here, monkeypatch, verb, name, get, said):
    (here / "endings_part.py").write_text(PART.format(name=name, get=get))
    monkeypatch.syspath_prepend(str(here))
    searched = ("search=learning_rate",) if verb == "tune" else ()
    ended = tracetorch(verb, "experiment=patterns", *searched, "task._target_=endings_part.Part", *TINY)
    assert (ended.exit_code, ended.stderr) == (2, f"tracetorch: task: {said}\n") and not Path("outputs").exists()
    sys.modules.pop("endings_part")


def test_a_failing_listener_or_a_changed_working_directory_does_not_stop_a_run(here, tmp_path_factory):
    heard = []

    def listen(event, values):
        heard.append(event)
        raise SystemExit(1) if event == "record" else ValueError(event)

    with restoring_directory() as base, make(listener=listen) as run:
        os.chdir(tmp_path_factory.mktemp("elsewhere"))
        run.record({"update": 1})
    assert facts(run)["status"] == "completed" and heard == ["start", "end"]
    assert Path.cwd() == base == here and str(run.shown) == "r" and run.folder.path == here / "r"


def test_values_of_any_kind_become_plain_json():
    itself = []
    itself += [itself, itself]
    found = {
        "numbers": (np.float32(1), np.int64(2), np.bool_(True), torch.tensor(1.5, requires_grad=True), float("nan")),
        "lists": [np.array([1.0, np.inf]), [1, None, (2.0,)], {1: {"a": torch.tensor(3)}}],
        "texts": ["word", b"bytes", 1 + 2j, itself],
    }
    expected = {
        "numbers": [1.0, 2, True, 1.5, None],
        "lists": [[1.0, None], [1, None, [2.0]], {"1": {"a": 3}}],
        "texts": ["word", "b'bytes'", "(1+2j)", ["[[...], [...]]", "[[...], [...]]"]],
    }
    assert repr(plain(found)) == repr(expected) and json.loads(to_json(found)) == expected


@pytest.mark.parametrize("during", ["the last update", "evaluate", "draw"])
def test_ctrl_c_after_training_leaves_an_interrupted_run_whose_test_is_repeated(tmp_path, monkeypatch, during):
    def listen(event, values):
        if during == "the last update" and event == "progress" and values["done"] == values["total"]:
            signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        if hasattr(report, during):
            patch.setattr(report, during, lambda *args, **kwargs: signal.raise_signal(signal.SIGINT))
        run = train(tmp_path, listener=listen, **LONG | {"figures": during == "draw"})
    assert (facts(run)["status"], run.asked_to_stop) == ("interrupted", True)
    resumed = train(tmp_path, resume_from=RunFolder(tmp_path / "run"), **LONG)
    assert_same(resumed, train(tmp_path, name="whole", **LONG))


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="Windows has no SIGHUP")
def test_repeated_sighup_is_one_interruption_and_ignored_under_nohup():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Interrupt() as interrupt:
            signal.raise_signal(signal.SIGHUP)
        assert not interrupt.stop and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        first, interrupt = Interrupt().__enter__(), Interrupt().__enter__()
        for number in (signal.SIGHUP, signal.SIGHUP, signal.SIGTERM, signal.SIGHUP):  # SIGTERM is the first of its kind
            signal.raise_signal(number)
        assert interrupt.stop and first.stop
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        first.__exit__()
        interrupt.__exit__()  # the one that began last ends last, as two runs at once do
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_figure_that_cannot_be_drawn_is_a_warning_and_none_is_written_outside_plots(tmp_path):
    class Drawing(Patterns):
        def example(self):
            return {}["subject"]

        def figures(self, trials):
            with matplotlib.rc_context({"text.usetex": True}), plot.figure() as fig:  # LaTeX is not needed all the same
                fig.subplots().plot([0, 1])
            return {"../../x": fig, "mine": fig}

        def summary(self, trials):
            return {"updates": "many", "mine": np.float32(0.5)}

    run = train(tmp_path, task=Drawing(**PATTERNS), updates=2, figures=True)
    assert (run.summary["updates"], run.summary["mine"]) == (2, 0.5)  # what the run itself counted is not replaced
    broken, outside = facts(run)["warnings"]
    assert broken.startswith("no figure raster: KeyError: 'subject' in ") and "'../../x'" in outside
    assert {path.stem for path in run.folder.plot("x").parent.iterdir()} == {"learning", "parameters", "mine"}
    assert facts(run)["status"] == "completed" and [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_run_without_run_json_is_resumed_and_an_evaluation_is_not(here):
    assert tracetorch("run", *CLICKS, "output.dir=it").exit_code == 0
    name = json.loads(Path("it/run.json").read_text())["experiment"]
    Path("it/run.json").unlink()
    Path("it/metrics.csv").unlink()
    assert tracetorch("resume", "it").exit_code == 0 and Path("it/metrics.csv").exists()
    assert json.loads(Path("it/run.json").read_text())["experiment"] == name != "run"
    assert tracetorch("eval", "it").exit_code == 0
    (folder,) = Path("it/eval").iterdir()
    assert json.loads((folder / "run.json").read_text())["kind"] == "evaluation"
    (folder / "run.json").unlink()  # as an old one, or one that was killed early
    for words in (("resume", str(folder)), ("run", "--from", f"{folder}/../{folder.name}")):
        ended = tracetorch(*words)
        assert ended.exit_code == 2 and "is an evaluation; to start another: tracetorch eval" in ended.stderr


def test_a_config_that_cannot_be_read_again_is_named(here, monkeypatch):
    Path("it").mkdir()
    Path("it/config.yaml").write_text(compose([]).yaml)
    monkeypatch.setattr(folders, "read_text", lambda path: os.close(-1))
    with pytest.raises(UsageError, match=r"it/config\.yaml cannot be read: Bad file descriptor"):
        folders.find_run(Path("it"))


@pytest.mark.parametrize(("removed", "then"), [("metrics.jsonl", "record"), ("metrics.jsonl", "end"), ("", "record")])
def test_a_run_whose_records_are_removed_has_failed(here, removed, then):
    said = f"{removed} was changed during the run" if removed else "r was removed during the run"

    def loop():
        with run:
            run.record({"update": 1})
            shutil.rmtree(here / "r") if not removed else (here / "r" / removed).unlink()
            if then == "record":
                run.record({"update": 2})

    outcome = conclude(run := make(), 1, loop)
    assert outcome.code == FAILED and said in outcome.message and run.status == "failed"
    assert not removed or facts(run)["status"] == "failed"


@pytest.mark.parametrize("kind", ["training", "evaluation"])
def test_a_full_disk_is_named_and_leaves_no_folder(here, monkeypatch, kind):
    monkeypatch.setattr(folder_module, "write_whole", full("run.json"))
    with pytest.raises(UsageError, match=r"cannot write to .*run\.json: No space left on device; ") as refused:
        conclude(run := make(kind=kind), 1, run.__enter__)
    assert ("free some space" in str(refused.value)) == (kind == "evaluation")
    assert list(here.iterdir()) == []


def test_an_output_folder_that_exists_is_named_and_an_empty_one_is_taken(here):
    """A run that is killed between making its folder and writing its config leaves a beginning."""
    for name, files in {"full": ["mine"], "begun": [".lock", "mine"], "killed": [".lock", "overrides.yaml"]}.items():
        Path(name).mkdir()
        for file in files:
            Path(name, file).write_text("mine")
    Path("empty").mkdir()
    Path("link").symlink_to("empty")
    for name in ("full", "begun", "link"):
        with pytest.raises(UsageError, match=rf"output\.dir=.*{name} exists already; name another folder"):
            conclude(run := make(path=Path(name)), 1, run.__enter__)
        assert name == "link" or Path(name, "mine").read_text() == "mine"
    with pytest.raises(TypeError), make(path=Path("empty"), files={"overrides.yaml": "", "config.yaml": None}):
        pass
    assert list(Path("empty").iterdir()) == []  # as it was
    for name in ("empty", "killed"):
        with make(path=Path(name), files={"overrides.yaml": "- a=1\n", "config.yaml": "a: 1\n"}) as run:
            pass
        assert facts(run)["status"] == "completed" and Path(name, "overrides.yaml").read_text() == "- a=1\n"


def test_two_runs_cannot_take_the_same_empty_folder(here):
    Path("r").mkdir()
    late = RunFolder.reserve(here, "tiny", "abcdef", Path("r"))
    with make() as run:
        run.record({"update": 1})
        with pytest.raises(BusyError, match="another process is at work in r"):
            late.take()
    with pytest.raises(FileExistsError):
        late.take()
    assert facts(run)["status"] == "completed" and run.folder.records() == [{"update": 1}]


@pytest.mark.parametrize(("name", "left"), [("sweep", ()), ("study", (".lock", ".study.json.4711"))])
def test_the_folder_of_a_sweep_or_study_that_was_killed_at_its_start_is_used_again(here, name, left):
    words = ("run", "-m", *CLICKS, "seed=0", "output.dir=sweep")
    if name == "study":
        pytest.importorskip("optuna", reason="the extra tune is not installed")
        words = ("tune", "search=learning_rate", *CLICKS, "--trials", "1", "--study", "study")
    Path(name).mkdir()
    for file in left:
        Path(name, file).write_text("")
    ended = tracetorch(*words)
    assert ended.exit_code == 0, ended.output
    assert Path(name, f"{name}.json").exists() and not list(Path(name).glob("*.4711"))


def test_an_evaluation_removes_incomplete_evaluations_of_its_run(here):
    begun, evaluations = (".lock", "overrides.yaml", ".config.yaml.4194304"), here / "eval"
    for name, files in {"eval/killed": begun, "eval/other": (*begun, "mine"), "runs/killed": begun}.items():
        (here / name).mkdir(parents=True)
        for file in files:
            (here / name / file).write_text("")
    for name in ("at work", "running", "failed", "completed"):
        (evaluations / name).mkdir()
        (evaluations / name / "run.json").write_text(json.dumps({"status": name.replace("at work", "running")}))
    (evaluations / "a-file").write_text("")
    (evaluations / ".removing-x" / "half").mkdir(parents=True)
    (evaluations / "link").symlink_to(evaluations / "failed")
    lock = Lock(evaluations / "at work")
    with make(root=here, subfolder="eval", path=None, kind="evaluation") as run:
        run.record({"update": 1, "split": "test", "loss": 0.5})
    lock.release()
    left = {path.name for path in evaluations.iterdir()}
    assert left == {"a-file", "at work", "completed", "link", "other", run.folder.path.name}
    chosen, unread = choose(here / "runs", failed=False, unfinished=True, older_than_seconds=None, keep_best=0)
    assert [(one.path.name, one.status) for one in chosen] == [("killed", "killed")] and not unread


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
def test_a_process_exits_at_once_unless_a_file_is_open_for_writing(here, mode, code, rest):
    Path("mine.txt").write_text("")
    done = subprocess.run([sys.executable, "-c", END, mode, "mine.txt"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (code, f"thread\nhandler\n{rest}", "")
    assert Path("mine.txt").read_text() == ("the last line" if mode == "w" else "")
