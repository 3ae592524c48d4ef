"""Coarse BPTT: backpropagation through K stretches of time, each represented by the means of its steps.

A neuron's step is output(i, m, p) and next state m'(i, m, p) of current i, state m and constants p. Write g(t) for
dL/d output, ν(t) for dL/d state before step t, δ(t) for dL/d current, and ∂ for the derivatives at step t. The chain
rule, which BPTT applies step by step, is

    ν(t) = ∂output/∂m·g(t) + ∂m'/∂m·ν(t+1)
    δ(t) = ∂output/∂i·g(t) + ∂m'/∂i·ν(t+1)        dL/dW = Σ δ(t)·x(t)ᵀ,    g of the layer below = Wᵀ·δ(t)
                                                  dL/dp = Σ ∂output/∂p·g(t) + ∂m'/∂p·ν(t+1)

For a LIF neuron with surrogate ψ of its spike, ∂output/∂i = ψ/θ, ∂output/∂m = β·ψ/θ, ∂m'/∂i = 1 and ∂m'/∂m = β; through
the reset, the last two are 1 − ψ and β·(1 − ψ). Within a stretch of w steps, replace every factor, g and x by their
means. With c = ∂output/∂m·g, ρ = ∂m'/∂m and ν⁺ from the later stretch, the recursion then has a closed form:

    A = (1 − ρ^w)/((1 − ρ)·w)                      the mean of 1, ρ, …, ρ^(w − 1)
    mean of ν(t+1) = A·ν⁺ + c·(1 − A)/(1 − ρ)      ν for the earlier stretch = ρ^w·ν⁺ + c·(1 − ρ^w)/(1 − ρ)

With w = 1, A is 1, and this is BPTT again. What is lost otherwise are covariances within a stretch.

A reward may come long after the action. With a decay λ of scores, each stretch keeps a third factor s, the sum of the
scores of its steps. With f, the share of the stretch in the steps that the output averages, 0 for earlier stretches,

    s ← λ·s + f·d log p(action)/d output      at every action: `observe`
    g = modulation·s/w                        at every reward: `backward_reward`
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from itertools import accumulate
from typing import Any, Literal, NamedTuple, cast

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.nn.functional import linear

from tracetorch import backends
from tracetorch import device as devices
from tracetorch.backends import LazySpikes, OutputSpec, SlopeSums, SynapticInput
from tracetorch.encode import Stream
from tracetorch.modes import unaffected, whole, without_graph
from tracetorch.nn import Layer, Neuron, Sequential
from tracetorch.nn.connections import is_dense, is_plain
from tracetorch.nn.local_gradient import At, add, gradients, whole_gradients
from tracetorch.nn.network import as_stream, call_with_hooks, chunk_steps, has_hooks, run_chunks
from tracetorch.nn.sequential import StretchSums, as_input
from tracetorch.rules.base import Rule
from tracetorch.rules.stepwise import add_gradient, run_lif_steps
from tracetorch.rules.surrogate import FastSigmoid, Surrogate, needs_slopes, shape_of, surrogate_of, using

_PARTS = 16
"""Parts of a chunk of `Sequential.run` where layers run one by one: their currents and outputs then stay in cache."""

_SCORE = "score"  # of the readout's sums: they merge, and are forgotten, as all others

Spacing = Literal["uniform", "log"]


def cut(steps: int, most: int, spacing: Spacing, unit: int = 1) -> list[int]:
    """Return the lengths of the stretches of so many steps, the oldest first.

    "uniform": at most `most` stretches of one length, `unit` times a power of 2; the last may be shorter.
    "log": at most `most` stretches of each length 1, 2, 4, …, the shortest last.

    With more steps, each of these stretches stays whole or merges with neighbours; new steps follow.
    """
    if spacing == "uniform":
        unit = unit_of(steps, most, unit)
        return [unit] * (steps // unit) + [steps % unit] * (steps % unit > 0)
    counts = []
    while steps:  # of this length; beyond `most`, the two oldest merge into one of the next
        merged = max(0, (steps - most + 1) // 2)
        counts.append(steps - 2 * merged)
        steps = merged
    return [1 << level for level in reversed(range(len(counts))) for _ in range(counts[level])]


def unit_of(steps: int, most: int, unit: int = 1) -> int:
    """Return the length of uniform stretches: `unit` times the smallest power of 2 with which `most` are enough."""
    while unit * most < steps:
        unit *= 2
    return unit


class Sums:
    """Sums over the steps of each stretch, for one layer."""

    def __init__(self) -> None:
        self.by_name: dict[str, Tensor] = {}  # (stretches, batch, …) each
        self.size = 0  # number of stretches

    def get(self, name: str, like: Tensor, *shape: int) -> Tensor:
        """Return sums to add to, zeros at first. Args: like: gives dtype and device. shape: of one step's values."""
        if name not in self.by_name:
            self.by_name[name] = like.new_zeros(self.size, *shape)
        return self.by_name[name]

    def add(self, name: str, ids: Tensor, values: Tensor) -> None:
        """Add the values of several steps, (time, batch, …). Args: ids: the stretch of each step, (time,)."""
        self.get(name, values, *values.shape[1:]).index_add_(0, ids, values)

    def mean(self, name: str, counts: Tensor) -> Tensor:
        """Args: counts: steps of each stretch, (stretches, batch)."""
        return self.by_name[name] / as_factor(counts.clamp(min=1), self.by_name[name])


def as_factor(counts: Tensor, like: Tensor) -> Tensor:
    """Numbers of steps, (stretches, batch), shaped and typed to multiply or divide values."""
    return counts.to(like.dtype).view(*counts.shape, *[1] * (like.ndim - 2))


class LastForward(NamedTuple):
    """The steps of the last `forward`, to whose output a signal belongs."""

    steps: int
    counted: int  # last steps that the output averages; 1 with `is_every_step`
    is_every_step: bool  # whether the output holds every step, not their mean


class CoarseBPTT(Rule):
    """Backpropagation through all time since the last reset, in stretches that are represented by their means.

    Args:
        net: any network of `tt.nn` whose neurons pass on one state, each its own.
        stretches: K, with spacing "uniform" the number of stretches, with "log" the number of each length.
        spacing: "uniform": neighbours merge in pairs when more than K are needed, so that all are equally long; for
            sequences with an end. "log": K stretches of each length 1, 2, 4, … steps, the newest shortest; for losses
            on the present output, and for streams.
        surrogate, through_reset: as in `BPTT`.
        decay: of scores, λ per action, in [0, 1): for how long rewards are credited to an action. A reward's signal
            then enters at the steps of each action, and the loss's own decay is not used. None: it enters at the
            present output, with whatever the loss makes of past scores.
    Raises: ValueError for `stretches` below 1, another spacing, or a decay outside [0, 1); TypeError if `stretches` is
        not a whole number.
    Gradient: equal to backpropagation through all time since the last reset, for every parameter, while each step has a
        stretch of its own: for at most K steps. Beyond, approximate: within a stretch, input, slopes and signals are
        replaced by their means. Steps whose output counts in a mean, and a last step, are separated from earlier
        ones. Changes of the parameters since a step are ignored. With `decay`, the gradient of rewards is that of
        −Σ reward·Σ λ^(later actions)·log p(action), REINFORCE with discounted eligibility.
    Memory: next to the network's state, (K + 1) × batch × (inputs + neurons), independent of time; "log": at most
        K·(2 + log₂(steps/K)) in place of K + 1, with all steps since the earliest of the samples' last resets. LIF
        neurons with trained thresholds take three numbers in place of one, with trained decays five; other spiking
        neurons four, and two for each trained decay or threshold. `decay` adds one for each output.
    Time: forward through every step, backward through stretches. On a CPU, the trace rule's compiled pass adds up the
        sums if all neurons are LIF (reset by subtraction), LI or LIS and no layer has hooks; a training step with 16
        stretches for 112 steps then takes 1.8 times that of the trace rule (docs/rules.md).
    Source: the equations of backpropagation through time, with means for steps; docs/rules.md. For rewards, Williams
        (1992), doi:10.1007/BF00992696.
    """

    takes_logits = takes_precision = True
    online_option = "rule.spacing=log or "

    def __init__(
        self,
        net: Sequential,
        *,
        stretches: int = 16,
        spacing: Spacing = "uniform",
        surrogate: Surrogate | str = "fast_sigmoid",
        through_reset: bool = False,
        decay: float | None = None,
    ):
        super().__init__(net)
        if whole(stretches, "stretches") < 1:
            raise ValueError(f"stretches must be at least 1, got {stretches}")
        if spacing not in ("uniform", "log"):
            raise ValueError(f'spacing must be "uniform" or "log", got {spacing!r}')
        if decay is not None and not 0 <= decay < 1:
            raise ValueError(f"decay must be at least 0 and below 1, got {decay:g}")
        self.decay = decay
        self.stretches, self.spacing = whole(stretches, "stretches"), spacing
        self.surrogate = surrogate_of(surrogate, through_reset=through_reset)
        self.is_online = spacing == "log"  # with equal lengths, those of an endless stream would only grow
        self._starts, self._stop = list[int](), 0  # first step of each stretch, and the number of all steps
        self._unit = 1  # length of uniform stretches
        self._counts: Tensor | None = None  # steps of each stretch since the sample's last reset, (stretches, batch)
        self._sums = [Sums() for _ in net]
        self._last_forward: LastForward | None = None

    def supports(self, layer: Layer) -> str:
        return needs_slopes(layer) or needs_own_states(layer)

    def reset(self, mask: Tensor | None = None) -> None:
        """Start a new sequence: reset the state, and forget the stretches, of all samples, or of those in `mask`."""
        super().reset(mask)
        if mask is None:
            self._forget()
            return
        self._last_forward = None
        if self._counts is None:
            return
        for value in (self._counts, *(value for sums in self._sums for value in sums.by_name.values())):
            value[:, mask] = 0
        self._drop_empty()

    def forward(self, xs: Tensor | Stream, *, reduce: str | None = None, window: int | None = None) -> Tensor:
        """Run over a stretch of time; see `Sequential.run`. Under `torch.no_grad` the stretches are forgotten."""
        if not torch.is_grad_enabled():
            self._forget()
            return super().forward(xs, reduce=reduce, window=window)
        return self._run(xs, reduce, window)

    @unaffected
    @torch.no_grad()
    def _run(self, xs: Tensor | Stream, reduce: str | None, window: int | None) -> Tensor:
        """`Sequential.run`, in which each layer adds its factors to the sums of the present stretch."""
        net, stream = self.net, as_stream(xs, reduce, window)
        batch, *in_shape = stream.shape
        # As in `run_chunks`, but before `_extend`: input that is refused adds no stretches.
        net.chain[0]._check_chunk((stream.steps, batch, *in_shape))
        net._prepare(batch, tuple(in_shape))
        counted = 1 if reduce is None else window or stream.steps
        self._extend(stream.steps, counted, batch)
        self._last_forward = LastForward(stream.steps, counted, reduce is None)
        in_one = not any(map(has_hooks, (net, *net.chain))) and all(
            backends.sums_slopes(layer._traits, self.surrogate) for layer in net
        )
        done = 0

        def advance(part: Tensor | LazySpikes, out: OutputSpec) -> None:
            nonlocal done
            steps = (part.size if isinstance(part, LazySpikes) else part.shape)[0]
            ids, done = self._stretch_of(range(done, done + steps)), done + steps
            if in_one:
                add_up = partial(stretch_sums, surrogate=self.surrogate, ids=ids)
                sums = [add_up(layer, sums=own) for layer, own in zip(net, self._sums, strict=True)]
                net.run_layers(part, out, sums)
            else:
                part = backends.spikes(part) if isinstance(part, LazySpikes) else part
                out.take_chunk(call_with_hooks(net, partial(self._run_layers, ids=ids), part).flatten(2))

        size = chunk_steps(net.chain, batch)
        chunk = size if in_one else max(1, size // _PARTS)
        return run_chunks(net, stream, reduce=reduce, window=window, chunk=chunk, advance=advance)

    def _run_layers(self, xs: Tensor, ids: Tensor) -> Tensor:
        for layer, sums in zip(self.net, self._sums, strict=True):
            xs = as_input(layer, xs, 2)
            xs = call_with_hooks(layer, partial(run_layer, layer, surrogate=self.surrogate, sums=sums, ids=ids), xs)
        return xs

    @unaffected
    @torch.no_grad()
    @whole_gradients()
    def backward(self, signal: Tensor, *, at: At = "output") -> None:
        """Add to the gradient of every trainable parameter, once for each `forward`.

        Args:
            signal: dL/d output of `forward`; without `reduce`, of every step or of the last one.
            at: "logits": the signal is dL/d logits, whose softmax is the output.
        Raises: RuntimeError without a `forward` since the last call; ValueError for a signal of another shape, or at
            logits that the readout lacks.
        """
        self._backward(self._mean_signal(signal), at)
        self._last_forward = None

    @unaffected
    @torch.no_grad()
    def observe(self, score: Tensor, *, at: At) -> None:
        """Add the score of an action to the steps whose output chose it. Args: see `Rule.observe`."""
        del at  # that of `backward_reward` is the same
        if self.decay is None:
            return
        mean, counts = self._mean_signal(score), cast(Tensor, self._counts)
        self._sums[-1].get(_SCORE, mean, *mean.shape[1:]).mul_(self.decay).add_(mean * as_factor(counts, mean))

    @unaffected
    @torch.no_grad()
    @whole_gradients()
    def backward_reward(self, signal: Tensor, *, modulation: Tensor, bonus: Tensor | None, at: At) -> None:
        """Add to the gradients after a reward, which may come at any time and repeatedly, if scores are kept.

        Raises: RuntimeError before the first action; for a bonus, also without a `forward` since the last reset.
        """
        if self.decay is None:
            self.backward(signal, at=at)
            return
        if self._counts is None or _SCORE not in self._sums[-1].by_name:
            raise RuntimeError(
                "no score was observed since the start: call rule.observe(score) before rule.backward_reward"
            )
        mean = self._sums[-1].mean(_SCORE, self._counts)
        of_stretches = mean * modulation.to(mean).view(-1, *[1] * (mean.ndim - 2))
        self._backward(of_stretches if bonus is None else of_stretches + self._mean_signal(bonus), at)

    def _backward(self, of_stretches: Tensor, at: At) -> None:
        """Go back to the lowest trained layer. Args: of_stretches: mean signal, (stretches, batch, *features)."""
        assert self._counts is not None
        layers = self.net.chain
        trained = (
            number for number, layer in enumerate(layers) if any(raw.requires_grad for raw in layer.parameters())
        )
        lowest = next(trained, len(layers))
        if at == "logits" and type(layers[-1].neuron).steady_logits is Neuron.steady_logits:
            raise ValueError(f"{type(layers[-1].neuron).__name__} has no logits: give it a signal at its output")
        for number in reversed(range(lowest, len(layers))):
            below = learn_layer(
                layers[number],
                self._sums[number],
                self._counts,
                of_stretches,
                surrogate=self.surrogate,
                at=at,
                return_input_grad=number > lowest,
            )
            if below is None:
                return
            of_stretches, at = below, "output"

    def _mean_signal(self, signal: Tensor) -> Tensor:
        """The mean signal of each stretch, (stretches, batch, *features).

        Raises: RuntimeError without a `forward`; ValueError for another shape.
        """
        if self._last_forward is None or self._counts is None:
            raise RuntimeError(
                "nothing was run since the last learning moment: call rule.forward(xs) before rule.backward"
            )
        steps, counted, is_every_step = self._last_forward
        last = self.net.chain[-1].live_state
        assert last is not None
        wanted = tuple(last.neuron[0].shape)
        signal = signal.to(last.neuron[0].dtype)
        found = signal.new_zeros(len(self._starts), *wanted)
        if tuple(signal.shape) == (steps, *wanted) and is_every_step:
            found.index_add_(0, self._stretch_of(range(steps)), signal)
            return found / as_factor(self._counts.clamp(min=1), found)
        if tuple(signal.shape) != wanted:
            raise ValueError(f"expected a signal of shape {wanted}, got {tuple(signal.shape)}")
        found[bisect_right(self._starts, self._stop - counted) - 1 :] = signal / counted
        return found

    def state_dict(self) -> dict[str, Any]:
        """Return the sums of the stretches, for a checkpoint right after a learning moment."""
        sums = [{name: value.clone() for name, value in layer.by_name.items()} for layer in self._sums]
        counts = None if self._counts is None else self._counts.clone()
        return {"starts": list(self._starts), "stop": self._stop, "unit": self._unit, "counts": counts, "sums": sums}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the result of `state_dict`."""
        self._forget()
        if not state or state["counts"] is None:
            return
        self._starts, self._stop, self._unit = list(state["starts"]), state["stop"], state["unit"]
        self._counts = state["counts"].to(self.net[0]._like.device, copy=True)
        for layer, own, sums in zip(self.net, self._sums, state["sums"], strict=True):
            own.by_name = {name: value.to(layer._like, copy=True) for name, value in sums.items()}

    # ── stretches ───────────────────────────────────────────────────────────────────────────────────────────────────

    def _forget(self) -> None:
        self._starts, self._stop, self._unit, self._counts, self._last_forward = [], 0, 1, None, None
        self._sums = [Sums() for _ in self.net]

    def _drop_empty(self) -> None:
        """Drop the oldest stretches if all samples were reset since, so that uniform ones can stay short."""
        assert self._counts is not None
        used = self._counts.any(dim=1).nonzero()
        if not len(used):
            self._forget()
            return
        # Only at the cut's own starts: what remains is then the cut of fewer steps, and merges as before.
        starts = [0, *accumulate(cut(self._stop, self.stretches, self.spacing, self._unit)[:-1])]
        shift = starts[bisect_right(starts, self._starts[int(used[0])]) - 1]
        dropped = bisect_left(self._starts, shift)
        self._starts, self._stop = [start - shift for start in self._starts[dropped:]], self._stop - shift
        self._counts = self._counts[dropped:]
        for sums in self._sums:
            sums.by_name, sums.size = (
                {name: value[dropped:] for name, value in sums.by_name.items()},
                sums.size - dropped,
            )

    def _extend(self, steps: int, counted: int, batch: int) -> None:
        """Make room for further steps, of which the last ones count: merge stretches, and add new ones."""
        stop, before = self._stop + steps, self._starts
        self._unit = unit_of(stop, self.stretches, self._unit)
        starts = {0, *accumulate(cut(stop, self.stretches, self.spacing, self._unit)[:-1]), stop - counted}
        self._starts, self._stop = sorted(starts), stop
        device = self.net[0]._like.device
        merged_into = torch.tensor([bisect_right(self._starts, start) - 1 for start in before], device=device)

        def merged(values: Tensor) -> Tensor:
            found = values.new_zeros(len(self._starts), *values.shape[1:])
            return found.index_add_(0, merged_into, values)

        counts = torch.zeros(0, batch, dtype=torch.int64, device=device) if self._counts is None else self._counts
        self._counts = merged(counts) if before else counts.new_zeros(len(self._starts), batch)
        lengths = [
            min(end, stop) - max(start, stop - steps)
            for start, end in zip(self._starts, [*self._starts[1:], stop], strict=True)
        ]
        self._counts += torch.tensor(lengths, device=device).clamp(min=0)[:, None]
        for sums in self._sums:
            sums.by_name, sums.size = {name: merged(value) for name, value in sums.by_name.items()}, len(self._starts)

    def _stretch_of(self, steps: range) -> Tensor:
        """The number of the stretch of each of these steps of the last `forward`."""
        assert self._last_forward is not None
        device, offset = self.net[0]._like.device, self._stop - self._last_forward.steps
        at = torch.arange(steps.start + offset, steps.stop + offset, device=device)
        return torch.bucketize(at, torch.tensor(self._starts, device=device), right=True) - 1


# ── a layer ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@without_graph  # hooks of the layer or of the network run with gradients enabled
def run_layer(layer: Layer, xs: Tensor, *, surrogate: Surrogate, sums: Sums, ids: Tensor) -> Tensor:
    """Run a layer over a chunk, (time, batch, *in_shape), and add its factors to the sums of their stretches.

    Factors: the input; of spiking neurons the derivatives of each step; of others the state before each step, at whose
    mean `learn_layer` differentiates.
    """
    xs = xs.to(layer._like.dtype)
    layer._check_step(xs[0])
    state, neuron = layer.own_state(xs.shape[1], tuple(xs.shape[2:])), layer.neuron
    shape = (len(xs), *state.neuron[0].shape)
    if backends.sums_slopes(layer._traits, surrogate):
        outputs = xs.new_empty(shape)
        buffers = stretch_sums(layer, surrogate=surrogate, sums=sums, ids=ids)
        layer._run_neurons(xs, OutputSpec(outputs=outputs.flatten(2), slopes=buffers.slopes), buffers.inputs)
        return outputs
    sums.add("input", ids, xs)
    currents = backends.currents(layer._synaptic_input(xs, layer._constants_of(state)[1], None)).view(shape)
    state.steps.add_(len(xs))
    if neuron.kernel == "lif":
        return run_lif(neuron, currents, state.neuron.membrane, surrogate=surrogate, sums=sums, ids=ids)
    with using(layer, surrogate):
        outputs, before = trajectory(neuron, currents, state.neuron)
        if not neuron.spiking:
            sums.add("before", ids, before)
            return outputs
        for name, value in step_factors(neuron, currents, before):
            sums.add(name, ids, value)
    return outputs


def stretch_sums(layer: Layer, *, surrogate: Surrogate, sums: Sums, ids: Tensor) -> StretchSums:
    """The sums to which a compiled scan adds, in the memory of `sums`. Args: ids: as in `Sums.add`."""
    state, neuron = layer.live_state, layer.neuron
    assert state is not None
    membrane = state.neuron[0]
    # The shape of the input; that of the trace has one more dimension with several decays.
    inputs = sums.get("input", membrane, *state.trace_sensitivity.shape[1:]).flatten(2)
    trace = layer._constants_of(state)[1]._replace(sums=inputs, stretch=ids)
    if neuron.spiking:
        slopes = sums.get("slopes", membrane, len(membrane), quantities(neuron), *membrane.shape[1:])
    else:
        slopes = sums.get("before", membrane, *membrane.shape)[:, :, None]
    return StretchSums(trace, SlopeSums(slopes.flatten(3), ids, surrogate))


def quantities(neuron: Any) -> int:
    """The number of `backends.SlopeSums`' quantities that the gradients of LIF neurons need."""
    return 5 if neuron.raw_decay.requires_grad else 3 if neuron.raw_threshold.requires_grad else 1


def run_lif(
    neuron: Any, currents: Tensor, membrane: Tensor, *, surrogate: Surrogate, sums: Sums, ids: Tensor
) -> Tensor:
    """Run LIF neurons, and add up what `backends.SlopeSums` names. Returns: spikes."""
    constants = flat_constants(neuron, membrane)
    outputs, before, raised = run_lif_steps(currents.flatten(2), membrane.flatten(1), constants)
    slope = surrogate.derivative((raised - constants[1]) / constants[1])
    made = [slope, slope * raised, outputs, slope * before, before][: quantities(neuron)]
    sums.add("slopes", ids, torch.stack([value.view_as(currents) for value in made], dim=2))
    return outputs.view_as(currents)


def trajectory(neuron: Neuron, currents: Tensor, state: Any) -> tuple[Tensor, Tensor]:
    """Run neurons over a chunk of currents. Returns: outputs, and the state before each step; `state` is updated."""
    start, outputs = state[0].clone(), torch.empty_like(currents)
    if neuron.kernel in ("li", "lis"):
        constants = flat_constants(neuron, start)
        before = torch.cat([start[None], scan("li", currents, state[0], constants, outputs)[:-1]])
        return (scan("lis", currents, start, constants, outputs) if neuron.kernel == "lis" else outputs), before
    before = torch.empty_like(currents)
    for step, current in enumerate(currents):
        before[step] = state[0]
        outputs[step], after = neuron.step(current, state)
        state[0].copy_(after[0])
    return outputs, before


def scan(kernel: str, currents: Tensor, membrane: Tensor, constants: tuple[Tensor, ...], outputs: Tensor) -> Tensor:
    """Run a compiled neuron. Args: membrane: updated. Returns: outputs."""
    synaptic = SynapticInput(currents.flatten(2), None, None, currents.dtype)
    backends.scan(kernel, synaptic, membrane.flatten(1), constants, OutputSpec(outputs=outputs.flatten(2)))
    return outputs


def flat_constants(neuron: Neuron, membrane: Tensor) -> tuple[Tensor, ...]:
    """The constants of a compiled neuron, each a number or one for each neuron."""
    shape = membrane.shape[1:]
    if len(shape) == 1:
        return neuron.constants
    return tuple(value.expand(shape).flatten() if value.ndim else value for value in neuron.constants)


@torch.enable_grad()
def step_factors(neuron: Neuron, currents: Tensor, before: Tensor) -> Iterator[tuple[str, Tensor]]:
    """Yield the derivatives of output and next state of each step, (time, batch, …), with respect to its sources."""
    constants = {name: spread(raw.detach(), currents.shape[2:]) for name, raw in trained_constants(neuron)}
    sources = {"current": currents, "membrane": before} | constants
    sources = {
        name: value.expand_as(currents).flatten(0, 1).clone().requires_grad_() for name, value in sources.items()
    }
    with replaced(neuron, {name: sources[name] for name in constants}):
        output, state = neuron.step(sources["current"], neuron.state_type(sources["membrane"]))
    for prefix, value in (("output", output), ("state", state[0])):
        found = torch.autograd.grad(value.sum(), list(sources.values()), retain_graph=True, allow_unused=True)
        for name, slope in zip(sources, found, strict=True):
            yield f"{prefix}/{name}", torch.zeros_like(currents) if slope is None else slope.view_as(currents)


def learn_layer(
    layer: Layer, sums: Sums, counts: Tensor, signal: Tensor, *, surrogate: Surrogate, at: At, return_input_grad: bool
) -> Tensor | None:
    """Add a layer's gradients. Args: counts: steps, (stretches, batch). signal: g, (stretches, batch, *features).

    Returns: g of the layer below, (stretches, batch, *in_shape), or None.
    """
    assert layer.live_state is not None
    neuron, connection = layer.neuron, layer.connection
    signal = signal.reshape(*counts.shape, *layer.live_state.neuron[0].shape[1:])  # the layer above may flatten it
    is_product = is_dense(connection) and is_plain(connection)
    # A product of sums, divided after it, because its result is smaller than the means of its input.
    inputs = sums.by_name["input"] if is_product else sums.mean("input", counts)
    inputs, steps = inputs.flatten(0, 1), as_factor(counts, signal)
    if neuron.kernel == "lif":
        delta = _through_lif(neuron, sums, counts, signal, through_reset=surrogate.through_reset)
    elif neuron.spiking:
        delta = _through_steps(neuron, sums, counts, signal)
    else:
        with torch.enable_grad(), using(layer, surrogate):
            if is_product:
                current = linear(inputs, layer.weight).view(*counts.shape, -1) / steps.clamp(min=1)
                current = (current if layer.bias is None else current + layer.bias).flatten(0, 1)
            else:
                current = connection(inputs)
            delta = _through_smooth_steps(neuron, current, sums, counts, signal, at=at)
    if is_product:
        rows = delta.flatten(0, 1)
        # Transposed, because this product is faster where inputs are few.
        add_gradient(layer, "weight", (inputs.t() @ rows).t() if layer.weight.requires_grad else None)
        if layer.bias is not None:
            add_gradient(layer, "bias", (delta * steps).sum(dim=(0, 1)))
        return (rows @ layer.weight).view(*counts.shape, -1) if return_input_grad else None
    weights = [raw for raw in connection.parameters() if raw.requires_grad]
    sources = [*weights, *([inputs.requires_grad_()] if return_input_grad else [])]
    with torch.enable_grad():
        current = connection(inputs)
    # Retained, because later backward passes need the graph of a weight that is computed from other parameters.
    found = gradients(current, sources, (delta * steps).flatten(0, 1), retain_graph=True) if sources else ()
    for parameter, gradient in zip(weights, found, strict=False):
        add(parameter, gradient)
    if not return_input_grad or found[-1] is None:
        return None
    below = found[-1].view(*counts.shape, *inputs.shape[1:])
    return below / as_factor(counts.clamp(min=1), below)


def _through_lif(neuron: Any, sums: Sums, counts: Tensor, signal: Tensor, *, through_reset: bool) -> Tensor:
    """Add the gradients of decays and thresholds of LIF neurons. Returns: the mean of δ in each stretch, in `signal`.

    Stretch by stretch, because the values of one stretch stay in cache.
    """
    slope, *others = sums.by_name["slopes"].unbind(dim=2)
    per_step = 1 / as_factor(counts.clamp(min=1), signal)
    with torch.enable_grad():
        constants = neuron.decay, neuron.threshold
    decay, threshold = (value.detach() for value in constants)
    remaining = 1 - slope * per_step if through_reset else None  # ∂m'/∂i; None: 1
    kept_on, summed, mean, held = closed_form(decay if remaining is None else decay * remaining, counts, signal)
    by_spike, after = per_step / threshold, torch.zeros_like(signal[0])
    by_decay, by_threshold = torch.zeros_like(after), torch.zeros_like(after)
    for at in reversed(range(len(signal))):
        by_current = (slope[at] * signal[at]).mul_(by_spike[at])
        by_state = by_current * decay
        following = (by_state * held[at]).addcmul_(mean[at], after)
        after = after.mul_(kept_on[at]).addcmul_(summed[at], by_state)
        if others:
            slope_raised, spikes, *rest = (value[at] for value in others)
            by_threshold -= spikes * following + slope_raised * signal[at] / threshold.square()
            if through_reset:
                by_threshold += slope_raised * following / threshold
            if rest:
                slope_before, before = rest
                by_decay += slope_before * signal[at] / threshold + before * following
                if through_reset:
                    by_decay -= slope_before * following
        torch.add(by_current, following if remaining is None else remaining[at] * following, out=signal[at])
    if raws := [raw for _, raw in trained_constants(neuron)]:
        with torch.enable_grad():
            total = (constants[0] * by_decay.sum(dim=0)).sum() + (constants[1] * by_threshold.sum(dim=0)).sum()
        for raw, value in zip(raws, gradients(total, raws, torch.ones_like(total)), strict=True):
            add(raw, value)
    return signal


def _through_steps(neuron: Neuron, sums: Sums, counts: Tensor, signal: Tensor) -> Tensor:
    """As `_through_lif`, for other spiking neurons."""
    of = sums.by_name
    by_state, kept = (sums.mean(name, counts) for name in ("output/membrane", "state/membrane"))
    following = adjoint(by_state * signal, kept, counts)
    for name, raw in trained_constants(neuron):
        found = (of[f"output/{name}"] * signal + of[f"state/{name}"] * following).sum(dim=(0, 1))
        add(raw, gathered(raw, found))
    summed = of["output/current"] * signal + of["state/current"] * following
    return summed / as_factor(counts.clamp(min=1), summed)


def _through_smooth_steps(
    neuron: Neuron, current: Tensor, sums: Sums, counts: Tensor, signal: Tensor, *, at: At
) -> Tensor:
    """As `_through_lif`, for neurons with smooth steps: they are differentiated at their mean current and state.

    Args: current: mean, (stretches × batch, *features).
    """
    raws = [raw for _, raw in trained_constants(neuron)]
    current, before = current.detach().requires_grad_(), sums.mean("before", counts).flatten(0, 1).requires_grad_()
    output, (after,) = neuron.step(current, neuron.state_type(before))
    output = after if at == "logits" else output
    both = torch.cat([output, after])
    with torch.no_grad():
        steps, zeros = as_factor(counts, signal), torch.zeros_like(signal)
        by_state = gradients(output, [before], signal.flatten(0, 1), retain_graph=True)[0]
        by_state = zeros if by_state is None else by_state.view_as(signal)
        found = None if neuron.kernel else gradients(after, [before], torch.ones_like(after), retain_graph=True)[0]
        kept = neuron.decay if neuron.kernel else zeros if found is None else found.view_as(signal)
        following = adjoint(by_state.clone(), kept, counts)
        through = torch.cat([(steps * signal).flatten(0, 1), (steps * following).flatten(0, 1)])
        delta, *of_constants = gradients(both, [current, *raws], through)
        for raw, value in zip(raws, of_constants, strict=True):
            add(raw, value)
        return zeros if delta is None else delta.view_as(signal) / steps.clamp(min=1)


def adjoint(by_state: Tensor, kept: Tensor, counts: Tensor) -> Tensor:
    """Return the mean of ν(t+1) in each stretch, (stretches, batch, *features), from the last stretch to the first.

    Args: by_state: c, which becomes the result. kept: ρ, broadcast against c. counts: w, (stretches, batch).
    """
    kept_on, summed, mean, held = closed_form(kept, counts, by_state)
    after = torch.zeros_like(by_state[0])
    for at in reversed(range(len(by_state))):
        earlier = torch.addcmul(kept_on[at] * after, summed[at], by_state[at])
        by_state[at].mul_(held[at]).addcmul_(mean[at], after)
        after = earlier
    return by_state


def closed_form(kept: Tensor, counts: Tensor, like: Tensor) -> tuple[Tensor, ...]:
    """Return ρ^w, (1 − ρ^w)/(1 − ρ), A and (1 − A)/(1 − ρ) of each stretch. Args: as `adjoint`; like: of c's dtype."""
    wide = devices.widest_float(like.device)
    counts = counts[:, :1] if bool((counts == counts[:, :1]).all()) else counts
    least = 1e-9 if wide == torch.float64 else 1e-4  # the leak of a state that is kept entirely, where A is 0/0
    steps, kept = counts.to(wide).view(*counts.shape, *[1] * (like.ndim - 2)), kept.to(wide)
    kept = torch.where((1 - kept).abs() < least, 1 - least, kept)
    kept_on, leak = kept**steps, 1 - kept
    summed = (1 - kept_on) / leak
    mean = summed / steps.clamp(min=1)
    return tuple(value.to(like.dtype) for value in (kept_on, summed, mean, (1 - mean) / leak))


# ── constants of neurons ────────────────────────────────────────────────────────────────────────────────────────────


def trained_constants(neuron: Neuron) -> Iterator[tuple[str, Parameter]]:
    """The trained parameters of neurons, `raw_decay` and others."""
    return ((name, raw) for name, raw in neuron.named_parameters() if raw.requires_grad)


def spread(raw: Tensor, features: tuple[int, ...]) -> Tensor:
    """A number, or one for each group of neurons, as one for each neuron."""
    if raw.numel() == 1 or len(features) > 1:
        return raw.expand(features)
    return raw.flatten().repeat_interleave(features[0] // raw.numel())


def gathered(raw: Tensor, values: Tensor) -> Tensor:
    """Sum numbers for each neuron into the shape of `raw`, the inverse of `spread`."""
    return values.sum_to_size(raw.shape) if values.ndim > 1 else values.view(raw.numel(), -1).sum(dim=1).view_as(raw)


@contextmanager
def replaced(neuron: Neuron, values: Mapping[str, Tensor]) -> Iterator[None]:
    """Context in which some parameters of neurons have other values: one for each row and neuron."""
    kept: dict[str, Any] = {name: neuron._parameters[name] for name in values}
    try:
        neuron._parameters.update(values)  # type: ignore[arg-type]
        yield
    finally:
        neuron._parameters.update(kept)


@torch.enable_grad()
def needs_own_states(layer: Layer) -> str:
    """Return why a neuron's steps cannot be represented by means, by trying one step; "" if they can."""
    neuron = layer.neuron
    if len(neuron.state_type._fields) > 1:
        count = len(neuron.state_type._fields)
        return f"its neurons pass on {count} states, and this rule goes back through one; choose rule=bptt"
    current = neuron.raw_decay.detach().new_zeros(1, *shape_of(neuron)).requires_grad_()
    state = neuron.init_state(current)[0].detach().requires_grad_()
    with using(layer, FastSigmoid()):
        output, (after,) = neuron.step(current, neuron.state_type(state))
    for value in (after, *([output] if neuron.spiking else [])):
        if value.requires_grad:
            for slope in torch.autograd.grad(
                value.flatten()[0], [current, state], retain_graph=True, allow_unused=True
            ):
                if slope is not None and slope.flatten()[1:].any():
                    return "its neurons act on each other within a step; choose rule=bptt"
    return ""
