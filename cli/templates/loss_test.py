"""The loss own_part: its signal is its derivative, for target values and for classes."""

import pytest
import torch

from tracetorch.cli.templates.loss import own_function


@pytest.mark.parametrize("target", [torch.randn(5, 3), torch.tensor([0, 2, 1, 1, 0])], ids=["values", "classes"])
def test_the_signal_is_the_derivative(target):
    output = torch.randn(5, 3, requires_grad=True)
    loss, signal = own_function(output, target, width=0.7)
    assert loss > 0 and not signal.requires_grad
    torch.testing.assert_close(signal, torch.autograd.grad(loss, output)[0])


def test_a_perfect_output_has_no_loss_and_a_wrong_width_is_refused():
    loss, signal = own_function(torch.eye(3), torch.arange(3))
    assert loss == 0 and not signal.any()
    with pytest.raises(ValueError, match="width must be above 0"):
        own_function(torch.eye(3), torch.arange(3), width=0)
