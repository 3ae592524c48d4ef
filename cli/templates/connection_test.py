"""The connections of own_part: linear, and absent synapses never learn."""

import torch

from tracetorch.cli.templates.connection import OwnPart, layer


def test_they_are_linear_in_their_input():
    connection, (x, y) = OwnPart(6, 4), torch.rand(2, 3, 6)
    torch.testing.assert_close(connection(x + 2 * y), connection(x) + 2 * connection(y))
    assert not connection(torch.zeros(3, 6)).any()


def test_a_layer_of_them_learns_through_the_synapses_that_exist():
    torch.manual_seed(0)
    neurons = layer(6, 4, probability=0.5, decay=0.8, trainable=["weight"])
    neurons.run(torch.rand(20, 2, 6))
    neurons.backward(torch.randn(2, 4))
    gradient, present = neurons.connection.weight.grad, neurons.connection.present
    assert gradient[present].any() and not gradient[~present].any()
