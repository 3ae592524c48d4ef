"""Learning rules: each has `reset()`, `forward(xs)` and `backward(signal)`, and trains the same layers."""

from tracetorch.rules.base import Rule
from tracetorch.rules.bptt import BPTT, TruncatedBPTT
from tracetorch.rules.coarse import CoarseBPTT
from tracetorch.rules.decolle import DECOLLE
from tracetorch.rules.eprop import EProp
from tracetorch.rules.es_d_rtrl import ESDRTRL
from tracetorch.rules.otpe import OTPE
from tracetorch.rules.ottt import OTTT
from tracetorch.rules.s_tllr import STLLR
from tracetorch.rules.three_factor import ThreeFactor
from tracetorch.rules.trace import Trace

__all__ = [
    "BPTT", "DECOLLE", "ESDRTRL", "OTPE", "OTTT", "STLLR", "CoarseBPTT", "EProp", "Rule", "ThreeFactor", "Trace",
    "TruncatedBPTT",
]  # fmt: skip
