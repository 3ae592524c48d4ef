"""The task own_part: its batches depend on the seed and the number alone, and a network learns it."""

import torch

import tracetorch as tt
from tracetorch.cli.templates.task import OwnPart


def test_a_batch_depends_on_the_seed_and_its_number_alone():
    one, equal, other = OwnPart(seed=1), OwnPart(seed=1), OwnPart(seed=2)
    batch = one.train_batch(3)
    assert batch.xs.shape == (one.batch_size, one.input_size) and batch.xs.steps == one.steps
    assert batch.target.shape == (one.batch_size,) and int(batch.target.max()) < one.output_size
    assert torch.equal(batch.xs.dense(), equal.train_batch(3).xs.dense())
    for different in (one.train_batch(4), other.train_batch(3), next(iter(one.eval_batches("test")))):
        assert not torch.equal(batch.xs.dense(), different.xs.dense()[:, : one.batch_size])


def test_a_network_learns_it():
    torch.manual_seed(0)
    task = OwnPart(test_trials=100)
    net = tt.nn.Sequential(tt.nn.LIF(task.input_size, 16), tt.nn.LIS(16, task.output_size))
    optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
    for number in range(40):
        batch = task.train_batch(number)
        net.reset()
        _, signal = tt.loss.cross_entropy(net.run(batch.xs, reduce="mean"), batch.target)
        optimizer.zero_grad()
        net.backward(signal)
        optimizer.step()
    (batch,) = task.eval_batches("test")
    net.reset()
    assert task.score(net.run(batch.xs, reduce="mean"), batch)["accuracy"].mean() > 0.8
