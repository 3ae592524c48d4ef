"""Neurons without weights: their dynamics, and their average output under a steady current."""

from tracetorch.nn.neurons.base import Neuron, Values
from tracetorch.nn.neurons.li import LI
from tracetorch.nn.neurons.lif import LIF
from tracetorch.nn.neurons.lis import LIS

__all__ = ["LI", "LIF", "LIS", "Neuron", "Values"]
