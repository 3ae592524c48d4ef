"""What the tests of the figures draw, and the letters that they look for."""

from __future__ import annotations

from typing import Any

import torch
from matplotlib.figure import Figure
from matplotlib.text import Text

import tracetorch as tt

WEIGHTS = torch.linspace(-1, 1, 6 * 12).reshape(6, 12)
SPIKES = (torch.arange(40 * 6).reshape(40, 6) % 7 == 0).float()
CLASSES = torch.tensor([0, 0, 1, 2, 2, 2])
EVIDENCE = torch.tensor([-1.0, -1, 1, 1, 2, 2])
RIGHT = torch.tensor([False, True, True, True, True, False])
RECORDS = [{"update": 20 * i, "split": "train", "loss": 1 / i, "accuracy": 1 - 0.5 / i} for i in range(1, 40)]
GRADIENTS = [
    {"update": 20 * i, "split": "gradient", "layers.0.connection.weight.cosine": 1 / i,
     "layers.0.connection.weight.norm_ratio": 0.1 * i, "layers.0.neuron.raw_decay.cosine": (-1) ** i,
     "layers.0.neuron.raw_decay.norm_ratio": 1e9, "layers.1.connection.bias.cosine": None,
     "layers.1.connection.bias.norm_ratio": None}
    for i in range(1, 4)
]  # fmt: skip
HELD_OUT = [{"update": 200 * i, "split": "validation", "loss": 0.5, "accuracy": 0.7} for i in range(1, 4)]


def _lived(update, reward, mebibytes):
    averages = {"average_50": reward, "average_500": reward / 2, "switches": 1, "memory_bytes": mebibytes * 2**20}
    return {"update": update, "split": "train", "loss": None, "reward": reward, "steps": 70 * update} | averages


LIFE = [
    _lived(100, 0.5, 500) | {"last_switch": 0, "taken_0": 1.0, "paid_0": 1.0, "taken_1": 0.0, "paid_1": None},
    _lived(200, 0.9, 510) | {"last_switch": 150, "taken_0": 0.0, "paid_0": None, "taken_1": 1.0, "paid_1": 0.0},
    {"update": 260, "split": "switch", "switch": 1, "at": 150, "before": 0.9, "lowest": 0.3, "forgetting": 0.6,
     "recovery_decisions": 110},
    {"update": 400, "split": "switch", "switch": 2, "at": 300, "before": 0.8, "lowest": 0.2, "forgetting": 0.6,
     "recovery_decisions": None},
]  # fmt: skip


REWARDS = [
    {"update": 10, "split": "train", "loss": 1.0, "return": 0.0, "episodes": 0},  # none has ended yet
    {"update": 20, "split": "train", "loss": 1.0, "return": 10.0, "episodes": 100},
    {"update": 30, "split": "validation", "loss": None, "return": 15.0},
    {"update": 40, "split": "train", "loss": 1.0, "return": 30.0, "episodes": 140},
    {"update": 40, "split": "test", "loss": None, "return": 40.0},
]
POLICY = torch.tensor([[0.2, 0.8], [0.6, 0.4], [0.9, 0.1], [0.3, 0.7]])
ACTION = torch.tensor([1, 0, 0, 1])


def episode(**changes: Any) -> Figure:
    """An episode of 4 decisions in 40 steps."""
    layers = {"input": torch.linspace(0, 2, 40 * 3).reshape(40, 3), "layer 0, LIF": SPIKES}
    given = {"layers": layers, "membrane": SPIKES / 2, "threshold": 1.0, "policy": POLICY, "action": ACTION}
    return tt.plot.episode(**given | changes)


def network() -> tt.nn.Sequential:
    torch.manual_seed(0)
    decay, threshold = tt.constrain.spread(0.5, 0.99, 6), torch.linspace(0.5, 1.5, 6)
    return tt.nn.Sequential(tt.nn.LIF(12, 6, decay=decay, threshold=threshold, trace_decay=0.9), tt.nn.LIS(6, 3))


def texts(fig: Figure) -> list[str]:
    fig.draw_without_rendering()
    return [text.get_text() for text in fig.findobj(Text) if text.get_text()]
