"""A user's rule or loss for rewards trains in every loop and is saved in checkpoints."""

import pytest
import torch

import tracetorch as tt
from tests.common import IN, LAYERS, OUT, build, layers_of
from tests.test_docs import ROOT, blocks
from tests.tiny_training import assert_resumes, train
from tests.tiny_world import reinforce, run_lifetime
from tracetorch.loss import RewardLoss
from tracetorch.nn import LIS, Layer, Sequential, neurons
from tracetorch.rules import BPTT, OTTT, CoarseBPTT, EProp, Trace


class AboveAverage(RewardLoss):
    """REINFORCE for the last action, with the mean of all earlier rewards as baseline."""

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


@pytest.mark.parametrize(
    ("loop", "part"),
    [(train, "rule"), (reinforce, "rule"), (run_lifetime, "rule"), (reinforce, "loss"), (run_lifetime, "loss")],
)
def test_a_killed_run_with_an_own_rule_or_loss_resumes_exactly(loop, part, tmp_path):
    parts = {part: AboveAverage if part == "loss" else normalized()}
    options = {"updates": 9, "checkpoint_seconds": 0.0}
    end = assert_resumes(loop, tmp_path, lambda: parts, at=5, how="kill", **options)
    assert end["parts"][part] not in ({"size": 1.0}, {"count": 0, "mean": 0.0})


def test_a_loss_that_needs_the_next_output_is_refused_with_late_feedback(tmp_path):
    class Ahead(AboveAverage):
        bootstraps = True

    with pytest.raises(ValueError, match=r"Ahead judges each action by the next .*teach_every must be 1, got 3"):
        run_lifetime(tmp_path, loss=Ahead, teach_every=3)


def test_a_layer_that_a_rule_would_train_wrongly_is_refused_and_none_of_the_library():
    class TwoStates(neurons.LIF):
        decays_alone = False

    net = Sequential(Layer(IN, 8, neuron=TwoStates), LIS(8, OUT))
    for rule in (EProp, OTTT):
        with pytest.raises(ValueError, match=r"train TwoStates\(6, 8\) wrongly: .* choose rule=trace or rule=bptt"):
            rule(net)
    layers = [layer for row in LAYERS if row.name not in ("own", "LIF-zero") for layer in layers_of(build(row))]
    kinds = (BPTT, CoarseBPTT, EProp, OTTT, Trace)
    refused = [(kind, layer) for layer in layers for kind in kinds if kind.supports(None, layer)]
    assert not refused
