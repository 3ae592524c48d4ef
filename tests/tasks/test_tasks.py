"""Every task of the table keeps what `tasks.task.Task` promises."""

from zlib import crc32

import pytest
import torch
from matplotlib.figure import Figure

from tests.common import TASKS, each
from tracetorch.tasks import PoissonClicks
from tracetorch.tasks.task import SPLITS, has_classes, means


def are_equal(one, other):
    """Whether input, target and conditions of two batches are exactly equal."""
    return (
        torch.equal(one.xs.dense(), other.xs.dense())
        and torch.equal(one.target, other.target)
        and one.conditions.keys() == other.conditions.keys()
        and all(torch.equal(one.conditions[name], other.conditions[name]) for name in one.conditions)
    )


@each(TASKS)
def test_a_training_batch_is_a_function_of_seed_and_number_alone(row):
    task, other = row.make(seed=1), row.make(seed=1)
    torch.manual_seed(1)
    batches = {number: task.train_batch(number) for number in (3, 0, 500, 1)}
    torch.manual_seed(2)
    assert other.to(torch.device("cpu")) is other
    assert all(are_equal(batches[number], other.train_batch(number)) for number in sorted(batches))
    assert are_equal(task.train_batch(3), batches[3]) and len(batches[3].target) == task.batch_size
    assert not are_equal(batches[0], batches[1]) and not are_equal(batches[0], row.make(seed=2).train_batch(0))
    xs = batches[3].xs
    for size in (1, 5):
        assert torch.equal(torch.cat(list(xs.chunks(size))), xs.dense())
        assert torch.equal(torch.cat([part.dense() for part in xs.split(size)]), xs.dense())
    image = task.input_image()
    assert image is None or image[0] * image[1] == task.input_size
    assert task.readout_window is None or 1 <= task.readout_window <= task.steps


@each(TASKS)
def test_held_out_trials_are_fixed_and_the_example_is_the_first(row):
    task, other, first = row.make(), row.make(), {}
    for split in SPLITS:
        batches = list(task.eval_batches(split))
        task.train_batch(7)
        first[split] = batches[0]
        for again in (task.eval_batches(split), other.eval_batches(split)):
            assert all(are_equal(a, b) for a, b in zip(batches, again, strict=True))
    validation, test = (batch.xs.dense() for batch in first.values())
    rows = min(validation.shape[1], test.shape[1])
    assert torch.equal(validation[:, :rows], test[:, :rows]) == (row.says == "fixed")
    example, marks = task.example()
    assert torch.equal(example.xs.dense(), test[:, :1]) and example.xs.shape == (1, task.input_size)
    assert torch.equal(example.target, first["test"].target[:1])
    for name, value in first["test"].conditions.items():
        assert torch.equal(example.conditions[name], value[:1])
    assert all(0 <= start < stop <= task.steps for start, stop in marks.values())
    with pytest.raises(ValueError, match="held-out data are split into validation and test, got 'train'"):
        list(task.eval_batches("train"))


@each(TASKS)
def test_batches_have_the_sizes_of_the_task_and_a_perfect_answer_scores_one(row):
    task, columns = row.make(), []
    for batch in [task.train_batch(0), *task.eval_batches("validation"), *task.eval_batches("test")]:
        (xs, target, conditions), rows = batch, len(batch.target)
        assert (xs.steps, *xs.shape) == xs.dense().shape == (task.steps, rows, task.input_size)
        assert xs.dense().dtype == torch.float32 and bool(torch.isfinite(xs.dense()).all()) and float(xs.dense().sum())
        if not target.is_floating_point():
            assert target.shape == (rows,) and int(target.min()) >= 0
            target = torch.nn.functional.one_hot(target, task.output_size).float()
        assert target.shape == (rows, task.output_size)
        columns.append(task.score(torch.rand(rows, task.output_size), batch))
        assert set(task.metrics) | set(conditions) <= set(columns[-1])
        assert all(value.shape == (rows,) for value in columns[-1].values())
        assert all(float(task.score(target, batch)[name].mean()) == pytest.approx(1) for name in task.metrics)
        assert all(0 <= float(task.score(1 - target, batch)[name].mean()) < 1 for name in task.metrics)
    trials = {name: torch.cat([part[name] for part in columns]) for name in columns[0]}
    assert all(isinstance(value, float) and value == value for value in task.summary(trials).values())
    assert all(isinstance(figure, Figure) for figure in task.figures(trials).values())


TRIALS = {
    "blocks": 1314600637,
    "cues": 4015745679,
    "store-recall": 1627480648,
    "store-recall-noise": 1761461362,
    "manifolds": 2768044639,
    "clicks": 2571550898,
    "clicks-count-noise": 3988245936,
    "clicks-delayed": 1138828077,
    "clicks-delayed-noise": 1100763245,
    "mnist": 3024321297,
    "mnist-latency": 1179417622,
    "rows": 1946478066,
    "rows-levels-constant": 2779831105,
    "pixels-permuted": 1370510849,
    "samples": 3929656913,
    "samples-poisson": 1653507153,
    "samples-events": 4030898144,
    "dataset": 1631870820,
    "file": 2713347419,
    "patterns": 364135512,
    "patterns-constant": 3739743423,
}


@each([row for row in TASKS if row.name in TRIALS])
def test_trials_are_the_same_in_every_version(row):
    """Results of versions stay comparable. After an intended change, copy the numbers from the failures."""
    task, content = row.make(seed=1), b""
    batches = task.train_batch(3), task.train_batch(500)
    for xs, target, conditions in (*batches, *task.eval_batches("validation"), *task.eval_batches("test")):
        for values in (xs.dense(), target, *conditions.values()):
            content += values.contiguous().numpy().tobytes()
    assert crc32(content) == TRIALS[row.name]


def test_a_task_has_classes_if_each_target_is_one_whole_number():
    targets = [torch.zeros(shape, dtype=kind) for kind in (torch.long, torch.float32) for shape in (4, (4, 2))]
    assert list(map(has_classes, targets)) == [True, False, False, False]


def test_means_are_exact_for_many_trials():
    trials = {"accuracy": torch.full((3_000_001,), 0.1), "other": torch.ones(3)}
    assert means(trials, ("accuracy",)) == {"accuracy": pytest.approx(0.1, rel=1e-6)}


def test_a_batch_does_not_depend_on_those_drawn_with_it_or_on_an_earlier_seed():
    task = PoissonClicks(duration=[0.1], batch_size=2)
    for number in (0, 5, 200, 4, 199):
        alone = task.make("train", torch.arange(2 * number, 2 * number + 2))
        assert are_equal(task.train_batch(number), alone)
    task.seed = 1
    assert are_equal(task.train_batch(199), PoissonClicks(duration=[0.1], batch_size=2, seed=1).train_batch(199))
