"""Backpropagation through time: the gradient goes back through all steps, or through the last ones."""

from functools import partial

import torch
from torch import Tensor

from tracetorch import backends
from tracetorch.encode import Stream
from tracetorch.modes import unaffected
from tracetorch.nn import Layer, Sequential
from tracetorch.nn.local_gradient import At, add, gradients, whole_gradients
from tracetorch.nn.network import as_stream, call_with_hooks
from tracetorch.nn.sequential import as_input
from tracetorch.rules.base import Rule, check_at
from tracetorch.rules.surrogate import Surrogate, needs_slopes, surrogate_of, using


class BPTT(Rule):
    """Backpropagation through all steps of the last `forward`, or through its last `window` steps.

    Args:
        net: any network of `tt.nn`.
        surrogate: derivative of a spike: "fast_sigmoid", "arctan", "triangle", or a `Surrogate`.
        through_reset: whether the gradient flows through the reset as well.
        window: steps that the gradient goes back; None: all steps of the last `forward`.
    Gradient: exact except for the surrogate: ordinary autograd through every step of the last `forward`. The state at
        its beginning is constant. With a shorter window, approximate: it drops the effect of the steps before the
        window on later outputs, and the outputs of these steps themselves, though they count in a mean.
    Memory: O(time × batch × (inputs + neurons)), or O(window × …): every spike and membrane, until `backward`.
    Time: forward through every step, backward through those that are kept, O(time × batch × weights) each.
    Source: Werbos (1990), doi:10.1109/5.58337; with surrogates, Neftci, Mostafa, Zenke (2019),
        doi:10.1109/MSP.2019.2931595; truncated, Williams, Peng (1990), doi:10.1162/neco.1990.2.4.490.
    """

    def __init__(
        self,
        net: Sequential,
        *,
        surrogate: Surrogate | str = "fast_sigmoid",
        through_reset: bool = False,
        window: int | None = None,
    ):
        super().__init__(net)
        if window is not None and (window != int(window) or window < 1):
            raise ValueError(f"window must be a whole number of steps, at least 1, or None, got {window}")
        self.surrogate = surrogate_of(surrogate, through_reset=through_reset)
        self.window = None if window is None else int(window)
        self._output: Tensor | None = None

    def supports(self, layer: Layer) -> str:
        return needs_slopes(layer)

    def reset(self, mask: Tensor | None = None) -> None:
        """Start a new sequence: forget the state and its graph."""
        super().reset(mask)
        self._output = None

    def forward(self, xs: Tensor | Stream, *, reduce: str | None = None, window: int | None = None) -> Tensor:
        """Run over a stretch of time; see `Sequential.run`. Keep a graph, except under `torch.no_grad`."""
        if not torch.is_grad_enabled():
            self._output = None
            return super().forward(xs, reduce=reduce, window=window)
        self._output = run_unrolled(self.net, xs, self.surrogate, reach=self.window, reduce=reduce, window=window)
        return self._output.detach()

    def backward(self, signal: Tensor, *, at: At = "output") -> None:
        """Add to the gradient of every trainable parameter, once for each `forward`.

        Args: signal: dL/d output of `forward`; without `reduce`, of every step or of the last one.
        Raises: RuntimeError without a `forward` since the last call.
        """
        check_at(self, at)
        backpropagate(self.net, self._output, signal)
        self._output = None


class TruncatedBPTT(BPTT):
    """`BPTT` with a window of `k` steps.

    Args: net, surrogate, through_reset: as in `BPTT`; k: its window.
    Gradient, Memory, Time, Source: as `BPTT` with a window.
    """

    def __init__(
        self, net: Sequential, *, k: int, surrogate: Surrogate | str = "fast_sigmoid", through_reset: bool = False
    ):
        if k is None or k != int(k) or k < 1:
            raise ValueError(f"k must be a whole number of steps, at least 1, got {k}")
        super().__init__(net, surrogate=surrogate, through_reset=through_reset, window=k)

    @property
    def k(self) -> int:
        """Number of steps that the gradient goes back."""
        assert self.window is not None
        return self.window


@unaffected
def run_unrolled(
    net: Sequential,
    xs: Tensor | Stream,
    surrogate: Surrogate,
    *,
    reach: int | None,
    reduce: str | None,
    window: int | None,
) -> Tensor:
    """`Sequential.run` with the graph of the last `reach` steps, or of all if None. The state before them is constant.

    Memory: O(reach): every membrane and every spike.
    """
    count = as_stream(xs, reduce, window).steps
    before = max(0, count - (reach or count))
    if not before:
        outputs = _unroll(net, xs, surrogate)
        return outputs if reduce is None else outputs[-(window or count) :].mean(dim=0)
    counted = window or count
    early_counted = max(0, counted - (count - before))  # number of steps without a graph that count in the mean
    with torch.no_grad():
        early = net.run(xs[:before], reduce=reduce, window=None if reduce is None else max(1, early_counted))
    if reduce is None:
        return torch.cat([early, _unroll(net, xs[before:], surrogate)])
    late = _unroll(net, xs[before:], surrogate)[-counted:].sum(dim=0)
    return (late + early * early_counted) / counted


@unaffected
@whole_gradients()
def backpropagate(net: Sequential, output: Tensor | None, signal: Tensor) -> None:
    """Add the gradients through the graph of an output. Args: signal: dL/d output, or dL/d its last step."""
    if output is None:
        raise RuntimeError("nothing was run since the last learning moment: call rule.forward(xs) before rule.backward")
    if signal.ndim < output.ndim:
        output = output[-1]
    if signal.shape != output.shape:
        raise ValueError(f"expected a signal of shape {tuple(output.shape)}, got {tuple(signal.shape)}")
    learnable = [parameter for parameter in net.parameters() if parameter.requires_grad]
    if learnable:
        for parameter, gradient in zip(learnable, gradients(output, learnable, signal.to(output.dtype)), strict=True):
            add(parameter, gradient)


def _unroll(net: Sequential, xs: Tensor | Stream, surrogate: Surrogate) -> Tensor:
    """Return all outputs, (time, batch, out_features), with their graph."""

    def through(values: Tensor) -> Tensor:
        for layer in net:
            values = as_input(layer, values, 2)
            with using(layer, surrogate):
                values = call_with_hooks(layer, partial(_unroll_layer, layer), values)
        return values

    return call_with_hooks(net, through, xs.dense() if isinstance(xs, Stream) else xs)


def _unroll_layer(layer: Layer, xs: Tensor) -> Tensor:
    """Run one layer over the whole stretch: one matrix product, then its neurons step by step."""
    xs = xs.to(layer._like.dtype)
    layer._check_step(xs[0])
    start = layer.own_state(xs.shape[1], tuple(xs.shape[2:])).copy()
    currents = layer.connection(xs.flatten(0, 1)).unflatten(0, xs.shape[:2])
    outputs, state = [], start.neuron
    for current in currents:
        output, state = layer.neuron.step(current, state)
        outputs.append(output)
    with torch.no_grad():
        backends.trace_scan(xs.detach().flatten(2), layer._constants_of(start)[1])
        neuron = type(state)(*(value.detach() for value in state))
        layer.state = start._replace(neuron=neuron, steps=start.steps + len(xs))
    return torch.stack(outputs)
