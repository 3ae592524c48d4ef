"""Every loss of the table: its signal is its gradient, targets are read one way, and its value is the textbook's."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import nll_loss, one_hot

from tests.common import LOSSES, Row, each, normal
from tracetorch.loss import cross_entropy, cross_entropy_with_logits, mse

CLASSES, BATCH = 5, 4
INDICES = torch.tensor([0, 4, 2, 2])
CLASSIFIERS = [row for row in LOSSES if row.of != "mse"]


def output(row: Row, batch: int = BATCH, seed: int = 0) -> Tensor:
    numbers = normal(batch, CLASSES, seed=seed)
    return torch.softmax(numbers, -1) if row.says == "probabilities" else numbers


def soft(batch: int = BATCH) -> Tensor:
    """Targets that are distributions; the last one sums to less than 1."""
    rows = torch.softmax(normal(batch, CLASSES, seed=9), -1)
    rows[-1] /= 2
    return rows


TARGETS = pytest.mark.parametrize("target", [INDICES, soft(), normal(BATCH, CLASSES)], ids=["indices", "soft", "any"])


# ── the signal is the gradient ──────────────────────────────────────────────────────────────────────────────────────


@each(LOSSES)
@TARGETS
def test_the_signal_is_the_gradient_of_the_loss(row, target):
    out = output(row).requires_grad_()
    loss, signal = row.make(out, target)
    (wanted,) = torch.autograd.grad(loss, out)
    torch.testing.assert_close(signal.detach(), wanted, rtol=1e-12, atol=1e-14)
    assert loss.shape == () and signal.shape == out.shape and signal.dtype == out.dtype == torch.float64


@each(LOSSES)
@TARGETS
def test_the_loss_is_smooth_and_the_signal_its_slope_in_finite_differences(row, target):
    out = output(row)
    _, signal = row.make(out, target)
    for at in range(BATCH * CLASSES):
        step = torch.zeros(BATCH * CLASSES, dtype=torch.float64)
        step[at] = 1e-6
        ends = [float(row.make(out + sign * step.view_as(out), target)[0]) for sign in (1, -1)]
        assert float(signal.flatten()[at]) == pytest.approx((ends[0] - ends[1]) / 2e-6, rel=1e-5, abs=1e-8)


@each(LOSSES)
def test_a_loss_on_output_without_a_graph_builds_none(row):
    loss, signal = row.make(output(row), INDICES)
    assert not loss.requires_grad and not signal.requires_grad


# ── targets ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@each(LOSSES)
@given(st.lists(st.integers(0, CLASSES - 1), min_size=1, max_size=6))
def test_indices_are_one_hot_rows(row, indices):
    target = torch.tensor(indices)
    out = output(row, batch=len(indices))
    loss, signal = row.make(out, target)
    for kind in (torch.uint8, torch.int32):
        assert torch.equal(row.make(out, target.to(kind))[1], signal)
    hot_loss, hot_signal = row.make(out, one_hot(target, CLASSES).double())
    assert torch.equal(hot_loss, loss) and torch.equal(hot_signal, signal)
    single_loss, _ = row.make(out, one_hot(target, CLASSES).float())  # a target in another precision
    assert torch.equal(single_loss, loss)


@each(LOSSES)
def test_the_loss_is_a_mean_over_the_batch(row):
    out, target = output(row), soft()
    loss, signal = row.make(out, target)
    alone = [row.make(out[at : at + 1], target[at : at + 1]) for at in range(BATCH)]
    torch.testing.assert_close(loss, torch.stack([one for one, _ in alone]).mean())
    torch.testing.assert_close(signal, torch.cat([one for _, one in alone]) / BATCH)


@each(LOSSES)
@pytest.mark.parametrize(
    ("target", "message"),
    [
        (torch.tensor([0, 1, 2, 5]), "targets name outputs 0 to 4, got 0 to 5"),
        (torch.tensor([0, -1, 2, 3]), "targets name outputs 0 to 4, got -1 to 3"),
        (
            torch.tensor([0, 1]),
            r"whole numbers of shape \(4,\) or values of shape \(4, 5\), got torch.int64 of shape \(2,\)",
        ),
        (torch.tensor([0.0, 1, 2, 3]), r"got torch.float32 of shape \(4,\)"),
        (torch.ones(BATCH, CLASSES, dtype=torch.int64), r"got torch.int64 of shape \(4, 5\)"),
        (torch.ones(BATCH, CLASSES + 1), r"got torch.float32 of shape \(4, 6\)"),
        (torch.ones(CLASSES), r"got torch.float32 of shape \(5,\)"),
    ],
)
def test_targets_that_do_not_fit_are_refused(row, target, message):
    with pytest.raises(ValueError, match=message):
        row.make(output(row), target)


@pytest.mark.parametrize("requires_grad", [False, True])
def test_cross_entropy_refuses_what_is_no_probability(requires_grad):
    levels = torch.tensor([[0.5, -0.25]], requires_grad=requires_grad)
    with pytest.raises(ValueError, match=r"takes probabilities.*-0\.25; for a LI readout use"):
        cross_entropy(levels, torch.tensor([0]))


@pytest.mark.parametrize("floor", [1.0, -1e-3, math.nan])
def test_a_floor_below_0_or_not_below_1_is_refused(floor):
    with pytest.raises(ValueError, match=r"floor must .*, got"):
        cross_entropy(output(LOSSES[0]), INDICES, floor=floor)


# ── values ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_cross_entropy_is_the_textbooks_without_a_floor():
    probabilities = output(LOSSES[0])
    wanted = float(nll_loss(probabilities.log(), INDICES))
    assert float(cross_entropy(probabilities, INDICES, floor=1e-15)[0]) == pytest.approx(wanted)
    assert float(cross_entropy(probabilities, INDICES)[0]) == pytest.approx(wanted, rel=0.02)


def test_cross_entropy_with_logits_is_the_textbooks():
    logits = 3 * normal(BATCH, CLASSES)
    loss, signal = cross_entropy_with_logits(logits, INDICES)
    torch.testing.assert_close(loss, torch.nn.functional.cross_entropy(logits, INDICES))
    torch.testing.assert_close(signal.sum(-1), torch.zeros(BATCH).double(), rtol=0, atol=1e-15)
    plain, _ = cross_entropy(torch.softmax(logits, -1), soft(), floor=1e-15)
    torch.testing.assert_close(cross_entropy_with_logits(logits, soft())[0], plain, rtol=1e-12, atol=0)


def test_mse_is_the_textbooks():
    out, target = normal(BATCH, CLASSES), normal(BATCH, CLASSES, seed=1)
    torch.testing.assert_close(mse(out, target)[0], torch.nn.functional.mse_loss(out, target))
    assert mse(torch.tensor([[3.0, 1.0]]), torch.tensor([[1.0, 1.0]]))[1].tolist() == [[2, 0]]


@pytest.mark.parametrize("floor", [1e-6, 1e-3, 0.1])
def test_the_floor_bounds_the_loss_and_the_signal(floor):
    certain_and_wrong = one_hot(torch.tensor([1, 1, 1, 1]), CLASSES).double()
    loss, signal = cross_entropy(certain_and_wrong, INDICES, floor=floor)
    assert float(loss) == pytest.approx(math.log((1 + floor) / floor))
    assert float(signal.abs().max()) * BATCH == pytest.approx(1 / floor)
    for seed in range(20):
        _, other = cross_entropy(output(LOSSES[0], seed=seed), INDICES, floor=floor)
        assert (other.abs() * BATCH <= 1 / floor).all()


@each(LOSSES)
def test_a_perfect_answer_costs_nothing_and_a_worse_one_more(row):
    right = one_hot(INDICES, CLASSES).double()
    scale = 20 if row.name == "cross_entropy_with_logits" else 1
    answers = [scale * (right * share + (1 - share) / CLASSES) for share in (1, 0.5, 0)]
    losses = [float(row.make(answer, INDICES)[0]) for answer in answers]
    assert losses[0] == pytest.approx(0, abs=1e-6) and losses[0] < losses[1] < losses[2]


@each(CLASSIFIERS)
def test_extreme_answers_stay_finite(row):
    extreme = torch.tensor([[1.0, 0, 0, 0, 0]] * BATCH) * (1 if row.says == "probabilities" else 1e4)
    for target in (INDICES, soft().float()):
        loss, signal = row.make(extreme, target)
        assert loss.isfinite() and signal.isfinite().all() and loss > 0
