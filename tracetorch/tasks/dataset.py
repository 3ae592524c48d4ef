"""A task from a `torch.utils.data.Dataset` or `DataLoader`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Sized
from typing import Any, cast

import numpy as np
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from tracetorch.data.samples import Array, Samples, check_finite
from tracetorch.modes import kind_of
from tracetorch.printable import printable
from tracetorch.tasks.sampled import SampledTask


class Dataset(SampledTask):
    """Predict the target of each item of a dataset, whose items are pairs (input, target).

    An input is a tensor or an array, (steps, channels), or (channels,) for a steady input. An input of three or more
    dimensions, such as an image, is flattened to (channels,), or, with `has_steps`, to (steps, channels). The dataset
    reads each item once at the start (the first one a few times), training items once more if a scale is learned, and
    an item again for each batch; its transforms run each time.

        task = tt.tasks.Dataset(MyDataset("train"), test=MyDataset("test"))

    Args:
        train: a map-style dataset, or a DataLoader, of which the dataset and the batch size are used.
        test, validation: further datasets or DataLoaders; or a fraction of `train`, and a fraction of the rest.
        has_steps: whether the first of three or more dimensions of an input is time.
        options: see `SampledTask`.
    Raises: TypeError for anything but datasets and fractions; ValueError without items, or that names the item, says
        what was found and what is wanted.
    Memory: that of the targets; inputs are read when a batch needs them.
    """

    def __init__(
        self,
        train: TorchDataset[Any] | DataLoader[Any],
        *,
        test: TorchDataset[Any] | DataLoader[Any] | float = 0.2,
        validation: TorchDataset[Any] | DataLoader[Any] | float = 0.1,
        has_steps: bool = False,
        **options: Any,
    ):
        parts: dict[str, Any] = {"train": train}
        parts |= {name: part for name, part in (("test", test), ("validation", validation)) if not _is_fraction(part)}
        if isinstance(train, DataLoader) and train.batch_size is not None:
            options.setdefault("batch_size", train.batch_size)
        items = {name: _Items(part, name, has_steps) for name, part in parts.items()}
        joined = _Joined(list(items.values()))
        origin = np.concatenate([np.full(len(part), at) for at, part in enumerate(items.values())])
        masks: dict[str, Array] = {name: origin == at for at, name in enumerate(items)}
        names = [f"{name} item {at}" for name, part in items.items() for at in range(len(part))]
        lengths, targets = zip(*(joined.length_and_target(at) for at in range(len(joined))), strict=True)
        title = type(_dataset(train)).__name__
        samples = Samples(joined, joined.channels, targets, {}, names, title, lengths=lengths)
        held_out = {"test": masks.get("test", test), "validation": masks.get("validation", validation)}
        super().__init__(samples, **cast(Any, held_out), **options)


class _Items(Sequence[Array]):
    """The inputs of a dataset. Args: name: of its split, for messages."""

    def __init__(self, given: Any, name: str, has_steps: bool):
        self._dataset, self.name, self._has_steps = _dataset(given), name, has_steps
        if not hasattr(self._dataset, "__getitem__") or not isinstance(self._dataset, Sized):
            got = kind_of(given)
            raise TypeError(f"{name} must be a dataset with a length and items, or a DataLoader of one, got {got}")
        if not len(self._dataset):
            raise ValueError(f"{name} holds no items")

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, at: Any) -> Any:
        return self._input(at, self._item(at)[0])

    def input_and_target(self, at: int) -> tuple[Array, Any]:
        """Return input and target of an item. Raises: ValueError that names the item."""
        given, goal = self._item(at)
        target = goal if isinstance(goal, str) else _as_array(goal, f"the target of {self.name} item {at}")
        return self._input(at, given), target

    def _input(self, at: int, given: Any) -> Array:
        value = _as_array(given, f"{self.name} item {at}").astype(np.float32, copy=False)
        if not value.ndim:
            raise ValueError(f"{self.name} item {at} is {value}; wanted: an array (channels,) or (steps, channels)")
        if value.ndim > 2:
            value = value.reshape(len(value), -1) if self._has_steps else value.reshape(-1)
        check_finite(value, f"{self.name} item {at}: ")
        return value

    def _item(self, at: int) -> tuple[Any, Any]:
        item = self._dataset[int(at)]
        if not isinstance(item, tuple | list) or len(item) != 2:
            raise ValueError(f"{self.name} item {at} must be a pair (input, target), got {kind_of(item)}")
        return item[0], item[1]


class _Joined(Sequence[Array]):
    """The inputs of several datasets, one after another, with the same number of dimensions and channels."""

    def __init__(self, parts: list[_Items]):
        self._places = [(part, at) for part in parts for at in range(len(part))]
        self._first: tuple[int, ...] = parts[0][0].shape
        self.channels = self._first[-1]

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, at: Any) -> Any:
        part, inside = self._places[at]
        return self._checked(part[inside], part, inside)

    def length_and_target(self, at: int) -> tuple[int, Any]:
        """Return the number of steps of an item, 0 without steps, and its target."""
        part, inside = self._places[at]
        value, target = part.input_and_target(inside)
        return len(self._checked(value, part, inside)) if value.ndim > 1 else 0, target

    def _checked(self, value: Array, part: _Items, inside: int) -> Array:
        first = self._first
        if value.ndim != len(first) or value.shape[-1] != first[-1]:
            wanted = f"({'steps, ' * (len(first) - 1)}{first[-1]}), as the first"
            raise ValueError(f"{part.name} item {inside} has the shape {value.shape}; wanted: {wanted}")
        return value

    def __iter__(self) -> Iterator[Array]:
        return (self[at] for at in range(len(self)))


def _dataset(given: Any) -> Any:
    return given.dataset if isinstance(given, DataLoader) else given


def _is_fraction(given: object) -> bool:
    return isinstance(given, int | float | str)


def _as_array(value: Any, what: str) -> Array:
    """Return numbers as an array. Args: what: their name. Raises: ValueError for anything but numbers."""
    array = value.detach().cpu().numpy() if isinstance(value, Tensor) else np.asarray(value)
    if array.dtype.kind not in "fiub":
        raise ValueError(f"{what} is {printable(repr(value), 60)}; wanted: numbers")
    return cast(Array, array)
