"""The examples in the help of every verb work as they stand."""

import shlex
from importlib import import_module

import pytest

from tests.cli.test_configs import shrink
from tests.command_line import tracetorch
from tracetorch.cli import adapter
from tracetorch.cli.main import GROUPS, verb_name
from tracetorch.cli.tuning import tune

EXAMPLES = [
    (verb, example) for verbs in GROUPS.values() for verb, (_, *examples) in verbs.items() for example in examples
]
SLOW = {"plot outputs/mine/20260101-000000-abcdef --trust mypackage", "tune search=decays --trials 60 task.delay=2"}
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


@pytest.mark.parametrize(
    ("verb", "example"),
    [pytest.param(*one, id=one[1], marks=[pytest.mark.slow] * (one[1] in SLOW)) for one in EXAMPLES],
)
def test_an_example_works(project, verb, example):
    assert example.split()[0] == verb_name(verb)
    ended = tracetorch(*shlex.split(example))
    assert ended.exit_code == 0, ended.output
