"""Encoders turn values into input over time. A `Stream` makes steps as they are read: memory does not grow with them.

xs = tt.encode.poisson(rates, steps=1_000_000, seed=0)      # rates: (batch, channels); nothing is made yet
mean = net.run(xs, reduce="mean")                           # made, used and dropped chunk by chunk
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor

from tracetorch import backends
from tracetorch import device as devices
from tracetorch.backends import LazySpikes
from tracetorch.backends.rng import mix_seed
from tracetorch.modes import check_tensor, whole

__all__ = [
    "ENCODERS",
    "Stream",
    "constant",
    "latency",
    "level_crossing",
    "mix_seed",
    "poisson",
    "population",
    "two_sided",
]


class Stream:
    """Input over time, made chunk by chunk as it is read.

    Args:
        make: `make(start, stop)` gives the steps start … stop − 1: a tensor (stop − start, batch, channels), or
            `LazySpikes`. The values must not depend on the chunks' lengths. A stream can be pickled if `make` can, for
            example a function of a module, or a `functools.partial` of one.
        steps: number of steps.
        shape: (batch, channels) of one step, or (batch, *shape of a sample).
        source: the tensor from which the steps were made, if it is to get the gradient of the average input: (batch,
            channels), or (steps, batch, channels).
    Memory: what `make` holds, such as the rates; independent of `steps`.
    Example:
        >>> stream = Stream(lambda start, stop: torch.ones(stop - start, 2, 3), steps=10, shape=(2, 3))
        >>> [tuple(chunk.shape) for chunk in stream.chunks(4)]
        [(4, 2, 3), (4, 2, 3), (2, 2, 3)]
    """

    def __init__(
        self,
        make: Callable[[int, int], Tensor | LazySpikes],
        steps: int,
        shape: tuple[int, ...],
        source: Tensor | None = None,
    ):
        if not callable(make):
            raise TypeError(f"a stream is made by a function make(start, stop), got {type(make).__name__}")
        steps = whole(steps, "steps")
        if steps < 1:
            raise ValueError(f"a stream needs at least 1 step, got {steps}")
        self._make, self.steps, self.shape, self.source = make, steps, shape, source

    def chunks(self, size: int) -> Iterator[Tensor]:
        """The steps in order, `size` at a time: tensors of shape (≤ size, batch, channels)."""
        return (_dense(part) for part in self.parts(size))

    def parts(self, size: int) -> Iterator[Tensor | LazySpikes]:
        """As `chunks`, but without drawing spikes: a network draws them while it adds them to its traces."""
        for start in _starts(self.steps, size):
            yield self._chunk(start, min(start + size, self.steps))

    def split(self, size: int) -> Iterator[Stream]:
        """The same steps as consecutive streams of `size` steps; the last may be shorter."""
        for start in _starts(self.steps, size):
            yield self[start : start + size]

    def dense(self) -> Tensor:
        """All steps at once, (time, batch, channels): for figures and tests."""
        return _dense(self._chunk(0, self.steps))

    def _chunk(self, start: int, stop: int) -> Tensor | LazySpikes:
        """Call `make`, and check its result, as kernels do not. Raises: TypeError; ValueError for another shape."""
        part, wanted = self._make(start, stop), (stop - start, *self.shape)
        if not isinstance(part, LazySpikes):
            check_tensor(part, "a chunk of a stream")
        got = part.size if isinstance(part, LazySpikes) else tuple(part.shape)
        if got != wanted:
            raise ValueError(f"make({start}, {stop}) of a stream must give the shape {wanted}, got {got}")
        return part

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, part: slice) -> Stream:
        start, stop, stride = part.indices(self.steps) if isinstance(part, slice) else (0, 0, 0)
        if stride != 1:
            raise ValueError("a stream can only be cut into consecutive steps, such as stream[10:20]")
        source = self.source[start:stop] if self.source is not None and self.source.ndim == 3 else self.source
        return Stream(partial(_with_offset, self._make, start), stop - start, self.shape, source)


def poisson(rates: Tensor, steps: int, seed: int = 0, samples: Tensor | None = None) -> Stream:
    """Spikes drawn at every step with the given probability (a Bernoulli process, the Poisson process in steps).

    Args:
        rates: spikes per step in [0, 1], (batch, channels), or (steps, batch, channels) if they change. This is
            the rate in Hz times the length of a step in seconds.
        seed: the same seed gives the same spikes on every device and for every chunk size.
        samples: a whole number for each row, (batch,): a sample with the same number has the same spikes in any row.
            None: the row numbers.
    Returns: a Stream of 0 and 1 in the dtype of `rates`, which it copies.
    Gradient: of the expected input, which is the rate: `net.run(stream)` gives `rates` a gradient if it requires one.
    Raises: ValueError for rates outside [0, 1].
    """
    _check_shape(rates, 2, 3)
    _check_unit(rates, "rates are spikes per step")
    is_varying = rates.ndim == 3
    if is_varying and rates.shape[0] != steps:
        raise ValueError(f"rates of shape {tuple(rates.shape)} change over {rates.shape[0]} steps, but steps={steps}")
    batch, channels = rates.shape[-2:]
    ids = _sample_ids(samples, batch, rates)
    steps, seed = whole(steps, "steps"), whole(seed, "seed")
    source = rates if rates.requires_grad else None
    rates = rates.detach()
    rates_or_limit = rates.clone() if is_varying else backends.limit_of(rates)
    # Only the CPU's kernels use the share, and computing it would make the CPU wait for a GPU.
    share = _spike_share(rates, is_varying) if rates.device.type == "cpu" else 1.0
    make = partial(_poisson, rates_or_limit=rates_or_limit, seed=seed, ids=ids, dtype=rates.dtype, share=share)
    return Stream(make, steps, (batch, channels), source)


def latency(values: Tensor, steps: int, seed: int = 0, samples: Tensor | None = None) -> Stream:
    """One spike for each channel, the earlier the larger its value: at step `round((1 − value)·(steps − 1))`.

    Args: values: in [0, 1], (batch, channels); 0 never fires. seed, samples: not used; nothing is drawn.
    Returns: a Stream of 0 and 1 in the dtype of `values`.
    Raises: ValueError for values outside [0, 1], or that require a gradient: the time of a spike has none here.
    """
    del seed, samples
    _check_shape(values, 2)
    if values.requires_grad:
        raise ValueError("latency gives its values no gradient: use poisson or constant, or give it values.detach()")
    _check_unit(values, "latency codes values")
    steps = whole(steps, "steps")
    exact = values.to(devices.widest_float(values.device))  # half precision holds only small whole numbers exactly
    when = torch.round((1 - exact) * (steps - 1)).to(torch.int64).clamp(0, steps - 1)
    when = torch.where(values > 0, when, -1)
    return Stream(partial(_latency, when, values.dtype), steps, (values.shape[0], values.shape[1]))


def constant(values: Tensor, steps: int, seed: int = 0, samples: Tensor | None = None) -> Stream:
    """The same current at every step.

    Args: values: real numbers, (batch, channels), which the stream copies. seed, samples: not used.
    """
    del seed, samples
    _check_shape(values, 2)
    source = values if values.requires_grad else None
    return Stream(partial(_constant, values.detach().clone()), steps, (values.shape[0], values.shape[1]), source)


ENCODERS = {"poisson": poisson, "latency": latency, "constant": constant}
"""The encoders by the name that a task's `encoding` takes: all `(values, steps, seed, samples) -> Stream`."""


def population(values: Tensor, neurons: int, low: float = -1.0, high: float = 1.0) -> Tensor:
    """Each value as the activity of several neurons with Gaussian receptive fields.

        r_k = exp(−(x − c_k)² / 2σ²),    c_k evenly from `low` to `high`,    σ the distance between neighbours

    Args: values: real numbers, (…, channels), clamped to `low` and `high`. neurons: number for each value, at least 2.
    Returns: activities in (0, 1], (…, channels·neurons), those of one channel next to each other, to be encoded.
    Raises: ValueError for fewer than 2 neurons, or unless low < high.
    Source: Bohte, La Poutré and Kok (2002), Unsupervised clustering with spiking neurons by sparse temporal coding and
        multilayer RBF networks, doi:10.1109/72.991428.
    Example:
        >>> population(torch.tensor([[-1.0, 0.0]]), neurons=3).round(decimals=2).tolist()
        [[1.0, 0.6100000143051147, 0.14000000059604645, 0.6100000143051147, 1.0, 0.6100000143051147]]
    """
    check_tensor(values, "values to encode")
    neurons = whole(neurons, "neurons")
    if not values.ndim:
        raise ValueError("values to encode have the shape (…, channels), got ()")
    if neurons < 2 or not low < high:
        got = f"{neurons} neurons, {low:g} and {high:g}"
        raise ValueError(f"a population needs at least 2 neurons and low < high, got {got}")
    values = values if values.is_floating_point() else values.to(torch.get_default_dtype())
    centres = torch.linspace(low, high, neurons, dtype=values.dtype, device=values.device)
    distances = (values.clamp(low, high)[..., None] - centres) * ((neurons - 1) / (high - low))
    return torch.exp(-(distances**2) / 2).flatten(-2)


def two_sided(values: Tensor) -> Tensor:
    """Each value as the activity of two neurons: one for its positive part, one for its negative part.

    Args: values: real numbers, (…, channels).
    Returns: max(x, 0) of all channels, then max(−x, 0) of all: (…, 2·channels), to be encoded.
    Example:
        >>> two_sided(torch.tensor([[0.5, -2.0]])).tolist()
        [[0.5, 0.0, 0.0, 2.0]]
    """
    check_tensor(values, "values to encode")
    return torch.cat([values.clamp(min=0), (-values).clamp(min=0)], dim=-1)


def level_crossing(values: Tensor, level: float) -> Tensor:
    """Spikes where a signal has risen, or fallen, by a level since its last spike (delta modulation).

        up: x(t) ≥ reference + level, then reference += level
        down: x(t) ≤ reference − level, then reference −= level

    The reference begins at the first value. A step has at most one spike for each direction, so a jump of several
    levels gives spikes at several steps.

    Args: values: real numbers, (time, batch, channels). level: above 0, in units of the values.
    Returns: 0 and 1, (time, batch, 2·channels): spikes up of all channels, then spikes down of all.
    Raises: ValueError for a level that is not above 0, or another shape.
    Example:
        >>> level_crossing(torch.tensor([0.0, 0.6, 1.2, 1.1, 0.0])[:, None, None], 0.5)[:, 0].tolist()
        [[0.0, 0.0], [1.0, 0.0], [1.0, 0.0], [0.0, 0.0], [0.0, 1.0]]
    """
    check_tensor(values, "values to encode")
    if values.ndim != 3:
        raise ValueError(f"values to encode have the shape (time, batch, channels), got {tuple(values.shape)}")
    if not level > 0:
        raise ValueError(f"level must be above 0, got {level:g}")
    reference, found = values[0].clone(), []
    for value in values:
        up, down = value >= reference + level, value <= reference - level
        reference += level * (up.to(values.dtype) - down.to(values.dtype))
        found.append(torch.cat([up, down], dim=-1))
    return torch.stack(found).to(values.dtype)


# ── functions that make streams: not lambdas, which cannot be pickled ───────────────────────────────────────────────


def _with_offset(
    make: Callable[[int, int], Tensor | LazySpikes], offset: int, start: int, stop: int
) -> Tensor | LazySpikes:
    return make(offset + start, offset + stop)


def _poisson(
    start: int, stop: int, *, rates_or_limit: Tensor, seed: int, ids: Tensor, dtype: torch.dtype, share: float
) -> LazySpikes:
    limit = backends.limit_of(rates_or_limit[start:stop]) if rates_or_limit.ndim == 3 else rates_or_limit
    return LazySpikes(limit, seed, range(start, stop), ids, dtype, share)


def _latency(when: Tensor, dtype: torch.dtype, start: int, stop: int) -> Tensor:
    return (when == torch.arange(start, stop, device=when.device)[:, None, None]).to(dtype)


def _constant(values: Tensor, start: int, stop: int) -> Tensor:
    return values.expand(stop - start, -1, -1)


def _spike_share(rates: Tensor, is_varying: bool) -> float:
    part = rates[..., ::8, :].to(torch.float32)  # every eighth sample is enough for a hint
    return float((part if is_varying else torch.minimum(part, 1 - part)).mean())


def _dense(part: Tensor | LazySpikes) -> Tensor:
    return backends.spikes(part) if isinstance(part, LazySpikes) else part


def _sample_ids(samples: Tensor | None, batch: int, rates: Tensor) -> Tensor:
    if samples is None:
        return torch.arange(batch, device=rates.device)
    check_tensor(samples, "samples")
    if samples.shape != (batch,) or samples.is_floating_point():
        got = f"{samples.dtype} of shape {tuple(samples.shape)}"
        raise ValueError(f"samples must be whole numbers, one for each of {batch} rows, got {got}")
    return samples.to(rates.device, copy=True)


def chunk_size(size: int) -> int:
    """The steps of a chunk. Raises: TypeError for anything but a whole number, ValueError for one below 1."""
    size = whole(size, "chunk")
    if size < 1:
        raise ValueError(f"a chunk needs at least 1 step, got {size}")
    return size


def _starts(steps: int, size: int) -> range:
    return range(0, steps, chunk_size(size))


def _check_shape(values: Tensor, *dimensions: int) -> None:
    check_tensor(values, "values to encode")
    if values.ndim not in dimensions:
        raise ValueError(f"values to encode have the shape (batch, channels), got {tuple(values.shape)}")


def _check_unit(values: Tensor, what: str) -> None:
    if not values.numel():
        return
    low, high = values.aminmax()
    if not bool((low >= 0) & (high <= 1)):  # also raises for NaN
        raise ValueError(f"{what} in [0, 1], got values from {low:g} to {high:g}")
