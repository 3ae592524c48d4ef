"""A neuron of one's own, two methods and no kernel: from Python and from YAML, with the presets as they are."""

import json
from functools import partial
from pathlib import Path

import pytest
import torch

from tests.command_line import tracetorch
from tests.own_neuron import CurrentLIF
from tests.tiny_training import train
from tracetorch import nn
from tracetorch.nn import LIF, LIS, Layer, Sequential

PRESET = """\
_target_: tracetorch.nn.feedforward
_partial_: true
hidden: [8]
neuron:
  _target_: tracetorch.nn.Layer
  _partial_: true
  neuron: {_target_: tests.own_neuron.CurrentLIF, _partial_: true}
  decay: 0.9
  synapse_decay: 0.5
readout: {_target_: tracetorch.nn.LIS, _partial_: true, decay: 0.9}
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("conf/network").mkdir(parents=True)
    Path("conf/network/current.yaml").write_text(PRESET)
    return ["--config-dir", "conf", "--trust", "tests", "network=current", "train.updates=2", "task.batch_size=4"]


def test_it_trains_with_the_deltas_of_a_preset_and_is_evaluated(own):
    result = tracetorch("run", *own, "task.test_trials=20", "task.validation_trials=20", "output.dir=there")
    assert result.exit_code == 0, result.output
    assert tracetorch("eval", "there", "--trust", "tests").exit_code == 0
    config = json.loads(Path("there/run.json").read_text())["config"]
    assert config["network"]["neuron"]["decay"] == 0.999  # as the default experiment sets it


def test_a_constant_that_it_does_not_have_is_named(own):
    result = tracetorch("run", *own, "+network.neuron.synaps_decay=0.5", "output.dir=there")
    assert result.exit_code == 2 and not Path("there").exists()
    assert "CurrentLIF takes no 'synaps_decay'; it takes features, decay, synapse_decay, threshold" in result.output


def test_it_learns_as_well_as_lif(tmp_path):
    found = {}
    for name, neuron in {"own": partial(Layer, neuron=CurrentLIF), "lif": LIF}.items():
        network = partial(nn.feedforward, hidden=[16], neuron=neuron, readout=nn.LI)
        run = train(tmp_path, name=name, network=network, updates=150)
        found[name] = [row["loss"] for row in run.folder.records() if row["split"] == "train"][-1]
    before = next(iter(train(tmp_path, name="one", network=network, updates=1).folder.records()))["loss"]
    assert found["lif"] < 0.5 * before and found["own"] < 1.3 * found["lif"]


def test_constants_are_given_by_name_or_with_the_neurons():
    torch.manual_seed(0)
    named = Layer(3, 4, neuron=CurrentLIF, synapse_decay=0.8, threshold=2.0)
    torch.manual_seed(0)
    made = Layer(3, 4, neuron=CurrentLIF(4, synapse_decay=0.8, threshold=2.0))
    assert all(map(torch.equal, named.state_dict().values(), made.state_dict().values()))
    with pytest.raises(TypeError, match="decay: give constants to the neurons themselves"):
        Layer(3, 4, neuron=CurrentLIF(4), decay=0.9)
    with pytest.raises(TypeError, match="CurrentLIF takes no 'decy'; it takes features, decay,"):
        Layer(3, 4, neuron=CurrentLIF, decy=0.9)


def test_decays_can_be_set():
    layer = LIF(3, 4, threshold=torch.ones(4))
    layer.neuron.decay, layer.neuron.threshold = 0.7, [0.5, 1.0, 2.0, 4.0]
    torch.testing.assert_close(layer.neuron.decay.detach(), torch.tensor(0.7))
    torch.testing.assert_close(layer.neuron.threshold.detach(), torch.tensor([0.5, 1.0, 2.0, 4.0]))
    with pytest.raises(ValueError, match="a decay must be between 0 and 1"):
        layer.neuron.decay = 1.0
    with pytest.raises(ValueError, match=r"decay was stored in the shape \(\), got \(2,\): make new neurons"):
        layer.neuron.decay = [0.8, 0.9]
    net = Sequential(layer, LIS(4, 2))
    net.run(torch.ones(5, 2, 3), reduce="mean").log()[:, 0].sum().backward()
    assert layer.neuron.raw_threshold.grad.shape == (4,)


class Halved(nn.neurons.LIF):
    """Fires as others do, and says half of it."""

    def step(self, current, state):
        output, state = super().step(current, state)
        return output / 2, state


def test_a_step_of_ones_own_runs_in_place_of_the_compiled_one():
    own, plain = Layer(3, 4, neuron=Halved), LIF(3, 4)
    own.load_state_dict(plain.state_dict())
    xs = 4 * torch.rand(9, 2, 3)
    torch.testing.assert_close(own.run(xs), plain.run(xs) / 2)
    torch.testing.assert_close(own(xs[0]), plain(xs[0]) / 2)
    assert not Halved.decays_alone and type("Same", (nn.neurons.LIF,), {}).kernel == "lif"
