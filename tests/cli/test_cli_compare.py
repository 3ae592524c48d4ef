"""`tracetorch compare`: what it prints, what it leaves, and what it says of a mistake."""

import csv
import os

import pytest

from tests.command_line import files, ran, refused, tracetorch
from tests.run_folders import run_folder, sweep
from tracetorch.cli.compare_verb import _print
from tracetorch.compare import output
from tracetorch.compare.output import FILES
from tracetorch.compare.tables import Table
from tracetorch.runs.lock import WRITING, Lock

NOTE = "a note of some words"
VALUES = {0.1: [0.7, 0.8, 0.75], 0.2: [0.9, 0.91, 0.92]}


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def it(here):
    """The folder of a sweep."""
    return sweep(here / "sweep", VALUES)


def test_a_sweep_is_compared_into_its_own_folder(it):
    result = ran("compare", "sweep")
    assert files(it / "compare") == set(FILES)
    lines = result.stdout.splitlines()
    assert lines[0] == "poisson_clicks: 6 runs in 2 groups"
    assert lines[-1] == "comparison.html, .png, .svg, .csv and runs.csv in sweep/compare"
    for words in ("A lr=0.1 3 0.75 ± 0.12", "optimizer.lr 0.1 (A); 0.2 (B)", "B − A +0.1600"):
        assert any(" ".join(line.split()).startswith(words) for line in lines), words
    assert "left out" not in result.stdout and max(map(len, lines)) <= 80
    first, second = rows(it / "compare" / "comparison.csv")
    names = ("group", "label", "metric", "runs", "seeds", "min", "max", "config.optimizer.lr")
    assert [first[name] for name in names] == ["A", "lr=0.1", "accuracy", "3", "3", "0.7", "0.8", "0.1"]
    assert float(first["mean"]) == pytest.approx(0.75) and float(first["sd"]) == pytest.approx(0.05)
    assert float(first["ci_high"]) - float(first["mean"]) == pytest.approx(0.124207, abs=1e-6)
    assert float(second["wall_seconds"]) == pytest.approx(20.91) and second["config.optimizer.lr"] == "0.2"


def test_runs_that_cannot_be_compared_are_listed(it):
    running = run_folder(it / "y1", status="running", seed=9)
    run_folder(it / "y2", status="running", seed=9)
    run_folder(it / "y3", status="interrupted", seed=9)
    (run_folder(it / "y4", seed=9) / "run.json").write_text('{"status": "compl')
    (run_folder(it / "y5", 0.75, lr=0.1, seed=9) / "config.yaml").unlink()
    run_folder(it / "zz", status="failed", seed=9, facts={"error": "TrainingError: dead"})
    lock = Lock(running)
    result = tracetorch("compare", "sweep", "--out", "there")
    lock.release()
    assert result.exit_code == 0, result.stderr
    for line in (
        "left out: sweep/y1, because it is still running",
        "left out: sweep/y2, because its process ended without recording why; it may have been killed",
        "left out: sweep/y3, because it was interrupted after 60 updates",
        "left out: sweep/y4, because run.json is broken: Unterminated string",
        "compared, with a remark: sweep/y5: config.yaml is missing",
    ):
        assert line in result.stdout
    assert "7 runs in 2 groups" in result.stdout
    assert files(it.parent / "there") == set(FILES) and not (it / "compare").exists()
    first, *_, last = runs = rows(it.parent / "there" / "runs.csv")
    assert [row["value"] for row in runs] == ["0.7", "0.8", "0.75", "0.75", "0.9", "0.91", "0.92", "", "", "", "", ""]
    assert (first["folder"], first["seed"], first["group"]) == ("sweep/000_lr=0.1,seed=0", "0", "A")
    assert (last["left_out"], last["status"]) == ("it failed: TrainingError: dead", "failed")


def test_single_runs_are_compared_into_a_folder_of_their_own(here):
    run_folder(here / "a", 0.7)
    run_folder(here / "b", 0.8, seed=1)
    for given in (["a"], ["a", "b", "a"]):
        ran("compare", *given)
    assert "differ" not in ran("compare", "a", "--out", "single").stdout  # there is nothing to compare it with
    pages = [folder / "comparison.html" for folder in (here / "outputs" / "compare").iterdir()]
    assert all(files(page.parent) == set(FILES) for page in pages)
    assert sorted(f"{n} run" in page.read_text() for page in pages for n in (1, 2)) == [False, False, True, True]


def test_options_reach_the_comparison(here, it):
    ran("compare", "sweep", "--by", "rule", "--by", "optimizer.lr", "--metric", "loss", "--out", "o")
    labels = [row["label"] for row in rows(here / "o" / "comparison.csv")]
    assert labels == ["rule=trace, optimizer.lr=0.1", "rule=trace, optimizer.lr=0.2"]
    assert float(rows(here / "o" / "runs.csv")[0]["value"]) == pytest.approx(0.5)
    page = (here / "o" / "comparison.html").read_text()
    assert "tracetorch compare sweep --by=rule --by=optimizer.lr --metric=loss --out=o" in page


MISTAKES = [
    ("nowhere", "nowhere is not a folder; give folders of runs or sweeps, such as outputs"),
    ("sweep file", "file is not a folder"),
    ("empty", "nothing to compare in empty: no run.json was found; `tracetorch run` makes a run"),
    ("failed", "no run can be compared: failed, because it failed: run.json has no error message"),
    ("sweep --metric acuracy", "--metric acuracy: no run has it. Did you mean 'accuracy'? There are: loss"),
    ("sweep --by optimizer.lrr", "--by optimizer.lrr: there is no key 'lrr'. Did you mean 'optimizer.lr'?"),
    ("sweep --by lr", "--by lr: there is no key 'lr'. Did you mean 'optimizer.lr'?"),
    ("sweep --by rul", "--by rul: there is no key 'rul'. Did you mean 'rule'?"),
    ("sweep --by seed.x", "--by seed.x: seed is a value"),
    ("sweep --by output", "part of the config, not a value. Name one of output.root, output.dir."),
    ("sweep --by ", "--by : there is no key ''"),
    ("sweep --scatter lr", "--scatter lr: no run has it. Did you mean 'optimizer.lr'? There are: "),
    ("sweep --scatter wall_secons", "Did you mean 'wall_seconds'?"),
    ("sweep --scatter rule", "its values are not numbers (trace); to group by it: --by rule"),
    ("sweep --out file", "file is not a folder; choose another --out"),
    ("sweep --scatter seed --out file/x", "cannot write to file/x: Not a directory; choose another --out"),
]


@pytest.mark.parametrize(("words", "message"), MISTAKES)
def test_a_mistake_is_one_sentence(here, it, words, message):
    run_folder(here / "failed", status="failed")
    (here / "empty").mkdir()
    (here / "file").write_text("x")
    assert message in refused("compare", *words.split(" "))


def test_an_empty_name_is_refused(it):
    for option, message in {
        "": "the name of a folder is empty; write . for the working directory",
        "--out": "the name of a folder is empty; write . for the working directory",
        "--metric": "--metric: the name of a number is empty; leave --metric out, or give one",
        "--scatter": "--scatter: the name of a number is empty; leave --scatter out",
    }.items():
        ended = tracetorch("compare", "sweep", *[option] * bool(option), "")
        assert ended.exit_code == 2 and message in ended.stderr and not (it / "compare").exists()


def test_a_full_disk_leaves_the_old_comparison(here, it, monkeypatch):
    ran("compare", "sweep")
    before = {name: (it / "compare" / name).read_bytes() for name in FILES}

    def full(path, content):
        if path.name == "comparison.html":
            raise OSError(28, os.strerror(28), str(path))
        path.write_bytes(content.encode())

    monkeypatch.setattr(output, "write_whole", full)
    for words in (["sweep", "--metric", "loss"], ["sweep", "--out", "new"], ["sweep/000_lr=0.1,seed=0"]):
        assert "No space left on device; choose another --out" in refused("compare", *words)
    assert before == {name: (it / "compare" / name).read_bytes() for name in FILES}
    assert files(it / "compare") == set(FILES)
    assert not (here / "new").exists() and not (here / "outputs").exists()


BROAD = """\
Title
   group                 n
───────────────────────────
A  lr=0.1                3
B  a label that is long
a note of some words
"""
NARROW = """\
Title
   group   n
─────────────
A  lr=0.1  3
B  a
   label
   that
   is
   long
a note of
some words
"""
NARROWER = """\
Title
A
  group:
  lr=0.1
  n: 3
B
  group: a
  label that
  is long
a note of
some words
"""


def test_a_table_fits_its_terminal_or_is_printed_cell_by_cell(capsys, monkeypatch):
    table = Table("Title", ["", "group", "n"], [["A", "lr=0.1", "3"], ["B", "a label that is long", ""]], 2, NOTE)
    for width, shown in ((40, BROAD), (13, NARROW), (12, NARROWER)):
        monkeypatch.setenv("COLUMNS", str(width))
        _print(table)
        lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
        assert lines == [*shown.splitlines(), ""]


def test_of_a_large_table_a_part_is_printed_and_the_rest_named(capsys):
    _print(Table("Title", ["", *"x" * 9], [["A", *"1" * 9]] * 2, 99, NOTE))
    assert capsys.readouterr().out == f"Title\n9 keys for 2 groups: see comparison.html\n{NOTE}\n\n"
    for count, more in ((40, []), (41, ["and 1 more, in runs.csv"])):
        _print(Table("Title", ["", *"x" * 8], [["A", *"1" * 8]] * count, 99, NOTE), "runs.csv")
        assert capsys.readouterr().out.splitlines()[43:] == [*more, NOTE, ""]


def test_a_comparison_that_was_killed_leaves_no_folder(here):
    killed = here / "outputs" / "compare" / "killed" / f"{WRITING}x"
    killed.mkdir(parents=True)
    (killed / "comparison.csv").write_text("")
    run_folder(here / "a", 0.7)
    ran("compare", "a")
    (left,) = (here / "outputs" / "compare").iterdir()
    assert files(left) == set(FILES)


def test_nothing_is_written_into_a_link_out_of_outputs(here):
    run_folder(here / "a", 0.7)
    (here / "outputs").mkdir()
    (here / "elsewhere").mkdir()
    (here / "outputs" / "compare").symlink_to(here / "elsewhere")
    assert "outputs/compare is a link that leads out of outputs" in refused("compare", "a")


@pytest.mark.parametrize("words", [(), ("--scatter", "optimizer.lr")])
def test_nothing_is_written_through_a_link_out_of_the_folder(here, it, words):
    (here / "elsewhere").mkdir()
    (here / "elsewhere" / "comparison.csv").write_text("mine")
    (it / "compare").symlink_to(here / "elsewhere")
    assert "sweep/compare is a link that leads out of sweep" in refused("compare", "sweep", *words)
    assert files(here / "elsewhere") == {"comparison.csv"}
    ran("compare", "sweep", *words, "--out", "sweep/compare")  # which was asked for


def test_many_groups_are_cut_on_the_terminal_and_whole_on_the_page(here):
    sweep(here / "sweep", {at / 100: [0.5] for at in range(1, 46)})
    shown = ran("compare", "sweep").stdout
    assert "and 5 more, in comparison.html" in shown and "lr=0.45" not in shown
    assert "lr=0.45" in (here / "sweep" / "compare" / "comparison.html").read_text()


def test_remains_of_a_killed_comparison_are_removed_by_the_next(it):
    for name in (".writing-dead", ".writing-alive"):
        (it / "compare" / name).mkdir(parents=True)
        (it / "compare" / name / "comparison.csv").write_text("half")
    lock = Lock(it / "compare" / ".writing-alive")
    ran("compare", "sweep")
    assert {path.name for path in (it / "compare").iterdir()} == {*FILES, ".writing-alive"}
    lock.release()


def test_a_link_to_itself_is_not_followed(here):
    folder = run_folder(here / "outputs" / "run")
    for name in ("loop", "eval", "error.txt"):
        (folder / name).symlink_to(name)
    (here / "outputs" / "loop").symlink_to("loop")
    run = [[verb, "outputs/run"] for verb in ("eval", "resume", "plot", "info")]
    for words in (*run, ["compare", "outputs"], ["clean", "--failed", "--unfinished"]):
        result = tracetorch(*words)
        assert result.exit_code in (0, 2) and "should not have happened" not in result.stderr, words


@pytest.mark.parametrize("columns", [30, 60])
def test_a_narrow_terminal_shows_every_letter_and_every_digit(here, monkeypatch, columns):
    sweep(here / "it", {0.001: [0.9, 0.91, 0.92], 0.01: [0.8, 0.81, 0.85]})
    run_folder(here / "it" / "other", 0.93, hidden=(128, 64, 32))
    monkeypatch.setenv("COLUMNS", str(columns))
    shown = tracetorch("compare", "it").stdout
    lines = shown[: shown.index("comparison.html")].splitlines()[1:]
    assert max(map(len, lines)) <= columns
    words = " ".join(" ".join(line.split()) for line in lines)
    cells = ("0.910 ± 0.025", "0.9000–0.9200", "20.9 s", "300 MiB", "[128,64,32]", "−0.09000", "−0.1330 to −0.04697")
    for cell in (*cells, "paired by seed", "optimizer.lr", "0.001", "B − A"):
        assert cell in words, (cell, shown)
