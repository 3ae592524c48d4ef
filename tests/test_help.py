"""The help of every verb: its examples work as they stand, and it advises nothing that the verb refuses."""

import shlex
from importlib import import_module

import pytest

from tests.command_line import tracetorch
from tests.test_configs import shrink
from tracetorch.cli import adapter
from tracetorch.cli.main import GROUPS, verb_name
from tracetorch.cli.tuning import tune

EXAMPLES = [example for verbs in GROUPS.values() for _, *examples in verbs.values() for example in examples]
SLOW = {
    "plot outputs/mine/20260101-000000-abcdef --trust mypackage",
    "tune search=decays --trials 60 task.delay=2",
}
"""A second run to draw, and a second search; both verbs have an example that is not here."""

RUN, MINE = "outputs/poisson_clicks/20260101-000000-abcdef", "outputs/mine/20260101-000000-abcdef"
SWEEP = "outputs/poisson_clicks/sweeps/20260101-000000-abcdef"


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A folder with the runs and the sweep that the examples name; what is begun in it is small."""
    with pytest.MonkeyPatch.context() as patch:
        plan, validate = (import_module(f"tracetorch.cli.{name}") for name in ("sweep.plan", "tuning.validate"))
        compose, template, go = adapter.compose, validate.template, tune._run
        patch.chdir(tmp_path_factory.mktemp("project"))
        patch.setattr(adapter, "compose", lambda *given: shrink(compose(*given)))
        patch.setattr(plan, "compose", lambda *given: shrink(compose(*given)))
        patch.setattr(validate, "template", lambda *given: shrink(template(*given)))
        patch.setattr(tune, "_run", lambda *given: go(*given[:-1], 1))
        for folder in (RUN, MINE):
            assert tracetorch("run", f"output.dir={folder}").exit_code == 0
        assert tracetorch("run", "-m", "seed=0,1", f"output.dir={SWEEP}").exit_code == 0
        yield


@pytest.mark.parametrize("example", [pytest.param(one, marks=[pytest.mark.slow] * (one in SLOW)) for one in EXAMPLES])
def test_an_example_works(project, example):
    ended = tracetorch(*shlex.split(example))
    assert ended.exit_code == 0, ended.output


def test_each_slow_example_is_there():
    assert set(EXAMPLES) > SLOW


def test_each_example_is_of_its_verb():
    for verb, (_, *examples) in (row for verbs in GROUPS.values() for row in verbs.items()):
        assert {example.split()[0] for example in examples} == {verb_name(verb)}


@pytest.mark.parametrize(
    ("verb", "says", "not_a_word"),
    [("eval", "task.delay=4", "experiment="), ("tune", "search=NAME", "experiment=mnist")],
)
def test_what_the_help_of_changes_advises(verb, says, not_a_word):
    (line,) = [part for part in tracetorch(verb, "--help").stdout.split("\n\n") if part.startswith("Arguments:")]
    assert says in line and not_a_word not in line


def test_the_list_says_how_sweeps_and_searches_are_typed():
    shown = tracetorch("list").stdout
    assert "sweep  (tracetorch run -m sweep=NAME)\n" in shown and "search  (tracetorch tune search=NAME)\n" in shown
