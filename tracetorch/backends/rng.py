"""Counter-based random numbers: a function of (seed, step, sample, channel) only.

A draw does not depend on earlier draws: the same seed gives the same spikes on every device, for every chunk size,
batch order and number of threads, and a stream can start at any step.

    key    = mix64(mix_seed(seed) + step·A + sample·B)              one 64-bit key for a row, mixed as in SplitMix64
    head   = byte (channel mod 4) of mix32((channel div 4)·C + low(key), high(key))          one word for 4 channels
    tail   = upper half of mix32(channel·C + high(key), low(key))                            one word for each
    number = head·2¹⁶ + tail                                                                 in [0, 2²⁴)

In 255 of 256 cases the head alone decides whether a number is below a limit. So the CPU's kernel mixes a quarter of a
word for each channel, and rarely a tail.

Source: the 64-bit finaliser is that of SplitMix64, Steele, Lea and Flood (2014), doi:10.1145/2660193.2660195; the
32-bit one has two multiply-xorshift rounds with constants found by C. Wellons' search for low bias (2018).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from tracetorch.modes import whole

BITS = 24
TAIL_BITS = 16
_MASK64 = (1 << 64) - 1


class LazySpikes(NamedTuple):
    """Spikes over a chunk of time that are not yet drawn; `backends.spikes` draws them."""

    limit: Tensor  # int32, (batch, channels) or (time, batch, channels), as `limit_of` gives it
    seed: int
    steps: range
    samples: Tensor  # int64, (batch,)
    dtype: torch.dtype  # of the spikes
    share: float = 1.0  # of channels in their rarer state at a step; a hint that changes no spike

    @property
    def size(self) -> tuple[int, int, int]:
        """(time, batch, channels)."""
        return len(self.steps), *self.limit.shape[-2:]


def limit_of(probability: Tensor) -> Tensor:
    """The int32 below which a `number` falls with this probability, rounded up to a multiple of 2⁻²⁴."""
    if probability.dtype != torch.float32:  # float32 times a power of 2 is exact
        probability = probability.to(torch.float64)
    return torch.ceil(probability * (1 << BITS)).to(torch.int32)


def uniform(seed: int, steps: range, samples: Tensor, channels: int) -> Tensor:
    """Uniform numbers in [0, 1), multiples of 2⁻²⁴.

    Args:
        seed: any whole number.
        steps: consecutive time steps.
        samples: whole numbers, (batch,); the draws of a sample do not depend on its row in the batch.
        channels: numbers for each sample at each step.
    Returns: (time, batch, channels), float32, on the device of `samples`.
    """
    return numbers(seed, steps, samples, channels).to(torch.float32) * 2.0**-BITS


def numbers(seed: int, steps: range, samples: Tensor, channels: int) -> Tensor:
    """24-bit numbers, uniform in [0, 2²⁴), as int32 of shape (time, batch, channels).

    On a CPU NumPy computes them, because its calls take less time than torch's.
    """
    if steps.step != 1:
        raise ValueError(f"draws are made for consecutive steps, got {steps}")
    device, samples = samples.device, samples.to(torch.int64)
    step, channel = torch.arange(steps.start, steps.stop), torch.arange(channels, dtype=torch.int32)
    if device.type == "cpu":
        drawn = _numbers(seed, step.numpy(), samples.numpy(), channel.numpy(), lambda key: key.astype(np.int32))
        return torch.from_numpy(drawn)
    return _numbers(seed, step.to(device), samples, channel.to(device), lambda key: key.to(torch.int32))


def _numbers(seed: int, step: Any, sample: Any, channel: Any, lower_half: Callable[[Any], Any]) -> Any:
    key = step[:, None] * signed(0x9E3779B97F4A7C15, 64) + sample * signed(0xD1B54A32D192ED03, 64)
    key = _mix64(key + signed(mix_seed(seed), 64))
    low, high = lower_half(key & 0xFFFFFFFF)[..., None], lower_half(key >> 32)[..., None]
    head = _mix32(channel // 4, low, high) >> (8 * (channel % 4))
    tail = _mix32(channel, high, low) >> (32 - TAIL_BITS)
    return ((head & 0xFF) << TAIL_BITS) + (tail & 0xFFFF)


def mix_seed(*parts: int) -> int:
    """One 64-bit seed from several whole numbers, such as (seed, epoch); their order matters."""
    mixed = 0
    for part in parts:
        mixed = _mix64_int((mixed * 0x9E3779B97F4A7C15 + whole(part, "seed") + 0x632BE59BD9B4E019) & _MASK64)
    return mixed


def _mix32(count: Any, start: Any, key: Any) -> Any:
    word = count * signed(0x9E3779B9, 32) + start
    word ^= (word >> 16) & 0xFFFF  # `>>` copies the sign bit; the mask makes the shift logical
    word *= signed(0x7FEB352D, 32)
    word ^= key
    word ^= (word >> 15) & 0x1FFFF
    word *= signed(0x846CA68B, 32)
    return word ^ ((word >> 16) & 0xFFFF)


def _mix64(key: Any) -> Any:
    key = (key ^ ((key >> 30) & ((1 << 34) - 1))) * signed(0xBF58476D1CE4E5B9, 64)
    key = (key ^ ((key >> 27) & ((1 << 37) - 1))) * signed(0x94D049BB133111EB, 64)
    return key ^ ((key >> 31) & ((1 << 33) - 1))


def _mix64_int(key: int) -> int:
    key = ((key ^ (key >> 30)) * 0xBF58476D1CE4E5B9) & _MASK64
    key = ((key ^ (key >> 27)) * 0x94D049BB133111EB) & _MASK64
    return key ^ (key >> 31)


def signed(word: int, bits: int) -> int:
    """The two's complement reading of an unsigned word: torch multiplies signed integers, with the same low bits."""
    return word - (1 << bits) if word >> (bits - 1) else word
