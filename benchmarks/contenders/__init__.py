"""The contenders by name. A library that is not installed is left out, with one line that gives the command for it."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import torch

import tracetorch as tt
from contenders.base import Contender

INSTALL = "pip install --no-deps -r benchmarks/requirements.txt"
logging.getLogger("torch._library.triton").setLevel(logging.ERROR)  # SpikingJelly asks for Triton on a CPU too

OWN = {"ours", "floor"}
"""Modules that need only traceTorch; a failed import of one of them is an error."""


class Entry(NamedTuple):
    """A contender's module, class and options; the module is imported only if needed."""

    module: str
    class_name: str
    options: dict[str, Any] = {}  # noqa: RUF012  # read, never written


TRAINERS = {
    "floor": Entry("floor", "Floor"),
    "ours": Entry("ours", "Ours"),
    "ours-bfloat16": Entry("ours", "Ours", {"precision": torch.bfloat16}),
    "snntorch": Entry("snntorch", "SnnTorch"),
    "spikingjelly": Entry("spikingjelly", "SpikingJelly"),
    "norse": Entry("norse", "Norse"),
    "ours, decays": Entry("ours", "Ours", {"trainable": ("weight", "decay", "threshold")}),
    "ours, bank": Entry("ours", "Ours", {"trace_bank": (0.9,)}),
    "ours, bptt": Entry("ours", "Ours", {"rule": tt.rules.BPTT}),
    "ours, tbptt": Entry("ours", "Ours", {"rule": partial(tt.rules.TruncatedBPTT, k=5)}),
    "ours, coarse": Entry("ours", "Ours", {"rule": tt.rules.CoarseBPTT}),
    "ours, coarse, decays": Entry(
        "ours", "Ours", {"rule": tt.rules.CoarseBPTT, "trainable": ("weight", "decay", "threshold")}
    ),
    "ours, ottt": Entry("ours", "Ours", {"rule": tt.rules.OTTT}),
    "ours, otpe": Entry("ours", "Ours", {"rule": tt.rules.OTPE}),
    "ours, s_tllr": Entry("ours", "Ours", {"rule": tt.rules.STLLR}),
    "ours, es_d_rtrl": Entry("ours", "Ours", {"rule": tt.rules.ESDRTRL}),
    "ours, eprop": Entry("ours", "Ours", {"rule": tt.rules.EProp}),
}
"""Contenders of the training step, and the floor."""

USUAL = ("floor", "ours", "ours-bfloat16", "snntorch", "spikingjelly", "norse")
"""Contenders that are compared by default; the others measure our options and our other rules."""

STREAMERS = {
    "ours, chunks": Entry("ours", "Ours", {"chunked": True}),
    "ours, steps": Entry("ours", "Ours"),
    "snntorch": Entry("snntorch", "SnnTorch"),
    "spikingjelly, chunks": Entry("spikingjelly", "SpikingJelly", {"chunked": True}),
    "spikingjelly, steps": Entry("spikingjelly", "SpikingJelly"),
    "norse": Entry("norse", "Norse"),
}
"""Contenders of the stream: one step at a time, or in chunks."""


def present(entries: dict[str, Entry], names: Sequence[str]) -> tuple[list[str], str]:
    """Select the contenders whose library can be imported.

    Returns: their names; a line about the others, "" if there are none.
    Raises: ValueError for an unknown name; ImportError if traceTorch itself cannot be imported.
    """
    unknown = [name for name in names if name not in entries]
    if unknown:
        raise ValueError(f"there is no contender {', '.join(unknown)}; there are {', '.join(entries)}")
    missing: dict[str, str] = {}
    for name in names:
        try:
            importlib.import_module(f"contenders.{entries[name].module}")
        except ModuleNotFoundError as error:
            if entries[name].module in OWN:
                raise
            missing[name] = str(error.name)
    if not missing:
        return list(names), ""
    line = f"left out: {'; '.join(missing)} (not installed: {', '.join(dict.fromkeys(missing.values()))}). {INSTALL}"
    return [name for name in names if name not in missing], line


def build(entry: Entry, sizes: Sequence[int], device: torch.device, gain: float = 1.0) -> Contender:
    """A new contender with random weights, uniform within ± gain / √inputs."""
    torch.manual_seed(0)
    contender_class = getattr(importlib.import_module(f"contenders.{entry.module}"), entry.class_name)
    contender: Contender = contender_class(sizes, device, **entry.options)
    contender.amplify(gain)
    return contender
