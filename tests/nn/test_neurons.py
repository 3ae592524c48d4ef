"""A neuron of one's own, two methods and no kernel: from Python and from YAML, with the presets as they are."""

import json
from pathlib import Path

import pytest
import torch

from tests.command_line import tracetorch
from tests.common import IN, OUT
from tracetorch import constrain, nn
from tracetorch.nn import LIF, Layer

PRESET = """\
{_target_: tracetorch.nn.feedforward, _partial_: true, hidden: [8],
 neuron: {_target_: tracetorch.nn.Layer, _partial_: true, decay: 0.9, synapse_decay: 0.5,
          neuron: {_target_: tests.own_neuron.CurrentLIF, _partial_: true}},
 readout: {_target_: tracetorch.nn.LIS, _partial_: true, decay: 0.9}}
"""


def test_it_trains_with_the_deltas_of_a_preset_and_is_evaluated(here):
    Path("conf/network").mkdir(parents=True)
    Path("conf/network/current.yaml").write_text(PRESET)
    own = ["--config-dir", "conf", "--trust", "tests", "network=current", "train.updates=2", "task.batch_size=4"]
    result = tracetorch("run", *own, "+network.neuron.synaps_decay=0.5", "output.dir=there")
    assert result.exit_code == 2 and not Path("there").exists()
    assert "CurrentLIF takes no 'synaps_decay'; it takes features, decay, synapse_decay, threshold" in result.output
    result = tracetorch("run", *own, "task.test_trials=20", "task.validation_trials=20", "output.dir=there")
    assert result.exit_code == 0, result.output
    assert tracetorch("eval", "there", "--trust", "tests").exit_code == 0
    config = json.loads(Path("there/run.json").read_text())["config"]
    assert config["network"]["neuron"]["decay"] == 0.999  # as the default experiment sets it


def test_decays_can_be_set():
    layer = LIF(3, 4, threshold=torch.ones(4))
    layer.neuron.decay, layer.neuron.threshold = 0.7, [0.5, 1.0, 2.0, 4.0]
    torch.testing.assert_close(layer.neuron.decay.detach(), torch.tensor(0.7))
    torch.testing.assert_close(layer.neuron.threshold.detach(), torch.tensor([0.5, 1.0, 2.0, 4.0]))
    with pytest.raises(ValueError, match="a decay must be between 0 and 1"):
        layer.neuron.decay = 1.0
    with pytest.raises(ValueError, match=r"decay was stored in the shape \(\), got \(2,\): make new neurons"):
        layer.neuron.decay = [0.8, 0.9]


class Halved(nn.neurons.LIF):
    """Fires as others do, and says half of it."""

    def step(self, current, state):
        output, state = super().step(current, state)
        return output / 2, state

    def steady_state(self, current, steps):
        return super().steady_state(current, steps) / 2


def test_a_step_and_an_average_of_ones_own_take_the_place_of_compiled_ones_and_formulas():
    own, plain, xs = Layer(3, 4, neuron=Halved, trainable="weight"), LIF(3, 4, trainable="weight"), torch.rand(9, 2, 3)
    own.load_state_dict(plain.state_dict())
    torch.testing.assert_close(own.run(4 * xs), plain.run(4 * xs) / 2)
    torch.testing.assert_close(own(xs[0]), plain(xs[0]) / 2)
    torch.testing.assert_close(own.backward(torch.ones(2, 4)), plain.backward(torch.ones(2, 4)) / 2)
    assert not Halved.decays_alone and type("Same", (nn.neurons.LIF,), {}).kernel == "lif"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_constants_are_read_anew_once_they_change(dtype):
    layer = LIF(IN, OUT, trainable="weight", decay=0.8, threshold=0.5).to(dtype)
    neuron = layer.neuron
    for change in (
        lambda: neuron.decay.mul_(0.5),  # what was read may be written to
        lambda: neuron.raw_decay.data.fill_(1.0),
        lambda: neuron.raw_decay.detach().numpy().fill(2.0) if dtype != torch.bfloat16 else None,
        lambda: layer.load_state_dict(LIF(IN, OUT, decay=0.7, threshold=2.0).state_dict()),
        lambda: setattr(neuron.raw_decay, "data", torch.zeros(OUT)),
        lambda: setattr(neuron.raw_decay, "data", torch.zeros(OUT // 2, dtype=torch.float64)),  # the same bytes
    ):
        change()
        read = constrain.decay_from_raw(neuron.raw_decay).repeat_interleave(2 if neuron.raw_decay.numel() == 2 else 1)
        wanted = read.squeeze(), constrain.positive_from_raw(neuron.raw_threshold)
        assert all(map(torch.equal, neuron.constants, wanted)) and neuron.constants[0].dtype == neuron.raw_decay.dtype
        assert all(map(torch.equal, (neuron.decay, neuron.threshold), wanted))
