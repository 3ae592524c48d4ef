"""The neurons of own_part: their rate is that of the steady state, and every parameter learns."""

import pytest
import torch

import tracetorch as tt
from tracetorch.cli.templates.neuron import OwnPart


@pytest.mark.parametrize("current", [0.02, 0.1, 0.3])
def test_the_steady_state_is_the_average_output(current):
    steps, neuron = 400, OwnPart(5)
    inputs = torch.full((1, 5), current)
    state, total = neuron.init_state(inputs), torch.zeros(1, 5)
    for _ in range(steps):
        output, state = neuron.step(inputs, state)
        total += output
    expected = neuron.steady_state(inputs, torch.tensor([[float(steps)]]))
    torch.testing.assert_close(total / steps, expected, rtol=0, atol=0.1)


def test_a_layer_runs_it_in_any_chunks_and_trains_every_parameter():
    torch.manual_seed(0)
    layer, xs = tt.nn.Layer(4, 6, neuron=OwnPart), torch.rand(30, 2, 4)
    whole = layer.run(xs)
    assert whole.any() and not whole.all()
    layer.reset()
    assert torch.equal(layer.run(xs, chunk=7), whole)
    layer.backward(torch.randn(2, 6))
    assert all(parameter.grad.any() for parameter in layer.parameters() if parameter.requires_grad)
