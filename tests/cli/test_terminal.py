"""What is printed: on terminals of all kinds, into pipes, full disks and encodings without an arrow; foreign names."""

import io
import json
import os
import re
import subprocess
import sys
import warnings

import pytest

from tests.command_line import CLICKS, app, tracetorch
from tests.run_folders import run_folder
from tests.sweeps import ROOT
from tests.terminals import terminal, tracetorch_in_terminal
from tracetorch.cli import terminal as printing
from tracetorch.cli.display import Display
from tracetorch.cli.sweep import job

EVIL = "\x1b]0;owned\x07\x1b[2J"


def test_a_printed_text_stays_one_line_and_cannot_control_the_terminal(capsys):
    printing.say(f"a  {EVIL}", "b\nc", "[red]:fire:", error=True)
    printing.console().print(f"[bold]:fire: {EVIL}\nd")
    said = capsys.readouterr()
    assert said.err == "a  �]0;owned��[2J\nb c\n[red]:fire:\n"
    assert said.out == "[bold]:fire: �]0;owned�[2J\nd\n"


SHOWN = (
    "run --EVIL",
    "clean --failed --root .",
    "compare .",
    "compare . --metric x",
    "info good",
    "list EVIL",
    "resume good EVIL=1",
)


@pytest.mark.parametrize("typed", [*SHOWN, "show EVIL=1"])
def test_names_in_folders_and_in_typed_words_cannot_control_the_terminal(typed, here):
    summary = {"updates": 60, "accuracy": 0.9, f"m{EVIL}": 0.5}
    run_folder(here / "good", seed=0, summary=summary, facts={f"k{EVIL}": f"v{EVIL}"})
    run_folder(here / f"bad{EVIL}", seed=1, status="failed", facts={"error": EVIL})
    run_folder(here / "b", lr=7, extra=f"{EVIL}[64]").rename(here / os.fsdecode(b"b\xff"))  # a name that is not text
    result = tracetorch(*typed.replace("EVIL", EVIL).split())
    assert typed != "compare ." or "[64]" in result.output
    assert result.output and not [letter for letter in result.output if letter != "\n" and not letter.isprintable()]


STREAMS = """
import io, os, sys
from tracetorch.cli.main import start

def gone():
    reading, writing = os.pipe()
    os.close(reading)
    return writing

def file(name):
    return lambda: os.open(name, os.O_CREAT | os.O_WRONLY)

streams = {"gone": gone, "full": lambda: os.open("/dev/full", os.O_WRONLY), "closed": None}
streams |= {name: file(f"{name}.txt") for name in ("latin-1", "ascii")}
for name, make in streams.items():
    for verb in (["list", "rule"], ["run", *sys.argv[1:], f"output.dir={name}"]):
        sys.stdout = None
        os.close(1)
        if make is not None:
            os.dup2(descriptor := make(), 1)
            how = {"latin-1": ("latin-1", "strict"), "ascii": ("ascii", "surrogateescape")}.get(name, ("utf-8", None))
            sys.stdout = io.TextIOWrapper(io.BufferedWriter(io.FileIO(1, "w", closefd=False)), *how)
        kept, sys.argv = sys.argv, ["tracetorch", *verb]
        try:
            start()
        except SystemExit as ended:
            assert ended.code == (verb[0] == "list" and name in ("gone", "full")), (name, verb, ended.code)
        sys.argv = kept
"""
"""All in one process, for torch is loaded once; each time with streams as at the beginning of a process."""


def test_a_run_continues_without_its_output_and_a_verb_that_only_prints_reports_it(here):
    words, environment = [sys.executable, "-c", STREAMS, *CLICKS, "train.log_every=1"], {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(words, stderr=subprocess.PIPE, text=True, env=os.environ | environment, check=False)
    assert done.returncode == 0, done.stderr
    said = [line for line in done.stderr.splitlines() if not line.startswith("compiling kernels")]
    assert said == ["tracetorch: the standard output cannot be written: No space left on device"] * 2
    for name in ("gone", "full", "closed", "latin-1", "ascii"):
        assert json.loads((here / name / "run.json").read_text())["status"] == "completed", name
    for name in ("latin-1", "ascii"):
        assert f"poisson_clicks on cpu ? {name}" in (here / f"{name}.txt").read_text()


@pytest.mark.parametrize(
    ("full", "words", "code"), [(True, "list rule", 1), (True, "clean --failed --root .", 0), (False, "list rule", 1)]
)
def test_a_lost_output_fails_a_verb_that_only_prints_and_a_closed_pipe_gets_no_message(
    full, words, code, here, monkeypatch, capsys
):
    reading, writing = os.pipe()
    os.close(reading)
    number = os.open("/dev/full", os.O_WRONLY) if full else writing
    raw = io.BufferedWriter(io.FileIO(number, "w", closefd=False))
    monkeypatch.setattr(sys, "stdout", printing._safe(io.TextIOWrapper(raw, "utf-8"), number))
    assert (app(words.split(), standalone_mode=False) or 0) == code
    said = "tracetorch: the standard output cannot be written: No space left on device\n"
    assert capsys.readouterr().err == said * full
    for descriptor in {number, writing}:
        os.close(descriptor)


def test_output_survives_a_closed_stdout_and_a_slow_reader():
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    raw = io.BufferedWriter(io.FileIO(writing, "w", closefd=False))
    stream = printing._safe(io.TextIOWrapper(raw, "utf-8"), writing)
    process = subprocess.Popen(["sh", "-c", "sleep 0.3; wc -c"], stdin=reading, stdout=subprocess.PIPE)
    os.close(reading)
    stream.close()
    print("x" * 10**6, file=stream, flush=True)
    os.close(writing)
    assert int(process.communicate()[0]) == 10**6 + 1


def test_a_job_in_another_process_needs_no_standard_streams(here, monkeypatch):
    saved = [os.dup(number) for number in (1, 2)]
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    try:
        os.close(1)
        job._redirect(here / ".output" / "0.txt")
        print("heard", flush=True)
    finally:
        for number, descriptor in enumerate(saved, 1):
            os.dup2(descriptor, number)
            os.close(descriptor)
    assert (here / ".output" / "0.txt").read_text() == "heard\n"


@pytest.mark.parametrize("module", ["tracetorch", "tracetorch.cli.main"])
def test_the_command_is_a_module(module, here):
    words = [sys.executable, "-W", "error", "-m", module, "list", "rule"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "") and done.stdout.startswith("rule\n")


def test_only_warnings_of_user_code_are_printed_on_one_line(monkeypatch, capsys):
    monkeypatch.setattr(warnings, "showwarning", None)
    monkeypatch.setattr(sys, "warnoptions", [])
    printing.quieten()
    for path in (json.__file__, pytest.__file__, printing.__file__, "<string>", "/my/part.py"):
        warnings.showwarning(UserWarning("of\nmine"), UserWarning, path, 2)
    assert capsys.readouterr().err == "tracetorch: warning: of mine (/my/part.py:2)\n"
    monkeypatch.setattr(sys, "warnoptions", ["error"])
    monkeypatch.setattr(warnings, "showwarning", None)
    printing.quieten()
    assert warnings.showwarning is None


@pytest.mark.parametrize("verb", ["run", "resume", "tune", "plot", "compare", "eval"])
def test_a_verb_that_loads_torch_first_prints_that_it_starts(verb, here, monkeypatch):
    code, shown = tracetorch_in_terminal(monkeypatch, verb, "nothing")
    assert code == 2 and shown == "starting …\r"  # without the end of a line: what comes next takes its place
    assert "starting" not in tracetorch(verb, "nothing").output


LOST = {"from_update": 3, "update": 9, "records": 2}
EVENTS = [
    ("start", {"resumed": False, "device": "cpu", "folder": f"f{EVIL}", "lost": LOST}),
    ("progress", {"done": 1, "total": None, "left": None, "loss": 0.5}),
    ("progress", {"done": 1, "total": 2, "left": 9.5, "loss": float("nan"), "accuracy": 1.0}),
    ("phase", {"name": "evaluate_seconds"}),
    ("record", {"split": "train", "update": 1, "loss": 0.5, "reward": 1.0, "steps_per_second": 1e9}),
    ("record", {"split": "validation", "update": 1, "loss": None, "accuracy": None}),
    ("record", {"split": "test", "update": 2, "accuracy": f"words{EVIL}"}),
    ("end", {"status": "completed"}),
]
PROGRESS = [
    EVENTS[0],
    ("record", {"split": "validation", "update": 1, "accuracy": 0.5, "steps_per_second": 12345.0}),
    ("record", {"split": "train", "update": 1, "accuracy": 0.75}),
    ("progress", {"done": 150, "total": 30000, "left": 61.0, "loss": 0.25, "accuracy": 0.5}),
    ("phase", {"name": "evaluate_seconds"}),
    ("phase", {"name": "plot_seconds"}),
    ("end", {"status": "completed"}),
]


def shown_of(monkeypatch, events, **settings) -> str:
    """What a display of these events shows in a terminal."""
    for name, value in {"TERM": "xterm-256color", **settings}.items():
        monkeypatch.setenv(name, value)
    with terminal(monkeypatch) as shown:
        display = Display("clicks")
        display.metric = "accuracy"
        for event, values in events:
            display(event, values)
            if display._bar:
                display._live.refresh()
    return shown.getvalue().decode()


def test_a_display_works_without_a_metric_and_on_any_terminal(monkeypatch):
    for settings in (
        {"TERM": "dumb"},
        {"COLUMNS": "0", "LINES": "0"},
        {"COLUMNS": "40"},
        {"COLUMNS": "1"},
        {"TERM": ""},
    ):
        with monkeypatch.context() as patched:
            text = shown_of(patched, EVENTS, **settings)
        assert "clicks on cpu → f" in text and "owned\x07" not in text and "\x1b[2J" not in text
        assert "2 records of updates 3 to 9 are lost; metrics.jsonl marks the gap" in text
        assert ("accuracy words" in text) is (settings.get("TERM") == "dumb"), settings  # it gets lines, as a file


@pytest.mark.parametrize("columns", ["40", "80", "100"])
def test_progress_fits_a_narrow_terminal_and_shows_the_phases(columns, monkeypatch):
    text = shown_of(monkeypatch, PROGRESS, COLUMNS=columns)
    for part in ("150/30000", "loss 0.2500", "accuracy 0.5000", "validation 0.5000", "12.3 k steps/s"):
        assert part in text, (part, text)
    assert "…" not in text and "validation 0.7500" not in text and "update " not in text
    assert text.index("150/30000") < text.index("loss 0.2500") and re.search("0:0(1:0|0:5)", text)
    training, testing, drawing = (text.index(word) for word in ("training", "testing", "drawing figures"))
    assert training < testing < drawing
    assert " left" in text[testing:drawing] and " left" in text[drawing:]


def test_records_of_training_are_printed_at_most_every_few_seconds(monkeypatch):
    text = shown_of(monkeypatch, [*EVENTS[:1], EVENTS[4], EVENTS[4]], TERM="dumb")
    assert text.count("train") == 1 and "update      1  train       loss 0.5000  1,000,000.0 k steps/s\r\n" in text
