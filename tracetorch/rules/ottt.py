"""Online training through time (OTTT): the gradient of each step alone. The input trace represents the past."""

from torch import Tensor

from tracetorch.nn import Sequential
from tracetorch.rules.stepwise import Activity, StepwiseRule, blocks, part_of
from tracetorch.rules.surrogate import Surrogate


class OTTT(StepwiseRule):
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
    Memory: spikes and a membrane of every neuron for at most 128 steps, twice that for longer windows; independent of
        time.
    Time: O(time × batch × weights); counted steps before the last 128 run twice, because the signal is known only at
        the end.
    Source: Xiao, Meng, Zhang, He, Lin (2022), doi:10.48550/arXiv.2210.04195.
    """

    def __init__(self, net: Sequential, *, surrogate: Surrogate | str = "fast_sigmoid"):
        super().__init__(net, surrogate)

    def _learn_chunk(self, activities: list[Activity], signal: Tensor | None, end: int, *, is_last: bool) -> None:
        del is_last
        assert signal is not None
        deltas = part_of(signal, end, len(activities[0]))
        if deltas is None:
            return
        for steps in blocks(activities):
            down = deltas[steps]
            for activity in reversed(activities):
                delta = activity.vjp(down, steps)
                if activity is not activities[0]:
                    down = delta @ activity.layer.weight
                activity.learn(delta, steps)
