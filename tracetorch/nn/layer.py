"""A layer: a connection and its neurons, with the trace of their input and their state."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from difflib import get_close_matches
from inspect import signature
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import Linear, Module

from tracetorch import backends, renamed
from tracetorch.backends import Columns, LazySpikes, OutputSpec, SynapticInput, TraceBuffers, Traits
from tracetorch.modes import check_tensor, unaffected, without_graph
from tracetorch.nn import connections, local_gradient, neurons
from tracetorch.nn.graph import StepGraph
from tracetorch.nn.input_trace import InputTrace
from tracetorch.nn.local_gradient import At, Gradients, accumulate
from tracetorch.nn.network import Network, Shape, has_hooks
from tracetorch.nn.neurons import Neuron, Values
from tracetorch.nn.state import LayerState, check_saved, from_named
from tracetorch.renamed import takes_former_names


class Layer(Network):
    """A connection and neurons, the trace of the input, and a state.

        i = connection(x),    output, state = neuron.step(i, state),    t ← d·t + x     at every step, without a graph
        ā = t(1 − d)/(1 − dⁿ),  neuron.steady_state(connection(ā), n)           at a learning moment, differentiated

    Args:
        in_features: number of inputs, all connected to all neurons; or a connection: any torch module that is linear
            in its input, such as `torch.nn.Conv2d(1, 16, 5)`, for input of shape (batch, *in_shape).
        out_features: number of neurons; None with a connection.
        neuron: a function that makes the neurons from their number (None if the connection's output has several
            dimensions), such as `neurons.LIF`; or the neurons themselves.
        trace_decay: "membrane": the trace is tied to the membrane's decay, the exact case, with one trace for each
            group of neurons. A number, or one for each input: the trace is free and has this decay.
        bias: whether each neuron has a bias; not used with a connection.
        trainable: names of the parameters that are trained, such as "weight". None: all but a free `trace_decay`.
        decay_gradient: "exact": the trace's decay has a gradient through the trace, from `e ← d·e + t`;
            "stationary": the trace is constant.
        trace_bank: decays c of further traces, which follow the trace: `e ← c·e + t`; see `nn.input_trace`.
        constants: constants of the neurons by name, such as `decay` and `threshold`.
    Gradient: of the local graph through `steady_state`. The state is constant; the trace depends on its decay only. If
        the trace is free, the membrane's decay has a stationary gradient.
    Memory: batch × (groups·inputs + neurons), independent of time; one more trace if the trace's decay is trained, and
        one for each decay in the bank.
    Time: O(batch × inputs × neurons) for a step and for a learning moment, less where few inputs fire.
    Source: docs/how-it-learns.md.
    Example:
        >>> layer = Layer(torch.nn.Conv2d(1, 4, 3), neuron=tt.nn.neurons.LIF)
        >>> layer(torch.ones(1, 1, 8, 8)).shape
        torch.Size([1, 4, 6, 6])
    """

    if TYPE_CHECKING:
        connection: Module
        input_trace: InputTrace
        neuron: Neuron
    else:  # faster than `Module.__getattr__`; a chunk reads them a hundred times
        connection = property(lambda self: self._modules["connection"])
        input_trace = property(lambda self: self._modules["input_trace"])
        neuron = property(lambda self: self._modules["neuron"])

    @renamed.takes_former_names
    def __init__(
        self,
        in_features: int | Module,
        out_features: int | None = None,
        *,
        neuron: Neuron | Callable[[int | None], Neuron],
        trace_decay: Values | str = "membrane",
        bias: bool = False,
        trainable: Iterable[str] | None = None,
        decay_gradient: str = "exact",
        trace_bank: Sequence[float] = (),
        **constants: Any,
    ):
        super().__init__()
        if out_features is None or isinstance(in_features, Module):
            connection = connections.check_connection(in_features)
            if out_features is not None:
                raise TypeError(f"{connection} sets the number of outputs: leave out_features out")
        else:
            connection = connections.make_linear(in_features, out_features, bias)
        self.in_features: int | None = connection.in_features if isinstance(connection, Linear) else None
        self.out_features: int | None = connection.out_features if isinstance(connection, Linear) else None
        self.connection = connection
        neurons = _neurons(neuron, self.out_features, constants)
        names = _listed(trainable)
        decay_name = "decay" if isinstance(trace_decay, str) else "trace_decay"
        is_trained = decay_name == "decay" if names is None else decay_name in names
        self.input_trace = InputTrace(
            neurons, trace_decay, self.in_features, gradient=decay_gradient, trace_bank=trace_bank, trainable=is_trained
        )
        if len(self.input_trace.trace_bank) and self.in_features is None:
            raise ValueError(f"a bank of traces needs a torch.nn.Linear as connection, got {connection}")
        if self.input_trace.groups > 1 and self.in_features is None:
            advice = "give trace_decay a number to set the trace free"
            raise ValueError(f"a trace tied to several decays needs a torch.nn.Linear, got {connection}: {advice}")
        self.neuron = neurons
        self._set_trainable(names)

    def _set_trainable(self, names: tuple[str, ...] | None) -> None:
        known = {**dict.fromkeys(connections.trainable_names(self.connection)), "trace_decay": None}
        known |= dict.fromkeys(name.removeprefix("raw_") for name, _ in self.neuron.named_parameters())
        for name in names or ():
            if name not in known:
                close = get_close_matches(name, known, 1)
                hint = f"did you mean {close[0]!r}? " if close else ""
                said = f"trainable: a {self.kind} has no {name!r}; {hint}it has {', '.join(known)}"
                raise TrainableError(said, [other for other in known if other in close or other in (names or ())])
        if self.input_trace.tied and "trace_decay" in (names or ()):
            raise ValueError(
                "trainable: a tied trace_decay equals the membrane's decay; give trace_decay a number to train it"
            )
        if self.input_trace.raw_decay is not None:
            self.input_trace.raw_decay.requires_grad_("trace_decay" in (names or ()))
        if names is None:
            return
        for name, parameter in (*connections.short_named_parameters(self.connection), *self.neuron.named_parameters()):
            parameter.requires_grad_(name.removeprefix("raw_") in names)

    @property
    def weight(self) -> Tensor:
        """The weights of the connection; (out_features, in_features) for a `torch.nn.Linear`."""
        return self.connection.weight  # type: ignore[return-value]

    @property
    def bias(self) -> Tensor | None:
        """The bias of the connection, (out_features,), or None."""
        return getattr(self.connection, "bias", None)

    @property
    def trace_decay(self) -> Tensor:
        """Decay of the input trace per step: a number, (in_features,), or (groups, 1, 1) for groups of neurons."""
        return self.input_trace.decay(self.neuron)

    @property
    def _like(self) -> Tensor:
        """A tensor with the dtype and the device of the layer's state."""
        return self.neuron.raw_decay

    @property
    def _widest(self) -> int:
        """Number of inputs or of outputs of one sample, whichever is larger. Needs a state."""
        if self.in_features is not None and self.out_features is not None:
            return max(self.in_features, self.out_features)
        assert self._state is not None
        return max(tensor[0].numel() for tensor in (self._state.trace, self._state.neuron[0]))

    @property
    def chain(self) -> list[Layer]:
        """A list of this layer alone."""
        return [self]

    @property
    def kind(self) -> str:
        """Name of the layer's class, or of its neurons' class for a plain `Layer`, such as "LIF"."""
        return type(self.neuron if type(self) is Layer else self).__name__

    def __repr__(self) -> str:
        size = str(self.connection) if self.in_features is None else f"{self.in_features}, {self.out_features}"
        return f"{self.kind}({size})"

    _precision: torch.dtype | None = None

    @property
    def precision(self) -> torch.dtype | None:
        """Dtype of the factors of the forward matrix product; None: the dtype of the weights.

        torch.bfloat16 rounds weights and real-valued inputs, but not spikes, membranes, traces or gradients. A dense
        product on a CPU also rounds each current, once. Connections other than `torch.nn.Linear` ignore it.
        """
        return self._precision

    @precision.setter
    def precision(self, dtype: torch.dtype | None) -> None:
        if dtype not in (None, torch.float32, torch.float64, torch.bfloat16):
            raise ValueError(f"precision must be torch.bfloat16, torch.float32, torch.float64 or None, got {dtype!r}")
        self._precision, self._compiled_step = dtype, None

    # ── state ───────────────────────────────────────────────────────────────────────────────────────────────────────

    _state: LayerState | None = None
    _spare: LayerState | None = None  # the state before the last reset, whose memory is reused
    _lent = False  # whether a caller holds `_state`, so that it must not change
    _state_changes = 0  # number of times that `_state` was reset or replaced

    @property
    def state(self) -> LayerState | None:
        """The state, without a graph; no later step changes it. None before the first step and after `reset`."""
        self._lent = True
        return self._state

    @state.setter
    def state(self, state: LayerState | None) -> None:
        if state is not None:
            self._check_state(state.named())
        self._put(_state=state, _lent=True, _state_changes=self._state_changes + 1)

    @property
    def live_state(self) -> LayerState | None:
        """Live state, not a copy; read-only."""
        return self._state

    def reset(self, mask: Tensor | None = None) -> None:
        """Reset the neurons to their initial state (zeros), trace and number of steps to zero.

        Args: mask: the samples to reset, bool (batch,); None: all, and the next input may have another batch size.
        Raises: ValueError for a mask of another size than the state's batch.
        """
        if mask is not None:
            self._forget(mask)
            return
        # The next state reuses the memory, so that the addresses in compiled steps stay valid.
        spare = self._spare if self._state is None or self._lent else self._state
        self._put(_state=None, _spare=spare, _state_changes=self._state_changes + 1)

    def save_state(self) -> dict[str, Tensor]:
        """Copies of the state's tensors by name; empty before the first step. Not part of `state_dict`."""
        return {} if self._state is None else {name: value.clone() for name, value in self._state.named().items()}

    @unaffected
    def load_state(self, state: dict[str, Tensor]) -> None:
        """Restore a state from `save_state`. Raises: ValueError for another layer's state."""
        check_saved(state)
        if not state:
            self.state = None
            return
        state = renamed.present(renamed.STATE, state)
        self._check_state(state)
        like, found = self._like, from_named(self.neuron.state_type, state).copy()
        self.state = found.map(lambda value: value.to(like.device, like.dtype if value.is_floating_point() else None))

    def own_state(self, batch: int, in_shape: Shape | None = None) -> LayerState:
        """Return the state that a step may update: the present one, a copy if a caller holds it, or a new one.

        Raises: ValueError for another batch size or input shape than that of the state.
        """
        state, like = self._state, self._like
        if state is None or self._lent or state.steps.shape[0] != batch or not _matches(state, like):
            state = self._renewed_state(batch, in_shape)
        if in_shape is not None and self.in_features is None and tuple(state.trace.shape[1:]) != in_shape:
            before = tuple(state.trace.shape[1:])
            raise ValueError(
                f"{self} holds a state for input of shape {before}, got {in_shape}: call net.reset() first"
            )
        return state

    @unaffected
    def _renewed_state(self, batch: int, in_shape: Shape | None) -> LayerState:
        state = self._state
        if state is None:
            state = self._blank_state(batch, in_shape)
        elif state.steps.shape[0] != batch:
            present = state.steps.shape[0]
            raise ValueError(f"{self} holds a state of batch {present}, got batch {batch}: call net.reset() first")
        elif not _matches(state, self._like):
            self.load_state(state.named())
            state = self._state
            assert state is not None
        else:
            state = state.copy()
        self._put(_state=state, _lent=False)
        return state

    def _prepare(self, batch: int, in_shape: Shape) -> Shape:
        if self.in_features is not None and in_shape != (self.in_features,):
            raise ValueError(f"{self} takes {self.in_features} inputs, got the shape {in_shape}")
        return tuple(self.own_state(batch, in_shape).neuron[0].shape[1:])

    def _put(self, **values: Any) -> None:
        """Set plain attributes, faster than `Module.__setattr__`."""
        self.__dict__.update(values)

    def _forget(self, mask: Tensor) -> None:
        check_tensor(mask, "mask")
        if self._state is None:
            return
        batch = self._state.steps.shape[0]
        if mask.dtype != torch.bool or mask.shape != (batch,):
            got = f"{mask.dtype} of shape {tuple(mask.shape)}"
            raise ValueError(
                f"{self} holds a state of batch {batch}: mask is torch.bool of shape ({batch},), got {got}"
            )
        state = self.own_state(batch)
        by_sample = [*state.neuron, state.steps, *([state.trace] if self.input_trace.groups == 1 else state.trace)]
        for value in (*by_sample, *state.trace_sensitivity):
            value.masked_fill_(mask.view(-1, *[1] * (value.ndim - 1)), 0)
        self._set_initial(state, mask)
        self._put(_state_changes=self._state_changes + 1)

    def _blank_state(self, batch: int, in_shape: Shape | None) -> LayerState:
        """The state before the first step, in the memory of the state before the reset if that fits."""
        spare, like = self._spare, self._like
        self._put(_spare=None)
        if spare is None or spare.steps.shape[0] != batch or not _matches(spare, like):
            return self._initial_state(batch, in_shape)
        if self.in_features is None and tuple(spare.trace.shape[1:]) != in_shape:
            return self._initial_state(batch, in_shape)
        for value in spare.tensors:
            value.zero_()
        self._set_initial(spare, slice(None))
        return spare

    @without_graph
    def _set_initial(self, state: LayerState, samples: Tensor | slice) -> None:
        """Set the neurons of some samples, now zeros, to their initial state, if that is another one."""
        if type(self.neuron).init_state is Neuron.init_state:
            return
        initial = self.neuron.init_state(torch.zeros_like(state.neuron[0]))
        for value, start in zip(state.neuron, initial, strict=True):
            value[samples] = start[samples]

    @without_graph
    def _initial_state(self, batch: int, in_shape: Shape | None) -> LayerState:
        like, trace = self._like, self.input_trace
        if self.in_features is not None and self.out_features is not None:
            in_shape, current = (self.in_features,), like.new_zeros(batch, self.out_features)
            connections.check_linear(self.connection, like.new_zeros(1, self.in_features), str(self))
        elif in_shape is None:
            raise RuntimeError(f"{self} has seen no input yet: the shape of its state is unknown")
        else:
            sample = like.new_zeros(1, *in_shape)
            try:
                current = self.connection(sample)
            except (RuntimeError, ValueError) as error:
                shape = f"(batch, {', '.join(map(str, in_shape))})"
                raise ValueError(f"{self} cannot take input of shape {shape}: {error}") from error
            connections.check_linear(self.connection, sample, str(self))
            current = current.new_zeros(batch, *current.shape[1:])
        groups = (trace.groups,) if trace.groups > 1 else ()
        return LayerState(
            self.neuron.init_state(current),
            like.new_zeros(*groups, batch, *in_shape),
            like.new_zeros(trace.num_followers, batch, *in_shape),
            torch.zeros(batch, 1, dtype=torch.int64, device=like.device),
        )

    def _check_state(self, state: dict[str, Tensor]) -> None:
        """Raises: ValueError for other names, shapes or dtypes than those of the layer's state."""
        names = [*self.neuron.state_type._fields, "trace", "trace_sensitivity", "steps"]
        if set(state) != set(names):
            raise ValueError(f"{self} keeps {', '.join(names)}, got {', '.join(state)}")
        for name, value in state.items():
            check_tensor(value, name)
        in_shape = None if self.in_features is not None else tuple(state["trace"].shape[1:])
        wanted = self._initial_state(state["steps"].shape[0], in_shape).named()
        for name, value in state.items():
            shape = tuple(wanted[name].shape)
            if value.shape != shape:
                raise ValueError(f"{self} cannot take a {name} of shape {tuple(value.shape)}: it keeps {shape}")
            if wanted[name].is_floating_point() and not value.is_floating_point():
                raise ValueError(f"{self} cannot take a {name} of {value.dtype}, which holds no fractions")

    # ── running ─────────────────────────────────────────────────────────────────────────────────────────────────────

    _compiled_step: Any = None
    _graph: StepGraph | None = None
    _columns: Columns | None = None

    def _step(self, x: Tensor) -> Tensor:
        compiled = self._compiled_step
        is_hooked = has_hooks(self._modules["connection"])  # type: ignore[arg-type]
        if compiled is not None and not is_hooked and compiled.takes(x) and compiled.is_fresh(self._parts()):
            state = self._state
            if self._lent or state is None or state is not compiled.state or state.steps.shape[0] != x.shape[0]:
                compiled.bind(self.own_state(x.shape[0]))
            return compiled(x)
        return self._step_and_look_up(x)

    @unaffected
    def _step_and_look_up(self, x: Tensor) -> Tensor:
        """One step without a bound compiled step; prepares one for the next steps where possible."""
        self._check_step(x)
        traits = self._traits
        code = backends.one_step(traits)
        if code == "graph":
            self._compiled_step, self._graph = None, self._graph or StepGraph(self)
            return self._graph(x, [self])
        if code == "compiled":
            compiled = self._bound_step(x.shape[0])
            if compiled is not None and compiled.takes(x):
                return compiled(x)
        shape = self._prepare(len(x), tuple(x.shape[1:]))
        output = self._like.new_empty(1, x.shape[0], *shape)
        self.advance(x[None], OutputSpec(outputs=output.flatten(2)))
        return output[0]

    def _bound_step(self, batch: int) -> Any:
        """The compiled step, bound to a state of this batch size; None if the layer cannot be compiled."""
        compiled = self._compiled_step
        if compiled is None or has_hooks(self.connection) or not compiled.is_fresh(self._parts()):
            traits = self._traits
            if backends.one_step(traits) != "compiled":
                return None
            self._check_weight(self._like.device)
            compiled = backends.compiled_step(traits, self.bias, self._raw(), self._constants_of, self._parts())
            self._put(_compiled_step=compiled)
        state = self._state
        if self._lent or state is None or state is not compiled.state or state.steps.shape[0] != batch:
            compiled.bind(self.own_state(batch))
        else:
            compiled.refresh()
        return compiled

    @without_graph
    def advance(self, xs: Tensor | LazySpikes, out: OutputSpec) -> None:
        xs, trace = self._prepare_chunk(xs)
        self._run_neurons(xs, out, trace)

    def _prepare_chunk(self, xs: Tensor | LazySpikes) -> tuple[Tensor | LazySpikes, TraceBuffers]:
        """Check a chunk of input. Returns: the chunk in the layer's dtype, and the trace to which it is added."""
        size: tuple[Any, ...] = tuple(xs.size if isinstance(xs, LazySpikes) else xs.shape)
        self._check_weight(xs.samples.device if isinstance(xs, LazySpikes) else xs.device)
        state = self.own_state(size[1], size[2:])
        xs = xs.to(self._like.dtype) if isinstance(xs, Tensor) else xs
        return xs, self._constants_of(state)[1]

    def _run_neurons(
        self, xs: Tensor | LazySpikes, out: OutputSpec, trace: TraceBuffers | None = None, fired: int | None = None
    ) -> None:
        """Run the neurons on a chunk, (time, batch, *in_shape). Args: trace, fired: as in `SynapticInput`."""
        steps, batch = (xs.size if isinstance(xs, LazySpikes) else xs.shape)[:2]
        state, neuron = self.own_state(batch), self.neuron
        synaptic = self._synaptic_input(xs, trace, fired)
        if neuron.kernel:
            membrane, constants, shape = state.neuron.membrane, neuron.constants, state.neuron.membrane.shape[1:]
            if len(shape) > 1:
                constants = tuple(value.expand(shape).flatten() if value.ndim else value for value in constants)
            backends.scan(neuron.kernel, synaptic, membrane.flatten(1), constants, out)
        else:
            shape, after = state.neuron[0].shape, state.neuron
            for step, current in enumerate(backends.currents(synaptic)):
                output, after = neuron.step(current.view(shape), after)
                out.take(step, output.flatten(1))
            # Cloned first, because a neuron may return a tensor of the old state in another field.
            for before, value in zip(state.neuron, [value.clone() for value in after], strict=True):
                before.copy_(value)
        state.steps.add_(steps)

    def _synaptic_input(self, xs: Tensor | LazySpikes, trace: TraceBuffers | None, fired: int | None) -> SynapticInput:
        """A chunk of input and its weights; or its currents, if only the connection itself can compute them."""
        connection: Any = self.connection
        if not connections.is_dense(connection):
            values = (backends.spikes(xs) if isinstance(xs, LazySpikes) else xs).to(self._like.dtype)
            if trace is not None:
                backends.trace_scan(values.flatten(2), trace)
            with torch.enable_grad():  # a hook may compute a weight from trained parameters, as pruning does
                currents: Tensor = connection(values.flatten(0, 1)).detach()
            return SynapticInput(currents.reshape(*values.shape[:2], -1), None, None, self._like.dtype)
        weight, columns = connection.weight, self._columns
        if weight.device.type == "cpu" and (
            columns is None or columns.values.dtype != weight.dtype or columns.values.shape != weight.shape[::-1]
        ):
            columns = Columns(torch.empty_like(weight.t(), memory_format=torch.contiguous_format))
            self._put(_columns=columns)
        return SynapticInput(xs, weight, connection.bias, self._product_dtype, trace, fired, columns)

    @property
    def _traits(self) -> Traits:
        """The properties by which `backends.dispatch` chooses the code."""
        form = connections.form_of(self.connection)
        weight = self._like if form == "module" else self.weight
        return Traits(self.neuron.kernel, form, weight, self._product_dtype)

    def _check_step(self, x: Tensor) -> None:
        """Raises: ValueError unless x is (batch, in_features) and on the device of the weights."""
        check_tensor(x, str(self))
        if self.in_features is not None and (x.ndim != 2 or x.shape[1] != self.in_features):
            raise ValueError(f"{self} expects a step of shape (batch, {self.in_features}), got {tuple(x.shape)}")
        self._check_weight(x.device)

    def _check_weight(self, device: torch.device) -> None:
        """Raises: ValueError unless the weights are on this device and have their original shape."""
        shape = tuple(self.weight.shape) if self.in_features is not None else ()
        if shape and shape != (self.out_features, self.in_features):
            raise ValueError(f"{self} needs a weight of shape {(self.out_features, self.in_features)}, got {shape}")
        if device != self._like.device:
            raise ValueError(f"{self} is on {self._like.device}, and its input on {device}: move one of them with .to")

    def _check_chunk(self, size: Shape) -> None:
        """Raises: ValueError unless this is the shape of a chunk, (time, batch, *in_shape)."""
        if self.in_features is not None and (len(size) != 3 or size[2] != self.in_features):
            raise ValueError(f"{self} expects a chunk of shape (time, batch, {self.in_features}), got {size}")

    @property
    def _product_dtype(self) -> torch.dtype:
        return self._precision or self._like.dtype

    def _parts(self) -> tuple[Any, ...]:
        """The neurons and all parameters; a compiled step is valid as long as they stay the same."""
        modules: Any = self._modules  # not by attribute, because every step reads them
        connection, trace, neuron = modules["connection"], modules["input_trace"], modules["neuron"]
        return (neuron, *connection._parameters.values(), *trace._parameters.values(), *neuron._parameters.values())

    def _raw(self) -> list[Tensor]:
        """The tensors from which the constants of a compiled step are computed."""
        raw = [value for name, value in self.neuron.named_parameters() if name.startswith("raw_")]
        bank = self.input_trace.trace_bank
        return [*raw, *self.input_trace.parameters(), *([bank] if len(bank) else [])]

    def _constants_of(self, state: LayerState) -> tuple[tuple[Tensor, ...], TraceBuffers]:
        """The constants of the neurons, and the trace buffers of a state, without a graph."""
        neuron, trace = self.neuron, self.input_trace
        return neuron.constants, trace.for_kernels(trace.constant_decay(neuron), state)

    # ── learning ────────────────────────────────────────────────────────────────────────────────────────────────────

    def average_input(self) -> Tensor:
        """Weighted mean of all input since the last reset, recent steps weighing more: (…, batch, *in_shape).

        Raises: RuntimeError before the first step.
        """
        return local_gradient.average_input(self, self._state)

    def backward(
        self, signal: Tensor, above: Layer | None = None, *, at: At = "output", return_input_grad: bool = True
    ) -> Tensor | None:
        """Add the gradient of every trainable parameter to its `.grad`.

        Args:
            signal: dL/d average output, (batch, *features); or (bank, batch, features), one for each stretch of
                the past in the bank of the layer above.
            above: the layer from which the signal comes; None: the signal comes from a loss.
            at: "logits": the signal is dL/d logits, and the average output is their softmax.
            return_input_grad: whether to compute dL/d average input, (batch, *in_shape), for the layer below; with a
                bank, (bank, batch, in_features).
        Returns: dL/d average input, or None.
        """
        found, below = local_gradient.local_gradients(
            self, self._state, signal, above, at=at, return_input_grad=return_input_grad
        )
        accumulate(found)
        return below

    def local_gradients(
        self, signal: Tensor, *, at: At = "output", return_input_grad: bool = True
    ) -> tuple[Gradients, Tensor | None]:
        """Return the gradients and dL/d average input, as `backward` computes them; `.grad` stays unchanged."""
        found, below = local_gradient.local_gradients(
            self, self._state, signal, None, at=at, return_input_grad=return_input_grad
        )
        return found, below if below is None or not len(self.input_trace.trace_bank) else below.sum(dim=0)

    # ── copies and files ────────────────────────────────────────────────────────────────────────────────────────────

    def __getstate__(self) -> dict[str, Any]:
        """Drops compiled handles: they point into this layer's memory.

        Marks the state as lent, because torch sends a tensor to another process by sharing its memory.
        """
        self._put(_lent=True)
        own: dict[str, Any] = {"_compiled_step": None, "_graph": None, "_spare": None, "_columns": None}
        return self.__dict__ | own

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        for before, now in renamed.PARAMETERS.items():
            if prefix + before in state_dict:
                state_dict[prefix + now] = state_dict.pop(prefix + before)
        super()._load_from_state_dict(state_dict, prefix, *args)


def _matches(state: LayerState, like: Tensor) -> bool:
    return state.trace.dtype == like.dtype and state.trace.device == like.device


def _neurons(neuron: Any, features: int | None, constants: dict[str, Any]) -> Neuron:
    """Make the neurons, unless they exist. Raises: TypeError if none are made, or for unknown constants."""
    if isinstance(neuron, Neuron):
        if constants:
            raise TypeError(f"{', '.join(constants)}: give constants to the neurons themselves, {neuron!r}")
        return neuron
    advice = "neuron makes the neurons from their number, such as tt.nn.neurons.LIF"
    if isinstance(neuron, Module) or not callable(neuron):
        raise TypeError(f"{advice}, got {neuron!r}")
    known = signature(neuron).parameters
    constants = renamed.current_arguments(constants, known, depth=3)
    unknown = [name for name in constants if name not in known]
    if unknown and not any(argument.kind is argument.VAR_KEYWORD for argument in known.values()):
        name = getattr(getattr(neuron, "func", neuron), "__name__", "the neuron")
        raise TypeError(f"{name} takes no {unknown[0]!r}; it takes {', '.join(known)}")
    population = neuron(features, **constants)
    if not isinstance(population, Neuron):
        raise TypeError(f"{advice}, got {neuron!r}")
    return population


class TrainableError(ValueError):
    """`trainable` names a parameter that the layer lacks. Args: accepted: what it may be instead."""

    def __init__(self, message: str, accepted: list[str]):
        super().__init__(message)
        self.accepted = accepted


def _listed(names: Iterable[str] | None) -> tuple[str, ...] | None:
    if names is None:
        return None
    listed = tuple(names) if isinstance(names, Iterable) and not isinstance(names, str) else (names,)
    if not all(isinstance(name, str) for name in listed):
        raise TypeError(f"trainable is a list of parameters, such as ['weight'] or [], got {names!r}")
    return listed


class LIF(Layer):
    """Leaky integrate-and-fire neurons: `Layer` with `neurons.LIF`.

        m ← β·m + W·x + b,    s = 1 if m > θ else 0
        reset="subtract":    m ← m − θ·s                                     (`functional.lif_step`)
                             rate = a line in i = W·ā + b, corners rounded   (`functional.lif_rate`)
        reset="zero":        m ← m·(1 − s)                                   (`functional.lif_zero_step`)
                             rate = 1/(½ + steps from 0 to θ), rounded       (`functional.lif_zero_rate`)

    Args:
        in_features, out_features: numbers of inputs and neurons; or a connection, such as `torch.nn.Conv2d(1, 16, 5)`.
        decay: β of the membrane per step, in (0, 1): a number, one for each neuron (above 16, needs a free
            `trace_decay`), or one for each of a few equal groups of neurons.
        threshold: θ > 0, a number or one for each neuron.
        rate_map: the steady-state map: "line", as above, or "logistic", for subtractive reset alone.
        reset: of the membrane after a spike, "subtract" or "zero"; see `neurons.LIF`.
        trace_decay, bias, trainable, decay_gradient, trace_bank: see `Layer`.
    Returns: spikes, 0 or 1, (batch, *features).
    Gradient: approximate: the average rate replaces the spikes, so their order in time is lost; most accurate when the
        input is steady and the trace is tied to the membrane.
    Memory: as `Layer`.
    Source: docs/how-it-learns.md derives the maps.
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
        reset: str = "subtract",
    ):
        super().__init__(
            in_features,
            out_features,
            neuron=neurons.LIF,
            decay=decay,
            threshold=threshold,
            rate_map=rate_map,
            reset=reset,
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

    Args: as `LIF`, without `threshold`, `trace_bank`, `rate_map` and `reset`.
    Returns: membranes, any real number, (batch, *features).
    Gradient: exact for W, b and the decay, for a loss on the present output, if the trace is tied to the membrane: it
        then equals backpropagation through time. With `decay_gradient="stationary"`, the decay's gradient is that
        under a steady current.
    Memory: as `Layer`.
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

    Args: as `LIF`, without `threshold`, `trace_bank`, `rate_map` and `reset`.
    Returns: probabilities, each row sums to 1, (batch, *features).
    Gradient: as `LI`: exact for W, b and the decay, for a loss on the present output, if the trace is tied. For a loss
        on the mean over a window, the softmax is taken at the last step.
    Memory: as `Layer`.
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
