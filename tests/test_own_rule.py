"""A rule of one's own, as CONTRIBUTING adds it, trains in every loop and is saved in checkpoints."""

from functools import partial

import pytest
import torch

import tracetorch as tt
from tests.common import IN, LAYERS, OUT, build, each, layers_of, spikes
from tests.test_docs import ROOT, blocks
from tests.tiny_training import train
from tests.tiny_world import live, play
from tracetorch.nn import LIF, LIS, Layer, Sequential, neurons
from tracetorch.rules import BPTT, OTTT, EProp, Rule, Trace
from tracetorch.runs import RunFolder
from tracetorch.runs.provenance import first_difference

LOOPS = {
    "supervised": partial(train, updates=9, checkpoint_seconds=0.0),
    "reinforcement": partial(play, updates=9, checkpoint_seconds=0.0),
    "lifetime": partial(live, updates=9, checkpoint_seconds=0.0),
}


class Killed(BaseException):
    """Ends a run as SIGKILL would."""


@pytest.fixture(scope="module")
def normalized():
    (block,) = [block for block in blocks(ROOT / "CONTRIBUTING.md", "python") if "class Normalized(Rule)" in block]
    names = {"tt": tt}
    exec(compile(block, "CONTRIBUTING.md", "exec"), names)
    return names["Normalized"]


@pytest.mark.parametrize("loop", LOOPS)
def test_a_killed_run_with_it_goes_on_exactly(normalized, loop, tmp_path):
    def kill(event, values):
        if event == "progress" and values["done"] == 5:
            raise Killed

    whole = LOOPS[loop](tmp_path, name="whole", rule=normalized)
    with pytest.raises(Killed):
        LOOPS[loop](tmp_path, name="killed", rule=normalized, listener=kill)
    LOOPS[loop](tmp_path, resume_from=RunFolder(tmp_path / "killed"), rule=normalized)
    assert not first_difference(whole.folder, RunFolder(tmp_path / "killed"))
    ends = [torch.load(tmp_path / name / "checkpoints/latest.pt", weights_only=True) for name in ("whole", "killed")]
    assert ends[0]["parts"]["rule"] == ends[1]["parts"]["rule"] != {"size": 1.0}
    assert str(ends[0]["net"]) == str(ends[1]["net"])


def test_a_rule_that_needs_an_end_is_refused_in_a_lifetime(tmp_path):
    class Ending(Trace):
        is_online = False

    with pytest.raises(ValueError, match="Ending needs sequences with an end"):
        live(tmp_path, rule=Ending)


class TwoStates(neurons.LIF):
    """A neuron whose steps pass on more than the membrane."""

    decays_alone = False


@pytest.mark.parametrize("rule", [EProp, OTTT])
def test_a_layer_that_a_rule_would_train_wrongly_is_refused(rule):
    with pytest.raises(ValueError, match=r"would train TwoStates\(6, 8\) wrongly: .* choose rule=trace or rule=bptt"):
        rule(Sequential(Layer(IN, 8, neuron=TwoStates), LIS(8, OUT)))


@pytest.mark.parametrize("rule", [BPTT, Trace])
def test_other_rules_train_it(rule):
    net = Sequential(Layer(IN, 8, neuron=TwoStates), LIS(8, OUT)).double()
    learner = rule(net)
    output = learner.forward(spikes(), reduce="mean")
    learner.backward(torch.ones_like(output))
    assert net[1].weight.grad.abs().sum() > 0


@each([row for row in LAYERS if row.name != "own"])
def test_no_rule_refuses_the_layers_of_the_library(row):
    for layer in layers_of(build(row)):
        assert not any(kind.supports(kind.__new__(kind), layer) for kind in (BPTT, EProp, OTTT, Trace))


def test_a_rule_has_no_state_unless_it_says_so():
    class Plain(Rule):
        def forward(self, xs, *, reduce=None, window=None):
            return self.net.run(xs, reduce=reduce, window=window).detach()

        def backward(self, signal, *, at="output"):
            self.net.backward(signal, at=at)

    rule = Plain(Sequential(LIF(IN, OUT)))
    rule.load_state_dict(rule.state_dict())
    assert rule.state_dict() == {}
