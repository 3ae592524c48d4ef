"""Every loss of the table: its signal is its gradient, targets are read one way, and its value is the textbook's."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional
from torch.nn.functional import one_hot

from tests.common import LOSSES, each, normal
from tracetorch.loss import cross_entropy, cross_entropy_with_logits, mse

CLASSES, BATCH = 5, 4
INDICES = torch.tensor([0, 4, 2, 2])
P = torch.softmax(normal(BATCH, CLASSES), -1)
SOFT = torch.softmax(normal(BATCH, CLASSES, seed=9), -1) * torch.tensor([1, 1, 1, 0.5])[:, None]  # one sums to less


def close(found, wanted):
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-14)


@each(LOSSES)
def test_the_signal_is_the_gradient_of_the_loss(row):
    for rows in ((BATCH,), (1,), (2, 2)):
        part = slice(math.prod(rows))
        out = P[part].view(*rows, CLASSES).clone().requires_grad_()
        for target in (INDICES, SOFT, normal(BATCH, CLASSES)):
            loss, signal = row.make(out, target[part].view(*rows, *target.shape[1:]))
            close(signal.detach(), torch.autograd.grad(loss, out)[0])
            assert loss.shape == () and signal.shape == out.shape and signal.dtype == out.dtype
    loss, signal = row.make(P, INDICES)
    assert not loss.requires_grad and not signal.requires_grad


def test_the_values_are_the_textbooks():
    z = 3 * normal(BATCH, CLASSES)
    wanted, signal = functional.cross_entropy(z, INDICES), cross_entropy_with_logits(z, INDICES)[1]
    close(cross_entropy_with_logits(z, INDICES)[0], wanted)
    close(signal, (z.softmax(-1) - one_hot(INDICES, CLASSES)) / BATCH)
    for target in (INDICES, SOFT):
        logits = cross_entropy_with_logits(P.log(), target)[0]
        torch.testing.assert_close(cross_entropy(P, target, floor=1e-15)[0], logits, rtol=1e-9, atol=0)
    close(cross_entropy(P, INDICES)[0], -((P + 1e-3) / 1.001).log()[range(4), INDICES].mean())
    loss, signal = cross_entropy(
        one_hot((INDICES + 1) % CLASSES, CLASSES).double(), INDICES, floor=0.1
    )  # certain, and wrong
    assert float(loss) == pytest.approx(math.log(11)) and float(-signal.min()) * BATCH == pytest.approx(10)
    close(mse(z, P)[0], functional.mse_loss(z, P))
    assert mse(torch.tensor([[3.0, 1.0]]), torch.tensor([[1.0, 1.0]]))[1].tolist() == [[2, 0]]


@each(LOSSES)
def test_extreme_answers_stay_finite(row):
    extreme = torch.tensor([[1.0, 0, 0, 0, 0]] * BATCH) * (1 if row.says == "probabilities" else 1e4)
    for target in (INDICES, SOFT.float()):
        loss, signal = row.make(extreme, target)
        assert loss.isfinite() and signal.isfinite().all() and loss > 0


@each(LOSSES)
@given(st.lists(st.integers(0, CLASSES - 1), min_size=1, max_size=6))
def test_indices_are_one_hot_rows(row, indices):
    target, out = torch.tensor(indices), torch.softmax(normal(len(indices), CLASSES), -1)
    wanted = row.make(out, target)
    hot = one_hot(target, CLASSES)
    for same in (target.to(torch.uint8), target.to(torch.int32), hot.double(), hot.float()):  # in another precision
        found = row.make(out, same)
        assert torch.equal(found[0], wanted[0]) and torch.equal(found[1], wanted[1])


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (torch.tensor([0, 1, 2, 5]), "targets name outputs 0 to 4, got 0 to 5"),
        (torch.tensor([0, -1, 2, 3]), "targets name outputs 0 to 4, got -1 to 3"),
        (torch.tensor([0, 1]), r"numbers of shape \(4,\) or values of shape \(4, 5\), got torch.int64 of shape \(2,\)"),
        (torch.tensor([0.0, 1, 2, 3]), r"got torch.float32 of shape \(4,\)"),
        (torch.ones(BATCH, CLASSES, dtype=torch.int64), r"got torch.int64 of shape \(4, 5\)"),
        (torch.ones(BATCH, CLASSES + 1), r"got torch.float32 of shape \(4, 6\)"),
    ],
)
def test_targets_that_do_not_fit_are_refused(target, message):
    for row in LOSSES:
        with pytest.raises(ValueError, match=message):
            row.make(P, target)


@pytest.mark.parametrize("floor", [0.0, 1.0, math.nan])
def test_cross_entropy_refuses_what_is_no_probability_and_a_floor_outside_of_0_to_1(floor):
    with pytest.raises(ValueError, match=r"takes probabilities.*-0\.25; for a LI readout use"):
        cross_entropy(torch.tensor([[0.5, -0.25]], requires_grad=True), torch.tensor([0]))
    with pytest.raises(ValueError, match=rf"floor must lie between 0 and 1 \(both excluded\), got {floor:g}"):
        cross_entropy(P, INDICES, floor=floor)
