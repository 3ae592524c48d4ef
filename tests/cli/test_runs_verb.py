"""`tracetorch runs` lists, filters and sorts; `tracetorch tag` tags; `clean` and `compare` know tags."""

import csv
import io
import json
import shutil
from datetime import datetime, timedelta

import pytest

from tests.command_line import ran, refused, tracetorch
from tests.run_folders import config, run_folder, sweep
from tracetorch.runs.listing import list_runs

NOW = datetime.now().astimezone()


def started(days):
    """Entries of run.json for a run that started so many days ago."""
    return {"started": (NOW - timedelta(days=days)).isoformat(), "config": config()}


@pytest.fixture
def outputs(here):
    """Runs of two experiments, of different ages."""
    run_folder(here / "outputs/a/one", 0.7, facts=started(1))
    run_folder(here / "outputs/a/two", 0.9, rule="eprop", facts=started(9))
    run_folder(here / "outputs/a/three", 0.8, status="failed", facts=started(2))
    run_folder(here / "outputs/b/four", 0.6, facts={"experiment": "digits", **started(3)})
    run_folder(here / "outputs/b/four/eval/x", 0.1)  # an evaluation is not a run
    return here / "outputs"


def folders(*words):
    """The folders that `tracetorch runs` lists, in order."""
    return [row["folder"].rpartition("/")[2] for row in json.loads(ran("runs", *words, "--format", "json").stdout)]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("", "one three four two"),
        ("--sort accuracy", "two three one four"),
        ("--sort loss", "two three one four"),
        ("--sort duration", "four one three two"),
        ("--sort of_ideal", "two three one four"),
        ("--sort experiment", "four one three two"),
        ("--sort status", "one four two three"),
        ("--best 1", "two four"),
        ("--best 2 --since 7d", "three one four"),
        ("--since 48h --status completed", "one"),
        ("--experiment poisson*", "one three two"),
        ("--experiment digits", "four"),
        ("rule=eprop", "two"),
        ("optimizer.lr=2e-3 seed=0 network.hidden=[64] --experiment digits", "four"),
        ("task.label=side device=cpu rule=trace --since 36h", "one"),
        ("task.label=other", ""),
        ("outputs/a outputs", "one three four two"),
        ("outputs/b", "four"),
    ],
)
def test_runs_are_filtered_and_sorted(outputs, words, expected):
    assert folders(*words.split()) == expected.split()


def test_the_table_shows_each_run_and_says_what_it_leaves_out(outputs):
    (outputs / "a/one/tags.txt").write_text("good\n")
    lines = ran("runs", "--limit", "3").stdout.splitlines()
    assert lines[0].split() == ["when", "experiment", "status", "accuracy", "loss", "took", "tags", "folder"]
    day = f"{NOW - timedelta(days=1):%Y-%m-%d}"
    assert lines[1].startswith(day) and lines[1].split()[2:] == [
        *("poisson_clicks", "completed", "0.7000", "0.5000", "20.7", "s", "good", "outputs/a/one")
    ]
    assert lines[4] == "and 1 more: --limit 0 shows all" and len(lines) == 5
    assert ran("runs", "--tag", "none").stdout == "none of 4 runs\n"
    table = list(csv.DictReader(io.StringIO(ran("runs", "--format", "csv").stdout)))
    assert [row["value"] for row in table] == ["0.7", "0.8", "0.6", "0.9"] and table[0]["tags"] == "good"
    assert float(table[0]["wall_seconds"]) == 20.7
    sweep(outputs / "sweeps/x", {0.1: [0.5, 0.6]})
    assert len(folders("outputs/sweeps")) == 2


def test_folders_that_no_run_wrote_are_shown_and_harm_nothing(outputs):
    path = outputs / "a/one/run.json"
    for content in ("{", "[]", '{"status": 3}', '{"status": "completed", "summary": {"loss": "x", "a": [1]}}'):
        path.write_text(content)
        (outputs / "a/one/metrics.jsonl").write_text("{")
        assert set(folders("--sort", "metric")) == {"one", "two", "three", "four"}
        ran("runs")
    path.write_text(json.dumps({"status": "completed", "started": "\x1b[2J", "experiment": "\x1b[2Jx" * 99}))
    (outputs / "a/one/tags.txt").write_bytes(b"\xff\x00bad\n\x1b[2J\n")
    assert "\x1b" not in ran("runs").stdout
    (outputs / "link").symlink_to(outputs / "a")
    assert len(list_runs([outputs])) == 4


@pytest.mark.parametrize(
    ("words", "phrase"),
    [
        ("runs nowhere", "there is no folder nowhere"),
        ("runs --status complete", "there is no such status. Did you mean 'completed'? There are: completed, failed,"),
        ("runs --since yesterday", "such as 7d or 12h; or a date, such as 20"),
        ("runs --since 99999999999d", "before the first calendar year"),
        ("runs --experiment digit", "no run has it. Did you mean 'digits'? There are: digits, poisson_clicks"),
        ("runs rule.strches=4", "there is no key 'strches'. Did you mean 'rule.stretches', which rule=coarse has?"),
        ("runs --sort accurancy", "no run has it. Did you mean 'accuracy'? There are: "),
        ("tag outputs/a/one", "the tag is missing: tracetorch tag outputs/a/one NAME"),
        ("runs EMPTY", "the name of a folder is empty"),
        ("tag outputs/a/one EMPTY", "'': a tag is one word"),
        ("tag paper", "the folder is missing: tracetorch tag DIR paper"),
        ("tag nowhere paper", "there is no folder nowhere"),
        ("tag outputs/a/one/eval paper", "there is no folder outputs/a/one/eval"),
        ("tag outputs/a/one two=words", "a tag is one word"),
        ("tag outputs/a/one outputs/a/two", "the last word is the tag, and this is a folder"),
        ("compare outputs --tag paper", "no run has the tag paper"),
    ],
)
def test_wrong_words_are_refused(outputs, words, phrase):
    assert phrase in refused(*("" if word == "EMPTY" else word for word in words.split()))


def test_runs_without_a_folder(here):
    assert "there is no folder outputs; `tracetorch run` makes runs there" in refused("runs")
    (here / "outputs").mkdir()
    assert ran("runs").stdout == "no runs yet\n"


def test_tags_move_with_the_folder_and_clean_spares_them(outputs):
    assert ran("tag", "outputs/a/one", "outputs/a/two", "paper").stdout == "paper: given to 2 runs\n"
    assert ran("tag", "outputs/a", "x.1").stdout == "x.1: given to 3 runs\n"
    assert ran("tag", "outputs/a/one", "paper").stdout == "paper: given to 0 runs; 1 had it\n"
    assert (outputs / "a/one/tags.txt").read_text() == "paper\nx.1\n"
    assert folders("--tag", "paper") == ["one", "two"] and folders("--tag", "paper", "--tag", "nope") == []
    shutil.move(outputs / "a/two", outputs / "b/moved")
    assert folders("outputs/b", "--tag", "paper") == ["moved"]
    assert "2 runs in 2 groups" in ran("compare", "outputs", "--tag", "paper", "--out", "x").stdout
    for name in ("a/one", "b/moved", "a/three", "b/four"):
        (outputs / name / "config.yaml").touch()
    said = ran("clean", "--older-than", "0m", "--yes").stdout
    assert "it has the tag x.1" in said and not (outputs / "b/four").exists() and (outputs / "a/one").exists()
    ran("tag", "outputs/a/one", "paper", "--remove")
    assert ran("tag", "outputs/a/one", "x.1", "--remove").stdout == "x.1: removed from 1 run\n"
    assert not (outputs / "a/one/tags.txt").exists()
    ran("clean", "--older-than", "0m", "--yes")
    assert not (outputs / "a/one").exists() and (outputs / "b/moved").exists()


def test_a_tag_that_cannot_be_removed_is_one_sentence(outputs, monkeypatch):
    def fail(path, **_):
        raise PermissionError(13, "Permission denied", str(path))

    ran("tag", "outputs/a/one", "paper")
    monkeypatch.setattr("pathlib.Path.unlink", fail)
    ended = tracetorch("tag", "outputs/a/one", "paper", "--remove")
    assert ended.exit_code == 1
    assert "cannot write to" in ended.stderr and "tags.txt: Permission denied" in ended.stderr


def test_a_folder_that_cannot_be_read_is_one_sentence(outputs, monkeypatch):
    def fail(path):
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr("os.scandir", fail)
    for verb in (("tag", "outputs", "paper"), ("runs",)):
        assert "outputs cannot be read: Permission denied" in refused(*verb)


def test_clean_keeps_the_best_by_the_direction_of_the_metric(outputs):
    for name, error in (("low", 0.1), ("high", 0.3)):
        lines = [{"update": 9, "split": "test", "loss": None, "mean_error": error}]
        run_folder(outputs / "c" / name, lines=lines, facts={"experiment": "values"})
    said = ran("clean", "--root", "outputs/c", "--older-than", "0m", "--keep-best", "1").stdout
    assert "outputs/c/high" in said and "outputs/c/low" not in said


def test_a_tag_does_not_follow_a_link(outputs):
    (outputs / "a/one/tags.txt").symlink_to(outputs / "b/four/run.json")
    assert "is a link; remove it first" in refused("tag", "outputs/a/one", "paper")
