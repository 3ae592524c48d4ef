"""What a network is: layers of neurons that run without a graph and learn from traces."""

from tracetorch.nn.feedforward import feedforward
from tracetorch.nn.layer import TraceLayer
from tracetorch.nn.li import LI
from tracetorch.nn.lif import LIF
from tracetorch.nn.lis import LIS
from tracetorch.nn.sequential import Sequential

__all__ = ["LI", "LIF", "LIS", "Sequential", "TraceLayer", "feedforward"]
