"""Held-out trials: every trial counts once, whatever batch it was in, and nothing is learnt from them."""

from functools import partial

import pytest
import torch

from tracetorch import loss, nn
from tracetorch.rules import Trace
from tracetorch.tasks import MNIST, Patterns, PoissonClicks
from tracetorch.tasks.evaluate import evaluate
from tracetorch.tasks.task import means


def learner(task):
    torch.manual_seed(0)
    return Trace(nn.feedforward(task.input_size, task.output_size, hidden=[16], neuron=nn.LIF, readout=nn.LIS))


def test_batches_of_unequal_size_are_averaged_by_trial():
    task = MNIST(validation_digits=507, batch_size=10, steps=4)
    sizes = [len(batch.target) for batch in task.eval_batches("validation")]
    assert sizes == [500, 7]
    rule = learner(task)
    found = evaluate(rule, task, loss.cross_entropy, "validation", None)
    outputs, targets = [], []
    for batch in task.eval_batches("validation"):
        rule.net.reset()
        outputs.append(rule.net.run(batch.xs, reduce="mean").detach())
        targets.append(batch.target)
    output, target = torch.cat(outputs), torch.cat(targets)
    assert found.means["loss"] == pytest.approx(float(loss.cross_entropy(output, target)[0]), rel=1e-5)
    assert found.means["accuracy"] == pytest.approx(float((output.argmax(dim=-1) == target).double().mean()))
    assert torch.equal(found.trials["target"], target)
    assert torch.equal(found.trials["digit"], torch.arange(507))


def test_the_answer_is_read_in_the_window():
    task = PoissonClicks(duration=[0.2], test_trials=20)
    rule = learner(task)
    whole, end = (evaluate(rule, task, loss.cross_entropy, "test", window) for window in (None, 5))
    output = rule.net.run(next(task.eval_batches("test")).xs)[-5:].mean(dim=0).detach()
    expected = float(loss.cross_entropy(output, end.trials["target"])[0])
    assert end.means["loss"] == pytest.approx(expected, rel=1e-5)
    assert whole.means["loss"] != end.means["loss"]


def test_no_state_is_taken_in_or_left_behind_and_nothing_is_learnt():
    task = Patterns(patterns=4, inputs=8, outputs=3, steps=6, repeats=2)
    rule = learner(task)
    first = evaluate(rule, task, loss.mse, "test", None)
    rule.net.run(torch.ones(9, 2, 8))
    assert evaluate(rule, task, loss.mse, "test", None).means == first.means
    assert rule.net[0].state is None
    assert all(parameter.grad is None for parameter in rule.net.parameters())


def test_an_empty_split_is_none():
    task = MNIST(batch_size=10, steps=2)
    assert evaluate(learner(task), task, loss.cross_entropy, "validation", None) is None


def test_means_are_of_the_named_columns_and_exact_for_many_trials():
    trials = {"accuracy": torch.full((3_000_001,), 0.1), "other": torch.ones(3)}
    assert means(trials, ["accuracy"]) == {"accuracy": pytest.approx(0.1, rel=1e-6)}


def test_a_loss_with_its_arguments_filled_in_will_do():
    task = Patterns(patterns=4, inputs=8, outputs=3, steps=6, repeats=1)
    strict, lax = (
        evaluate(learner(task), task, partial(loss.cross_entropy, floor=f), "test", None) for f in (1e-3, 0.5)
    )
    assert strict.means["loss"] != lax.means["loss"]
