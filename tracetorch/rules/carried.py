"""Rules whose eligibilities have factors that go on from chunk to chunk, and from one learning moment to the next."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from tracetorch import backends
from tracetorch.encode import Stream
from tracetorch.modes import unaffected
from tracetorch.nn import Sequential
from tracetorch.nn.local_gradient import whole_gradients
from tracetorch.rules.base import Rule
from tracetorch.rules.stepwise import Recording, StepwiseGraph, TwoPassRule, chunks, run_stepwise
from tracetorch.rules.surrogate import Surrogate


class CarriedRule(TwoPassRule):
    """Keeps sums over the past of each layer, (…, batch, features), and learns from a chunk of steps at once.

    The signal of a step passes down the layers within that step; a subclass defines what a layer does with it.

    Args: surrogate: as in `BPTT`, without `through_reset`.
    """

    _sums: list[dict[str, Tensor]]  # of each layer, by name

    def __init__(self, net: Sequential, surrogate: Surrogate | str):
        super().__init__(net, surrogate)
        self._restart()

    @abstractmethod
    def _carries(self, at: int) -> bool:
        """Whether layer `at` keeps sums. The last layer, if it keeps none, runs again for the counted steps alone."""

    @abstractmethod
    def _advance(self, at: int, graph: StepwiseGraph, xs: Tensor) -> Any:
        """Take a chunk into the sums of layer `at`. Args: xs: its input. Returns: what `_learn` needs of the chunk."""

    @abstractmethod
    def _learn(self, at: int, graph: StepwiseGraph, factors: Any, signal: Tensor) -> Tensor:
        """Add the gradients of layer `at` over a chunk.

        Args: factors: what `_advance` returned; signal: dL/d output at each step, (rows, out_features).
        Returns: dL/d currents at each step as it goes on to the layer below, (rows, out_features).
        """

    def reset(self, mask: Tensor | None = None) -> None:
        """Start a new sequence: reset state and sums of all samples, or of those in `mask`, bool (batch,)."""
        if mask is None:
            super().reset()
            self._restart()
            return
        Rule.reset(self, mask)  # first: if the mask is invalid, the recording is kept
        self._keep_unlearnt()
        self._forget(mask)

    def forward(self, xs: Tensor | Stream, *, reduce: str | None = None, window: int | None = None) -> Tensor:
        """Run over a stretch of time; see `Sequential.run`. Under `torch.no_grad` the sums are dropped.

        `xs` is read again: it must not change until the next `backward`, `forward` or `reset`.
        """
        if torch.is_grad_enabled():
            self._keep_unlearnt()
        else:
            self._restart()
        return super().forward(xs, reduce=reduce, window=window)

    def state_dict(self) -> dict[str, Any]:
        """Return the sums, for a checkpoint right after a learning moment."""
        return {"sums": [{name: value.clone() for name, value in sums.items()} for sums in self._sums]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the result of `state_dict`."""
        found = state.get("sums") or [{} for _ in self.net]
        self._sums = [
            {name: value.to(layer.weight, copy=True) for name, value in sums.items()}
            for layer, sums in zip(self.net, found, strict=True)
        ]

    def _restart(self) -> None:
        """Forget all samples."""
        self._sums = [{} for _ in self.net]

    def _forget(self, mask: Tensor) -> None:
        """Forget some samples, bool (batch,)."""
        for sums in self._sums:
            for value in sums.values():
                value[..., mask, :] = 0

    @torch.no_grad()
    def _sum(self, at: int, name: str, added: Tensor, decay: float | Tensor) -> Tensor:
        """Continue a sum of layer `at`, `y ← d·y + x`.

        Args: added: x, (time, batch, features). Returns: y before the first step and after each: (time + 1, …).
        """
        sums, decay = self._sums[at], torch.as_tensor(decay, dtype=added.dtype, device=added.device)
        found = added.new_empty(len(added) + 1, *added.shape[1:])
        found[0] = sums.get(name, 0.0)
        backends.leak_scan(added, found[0].clone(), decay, found[1:])
        sums[name] = found[-1].clone()
        return found

    def _keep_unlearnt(self) -> None:
        """Add the last stretch to the sums, if it got no signal."""
        recording, self._recording = self._recording, None
        if recording is not None and any(map(self._carries, range(len(self.net)))):
            self._second_pass(recording, None)

    @unaffected
    @whole_gradients()
    def _second_pass(self, recording: Recording, signal: Tensor | None) -> None:
        layers, first, states = list(self.net), recording.first, list(recording.start_states)
        runs_late = not self._carries(len(layers) - 1)
        if runs_late:
            states[-1] = recording.first_states[-1]
        for start, part in chunks(recording.xs):
            stop, values = start + len(part), part.to(layers[0].weight.dtype)
            counted = 0 if signal is None else min(len(part), max(0, stop - first))
            activity = list[tuple[StepwiseGraph, Any]]()
            for at, layer in enumerate(layers):
                if runs_late and layer is layers[-1]:
                    if not counted:
                        break
                    values = values[-counted:]
                graph = run_stepwise(layer, values, states[at], self.surrogate)
                activity.append((graph, self._advance(at, graph, values)))
                states[at], values = graph.after, graph.outputs
            if signal is None or not counted:
                continue
            down = signal[stop - first - counted : stop - first].flatten(0, 1)
            for at in reversed(range(len(layers))):
                graph, factors = activity[at]
                if len(down) < len(graph.output):  # no signal reaches the steps before those that count
                    down = torch.cat([down.new_zeros(len(graph.output) - len(down), down.shape[1]), down])
                delta = self._learn(at, graph, factors, down)
                if at:
                    down = delta @ graph.layer.weight.detach()
