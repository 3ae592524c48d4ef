"""Clipped gradients, and every optimizer of torch by its name."""

import math
from functools import partial

import pytest
import torch

from tests.tiny_training import assert_resumes, timeless, train, weights
from tracetorch.cli.adapter import compose, make, options
from tracetorch.cli.check import check_new
from tracetorch.training.clipping import Clipping

ELSEWHERE = {
    "LBFGS": "it evaluates the loss several times in a step",
    "SparseAdam": "its gradients are sparse",
    "Muon": "its parameters are matrices; newer than torch 2.8",
}
"""Optimizers of torch without a file: they cannot train a network with thresholds and decays."""


def gradients(**limits):
    """The gradients (3, −4, 12) after clipping, and the `Clipping`."""
    weights = [torch.nn.Parameter(torch.zeros(2)), torch.nn.Parameter(torch.zeros(1))]
    for weight, values in zip(weights, ([3.0, -4.0], [12.0]), strict=True):
        weight.grad = torch.tensor(values)
    clipping = Clipping(weights, **limits)
    clipping()
    return torch.cat([weight.grad for weight in weights]), clipping


def test_gradients_are_clipped_by_their_common_norm_or_each_by_its_value():
    whole = torch.tensor([3.0, -4.0, 12.0])  # of the norm 13
    clipped, clipping = gradients(norm=6.5)
    torch.testing.assert_close(clipped, whole / 2, rtol=1e-5, atol=0)
    assert clipping.take() == {"gradient_norm": 13.0} and clipping.take() == {}
    assert gradients(norm=13.5)[0].equal(whole) and gradients()[0].equal(whole)
    clipped, clipping = gradients(value=3.5)
    assert clipped.tolist() == [3.0, -3.5, 3.5] and clipping.take() == {}
    for limits, phrase in (
        ({"norm": 0}, "train.clip_norm must be above 0, got 0"),
        ({"value": math.nan}, "train.clip_value must be above 0, got nan"),
        ({"norm": 1, "value": 1}, "are both set: gradients have one limit"),
    ):
        with pytest.raises(ValueError, match=phrase):
            Clipping([], **limits)


def test_a_run_clips_before_each_step_and_resumes_exactly(tmp_path):
    sgd = {"optimizer": partial(torch.optim.SGD, lr=1.0)}
    runs = {
        name: train(tmp_path, name=name, updates=1, **sgd, **limits)
        for name, limits in {"free": {}, "norm": {"clip_norm": 1e-9}, "value": {"clip_value": 1e-9}}.items()
    }
    free, norm, value = (torch.cat([each.flatten() for each in weights(run.folder).values()]) for run in runs.values())
    assert (free - norm).norm() > 1e-3 and (norm - value).abs().max() < 1e-6
    assert "gradient_norm" not in timeless(runs["value"])[0] and timeless(runs["norm"])[0]["gradient_norm"] > 1e-3
    limits = {"clip_norm": 0.01, "log_every": 3, "updates": 6}
    assert_resumes(train, tmp_path / "more", lambda: sgd, at=4, how="signal", **limits)


def test_every_optimizer_of_torch_has_a_file_with_keys_that_it_takes():
    found = {}
    for name in options("optimizer"):
        config = compose([f"optimizer={name}"]).config
        check_new(config)
        weight = torch.nn.Parameter(torch.ones(3, 2))
        optimizer = make(config["optimizer"], "optimizer")([{"params": [weight]}])
        weight.square().sum().backward()
        optimizer.step()
        assert (weight < 1).all(), name
        found[type(optimizer).__name__] = name
    known = {name for name, kind in vars(torch.optim).items() if isinstance(kind, type)}
    assert known - {"Optimizer"} - ELSEWHERE.keys() == found.keys()
    assert all(kind.lower() == name for kind, name in found.items())
