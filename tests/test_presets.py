"""Combinations that mislead: a task with the settings of another experiment, a loss that cannot use a readout."""

import json

import pytest

from tests.command_line import CLICKS, tracetorch
from tracetorch.cli.adapter import compose
from tracetorch.cli.check import check_new
from tracetorch.cli.errors import UsageError

FITTING = ("task=patterns", "loss=mse", "network=lif_lif")
PATTERNS = (*FITTING, "train.updates=1", "train.figures=false", "task.repeats=1", "device=cpu")
NOTE = (
    "task=patterns with the settings of the default experiment (poisson_clicks); "
    "presets for this task: tracetorch run experiment=patterns"
)


def words(text: str) -> str:
    return " ".join(text.replace("#", "").split())


# ── a task with the settings of another task's experiment ───────────────────────────────────────────────────────────


def test_a_run_says_first_whose_settings_it_has_and_its_folder_is_not_among_the_runs_of_the_preset(here):
    ended = tracetorch("run", *PATTERNS)
    assert ended.exit_code == 0, ended.output
    assert words(ended.stdout).startswith(f"{NOTE} poisson_clicks-patterns on cpu → ")
    (folder,) = (here / "outputs" / "poisson_clicks-patterns").iterdir()
    assert json.loads((folder / "run.json").read_text())["experiment"] == "poisson_clicks-patterns"


def test_so_do_sweeps_searches_and_plans(here):
    swept = tracetorch("run", "-m", *PATTERNS, "seed=0,1")
    assert swept.exit_code == 0, swept.output
    assert words(swept.stdout).startswith(f"{NOTE} poisson_clicks-patterns: 2 jobs → outputs/poisson_clicks-patterns/")
    planned = tracetorch("show", "-m", *PATTERNS, "seed=0,1")
    assert words(planned.stdout).startswith(f"{NOTE} poisson_clicks-patterns: 2 jobs → ")
    searched = tracetorch("tune", "search=learning_rate", *PATTERNS, "--trials", "1")
    assert searched.exit_code == 0, searched.output
    assert words(searched.stdout).startswith(f"{NOTE} poisson_clicks-patterns: 1 trials → ")
    shown = tracetorch("show", *FITTING)
    assert words(shown.stdout).startswith(f"experiment: poisson_clicks-patterns {NOTE} task:")


@pytest.mark.parametrize(
    ("typed", "name", "phrase"),
    [
        ("task=poisson_clicks", "poisson_clicks", ""),
        ("experiment=bandit_sample task=bandit_sample", "bandit_sample", ""),  # it builds on another preset
        ("task=mnist", "poisson_clicks-mnist", "experiment=mnist, tracetorch run experiment=mnist_sample"),
        ("task=gym", "poisson_clicks-gym", "there is no preset for this task"),
        ("experiment=patterns task=gym", "patterns-gym", "with the settings of experiment=patterns; there is"),
    ],
)
def test_the_name_of_a_run_says_what_it_is(typed, name, phrase):
    shown = tracetorch("show", *typed.split()).stdout.splitlines()
    assert shown[0] == f"# experiment: {name}"
    assert phrase in shown[1] and shown[1].startswith("#") == bool(phrase)


def test_presets_of_one_s_own_count_and_what_cannot_be_read_does_not(here):
    (here / "own" / "experiment").mkdir(parents=True)
    for name, text in {
        "mine": "# @package _global_\ndefaults:\n  - patterns\n",
        "odd": "# @package _global_\ndefaults: 3\n",
        "broken": "a: [",
        "circle": "# @package _global_\ndefaults:\n  - circle\n",
    }.items():
        (here / "own" / "experiment" / f"{name}.yaml").write_text(text)
    shown = tracetorch("show", "--config-dir", "own", *FITTING)
    assert shown.exit_code == 0, shown.output
    assert "presets for this task: tracetorch run experiment=mine, tracetorch run experiment=patterns\n" in shown.stdout
    shown = tracetorch("show", "--config-dir", "own", "experiment=mine")
    assert shown.stdout.splitlines()[:2] == ["# experiment: mine", "task:"]


# ── a loss that cannot use what the readout gives ───────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        (
            "network=lif_lif",
            "loss: cross_entropy needs probabilities, and a readout LIF gives firing rates: "
            "choose loss=mse, or network=lif_lis",
        ),
        ("network.readout._target_=tracetorch.nn.LI", "choose loss=cross_entropy_with_logits, or network=lif_lis"),
        (
            "loss=cross_entropy_with_logits",
            "needs logits, and a readout LIS gives probabilities: choose loss=cross_entropy",
        ),
        (
            "experiment=bandit_sample network=lif_lif",
            "Reflect needs probabilities, .* firing rates: choose network=lif_lis",
        ),
        ("task=patterns", "Patterns has several bits .* cross_entropy scores .*: choose loss=mse network=lif_lif"),
        (
            "experiment=patterns network=lif_li loss=cross_entropy_with_logits",
            "cross_entropy_with_logits scores probabilities of one class among all",
        ),
        ("experiment=patterns network=lif_lis", "the readout LIS gives probabilities of one class among all"),
        ("experiment=cartpole network=lif_lis", "ActorCritic needs logits, .* probabilities: choose network=lif_li"),
    ],
)
def test_a_loss_that_cannot_use_the_readout_is_refused(typed, message):
    with pytest.raises(UsageError, match=message):
        check_new(compose(typed.split()).config)


@pytest.mark.parametrize(
    "typed",
    [
        "loss=mse network=lif_lif",
        "loss=mse",
        "network.readout._target_=mine.Readout",
        "experiment=patterns network=lif_li",
        "task.delay=1..1",
        "task.duration=[5,1]",
        "train.eval_every=null",
    ],
)
def test_what_fits_or_is_not_known_is_not_refused(typed):
    check_new(compose(typed.split()).config)


@pytest.mark.parametrize("verb", ["run", "run -m", "show", "show -m", "tune search=learning_rate"])
def test_every_verb_that_begins_something_refuses_it(here, verb):
    ended = tracetorch(*verb.split(), *CLICKS, "network=lif_lif")
    assert ended.exit_code == 2 and "choose loss=mse" in ended.stderr
    assert list(here.iterdir()) == []


@pytest.mark.parametrize("verb", ["run", "run -m", "show", "show -m", "tune search=learning_rate"])
@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("train.updates=-5", "train.updates must be at least 1, got -5"),
        ("train.log_every=0", "train.log_every must be at least 1, got 0"),
        ("task.delay=5..1", "task.delay=5..1 is a range from high to low: write 1..5"),
        (
            "experiment=clicks_lifetime task.environment.task.duration=2..1e-1",
            "task.environment.task.duration=2..1e-1 is a range from high to low: write 1e-1..2",
        ),
    ],
)
def test_counts_below_one_and_reversed_ranges_are_refused_by_every_verb_that_composes(here, verb, typed, message):
    ended = tracetorch(*verb.split(), *typed.split())
    assert ended.exit_code == 2 and message in ended.stderr and len(ended.stderr.splitlines()) == 1
    assert list(here.iterdir()) == []


def test_a_run_of_an_older_version_goes_on(here, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("tracetorch.cli.check.check_new", lambda config: None)
        typed = (*CLICKS, "network=lif_lif", "network.hidden=[64]", "task.duration=0.2..0.1", "output.dir=old")
        assert tracetorch("run", *typed).exit_code == 0
    assert tracetorch("eval", "old").exit_code == 0
    assert tracetorch("run", "--from", "old", "output.dir=again").exit_code == 0


# ── the list of one's own presets ───────────────────────────────────────────────────────────────────────────────────


def test_the_list_refuses_a_folder_that_does_not_exist(here):
    ended = tracetorch("list", "experiment", "--config-dir", "nowhere")
    assert ended.exit_code == 2 and ended.stderr == "tracetorch: --config-dir nowhere: there is no such folder\n"


def test_the_list_names_a_preset_that_cannot_be_read_and_shows_the_others(here):
    (here / "own" / "experiment").mkdir(parents=True)
    (here / "own" / "experiment" / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    (here / "own" / "experiment" / "mine.yaml").write_text("# @package _global_\n# Mine: a test.\n")
    ended = tracetorch("list", "experiment", "--config-dir", "own")
    assert ended.exit_code == 0, ended.output
    said = {line.split()[0]: " ".join(line.split()[1:]) for line in ended.stdout.splitlines()[1:]}
    assert said["binary"] == "own/experiment/binary.yaml cannot be read" and said["mine"] == "Mine: a test."
