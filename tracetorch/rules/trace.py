"""Trace learning: each layer represents the past by an average of its input."""

from torch import Tensor

from tracetorch.modes import without_graph
from tracetorch.nn.local_gradient import At
from tracetorch.rules.base import Rule


class Trace(Rule):
    """Learn from the trace of each layer's input, the only memory of the past.

    Args: net: any network of `tt.nn`.
    Gradient: approximate; see each layer. Equal to backpropagation through time for weights, bias and decay of a tied
        `LI` or `LIS` readout and a loss on its present output. Dropped: the order of inputs within a trace's time
        scale; single spikes, replaced by their average rate; all but the end of a window over which a mean is taken.
    Memory: batch × (inputs + neurons) of every layer, independent of time; see `Layer` for the memory that
        trainable decays and a trace bank add.
    Time: O(T × batch × weights) forward for a stretch of T steps; a learning moment O(batch × weights).
    Source: docs/how-it-learns.md; for decays, forward accumulation as in real-time recurrent learning, Williams,
        Zipser (1989), doi:10.1162/neco.1989.1.2.270.
    """

    takes_logits = is_online = takes_precision = True

    @without_graph
    def backward(self, signal: Tensor, *, at: At = "output") -> None:
        """Add to the gradient of every trainable parameter; see `Sequential.backward`.

        Args: signal: of every step, (time, batch, out_features), too; the present trace then stands for that of each
            step, which is exact for a `forward` of one step.
        """
        signal = signal.sum(dim=0) if signal.ndim == 3 else signal
        self.net.backward(signal, at=at, return_input_grad=False)
