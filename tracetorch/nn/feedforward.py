"""The usual network, in one call: hidden layers of one kind of neuron, and a readout of another."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise

from torch.nn import Module

from tracetorch.nn.layer import Layer
from tracetorch.nn.sequential import Sequential


def feedforward(
    in_features: int,
    out_features: int,
    *,
    hidden: Sequence[int],
    neuron: Callable[[int, int], Layer],
    readout: Callable[[int, int], Layer],
) -> Sequential:
    """Hidden layers and a readout, each connected to all of the one below.

    Args:
        in_features, out_features: sizes of the input and of the readout.
        hidden: how many neurons in each hidden layer, from the input up; may be empty.
        neuron, readout: make one from its sizes, such as `LIF` or `partial(LIS, decay=.99)`.
    Returns: the network, freshly initialised.
    Example:
        >>> feedforward(784, 10, hidden=[256], neuron=tt.nn.LIF, readout=tt.nn.LIS)[0]
        LIF(784, 256)
    """
    if isinstance(hidden, str) or not isinstance(hidden, Iterable):
        raise TypeError(f"hidden is a list of sizes, such as [256], got {hidden!r}")
    for name, make in {"neuron": neuron, "readout": readout}.items():
        if not callable(make) or isinstance(make, Module):
            raise TypeError(f"{name} makes a layer from its sizes, such as tracetorch.nn.LIF, got {make!r}")
    sizes = [in_features, *hidden]
    layers = [neuron(below, above) for below, above in pairwise(sizes)]
    return Sequential(*layers, readout(sizes[-1], out_features))
