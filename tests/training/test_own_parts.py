"""A rule or a loss for rewards of one's own trains in every loop and is saved in checkpoints."""

import pytest
import torch

import tracetorch as tt
from tests.common import IN, LAYERS, OUT, build, layers_of, spikes
from tests.test_docs import ROOT, blocks
from tests.tiny_training import train
from tests.tiny_world import reinforce, run_lifetime
from tracetorch.loss import RewardLoss
from tracetorch.nn import LIS, Layer, Sequential, neurons
from tracetorch.rules import BPTT, OTTT, EProp, Rule, Trace
from tracetorch.runs import RunFolder
from tracetorch.runs.provenance import first_difference


class AboveAverage(RewardLoss):
    """The last action alone, judged by how much more it brought than all before it on average."""

    def __init__(self):
        super().__init__()
        self.count, self.mean = 0, 0.0

    def policy(self, output):
        return output

    def observe(self, output, action):
        chosen = torch.nn.functional.one_hot(action, output.shape[1])
        self.log, self.score = output.gather(1, action[:, None])[:, 0].log(), chosen - output

    def __call__(self, reward, done=None):
        assert done is None or done.dtype == torch.bool
        self.modulation = -(reward - self.mean) / len(reward)
        self.count += 1
        self.mean += (float(reward.mean()) - self.mean) / self.count
        return self.modulation @ self.log, self.modulation[:, None] * self.score

    def state_dict(self):
        return {"count": self.count, "mean": self.mean}

    def load_state_dict(self, state):
        self.count, self.mean = state["count"], state["mean"]


def normalized():
    """The rule that CONTRIBUTING adds."""
    (block,) = [block for block in blocks(ROOT / "CONTRIBUTING.md", "python") if "class Normalized(Rule)" in block]
    names = {"tt": tt}
    exec(compile(block, "CONTRIBUTING.md", "exec"), names)
    return names["Normalized"]


class Killed(BaseException):
    """Ends a run as SIGKILL would."""


@pytest.mark.parametrize(
    ("loop", "part"),
    [(train, "rule"), (reinforce, "rule"), (run_lifetime, "rule"), (reinforce, "loss"), (run_lifetime, "loss")],
)
def test_a_killed_run_with_it_goes_on_exactly(loop, part, tmp_path):
    def kill(event, values):
        if event == "progress" and values["done"] == 5:
            raise Killed

    given = {part: AboveAverage if part == "loss" else normalized(), "updates": 9, "checkpoint_seconds": 0.0}
    whole = loop(tmp_path, name="whole", **given)
    with pytest.raises(Killed):
        loop(tmp_path, name="killed", listener=kill, **given)
    run = loop(tmp_path, resume_from=RunFolder(tmp_path / "killed"), **given)
    assert not first_difference(whole.folder, run.folder)
    ends = [torch.load(one.folder.checkpoint("latest"), weights_only=True)["parts"][part] for one in (whole, run)]
    assert ends[0] == ends[1] not in ({"size": 1.0}, {"count": 0, "mean": 0.0})


def test_what_a_lifetime_cannot_have_is_refused(tmp_path):
    class Ending(Trace):
        is_online = False

    class Ahead(AboveAverage):
        bootstraps = True

    with pytest.raises(ValueError, match="Ending needs sequences with an end"):
        run_lifetime(tmp_path, rule=Ending)
    with pytest.raises(ValueError, match=r"Ahead judges each action by the next .*teach_every must be 1, got 3"):
        run_lifetime(tmp_path, loss=Ahead, teach_every=3)


def test_a_layer_that_a_rule_would_train_wrongly_is_refused_and_none_of_the_library():
    class TwoStates(neurons.LIF):
        decays_alone = False

    net = Sequential(Layer(IN, 8, neuron=TwoStates), LIS(8, OUT)).double()
    for rule in (EProp, OTTT):
        with pytest.raises(ValueError, match=r"train TwoStates\(6, 8\) wrongly: .* choose rule=trace or rule=bptt"):
            rule(net)
    for rule in (BPTT, Trace):
        net.zero_grad()
        learner = rule(net)
        learner.backward(torch.ones_like(learner.forward(spikes(), reduce="mean")))
        assert net[1].weight.grad.abs().sum() > 0
    layers = [layer for row in LAYERS if row.name != "own" for layer in layers_of(build(row))]
    refused = [(kind, layer) for layer in layers for kind in (BPTT, EProp, OTTT, Trace) if kind.supports(None, layer)]
    assert not refused
    assert Rule.state_dict(learner) == {} and Rule.load_state_dict(learner, {}) is None  # unless it says so
