"""The layers by the names of their neurons: `LIF(784, 256)` is `Layer(784, 256, neuron=neurons.LIF)`.

Each writes its arguments out: editors and `help` then show the defaults, and configs are checked without an import.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from torch.nn import Module

from tracetorch.nn import neurons
from tracetorch.nn.layer import Layer
from tracetorch.nn.neurons import Values
from tracetorch.renamed import takes_former_names


class LIF(Layer):
    """Leaky integrate-and-fire neurons with subtractive reset.

        m ← β·m + W·x + b,    s = 1 if m > θ else 0,    m ← m − θ·s          (`functional.lif_step`)
        rate = a line in i = W·ā + b, its corners rounded                    (`functional.lif_rate`)

    Args:
        in_features, out_features: numbers of inputs and neurons; or a connection, such as `torch.nn.Conv2d(1, 16, 5)`.
        decay: β of the membrane per step, in (0, 1). A number; or several: one for each neuron (needs a free
            `trace_decay`), or one for each of a few equal groups of neurons.
        threshold: θ > 0, a number or one for each neuron.
        rate_map: the steady-state map, "line" or "logistic".
        trace_decay, bias, trainable, decay_gradient, trace_bank: see `Layer`.
    Returns: spikes, 0 or 1, (batch, *features).
    Gradient: approximate: the spikes of a stretch of time are replaced by their average rate, so order within it is
        lost; closest when the input is steady and the trace is tied to the membrane.
    Memory: batch × (inputs + neurons), and as many inputs again if the decay is trained, and for each decay in
        the bank; independent of time.
    Source: docs/how-it-learns.md derives the map.
    Example:
        >>> layer = LIF(3, 2)
        >>> layer(torch.ones(1, 3)).shape
        torch.Size([1, 2])
    """

    @takes_former_names
    def __init__(
        self,
        in_features: int | Module,
        out_features: int | None = None,
        *,
        decay: Values = 0.9,
        threshold: Values = 1.0,
        trace_decay: Values | str = "membrane",
        bias: bool = False,
        trainable: Iterable[str] | None = None,
        decay_gradient: str = "exact",
        trace_bank: Sequence[float] = (),
        rate_map: str = "line",
    ):
        super().__init__(
            in_features,
            out_features,
            neuron=neurons.LIF,
            decay=decay,
            threshold=threshold,
            rate_map=rate_map,
            trace_decay=trace_decay,
            bias=bias,
            trainable=trainable,
            decay_gradient=decay_gradient,
            trace_bank=trace_bank,
        )


class LI(Layer):
    """Leaky integrators; the membrane is the output.

        m ← β·m + W·x + b                                                    (`functional.li_step`)
        level = (W·ā + b)(1 − βⁿ)/(1 − β)                                    (`functional.li_level`)

    Args: as `LIF`, without `threshold`, `trace_bank` and `rate`.
    Returns: membranes, any real number, (batch, *features).
    Gradient: exact for W, b and the decay, for a loss on the present output, if the trace is tied to the membrane: it
        then equals backpropagation through time. With `decay_gradient="stationary"` it treats the decay as if the
        current were steady.
    Memory: batch × (inputs + neurons), and as many inputs again if the decay is trained; independent of time.
    """

    @takes_former_names
    def __init__(
        self,
        in_features: int | Module,
        out_features: int | None = None,
        *,
        decay: Values = 0.9,
        trace_decay: Values | str = "membrane",
        bias: bool = False,
        trainable: Iterable[str] | None = None,
        decay_gradient: str = "exact",
    ):
        super().__init__(
            in_features,
            out_features,
            neuron=neurons.LI,
            decay=decay,
            trace_decay=trace_decay,
            bias=bias,
            trainable=trainable,
            decay_gradient=decay_gradient,
        )


class LIS(Layer):
    """Leaky integrators whose softmax over the neurons is the output: a distribution at every step.

        m ← β·m + W·x + b,    p = softmax(m)
        distribution = softmax((W·ā + b)(1 − βⁿ)/(1 − β))                    (`functional.lis_distribution`)

    Args: as `LIF`, without `threshold`, `trace_bank` and `rate`.
    Returns: probabilities, each row sums to 1, (batch, *features).
    Gradient: as `LI`: exact for W, b and the decay, for a loss on the present output, if the trace is tied. For a loss
        on the mean over a window it takes the softmax at the last step.
    Memory: as `LI`.
    """

    @takes_former_names
    def __init__(
        self,
        in_features: int | Module,
        out_features: int | None = None,
        *,
        decay: Values = 0.9,
        trace_decay: Values | str = "membrane",
        bias: bool = False,
        trainable: Iterable[str] | None = None,
        decay_gradient: str = "exact",
    ):
        super().__init__(
            in_features,
            out_features,
            neuron=neurons.LIS,
            decay=decay,
            trace_decay=trace_decay,
            bias=bias,
            trainable=trainable,
            decay_gradient=decay_gradient,
        )
