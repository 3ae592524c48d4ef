"""What a summary says besides the test: the decays that were learnt, and the chance level."""

import pytest
import torch

from tracetorch.nn import LI, LIF, LIS, Sequential
from tracetorch.training.report import chance_level, decays


def test_decays_that_can_be_learnt_are_told_by_layer():
    net = Sequential(LIF(4, 3, decay=0.5, trainable=["weight"]), LI(3, 2, decay=0.9), LIS(2, 2, decay=0.99))
    found = decays(net, dt=0.01)
    assert found == pytest.approx(
        {"decay_1": 0.9, "time_constant_1": 0.0949122, "decay_2": 0.99, "time_constant_2": 0.994992}, rel=1e-4
    )
    assert list(decays(net, dt=None)) == ["decay_1", "decay_2"]


def test_of_many_decays_the_mean_is_told():
    free = LI(2, 3, decay=[0.2, 0.4, 0.9], trace_decay=[0.3, 0.5], trainable=["decay", "trace_decay"])
    assert decays(Sequential(free), None) == pytest.approx({"decay_0": 0.5, "trace_decay_0": 0.4})


def test_guessing_is_the_commonest_answer():
    trials = {"target": torch.tensor([2, 0, 2, 1]), "prediction": torch.zeros(4), "accuracy": torch.zeros(4)}
    assert chance_level(trials) == {"chance_accuracy": 0.5}
    assert chance_level({"accuracy": torch.ones(3), "pattern": torch.ones(3)}) == {}
