"""The equations: pure functions from tensors to tensors.

The *steps* compute one time step, and pass a state on to the next; only rules with a surrogate differentiate them. The
*steady-state maps* give the average output under a steady current; they are smooth, and trace learning differentiates
them.

    symbols: input x, input trace t with decay d, membrane m with decay β, threshold θ, spikes s, current i, steps n

Currents, membranes and outputs are (batch, *features). Decays are per step, in (0, 1), and thresholds above 0: a
number, or one for each neuron. Step counts n are (batch, 1).
"""

import math
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn.functional import softplus

from tracetorch.modes import check_tensor


class SpikeFunction(Protocol):
    """A spike function with a derivative, for rules that backpropagate through time; see `rules.surrogate`."""

    @property
    def through_reset(self) -> bool: ...
    def __call__(self, membrane: Tensor, threshold: Tensor) -> Tensor: ...


class MembraneState(NamedTuple):
    """The state of neurons that pass on only their membrane from step to step."""

    membrane: Tensor  # (batch, *features)


# ── steps ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def trace_step(x: Tensor, trace: Tensor, decay: Tensor) -> Tensor:
    """One step of an input trace: `t ← d·t + x`.

    Args: x: any shape. trace: the same shape. decay: d, broadcast against `trace`.
    Returns: the new trace.
    """
    check_tensor(x, "x")
    check_tensor(trace, "trace")
    return decay * trace + x


def lif_step(
    current: Tensor, membrane: Tensor, decay: Tensor, threshold: Tensor, surrogate: SpikeFunction | None = None
) -> tuple[Tensor, Tensor]:
    """One step of leaky integrate-and-fire neurons with subtractive reset.

        m ← β·m + i,    s = 1 if m > θ else 0,    m ← m − θ·s

    A membrane exactly at its threshold does not fire.

    Args: current: i. membrane: m. decay: β. threshold: θ. surrogate: a spike function with a derivative; see
        `rules.surrogate`.
    Returns: spikes, 0 or 1, and the new membrane.
    """
    check_tensor(current, "current")
    check_tensor(membrane, "membrane")
    membrane = decay * membrane + current
    if surrogate is None:
        spikes = (membrane > threshold).to(membrane.dtype)
        return spikes, membrane - threshold * spikes
    spikes = surrogate(membrane, threshold)
    return spikes, membrane - threshold * (spikes if surrogate.through_reset else spikes.detach())


def lif_zero_step(
    current: Tensor, membrane: Tensor, decay: Tensor, threshold: Tensor, surrogate: SpikeFunction | None = None
) -> tuple[Tensor, Tensor]:
    """One step of leaky integrate-and-fire neurons with reset to zero.

        m ← β·m + i,    s = 1 if m > θ else 0,    m ← m·(1 − s)

    What a membrane had above its threshold is lost.

    Args, Returns: as `lif_step`.
    """
    check_tensor(current, "current")
    check_tensor(membrane, "membrane")
    membrane = decay * membrane + current
    if surrogate is None:
        fires = membrane > threshold
        return fires.to(membrane.dtype), membrane.masked_fill(fires, 0)
    spikes = surrogate(membrane, threshold)
    return spikes, membrane * (1 - (spikes if surrogate.through_reset else spikes.detach()))


def li_step(current: Tensor, membrane: Tensor, decay: Tensor) -> Tensor:
    """One step of leaky integrators: `m ← β·m + i`. Args: as `lif_step`. Returns: the new membrane, also the output."""
    check_tensor(current, "current")
    check_tensor(membrane, "membrane")
    return decay * membrane + current


# ── steady-state maps ───────────────────────────────────────────────────────────────────────────────────────────────


def rise(decay: Tensor, steps: Tensor) -> Tensor:
    """Fraction of its steady level that a trace reaches after n ≥ 1 steps of steady input: `1 − d^n`, in (0, 1]."""
    check_tensor(steps, "steps")
    log_decay = torch.log(decay) if isinstance(decay, Tensor) else math.log(decay)
    return -torch.expm1(steps.clamp(min=1) * log_decay)


def average_input(trace: Tensor, decay: Tensor, steps: Tensor | None = None) -> Tensor:
    """The average input per step, computed from its trace; recent steps weigh more.

        a = t·(1 − d)                 without `steps`: right once n ≫ 1 / (1 − d), too small before
        a = t·(1 − d) / (1 − d^n)     with `steps`: the exact weighted mean Σ d^k x_{n−k} / Σ d^k at every n

    Args: trace: t. decay: d, a number or one for each input. steps: n, since the trace was zero.
    Returns: average input per step, the shape of `trace`.
    """
    check_tensor(trace, "trace")
    return trace * ((1 - decay) if steps is None else (1 - decay) / rise(decay, steps))


def lif_rate(current: Tensor, decay: Tensor, threshold: Tensor, steps: Tensor | None = None) -> Tensor:
    """Average firing rate of a LIF neuron with subtractive reset: a line with both corners rounded.

        z = i/θ − (1 − β) / (2·(1 − β^n)),    rate = (softplus(k·z) − softplus(k·(z − 1))) / k,    k = 8

    All current leaks out or is spent on spikes. Summed over n steps with the weights of the trace,
    `θ·rate = i − m·(1 − β)/(1 − β^n)`, exactly. The line replaces the final membrane m by θ/2, the middle of m's range.
    The rate must lie in [0, 1], hence the two corners; they are rounded so that a silent or a saturated neuron still
    gets a gradient.

    Args: current: i, the average. decay: β. threshold: θ. steps: n, since the membrane was zero; None: long ago.
    Returns: spikes per step in (0, 1).
    Gradient: approximate. On simulated noisy input, the line itself is off by .013 on average at β = .8, and by .004 at
        β = .95; its rounding adds about .03, most of it at the two corners (tests/test_functional.py).
    Source: the identity is derived in docs/how-it-learns.md.
    """
    check_tensor(current, "current")
    return rounded_line(current / threshold - _final_membrane_term(decay, steps))


def lif_rate_vjp(
    signal: Tensor,
    current: Tensor,
    decay: Tensor,
    threshold: Tensor,
    steps: Tensor | None = None,
    *,
    risen: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Vector-Jacobian product of `lif_rate`, without a graph. Returns: dL/dz = θ·dL/di, and i/θ.

    Args: signal: dL/d rate. risen: `rise(decay, steps)`, if known. The others as `lif_rate`.
    """
    scaled = current / threshold
    return signal * slope(scaled - _final_membrane_term(decay, steps, risen))[0], scaled


def _final_membrane_term(decay: Tensor, steps: Tensor | None, risen: Tensor | None = None) -> Tensor:
    if risen is None and steps is not None:
        risen = rise(decay, steps)
    return (1 - decay) / 2 if risen is None else (1 - decay) / (2 * risen)


def lif_zero_rate(current: Tensor, decay: Tensor, threshold: Tensor, steps: Tensor | None = None) -> Tensor:
    """Average firing rate of a LIF neuron with reset to zero: one over its interval between spikes, corners rounded.

        x = i/θ − (1 − β)/2·(1/(1 − β^n) − 1),    y = x − (1 − β)
        N = log(1 − (1 − β)/x) / log β = −log(1 + (1 − β)/y) / log β,    rate = 1/(N + 1/2)

    Under a steady current, the membrane is i·(1 − β^N)/(1 − β) after N steps from zero, which is θ at the real number N
    above. So the neuron fires every ⌊N⌋ + 1 steps, exactly, and never for i ≤ θ(1 − β). This interval lies between N
    and N + 1; the map takes the middle.

    Both corners are rounded so that a silent or a saturated neuron still gets a gradient. softplus(k·y)/k replaces y,
    which makes the slope at y = 0 finite. softplus(−k·y)/k, the distance below y = 0, is subtracted from the rate, and
    the difference goes through the rounded line of `lif_rate`; k = 8.

    The last term of x is the current that the membrane still holds after n steps from zero. The membrane is taken to
    be θ/2, as in `lif_rate`; unlike there, the term vanishes for large n.

    Args, Returns: as `lif_rate`.
    Gradient: approximate. On simulated noisy input up to 1.2·θ, the rate is off by .035 on average at β = .5, .8 and
        .95; without noise by .11, because ⌊N⌋ makes it a staircase (tests/test_functional.py). Above θ, where a steady
        current fires the neuron at every step, the map is low: .66 at θ, .83 at 1.5·θ and .92 at 2·θ for β = .9.
    """
    check_tensor(current, "current")
    leak = 1 - decay
    start = _final_membrane_term(decay, steps) - leak / 2
    above = current / threshold - start - leak
    rounded = softplus(above, beta=SHARPNESS).clamp(min=_LEAST_ABOVE)
    log_decay = torch.log(decay) if isinstance(decay, Tensor) else math.log(decay)
    interval = torch.log1p(leak / rounded) / -log_decay
    return rounded_line(1 / (interval + 0.5) - softplus(-above, beta=SHARPNESS))


def lif_rate_logistic(current: Tensor, decay: Tensor, threshold: Tensor, steps: Tensor | None = None) -> Tensor:
    """Average firing rate of a LIF neuron: a logistic function, fitted to two known points.

        rate = σ(2.5·(2·(i − θ(1 − β)) / (θβ) − 1))

    A steady current below θ(1 − β) never fires the neuron, one above θ fires it at every step; the logistic is .08 at
    the first and .92 at the second. Of the factors 2, 2.5, 3 and 4, 2.5 was closest to simulated rates for β ≥ .95.

    Args, Returns: as `lif_rate`; `steps` is not used.
    Gradient: approximate: not more accurate than the rounded line, and less accurate for fast decays (β = .5).
    """
    del steps
    check_tensor(current, "current")
    position = (current - threshold * (1 - decay)) / (threshold * decay)
    return torch.sigmoid(2.5 * (2 * position - 1))


def li_level(current: Tensor, decay: Tensor, steps: Tensor | None = None) -> Tensor:
    """Membrane of a leaky integrator after n steps of steady current, from zero.

        m = i·(1 − β^n) / (1 − β)

    Args: current: i. decay: β. steps: n; None: long ago.
    Returns: membrane.
    Gradient: exact for the present output if i is computed from a trace with d = β, for any input: the membrane is
        linear in the current, so a steady current with the weighted mean of the real current gives the same membrane.
    """
    check_tensor(current, "current")
    level = current / (1 - decay)
    return level if steps is None else level * rise(decay, steps)


def li_level_vjp(signal: Tensor, decay: Tensor, steps: Tensor | None = None, *, risen: Tensor | None = None) -> Tensor:
    """dL/di of `li_level`, without a graph. Args: signal: dL/dm. risen: `rise(decay, steps)`, if known."""
    if risen is None and steps is not None:
        risen = rise(decay, steps)
    return (signal if risen is None else signal * risen) / (1 - decay)


def lis_distribution(current: Tensor, decay: Tensor, steps: Tensor | None = None) -> Tensor:
    """Softmax over the neurons of `li_level`. Args: as `li_level`.

    Gradient: exact for the present output if i is computed from a trace with d = β. Approximate for a mean over steps:
        the softmax is taken at the last step.
    """
    return torch.softmax(li_level(current, decay, steps), dim=-1)


LIF_STEPS = {"subtract": lif_step, "zero": lif_zero_step}
"""The steps of `LIF`, by the value of its argument `reset`."""

RATE_MAPS = {"line": lif_rate, "logistic": lif_rate_logistic}
"""The steady-state maps of `LIF` with subtractive reset, by the value of its argument `rate_map`."""

# ── the rounded line ──────────────────────────────────────────────────────────────────────────────────────────────────


SHARPNESS = 8.0
"""Sharpness k of the rounded corners of LIF rates; on MNIST 4 trained as well as 8 (98.2 % each, one seed)."""

_LEAST_ABOVE = 1e-30  # a smaller softplus would make a logarithm infinite; its slope there changes no result
_LEAST_SLOPE = 1e-12  # a smaller slope becomes 0, which changes no result
_LEAST_EXPONENT = -70.0  # far below it, exponentials are subnormal: processors take ten times as long with them
_CORNER_RATIO = math.exp(-SHARPNESS)  # an exponential at the far corner, divided by that at the near one


def rounded_line(z: Tensor) -> Tensor:
    """Line from 0 to 1 with rounded corners: `(softplus(k·z) − softplus(k·(z − 1))) / k`; works under torch.func."""
    return _RoundedLine.apply(z)[0]


class _RoundedLine(torch.autograd.Function):
    """The line and its slope, which the backward pass needs."""

    generate_vmap_rule = True

    @staticmethod
    def forward(z: Tensor) -> tuple[Tensor, Tensor]:
        steepness, near, far, side = slope(z)
        # By symmetry, rate(z) = 1 − rate(1 − z): for large z, the difference of two softplus would lose its digits.
        half = near.div_(far).log_().mul_(-1 / SHARPNESS).add_(0.5)
        return torch.sign(side).mul_(half).add_(0.5), steepness

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: tuple[Tensor, Tensor]) -> None:
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(inputs[0], output[1])
        ctx.save_for_forward(inputs[0], output[1])

    @staticmethod
    def backward(ctx: Any, signal: Tensor, _: Tensor) -> Tensor:
        z, steepness = ctx.saved_tensors
        # Only a second derivative needs the slope as a function of z.
        return signal * (slope(z)[0] if torch.is_grad_enabled() else steepness)

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor) -> tuple[Tensor, None]:
        return tangent * ctx.saved_tensors[1], None


def slope(z: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the slope of the rounded line, 1 + e, 1 + e·exp(−k), and z − 1/2.

    e = exp(k·(1/2 − |z − 1/2|)); its exponent is k times the distance of z from the nearer corner, negative outside of
    [0, 1].
    """
    side = z - 0.5
    exponential = torch.exp(torch.rsub(side.abs(), SHARPNESS / 2, alpha=SHARPNESS).clamp(min=_LEAST_EXPONENT))
    near, far = 1 + exponential, 1 + _CORNER_RATIO * exponential
    steepness = torch.threshold((1 - _CORNER_RATIO) * exponential / (near * far), _LEAST_SLOPE, 0.0)
    return steepness, near, far, side
