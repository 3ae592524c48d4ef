"""What a network is: layers of connections and neurons that run without a graph and learn from traces."""

from tracetorch.nn import neurons
from tracetorch.nn.feedforward import feedforward
from tracetorch.nn.layer import Layer
from tracetorch.nn.layers import LI, LIF, LIS
from tracetorch.nn.neurons import Neuron
from tracetorch.nn.sequential import Sequential

__all__ = ["LI", "LIF", "LIS", "Layer", "Neuron", "Sequential", "feedforward", "neurons"]
