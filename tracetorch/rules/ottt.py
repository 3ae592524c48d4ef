"""Online training through time (OTTT): the gradient of each step alone. The input trace represents the past."""

from torch import Tensor

from tracetorch.modes import unaffected
from tracetorch.nn import Sequential
from tracetorch.nn.local_gradient import whole_gradients
from tracetorch.rules.stepwise import Recording, TwoPassRule
from tracetorch.rules.surrogate import Surrogate


class OTTT(TwoPassRule):
    """Add the gradients of all counted steps, each from the signal and the input traces of that step alone.

        δ of the last layer: dL/d output through that step; below: δ ← (δ·W) through the surrogate of that step
        dL/dW = Σ_t δ(t)·â(t)ᵀ,    â ← d·â + x
        symbols: input x, input trace â with decay d (the membrane's, if tied), weights W, δ the error at the currents

    Args:
        net: any network of `tt.nn`.
        surrogate: as in `BPTT`, without `through_reset`.
    Gradient: approximate: it drops the effect of a spike on later outputs, through the membranes of the layers above.
        Equal to backpropagation through time for W and b of an `LI` or `LIS` readout whose trace is tied to the
        membrane's decay. Decays and thresholds get the gradient of each step alone, with the membrane before it
        constant.
    Memory: inputs and neurons of every layer for a chunk of 64 steps; independent of time.
    Time: O(time × batch × weights); counted steps run twice, because the signal is known only at the end.
    Source: Xiao, Meng, Zhang, He, Lin (2022), doi:10.48550/arXiv.2210.04195.
    """

    def __init__(self, net: Sequential, *, surrogate: Surrogate | str = "fast_sigmoid"):
        super().__init__(net, surrogate)

    @unaffected
    @whole_gradients()
    def _second_pass(self, recording: Recording, signal: Tensor | None) -> None:
        assert signal is not None
        for steps, graphs in self._counted_chunks(recording):
            delta = signal[steps].flatten(0, 1)
            for graph in reversed(graphs):
                delta = graph.vjp(delta)
                graph.learn(delta)
                delta = delta @ graph.layer.weight.detach()
