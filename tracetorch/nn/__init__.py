"""Networks: layers of connections and neurons that run without a graph and learn from traces."""

from tracetorch.nn import neurons
from tracetorch.nn.layer import LI, LIF, LIS, Layer
from tracetorch.nn.neurons import Neuron
from tracetorch.nn.sequential import Sequential, feedforward, running_means

__all__ = ["LI", "LIF", "LIS", "Layer", "Neuron", "Sequential", "feedforward", "neurons", "running_means"]
