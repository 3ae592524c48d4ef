"""Combinations that mislead: a task with the settings of another experiment, a loss that cannot use a readout."""

import json

import pytest

from tests.command_line import CLICKS, tracetorch
from tracetorch.cli.adapter import compose
from tracetorch.cli.check import check_new
from tracetorch.cli.errors import UsageError

PATTERNS = (
    *("task=patterns", "loss=mse", "network=lif_lif", "train.updates=1", "train.figures=false", "task.repeats=1"),
    "device=cpu",
)
NOTE = (
    "task=patterns with the settings of the default experiment (poisson_clicks); "
    "presets for this task: tracetorch run experiment=patterns"
)


@pytest.mark.parametrize(
    ("verb", "first"),
    [
        ("run", f"{NOTE} poisson_clicks-patterns on cpu → outputs/poisson_clicks-patterns/"),
        ("run -m seed=0,1", f"{NOTE} poisson_clicks-patterns: 2 jobs → outputs/poisson_clicks-patterns/sweeps/"),
        ("show -m seed=0,1", f"{NOTE} poisson_clicks-patterns: 2 jobs → "),
        ("tune search=learning_rate --trials 1", f"{NOTE} poisson_clicks-patterns: 1 trials → "),
        ("show", f"experiment: poisson_clicks-patterns {NOTE} task:"),
    ],
)
def test_a_verb_says_first_whose_settings_it_takes(here, verb, first):
    ended = tracetorch(*verb.split(), *PATTERNS)
    assert ended.exit_code == 0, ended.output
    assert " ".join(ended.stdout.replace("#", "").split()).startswith(first)
    for path in (here / "outputs").glob("*/*/run.json"):
        assert json.loads(path.read_text())["experiment"] == path.parents[1].name == "poisson_clicks-patterns"


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
    own = here / "own" / "experiment"
    own.mkdir(parents=True)
    for name, text in {
        "mine": "# @package _global_\n# Mine: a test.\ndefaults:\n  - patterns\n",
        "odd": "# @package _global_\ndefaults: 3\n",
        "broken": "a: [",
        "circle": "# @package _global_\ndefaults:\n  - circle\n",
    }.items():
        (own / f"{name}.yaml").write_text(text)
    shown = tracetorch("show", "--config-dir", "own", *PATTERNS)
    assert "presets for this task: tracetorch run experiment=mine, tracetorch run experiment=patterns\n" in shown.stdout
    shown = tracetorch("show", "--config-dir", "own", "experiment=mine")
    assert shown.stdout.splitlines()[:2] == ["# experiment: mine", "task:"]
    (own / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    rows = [line.split() for line in tracetorch("list", "experiment", "--config-dir", "own").stdout.splitlines()]
    assert ["binary", "own/experiment/binary.yaml", "cannot", "be", "read"] in rows
    assert ["mine", "Mine:", "a", "test."] in rows
    ended = tracetorch("list", "experiment", "--config-dir", "nowhere")
    assert ended.exit_code == 2 and ended.stderr == "tracetorch: --config-dir nowhere: there is no such folder\n"


WRONG = [
    ("network=lif_lif", "loss: cross_entropy needs probabilities, and a readout LIF gives firing rates: "
     "choose loss=mse, or network=lif_lis"),
    ("network.readout._target_=tracetorch.nn.LI", "choose loss=cross_entropy_with_logits, or network=lif_lis"),
    ("loss=cross_entropy_with_logits", "needs logits, .* LIS gives probabilities: choose loss=cross_entropy"),
    ("experiment=bandit_sample network=lif_lif", "Reflect needs probabilities, .* rates: choose network=lif_lis"),
    ("task=patterns", "Patterns has several bits .* cross_entropy scores .*: choose loss=mse network=lif_lif"),
    ("experiment=patterns network=lif_li loss=cross_entropy_with_logits", "_with_logits scores probabilities of one"),
    ("experiment=cartpole network=lif_lis", "ActorCritic needs logits, .* probabilities: choose network=lif_li"),
    ("train.updates=-5", "train.updates must be at least 1, got -5"),
    ("train.log_every=0", "train.log_every must be at least 1, got 0"),
    ("task.delay=5..1", "task.delay=5..1 is a range from high to low: write 1..5"),
    ("experiment=clicks_lifetime task.environment.task.duration=2..1e-1",
     "task.environment.task.duration=2..1e-1 is a range from high to low: write 1e-1..2"),
]  # fmt: skip


@pytest.mark.parametrize(("typed", "message"), WRONG)
def test_what_no_run_can_use_is_refused(typed, message):
    with pytest.raises(UsageError, match=message):
        check_new(compose(typed.split()).config)


@pytest.mark.parametrize(
    "typed",
    [
        "loss=mse network=lif_lif train.eval_every=null",
        "loss=mse task.duration=[5,1] task.delay=1..1 train.updates=1",
        "network.readout._target_=mine.Readout",
        "experiment=patterns network=lif_li",
    ],
)
def test_what_fits_or_is_not_known_is_not_refused(typed):
    check_new(compose(typed.split()).config)


def test_a_run_of_an_older_version_goes_on(here, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("tracetorch.cli.check.check_new", lambda config: None)
        typed = (*CLICKS, "network=lif_lif", "network.hidden=[64]", "task.duration=0.2..0.1", "output.dir=old")
        assert tracetorch("run", *typed).exit_code == 0
    assert tracetorch("eval", "old").exit_code == 0
    assert tracetorch("run", "--from", "old", "output.dir=again").exit_code == 0
