"""Neurons without weights: their dynamics, and their average output under a steady current."""

from tracetorch.nn.neurons.base import Neuron, Values
from tracetorch.nn.neurons.li import LI, LIS
from tracetorch.nn.neurons.lif import LIF

__all__ = ["LI", "LIF", "LIS", "Neuron", "Values"]
