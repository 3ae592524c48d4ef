"""Shared parts of stepwise rules: a stretch of time whose steps are kept, or run again, and learning from each step.

Such rules need the signal at every step, but it is known only at the end. So `forward` keeps the activity of the last
steps, at most `CHUNK`; earlier steps whose output counts run again, chunk by chunk. Memory stays constant: streams are
generated again, and only small states are kept.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import Parameter

from tracetorch import backends
from tracetorch import device as devices
from tracetorch.backends import LazySpikes, OutputSpec, SlopeSums, SynapticInput, TraceBuffers
from tracetorch.encode import Stream
from tracetorch.modes import unaffected
from tracetorch.nn import Layer, Sequential
from tracetorch.nn.local_gradient import At, add, gradients, whole_gradients
from tracetorch.nn.network import as_stream, chunk_steps, has_hooks
from tracetorch.nn.sequential import StretchSums
from tracetorch.nn.state import LayerState
from tracetorch.rules.base import Rule, check_at, needs_decay_alone
from tracetorch.rules.surrogate import Surrogate, needs_slopes, surrogate_of_step, using

CHUNK = 128
"""Most steps whose activity is kept."""

BLOCK = 1 << 18
"""Most numbers, steps × batch × neurons of the widest layer, that are learned from at once: they stay in cache."""


class Recording(NamedTuple):
    """A stretch of time, to learn from once its signal is known."""

    xs: Stream
    counted: int  # steps of the mean, the last ones; 1 without `reduce`, where a single signal is for the last step
    is_every_step: bool  # whether the output holds every step, not their mean
    repeated: range  # the steps that run again
    states: list[LayerState]  # the state of every layer before `repeated`
    last: list[Activity]  # of every layer, in the steps after `repeated`; empty if none were kept


class StepwiseRule(Rule):
    """Runs a stretch of time for its output, and learns from it chunk by chunk, in the order of time.

    Args: surrogate: as in `BPTT`, without `through_reset`.
    """

    _needs_past = False
    """Whether the gradient depends on the activity before the counted steps, too."""

    def __init__(self, net: Sequential, surrogate: Surrogate | str):
        super().__init__(net)
        self.surrogate = surrogate_of_step(surrogate)
        self._recording: Recording | None = None

    def supports(self, layer: Layer) -> str:
        return needs_decay_alone(layer) or needs_slopes(layer, decays_alone=True)

    def reset(self, mask: Tensor | None = None) -> None:
        super().reset(mask)
        self._recording = None

    def forward(self, xs: Tensor | Stream, *, reduce: str | None = None, window: int | None = None) -> Tensor:
        """Run over a stretch of time; see `Sequential.run`. `backward` reads `xs` again: it must not change before."""
        self._recording = None
        if not torch.is_grad_enabled():
            return super().forward(xs, reduce=reduce, window=window)
        return self._record(xs, reduce, window)

    @unaffected
    @torch.no_grad()
    def _record(self, xs: Tensor | Stream, reduce: str | None, window: int | None) -> Tensor:
        """`Sequential.run`, which keeps what `backward` needs."""
        net, stream = self.net, as_stream(xs, reduce, window)
        count, batch, *in_shape = stream.steps, *stream.shape
        net.chain[0]._check_chunk((count, batch, *in_shape))
        net._prepare(batch, tuple(in_shape))
        counted = count if reduce is None else window or count
        kept = 0 if any(map(has_hooks, (net, *net))) else CHUNK  # `net.run` calls hooks, `run_chunk` does not
        start = count - counted
        if self._needs_past:
            # Chunks end with the stretch; this is the start of the one with the first counted step.
            start = max(0, count - -(-counted // CHUNK) * CHUNK) if kept else 0
            self._run_and_learn(stream, range(start), None)
        elif start:
            net.run(stream[:start], reduce="mean", window=1)
        repeated = range(start, max(start, count - kept))
        states, outputs, last = [], list[Tensor](), list[Activity]()
        if repeated:
            states = [layer.own_state(batch).copy() for layer in net]
            used = counted - (count - repeated.stop)
            early = net.run(stream[start : repeated.stop], reduce=reduce, window=None if reduce is None else used)
            outputs.append(early if reduce is None else early * (used / counted))
        if repeated.stop < count:
            last = run_chunk(net, stream[repeated.stop :], self.surrogate)
            late = last[-1].outputs
            used = min(counted, len(late))
            wide = devices.widest_float(late.device)
            outputs.append(late if reduce is None else (late[-used:].sum(dim=0, dtype=wide) / counted).to(late.dtype))
        self._recording = Recording(stream, 1 if reduce is None else counted, reduce is None, repeated, states, last)
        if len(outputs) == 1:
            return outputs[0].clone() if reduce is None and last else outputs[0]
        return torch.cat(outputs) if reduce is None else outputs[0] + outputs[1]

    def backward(self, signal: Tensor, *, at: At = "output") -> None:
        """Add to the gradient of every trainable parameter, once for each `forward`.

        Args: signal: dL/d output of `forward`, (batch, out_features): of the mean, or, without `reduce`, of the last
            step; or, without `reduce`, of every step, (time, batch, out_features).
        Raises: RuntimeError without a `forward` since the last call; ValueError for another shape, or for a signal at
            the logits.
        """
        check_at(self, at)
        if self._recording is None:
            raise RuntimeError(
                "nothing was run since the last learning moment: call rule.forward(xs) before rule.backward"
            )
        recording, steps = self._recording, len(self._recording.xs)
        signal = signal.to(self.net[len(self.net) - 1].weight.dtype)
        wanted = (recording.xs.shape[0], self.net.out_features)
        if signal.shape == wanted:
            signal = (signal / recording.counted).expand(recording.counted, *wanted)
        elif not (signal.shape == (steps, *wanted) and recording.is_every_step):
            raise ValueError(f"expected a signal of shape {wanted}, got {tuple(signal.shape)}")
        self._recording = None
        self._learn_recording(recording, signal)

    @unaffected
    @torch.no_grad()
    @whole_gradients()
    def _learn_recording(self, recording: Recording, signal: Tensor | None) -> None:
        """Learn from the chunks. Args: signal: at each of the last steps, (steps, batch, out_features)."""
        repeated, first = recording.repeated, len(recording.xs) - (0 if signal is None else len(signal))
        if repeated and (self._needs_past or first < repeated.stop):
            with running_from(self.net, recording.states):
                self._run_and_learn(recording.xs, repeated, signal)
        if recording.last:
            self._learn_chunk(recording.last, signal, 0, is_last=True)

    def _run_and_learn(self, xs: Stream, steps: range, signal: Tensor | None) -> None:
        """Run some steps of a stretch from the network's present state, and learn chunk by chunk."""
        for part in parts(steps):
            # Not bound to a name, so that a chunk is freed before the next one runs.
            self._learn_chunk(
                run_chunk(self.net, xs[part.start : part.stop], self.surrogate),
                signal,
                part.stop - len(xs),
                is_last=part.stop == len(xs),
            )

    @abstractmethod
    def _learn_chunk(self, activities: list[Activity], signal: Tensor | None, end: int, *, is_last: bool) -> None:
        """Take in the activity of the next chunk, and add the gradients of the signal, if there is one.

        Args:
            activities: of every layer; not used again.
            signal: at each of the last steps of the stretch, (steps, batch, out_features), of which `part_of` returns
                those of the chunk.
            end: the end of the chunk, counted from the end of the stretch: 0 or below.
            is_last: whether the chunk is the last one of the stretch.
        """


def run_chunk(net: Sequential, xs: Stream, surrogate: Surrogate) -> list[Activity]:
    """Run a chunk from the present state, and return the activity of every layer."""
    chain, found = net.chain, list[Activity]()
    for layer, above in zip(chain, [*chain[1:], None], strict=True):
        dtype = layer._like.dtype if above is None or not layer.neuron.spiking else backends.spike_dtype(above._traits)
        found.append(Activity.prepared(layer, found[-1].outputs if found else xs, surrogate, dtype))
    done = 0
    is_compiled = all(backends.sums_slopes(layer._traits, None) for layer in chain)  # one pass through all layers
    for part in xs.parts(min(xs.steps, chunk_steps(chain, xs.shape[0]))):
        steps = slice(done, done := done + (part.size[0] if isinstance(part, LazySpikes) else len(part)))
        if is_compiled:
            out = OutputSpec(outputs=found[-1].outputs[steps])
            net.run_layers(part, out, [activity.buffers(steps) for activity in found])
            continue
        values = part
        for activity in found:
            values = activity.run(values, steps)
    return found


def parts(steps: range) -> Iterator[range]:
    """Yield the steps in order, `CHUNK` at a time; the first part may be short."""
    start, stop = steps.start, steps.start + (len(steps) % CHUNK or CHUNK)
    while start < steps.stop:
        yield range(start, stop)
        start, stop = stop, stop + CHUNK


def part_of(values: Tensor, end: int, steps: int) -> Tensor | None:
    """The values of a chunk's steps, (steps, …), from those of the last steps of a stretch; zeros where it has none.

    Args: end: as in `StepwiseRule._learn_chunk`. Returns: None if it has none at all.
    """
    stop = len(values) + end
    if stop <= 0:
        return None
    own = values[max(0, stop - steps) : stop]
    return own if len(own) == steps else torch.cat([own.new_zeros(steps - len(own), *own.shape[1:]), own])


@contextmanager
def running_from(net: Sequential, states: list[LayerState]) -> Iterator[None]:
    """Context in which a network has other states, which are updated in place; then it has its own again."""
    before = [(layer._state, layer._lent) for layer in net]
    try:
        for layer, state in zip(net, states, strict=True):
            layer._put(_state=state, _lent=False)
        yield
    finally:
        for layer, (own, lent) in zip(net, before, strict=True):
            layer._put(_state=own, _lent=lent)


# ── each step alone ───────────────────────────────────────────────────────────────────────────────────────────────────


class Activity:
    """A layer's activity in a chunk, and the derivatives of each step alone, with the state before it constant.

    The methods that learn take the blocks of a chunk in the order of `blocks`, the last one first.

    Args:
        xs: the input, (time, batch, in_features).
        trace: input trace before the chunk, (batch, in_features) or (groups, batch, in_features).
        steps: since the last reset, before the chunk, (batch, 1).
    Memory: outputs and membranes, (time, batch, out_features) each.
    """

    outputs: Tensor
    """(time, batch, out_features), bool if they are spikes and the layer above takes a list of these."""
    surrogate: Surrogate
    membranes: Tensor | None = None
    """Membranes, (time, batch, out_features): of LIF neurons before the reset of each step; of LI and LIS neurons, if
    their decay is trained, before each step."""
    threshold: Tensor
    """Of LIF neurons: a number or (out_features,)."""
    start: Tensor | None = None
    """Of LIF neurons with a trained decay: the membrane before the chunk, (batch, out_features)."""
    before: Any = None
    """State before each step of neurons without a kernel, (time, batch, out_features) each."""
    currents: Tensor | None = None
    """Of neurons without a kernel, (time, batch, out_features)."""
    known: Tensor | None = None
    """`slope` of all steps, after `keep` or from a checkpoint: (time, batch, out_features)."""
    _trained: Sequence[Parameter] = ()

    def __init__(self, layer: Layer, xs: Stream | Tensor, trace: Tensor, steps: Tensor):
        self.layer, self.xs, self.trace, self.steps = layer, xs, trace, steps
        self._like = layer.weight.detach()
        # Of the blocks so far; the first block of the chunk, which comes last, completes and clears them.
        self._grad: Tensor | None = None  # Σ λ·xᵀ, or its transpose
        self._after: Tensor | None = None  # λ at the first step of the block learned before, (batch, out_features)
        self._of_constants: list[Tensor] = []  # dL/d constant

    @classmethod
    def prepared(cls, layer: Layer, xs: Stream | Tensor, surrogate: Surrogate, dtype: torch.dtype) -> Activity:
        """Return the activity of a layer in its present state, for `run`. Args: dtype: of the outputs."""
        batch = xs.shape[-2]
        state, neuron, shape = layer.own_state(batch), layer.neuron, (len(xs), batch, len(layer.weight))
        found = cls(layer, xs, state.trace.clone(), state.steps.clone())
        found.surrogate, found.outputs = surrogate, found._like.new_empty(shape, dtype=dtype)
        trained = [name for name, raw in neuron.named_parameters() if raw.requires_grad]
        found._trained = [raw for raw in neuron.parameters() if raw.requires_grad]
        if neuron.kernel is None:
            found.currents = found._like.new_empty(shape)
            found.before = neuron.state_type(*(found._like.new_empty(shape) for _ in neuron.state_type._fields))
        elif neuron.kernel == "lif" or trained:
            found.membranes = found._like.new_empty(shape)
        if neuron.kernel == "lif":
            found.threshold = neuron.constants[1]
            found.start = state.neuron.membrane.clone() if "raw_decay" in trained else None
        return found

    def buffers(self, steps: slice) -> StretchSums:
        """Where a compiled pass writes these steps."""
        trace = self.layer._constants_of(self.layer.own_state(self.outputs.shape[1]))[1]
        membranes = None if self.membranes is None else SlopeSums(self.membranes[steps, :, None], None, None)
        return StretchSums(trace, membranes, self.outputs[steps])

    def run(self, xs: Tensor | LazySpikes, steps: slice) -> Tensor:
        """Run the layer over some steps from its present state. Membranes are computed in plain torch if they are kept.

        Returns: the outputs, (time, batch, out_features).
        """
        layer, neuron = self.layer, self.layer.neuron
        outputs, membranes = self.outputs[steps], None if self.membranes is None else self.membranes[steps]
        xs, trace = layer._prepare_chunk(xs)
        if neuron.kernel and membranes is None:
            layer._run_neurons(xs, OutputSpec(outputs=outputs), trace)
            return outputs
        state = layer.own_state(outputs.shape[1])
        currents = backends.currents(layer._synaptic_input(xs, trace, None))
        state.steps.add_(len(outputs))
        if self.currents is not None:
            self.currents[steps] = currents
            self._run_steps(currents, state, steps)
            return outputs
        assert membranes is not None
        membrane, constants = state.neuron.membrane, neuron.constants
        if neuron.kernel == "lif":
            spikes, _, raised = run_lif_steps(currents, membrane, constants)
            outputs.copy_(spikes)
            membranes.copy_(raised)
            return outputs
        membranes[0] = membrane
        after = torch.empty_like(currents)
        backends.leak_scan(currents, membrane, constants[0], after)
        membranes[1:] = after[:-1]
        outputs.copy_(after if neuron.kernel == "li" else torch.softmax(after, dim=-1))
        return outputs

    def _run_steps(self, currents: Tensor, state: LayerState, steps: slice) -> None:
        """Run neurons without a kernel, step by step."""
        after = state.neuron
        for step, current in enumerate(currents, start=steps.start):
            for kept, value in zip(self.before, after, strict=True):
                kept[step] = value
            self.outputs[step], after = self.layer.neuron.step(current, after)
        # Cloned first, because a neuron may return a tensor of the old state in another field.
        for own, value in zip(state.neuron, [value.clone() for value in after], strict=True):
            own.copy_(value)

    def __len__(self) -> int:
        return len(self.xs)

    @property
    def whole(self) -> slice:
        """All steps of the chunk."""
        return slice(0, len(self))

    @property
    def trained_constants(self) -> list[Parameter]:
        """The raw decays and thresholds that are trained."""
        return [parameter for parameter in self._trained if parameter.requires_grad]

    @property
    def learns(self) -> bool:
        """Whether weights or bias are trained."""
        return self.layer.weight.requires_grad or self.bias_learns

    @property
    def bias_learns(self) -> bool:
        """Whether the layer has a bias that is trained."""
        return self.layer.bias is not None and self.layer.bias.requires_grad

    def keep(self) -> None:
        """Drop all but what `slope` and `inputs` need after `backward`, when the caller may change the input."""
        if self.layer.neuron.kernel != "lif":
            self.known, self.membranes = self.slope(self.whole), None
        # Not a slice of them, which would keep their memory.
        self.outputs, self.before, self.currents = self.outputs.new_empty(0), None, None
        if isinstance(self.xs, Stream):
            part = next(self.xs.parts(len(self)))
            if not isinstance(part, LazySpikes):  # lazy spikes are drawn again
                self.xs = part.clone()
        vars(self).pop("_given", None)

    def inputs(self, steps: slice) -> Tensor:
        """The input, (time, batch, in_features), in the layer's dtype."""
        return _as_numbers(self._given[steps], self._like.dtype)

    def add_inputs(self, trace: TraceBuffers) -> None:
        """Add the input of all steps to a trace; only some steps at a time are in the layer's dtype."""
        size = max(1, BLOCK // trace.values.numel())
        for first in range(0, len(self), size):
            backends.trace_scan(self.inputs(slice(first, first + size)), trace)

    @cached_property
    def _given(self) -> Tensor:
        """The input of the whole chunk, as it was given or drawn again; drawing it block by block takes longer."""
        if isinstance(self.xs, Tensor):
            return self.xs
        part = next(self.xs.parts(len(self)))
        return backends.spikes(part._replace(dtype=torch.bool)) if isinstance(part, LazySpikes) else part

    def output(self, steps: slice) -> Tensor:
        """The output, (time, batch, out_features), in the layer's dtype."""
        return _as_numbers(self.outputs[steps], self._like.dtype)

    def slope(self, steps: slice) -> Tensor:
        """Return d output / d current of each step, (time, batch, out_features); for spikes, with the surrogate."""
        if self.known is not None:
            return self.known[steps]
        if self.layer.neuron.kernel == "lif":
            assert self.membranes is not None  # also after `keep`, unlike `outputs`
            return self.times_slope(torch.ones_like(self.membranes[steps]), steps)
        ones = torch.ones_like(self.outputs[steps], dtype=self._like.dtype)
        if self.layer.neuron.kernel:
            return self._delta(ones, steps)
        by_graph = self._by_graph(ones, steps)[0]
        assert by_graph is not None
        return by_graph

    def times_slope(self, values: Tensor, steps: slice) -> Tensor:
        """Multiply values of some steps, (time, batch, out_features), by `slope`, in place."""
        if self.layer.neuron.kernel != "lif":
            return values.mul_(self.slope(steps))
        assert self.membranes is not None
        return backends.times_slopes(values, self.membranes[steps], self.threshold, self.surrogate)

    def vjp(self, signal: Tensor, steps: slice) -> Tensor:
        """Return dL/d currents from dL/d outputs, and add the gradients of decays and thresholds.

        Args: signal: dL/d outputs. Returns: a new tensor. Both: (time, batch, out_features).
        """
        raws, neuron = self.trained_constants, self.layer.neuron
        if neuron.kernel is None:
            delta, *found = self._by_graph(signal, steps, raws)
            assert delta is not None
            for raw, value in zip(raws, found, strict=True):
                add(raw, value)
            return delta
        if neuron.kernel == "lif":
            if raws:
                self._learn_lif_constants(lambda of: (signal * of).sum(dim=(0, 1)), steps)
            return self.times_slope(signal.clone(memory_format=torch.contiguous_format), steps)
        delta = self._delta(signal, steps)
        if raws:
            assert self.membranes is not None
            by_decay = (delta * self.membranes[steps]).sum(dim=(0, 1))
            self._add_constants([(lambda: neuron.decay, by_decay)], steps)
        return delta

    def learn_constants(self, signal: Tensor, feedback: Tensor, steps: slice) -> None:
        """Add the gradients of decays and thresholds, for dL/d outputs `signal @ feedback`.

        Args: signal: (time, batch, signals). feedback: (signals, out_features).
        """
        if not self.trained_constants:
            return
        if self.layer.neuron.kernel == "lif":
            rows = signal.flatten(0, 1).t()
            self._learn_lif_constants(lambda of: (feedback * (rows @ of.flatten(0, 1))).sum(dim=0), steps)
        else:
            self.vjp(signal @ feedback, steps)

    def _learn_lif_constants(self, summed: Callable[[Tensor], Tensor], steps: slice) -> None:
        """Add the gradients of decays and thresholds: d output/dβ = ψ·m and d output/dθ = −ψ·u/θ.

        Args: summed: function that multiplies such a factor by dL/d output, and sums over steps and samples.
        """
        assert self.membranes is not None
        neuron: Any = self.layer.neuron
        slope = self.slope(steps)
        found = [(lambda: neuron.threshold, -summed(slope * self.membranes[steps]) / self.threshold)]
        if self.start is not None:
            earlier = slice(max(0, steps.start - 1), steps.stop - 1)
            before = self.membranes[earlier] - self.threshold * self.output(earlier)
            before = before if steps.start else torch.cat([self.start[None], before])
            found.append((lambda: neuron.decay, summed(slope * before)))
        self._add_constants(found, steps)

    def _add_constants(self, found: Sequence[tuple[Callable[[], Tensor], Tensor]], steps: slice) -> None:
        """Add the gradients of raw decays and thresholds, once all blocks are summed.

        Args: found: functions that compute a constant from its raw parameter, and dL/d constant of this block.
        """
        earlier = self._of_constants or [torch.zeros_like(value) for _, value in found]
        self._of_constants = [total + value for total, (_, value) in zip(earlier, found, strict=True)]
        if steps.start:
            return
        sums, self._of_constants = self._of_constants, []
        with torch.enable_grad():
            products = [(constant() * value).sum() for (constant, _), value in zip(found, sums, strict=True)]
            total = torch.stack(products).sum()
        raws = self.trained_constants
        for raw, gradient in zip(raws, gradients(total, raws, torch.ones_like(total)), strict=True):
            add(raw, gradient)

    def _delta(self, signal: Tensor, steps: slice) -> Tensor:
        """`vjp` of LI and LIS neurons, without the constants; a new tensor."""
        if self.layer.neuron.kernel == "li":
            return signal.clone(memory_format=torch.contiguous_format)
        outputs = self.outputs[steps]
        return outputs * (signal - (outputs * signal).sum(dim=-1, keepdim=True))

    def _by_graph(self, signal: Tensor, steps: slice, raws: Sequence[Parameter] = ()) -> tuple[Tensor | None, ...]:
        """`vjp` of neurons without a kernel, through a graph of each step; then the gradients of the constants."""
        assert self.currents is not None
        neuron = self.layer.neuron
        current = self.currents[steps].flatten(0, 1).requires_grad_()
        with torch.enable_grad(), using(self.layer, self.surrogate):
            output, _ = neuron.step(current, type(self.before)(*(value[steps].flatten(0, 1) for value in self.before)))
        delta, *rest = gradients(output, [current, *raws], signal.flatten(0, 1))
        assert delta is not None
        return (delta.view_as(signal), *rest)

    # ── weights and bias ────────────────────────────────────────────────────────────────────────────────────────────
    #
    # With the input trace x̂ ← d·x̂ + x, t₀ before the chunk, and λ(s) = δ(s) + d·λ(s + 1):
    #     Σ_t δ(t)·x̂(t)ᵀ = Σ_s λ(s)·x(s)ᵀ + d·λ(first)·t₀ᵀ
    # So no trace is needed at each step, and groups of neurons with different d read the same input.

    @cached_property
    def leak(self) -> Tensor | None:
        """d, a number or (out_features,); None if each input has its own: then `traces` are computed."""
        decay = self.layer.trace_decay.detach()
        if decay.ndim == 1:
            return None
        return decay if decay.ndim == 0 else decay.flatten().repeat_interleave(len(self._like) // len(decay))

    @cached_property
    def traces(self) -> Tensor:
        """The input trace after each step, (groups, time, batch, in_features)."""
        decay, xs = self.layer.trace_decay.detach(), self.inputs(self.whole)
        starts = self.trace if self.trace.ndim == 3 else self.trace[None]
        traces = xs.new_empty(len(starts), *xs.shape)
        for number, start in enumerate(starts):
            own = decay[number, 0] if decay.ndim == 3 else decay
            backends.leak_scan(xs, start.clone(), own, traces[number])
        return traces

    def ones_trace(self, steps: slice) -> Tensor:
        """Return the trace of an input that is always 1, for the bias: (time, batch, 1 or out_features)."""
        decay = self.layer.neuron.decay.detach()
        count = self.steps + torch.arange(steps.start + 1, steps.stop + 1, device=self.steps.device)[:, None, None]
        return (1 - decay**count) / (1 - decay)

    def learn(self, delta: Tensor, steps: slice) -> None:
        """Add `Σ δ·x̂ᵀ` to the gradients of weights and bias, block by block, from the last step to the first.

        Args: delta: dL/d currents, (time, batch, out_features), which is overwritten. steps: of this block.
        """
        if self.bias_learns:
            add_gradient(self.layer, "bias", (delta * self.ones_trace(steps)).sum(dim=(0, 1)))
        if self.layer.weight.requires_grad:
            self.learn_weight(delta, steps)

    def learn_from(self, signal: Tensor, steps: slice) -> None:
        """As `learn`, from dL/d outputs, (time, batch, out_features), which are overwritten."""
        if self.bias_learns or self.layer.neuron.kernel != "lif" or self.leak is None:
            self.learn(self.times_slope(signal, steps), steps)
            return
        assert self.membranes is not None
        # One pass over the numbers in place of two.
        backends.times_slopes(signal, self.membranes[steps], self.threshold, self.surrogate, self.leak, self._after)
        self._learn_leaked(signal, steps, self.leak, self.trace)

    def learn_weight(
        self, delta: Tensor, steps: slice, leak: Tensor | float | None = None, start: Tensor | None = None
    ) -> None:
        """As `learn`, for the weights. Args: leak, start: d and t₀ of a trace in place of the layer's own."""
        if leak is None and self.leak is None:
            self.learn_product(delta, self.traces[0, steps])
            return
        leak, start = (self.leak, self.trace) if leak is None else (leak, start)
        assert leak is not None and start is not None
        self._learn_leaked(backends.leak_back(delta, self._after, leak), steps, leak, start)

    def _learn_leaked(self, delta: Tensor, steps: slice, leak: Tensor | float, start: Tensor) -> None:
        """As `learn_weight`. Args: delta: λ, (time, batch, out_features)."""
        self._after = delta[0].clone()
        rows, xs = delta.flatten(0, 1), self.inputs(steps).flatten(0, 1)
        is_turned = xs.shape[1] < rows.shape[1]  # with the smaller matrix first, the product takes half the time
        factors = (xs.t(), rows) if is_turned else (rows.t(), xs)
        self._grad = torch.mm(*factors) if self._grad is None else self._grad.addmm_(*factors)
        if steps.start == 0:
            start = start if start.ndim == 3 else start[None]
            first = (self._after * leak).unflatten(-1, (len(start), -1)).movedim(-2, 0)
            found = self._grad.t() if is_turned else self._grad
            add_gradient(self.layer, "weight", (first.transpose(1, 2) @ start).flatten(0, 1) + found)
            self._grad = self._after = None

    def learn_product(self, delta: Tensor, factors: Tensor) -> None:
        """Add `Σ δ·fᵀ` to the gradient of the weights. Args: factors: f, (…, time, batch, in_features), … groups."""
        factors = factors if factors.ndim == 4 else factors[None]
        parts = delta.flatten(0, 1).unflatten(-1, (len(factors), -1)).movedim(-2, 0)
        found = parts.transpose(1, 2) @ factors.flatten(1, 2)
        add_gradient(self.layer, "weight", found.flatten(0, 1))


def _as_numbers(values: Tensor, dtype: torch.dtype) -> Tensor:
    # bool and uint8 are the same bytes, and a CPU converts bool in eight times the time.
    return (values.view(torch.uint8) if values.dtype == torch.bool else values).to(dtype)


def blocks(activities: list[Activity]) -> Iterator[slice]:
    """Yield the steps of a chunk in blocks of at most `BLOCK` numbers, the last block first."""
    batch, stop = activities[0].steps.shape[0], len(activities[0])
    size = max(1, BLOCK // (batch * max(len(activity.layer.weight) for activity in activities)))
    while stop:
        yield slice(max(0, stop - size), stop)
        stop = max(0, stop - size)


def run_lif_steps(currents: Tensor, membrane: Tensor, constants: tuple[Tensor, ...]) -> tuple[Tensor, Tensor, Tensor]:
    """Run LIF neurons over a chunk. Returns: spikes, and membranes before each step, and before the reset of each step.

    Args: currents: (time, batch, neurons). membrane: updated.
    """
    decay, threshold = constants
    spikes, before = torch.empty_like(currents), currents.new_empty(len(currents) + 1, *currents.shape[1:])
    before[0] = membrane
    synaptic = SynapticInput(currents, None, None, currents.dtype)
    backends.scan("lif", synaptic, membrane, constants, OutputSpec(outputs=spikes))
    # With its spikes known, a membrane that is reset leaks as any other.
    backends.leak_scan(currents - threshold * spikes, before[0].clone(), decay, before[1:])
    before = before[:-1]
    return spikes, before, decay * before + currents


def by_group(layer: Layer, values: Tensor) -> Tensor:
    """Group (…, out_features) by the input trace of each neuron: (groups, …, neurons of the group)."""
    return values.unflatten(-1, (layer.input_trace.groups, -1)).movedim(-2, 0)


def add_gradient(layer: Layer, name: str, value: Tensor | None) -> None:
    """Add to a parameter's `.grad`, if it is trained."""
    parameter = getattr(layer, name)
    if parameter is not None and parameter.requires_grad:
        add(parameter, value)
