"""What a run's summary holds besides the test: learned decays, and the chance level."""

from __future__ import annotations

import torch

from tracetorch import constrain
from tracetorch.nn import Sequential
from tracetorch.tasks.task import Trials


def decays(net: Sequential, dt: float | None) -> dict[str, float]:
    """Trainable decays by layer: the mean over neurons (of a trace's decay, over inputs), and its time constant.

    Args: dt: length of a step in seconds, if steps have one.
    Returns: such as {"decay_1": .97, "time_constant_1": .328}; a time constant is in seconds, and only where dt is
        known. Nothing of decays that are fixed.
    """
    found = {}
    for at, layer in enumerate(net):
        for name, raw in (("decay", layer.neuron.raw_decay), ("trace_decay", layer.input_trace.raw_decay)):
            if raw is None or not raw.requires_grad:
                continue
            mean = constrain.decay_from_raw(raw.detach()).double().mean()
            found[f"{name}_{at}"] = float(mean)
            if name == "decay" and dt is not None:
                found[f"time_constant_{at}"] = float(constrain.time_constant_from_decay(mean, dt))
    return found


def chance_level(trials: Trials) -> dict[str, float]:
    """Accuracy of the best constant answer: the share of the most frequent target."""
    if not {"target", "prediction", "accuracy"} <= trials.keys():
        return {}
    counts = torch.unique(trials["target"], return_counts=True)[1]
    return {"chance_accuracy": float(counts.max()) / len(trials["target"])}
