"""What is printed: on terminals of all kinds, into pipes, full disks and encodings without an arrow; foreign names."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.command_line import CLICKS, tracetorch
from tests.run_folders import run_folder
from tests.terminals import terminal, tracetorch_in_terminal
from tracetorch.cli import terminal as printing
from tracetorch.cli.display import Display
from tracetorch.cli.sweep import job

COMMAND = (sys.executable, "-c", "from tracetorch.cli.main import main; main()")
EVIL = "\x1b]0;owned\x07\x1b[2J"

# ── foreign text ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_whatever_a_text_contains_a_line_stays_a_line_and_no_terminal_obeys_it(capsys):
    printing.say(f"a  {EVIL}", "b\nc", "[red]:fire:", error=True)
    printing.console().print(f"[bold]:fire: {EVIL}\nd")
    said = capsys.readouterr()
    assert said.err.split("\n")[1:] == ["b c", "[red]:fire:", ""] and said.err.startswith("a  �]0;owned��[2J")
    assert said.out == "[bold]:fire: �]0;owned�[2J\nd\n"


@pytest.mark.parametrize(
    "words",
    [
        ("clean", "--failed", "--root", "."),
        ("compare", "."),
        ("compare", ".", "--metric", "x"),
        ("info", "good"),
        ("list", f"{EVIL}", "more"),
        ("resume", "good", f"{EVIL}=1"),
        ("show", f"{EVIL}=1"),
    ],
    ids=lambda words: " ".join(words[:1]),
)
def test_no_name_in_a_folder_or_among_what_was_typed_reaches_the_terminal_as_a_command(words, here):
    summary = {"updates": 60, "accuracy": 0.9, f"m{EVIL}": 0.5}
    run_folder(here / "good", seed=0, summary=summary, facts={f"k{EVIL}": f"v{EVIL}"})
    run_folder(here / f"bad{EVIL}", seed=1, status="failed", facts={"error": EVIL})
    result = tracetorch(*words)
    assert result.output and not [letter for letter in result.output if letter != "\n" and not letter.isprintable()]


# ── streams ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def gone() -> int:
    """A pipe that nothing reads."""
    reading, writing = os.pipe()
    os.close(reading)
    return writing


STREAMS = {"gone": gone, "full": lambda: os.open("/dev/full", os.O_WRONLY), "closed": None}
"""What stdout may be: makers of a descriptor."""


@pytest.mark.parametrize(("stdout", "code"), [("gone", 1), ("full", 1), ("closed", 0)])
def test_a_verb_that_only_prints_says_what_became_of_it(stdout, code):
    descriptor = STREAMS[stdout] and STREAMS[stdout]()
    command = [*COMMAND, "list", "rule"] if descriptor else ["sh", "-c", '"$@" >&-', "sh", *COMMAND, "list", "rule"]
    done = subprocess.run(command, stdout=descriptor, stderr=subprocess.PIPE, text=True, check=False)
    full = "tracetorch: the standard output cannot be written: No space left on device\n"
    assert (done.returncode, done.stderr) == (code, full if stdout == "full" else "")


@pytest.mark.parametrize("encoding", ["latin-1", "ascii:surrogateescape"])
def test_letters_that_an_encoding_lacks_are_replaced(encoding):
    words, surroundings = [*COMMAND, "show", "-m", "seed=0,1"], {**os.environ, "PYTHONIOENCODING": encoding}
    done = subprocess.run(words, capture_output=True, env=surroundings, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b": 2 jobs ? outputs" in done.stdout


def test_a_run_goes_on_whatever_becomes_of_its_output(here):
    """All in one process, for torch is loaded once; each time with streams as at the beginning of a process."""
    script = """
import io, os, sys
from tests.test_terminal import STREAMS
from tracetorch.cli.main import start

words = sys.argv[1:]
for name, make in (*STREAMS.items(), ("latin-1", lambda: os.open("said.txt", os.O_CREAT | os.O_WRONLY))):
    sys.stdout = None
    os.close(1)
    if make is not None:
        os.dup2(descriptor := make(), 1)
        encoding = name if name == "latin-1" else "utf-8"
        sys.stdout = io.TextIOWrapper(io.BufferedWriter(io.FileIO(1, "w", closefd=False)), encoding)
    sys.argv[1:] = ["run", *words, f"output.dir={name}"]
    try:
        start()
    except SystemExit as ended:
        assert ended.code == 0, (name, ended.code)
"""
    surroundings = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    words = (*CLICKS, "train.log_every=1")
    done = subprocess.run(
        [sys.executable, "-c", script, *words], stderr=subprocess.PIPE, text=True, env=surroundings, check=False
    )
    assert done.returncode == 0, done.stderr
    said = [line for line in done.stderr.splitlines() if not line.startswith("compiling kernels")]
    assert said == ["tracetorch: the standard output cannot be written: No space left on device"]
    for name in (*STREAMS, "latin-1"):
        assert json.loads((here / name / "run.json").read_text())["status"] == "completed", name
    assert "poisson_clicks on cpu ? latin-1" in (here / "said.txt").read_text()


def test_a_part_that_closes_stdout_or_a_slow_reader_loses_nothing():
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    stream = printing._safe(
        io.TextIOWrapper(io.BufferedWriter(io.FileIO(writing, "w", closefd=False)), "utf-8"), writing
    )
    process = subprocess.Popen(["wc", "-c"], stdin=reading, stdout=subprocess.PIPE)
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
def test_the_command_is_a_module_too(module, here):
    words = [sys.executable, "-W", "error", "-m", module, "list", "rule"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "") and done.stdout.startswith("rule\n")


def test_warnings_of_libraries_are_not_printed_and_those_of_a_part_are_a_line(here):
    (here / "mine.py").write_text("import warnings\nwarnings.warn('of\\nmine', UserWarning)\n")
    script = (
        "import numpy, warnings, sys; from tracetorch.cli.terminal import quieten; quieten();"
        "numpy.mean([]); sys.path.insert(0, '.'); import mine"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.stderr == f"tracetorch: warning: of mine ({here / 'mine.py'}:2)\n"


# ── terminals ───────────────────────────────────────────────────────────────────────────────────────────────────────

EVENTS = [
    ("start", {"resumed": False, "device": "cpu", "folder": f"f{EVIL}"}),
    ("progress", {"done": 1, "total": None, "left": None, "loss": 0.5}),
    ("progress", {"done": 1, "total": 2, "left": 9.5, "loss": float("nan"), "accuracy": 1.0}),
    ("phase", {"name": "evaluate_seconds"}),
    ("record", {"split": "train", "update": 1, "loss": 0.5, "reward": 1.0, "steps_per_second": 1e9}),
    ("record", {"split": "validation", "update": 1, "loss": None, "accuracy": None}),
    ("record", {"split": "test", "update": 2, "accuracy": f"words{EVIL}"}),
    ("end", {"status": "completed"}),
]


def test_a_terminal_shows_testing_and_drawing_as_phases_of_their_own(monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "100")
    events = [
        EVENTS[0],
        ("progress", {"done": 2, "total": 2, "left": 7200.0, "loss": 0.5}),
        ("phase", {"name": "evaluate_seconds"}),
        ("phase", {"name": "plot_seconds"}),
    ]
    with terminal(monkeypatch) as shown:
        display = Display("clicks")
        for event, values in events:
            display(event, values)
            display._live.refresh()
        display("end", {})
    text = shown.getvalue().decode()
    training, testing, drawing = (text.index(word) for word in ("training", "testing", "drawing figures"))
    assert training < testing < drawing
    assert " left" in text[testing:drawing] and " left" in text[drawing:]


@pytest.mark.parametrize("verb", ["run", "resume", "tune", "plot", "compare", "eval"])
def test_a_verb_that_loads_torch_first_shows_on_a_terminal_that_it_has_begun(verb, here, monkeypatch):
    code, shown = tracetorch_in_terminal(monkeypatch, verb, "nothing")
    assert code == 2 and shown == "starting …\r"  # without the end of a line: what comes next takes its place
    assert "starting" not in tracetorch(verb, "nothing").output


@pytest.mark.parametrize(
    "surroundings",
    [
        {"TERM": "dumb"},
        {"COLUMNS": "0", "LINES": "0"},
        {"COLUMNS": "40"},
        {"COLUMNS": "1"},
        {"TERM": ""},
    ],
    ids=str,
)
def test_a_display_needs_no_metric_and_no_good_terminal(surroundings, monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    for name, value in surroundings.items():
        monkeypatch.setenv(name, value)
    with terminal(monkeypatch) as shown:
        display = Display("clicks")
        display.metric = "accuracy"
        for event, values in EVENTS:
            display(event, values)
    text = shown.getvalue().decode()
    assert "clicks on cpu → f" in text and "owned\x07" not in text and "\x1b[2J" not in text
    assert ("accuracy words" in text) is (surroundings.get("TERM") == "dumb")  # it gets lines, as a file


@pytest.mark.parametrize("columns", [40, 80])
def test_progress_is_whole_on_a_narrow_terminal_too(columns, monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", str(columns))
    with terminal(monkeypatch) as shown:
        display = Display("clicks")
        display.metric = "accuracy"
        display("start", {"resumed": False, "device": "cpu", "folder": "a"})
        display("record", {"split": "validation", "update": 1, "accuracy": 0.5, "steps_per_second": 12345.0})
        display("progress", {"done": 150, "total": 30000, "left": 61.0, "loss": 0.25, "accuracy": 0.5})
        display("end", {"status": "completed"})
    text = shown.getvalue().decode()
    for part in ("150/30000", "loss 0.2500", "accuracy 0.5000", "validation 0.5000", "12.3 k steps/s"):
        assert part in text, (part, text)
    assert "…" not in text
