"""Every verb: its exit code, what it says, and what it leaves behind."""

import json
import os
import re
import signal
import subprocess
import sys

import pytest
import torch
import yaml

from tests.command_line import CLICKS, files, tracetorch
from tracetorch import __version__
from tracetorch.cli import display
from tracetorch.cli.adapter import GROUPS, PRESETS, options


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run: (its folder, what the command said)."""
    folder = tmp_path_factory.mktemp("cli") / "run"
    return folder, tracetorch("run", *CLICKS, f"output.dir={folder}")


# ── run ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_run_trains_and_says_where_and_how_well(finished):
    folder, result = finished
    assert result.exit_code == 0, result.stderr
    assert result.stderr == ""
    told = json.loads((folder / "run.json").read_text())
    assert f"poisson_clicks on cpu → {folder}" in result.stdout
    assert "poisson_clicks: completed" in result.stdout
    for name in ("accuracy", "ideal_accuracy", "loss"):
        assert f"{told['summary'][name]:.4f}" in result.stdout
    assert result.stdout.count(str(folder)) == 2


def test_run_leaves_the_files_that_the_design_names(finished):
    folder, _ = finished
    assert files(folder) == {
        *("run.json", "config.yaml", "overrides.yaml", "metrics.jsonl", "metrics.csv", "trials.csv", ".lock"),
        *("checkpoints/latest.pt", "checkpoints/best.pt"),
    }


def test_the_overrides_are_kept_as_typed_and_the_config_is_resolved(finished):
    folder, _ = finished
    assert yaml.safe_load((folder / "overrides.yaml").read_text())[: len(CLICKS)] == list(CLICKS)
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert (config["task"]["seed"], config["network"]["hidden"], config["train"]["updates"]) == (0, [4], 2)


def test_an_evaluation_on_rewards_shows_no_loss(here):
    sizes = ["task.task.validation_trials=10", "task.task.test_trials=10", "task.task.batch_size=4"]
    ended = tracetorch("run", "experiment=clicks_reward", "train.updates=1", "train.figures=false", *sizes)
    assert ended.exit_code == 0, ended.output
    shown = [line.split() for line in ended.stdout.splitlines() if " validation " in line or " test " in line]
    assert [words[2:4] for words in shown] == [["validation", "return"], ["test", "return"]]


def test_run_without_a_folder_makes_one_in_outputs(here):
    result = tracetorch("run", *CLICKS)
    assert result.exit_code == 0, result.stderr
    (folder,) = (here / "outputs" / "poisson_clicks").iterdir()
    assert str(folder.relative_to(here)) in result.stdout
    told = json.loads((folder / "run.json").read_text())
    assert folder.name.endswith(told["id"][:6])


def test_a_quoted_folder_may_have_spaces_and_any_letters(here):
    result = tracetorch("run", *CLICKS, "output.dir='fünf grüne äpfel'")
    assert result.exit_code == 0, result.stderr
    assert "run.json" in files(here / "fünf grüne äpfel")


@pytest.mark.parametrize("gone", ["~task.batch_size", "~optimizer.lr", "~train.log_every", "~output.root"])
def test_a_key_with_a_default_may_be_left_out(here, gone):
    words = [word for word in CLICKS if not word.startswith(gone[1:])]
    result = tracetorch("run", *words, "task.duration=[0.2]", gone)
    assert result.exit_code == 0, result.stderr
    assert "completed" in result.stdout


def test_an_interrupted_run_ends_with_130_and_says_where_it_is(here, monkeypatch):
    monkeypatch.setattr(display.Display, "_progress", lambda self, values: signal.raise_signal(signal.SIGINT))
    result = tracetorch("run", *CLICKS, "output.dir=stopped")
    assert result.exit_code == 130
    assert result.stderr.startswith("tracetorch: interrupted after 1 update") and "stopped" in result.stderr
    assert json.loads((here / "stopped" / "run.json").read_text())["status"] == "interrupted"


def test_a_second_interruption_ends_with_130_too(here, monkeypatch):
    def twice(self, values):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(display.Display, "_progress", twice)
    result = tracetorch("run", *CLICKS, "output.dir=stopped")
    assert (result.exit_code, result.stderr) == (130, "tracetorch: interrupted\n")


def test_a_failed_run_ends_with_1_and_names_its_folder(here):
    result = tracetorch("run", *CLICKS, "network.neuron.threshold=1e6", "output.dir=dead")
    assert result.exit_code == 1
    assert re.match(r"tracetorch: update \d: layer 0 \(LIF\(30, 4\)\) is silent: .* \(see dead\)\n$", result.stderr)
    assert "Traceback" not in result.stderr
    assert json.loads((here / "dead" / "run.json").read_text())["status"] == "failed"
    assert "is silent" in (here / "dead" / "error.txt").read_text()


@pytest.mark.parametrize("how", ["--traceback", "HYDRA_FULL_ERROR"])
def test_a_traceback_is_shown_when_asked_for(here, monkeypatch, how):
    if how == "HYDRA_FULL_ERROR":
        monkeypatch.setenv(how, "1")
    result = tracetorch("run", "bogus=1", *([how] if how.startswith("--") else []))
    assert result.exit_code == 2
    assert "Traceback" in result.stderr and result.stderr.splitlines()[-1].startswith("tracetorch: bogus: there is no")


# ── list, show, info ────────────────────────────────────────────────────────────────────────────────────────────────


def test_list_names_every_choice_of_every_group():
    result = tracetorch("list")
    assert result.exit_code == 0
    words = {line.split()[0] for line in result.stdout.splitlines()}
    groups = (*GROUPS, *PRESETS)
    assert words == {*groups, *(choice for group in groups for choice in options(group))}
    assert all(len(line.split()) > 3 for line in result.stdout.splitlines() if line.startswith("  "))


def test_list_of_one_group_names_only_its_choices():
    result = tracetorch("list", "optimizer")
    assert [line.split()[0] for line in result.stdout.splitlines()] == ["optimizer", "adam", "adamw", "sgd"]


def test_show_prints_the_config_and_runs_nothing(here):
    result = tracetorch("show", "experiment=mnist_sample", "seed=7")
    assert result.exit_code == 0
    assert result.stdout.startswith("# experiment: mnist_sample\n")
    config = yaml.safe_load(result.stdout)
    assert (config["seed"], config["task"]["seed"], config["task"]["source"]) == (7, 7, "sample")
    assert "hydra" not in config
    assert list(here.iterdir()) == []


def test_info_says_versions_devices_and_places():
    result = tracetorch("info")
    assert result.exit_code == 0
    facts = dict(line.split(maxsplit=1) for line in result.stdout.splitlines() if not line.startswith("data cache"))
    assert facts["tracetorch"] == __version__ and facts["torch"] == torch.__version__
    assert facts["devices"].startswith("cpu")
    assert {"kernels", "threads", "configs"} <= set(facts)


# ── outside of a run ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("words", "phrase"),
    [
        (["--help"], "run"),
        (["run", "--help"], "KEY=VALUE"),
        (["plot", "--help"], "DIR"),
        ([], "run"),
    ],
    ids=str,
)
def test_help_is_there(words, phrase):
    result = tracetorch(*words)
    assert result.exit_code in (0, 2 if not words else 0)
    assert phrase in result.output


@pytest.mark.parametrize(
    ("words", "phrase"),
    [
        (["rnu"], "No such command 'rnu'. Did you mean 'run'?"),
        (["run", "--nope"], "No such option: --nope"),
        (["run", "--seed", "1"], "No such option: --seed. Config keys have no dashes: write seed=1"),
        (["run", "--optimizer.lr=0.1"], "write optimizer.lr=0.1"),
        (["run", "--experiment=mnist"], "Config keys have no dashes: write experiment=mnist"),
        (["run", "--lr", "0.1"], "No such option: --lr. Config keys have no dashes: write optimizer.lr=0.1"),
        (["run", "--epochs=3"], "No such option: --epochs. Config keys have no dashes: write train.passes=3"),
        (["plot"], "Missing argument"),
        (["list", "task", "rule"], "unexpected extra argument"),
    ],
    ids=str,
)
def test_wrong_words_end_with_2(here, words, phrase):
    result = tracetorch(*words)
    assert result.exit_code == 2
    assert phrase in result.stderr
    assert list(here.iterdir()) == []


def test_what_needs_no_torch_does_not_load_it():
    script = (
        "import sys\n"
        "from typer.testing import CliRunner\n"
        "from tracetorch.cli.main import app\n"
        "for words in (['--help'], ['list'], ['show'], ['run', 'bogus=1'], ['run', 'seed=x'], ['plot', 'nope']):\n"
        "    code = CliRunner().invoke(app, words).exit_code\n"
        "    assert code == (2 if words[0] in ('run', 'plot') else 0), (words, code)\n"
        "    assert not {'torch', 'matplotlib', 'numpy'} & set(sys.modules), words\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_reader_who_leaves_early_sees_no_traceback():
    reading, writing = os.pipe()
    os.close(reading)
    script = "from tracetorch.cli.main import main; main()"
    with os.fdopen(writing, "w") as pipe:
        words = [sys.executable, "-c", script, "show"]
        done = subprocess.run(words, stdout=pipe, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode != 0
    assert done.stderr == ""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere torch brings another OpenMP library")
@pytest.mark.parametrize(
    ("said", "heard"),
    [
        ({}, "GOMP_SPINCOUNT = '3000'"),
        ({"GOMP_SPINCOUNT": "77"}, "GOMP_SPINCOUNT = '77'"),
        ({"OMP_WAIT_POLICY": "active"}, "OMP_WAIT_POLICY = 'ACTIVE'"),
    ],
    ids=str,
)
def test_threads_that_wait_give_way_soon_unless_told_otherwise(said, heard):
    script = "from tracetorch.cli.main import main; import sys; sys.argv[1:] = ['info']; main()"
    silent = {name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    surroundings = silent | said | {"OMP_DISPLAY_ENV": "verbose"}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=surroundings, check=False)
    assert done.returncode == 0, done.stderr
    assert heard in done.stderr
    assert ("GOMP_SPINCOUNT = '3000'" in done.stderr) is (not said)
