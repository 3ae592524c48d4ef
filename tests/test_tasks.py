"""Every task of the table: what `tasks.task.Task` promises, a new task must keep."""

import pytest
import torch
from matplotlib.figure import Figure

from tests.common import TASKS, each
from tracetorch.tasks import PoissonClicks, StoreRecall
from tracetorch.tasks.task import SPLITS
from tracetorch.tasks.task import slices as sliced


def same(one, other):
    """Whether two batches are equal to the bit: input, target and conditions."""
    return (
        torch.equal(one.xs.dense(), other.xs.dense())
        and torch.equal(one.target, other.target)
        and one.conditions.keys() == other.conditions.keys()
        and all(torch.equal(one.conditions[name], other.conditions[name]) for name in one.conditions)
    )


def judged(task, split="test", seed=0):
    """All trials of a split, answered at random."""
    generator = torch.Generator().manual_seed(seed)
    columns = []
    for batch in task.eval_batches(split):
        output = torch.softmax(torch.randn(len(batch.target), task.output_size, generator=generator), dim=-1)
        columns.append(task.score(output, batch))
    return {name: torch.cat([part[name] for part in columns]) for name in columns[0]}


@each(TASKS)
def test_batches_have_the_sizes_that_the_task_says(row):
    task = row.make()
    batches = [task.train_batch(0), *task.eval_batches("validation"), *task.eval_batches("test")]
    assert len(batches[0].target) == task.batch_size
    for batch in batches:
        rows = len(batch.target)
        assert batch.xs.steps == task.steps
        assert batch.xs.dense().shape == (task.steps, rows, task.input_size)
        assert batch.xs.shape == (rows, task.input_size)
        assert all(value.shape == (rows,) for value in batch.conditions.values())
        if batch.target.is_floating_point():
            assert batch.target.shape == (rows, task.output_size)
        else:
            assert batch.target.shape == (rows,)
            assert 0 <= int(batch.target.min()) <= int(batch.target.max()) < task.output_size


@each(TASKS)
def test_input_is_finite_and_not_all_silent(row):
    xs = row.make().train_batch(0).xs.dense()
    assert xs.dtype == torch.float32
    assert bool(torch.isfinite(xs).all())
    assert float(xs.sum()) > 0


@each(TASKS)
def test_the_readout_window_fits_in_a_trial(row):
    task = row.make()
    assert task.readout_window is None or 1 <= task.readout_window <= task.steps


@each(TASKS)
def test_a_training_batch_is_a_function_of_seed_and_number_alone(row):
    task, numbers = row.make(), [3, 0, 500, 3, 1]
    batches = {number: task.train_batch(number) for number in numbers}
    for number in sorted(batches):
        assert same(batches[number], row.make().train_batch(number))
        assert same(batches[number], task.train_batch(number))


@each(TASKS)
def test_other_numbers_give_other_batches(row):
    task = row.make()
    assert not same(task.train_batch(0), task.train_batch(1))


@each(TASKS)
def test_another_seed_gives_other_batches(row):
    assert not same(row.make(seed=1).train_batch(0), row.make(seed=2).train_batch(0))


@each(TASKS)
def test_nothing_depends_on_the_global_generator(row):
    torch.manual_seed(1)
    one = row.make().train_batch(0)
    torch.manual_seed(2)
    assert same(one, row.make().train_batch(0))


@each(TASKS)
@pytest.mark.parametrize("split", SPLITS)
def test_held_out_trials_are_always_the_same(row, split):
    task = row.make()
    first = list(task.eval_batches(split))
    task.train_batch(7)
    assert first
    assert all(same(a, b) for a, b in zip(first, task.eval_batches(split), strict=True))
    assert all(same(a, b) for a, b in zip(first, row.make().eval_batches(split), strict=True))


@each([row for row in TASKS if row.says != "fixed"])
def test_validation_and_test_are_different_trials(row):
    task = row.make()
    validation, test = next(task.eval_batches("validation")), next(task.eval_batches("test"))
    rows = min(len(validation.target), len(test.target))
    assert not torch.equal(validation.xs.dense()[:, :rows], test.xs.dense()[:, :rows])


@each(TASKS)
def test_an_unknown_split_is_refused(row):
    with pytest.raises(ValueError, match="held-out data are split into validation and test, got 'train'"):
        list(row.make().eval_batches("train"))


@each(TASKS)
@pytest.mark.parametrize("size", [1, 2, 5])
def test_it_does_not_matter_how_time_is_cut(row, size):
    xs = row.make().train_batch(2).xs
    assert torch.equal(torch.cat(list(xs.chunks(size))), xs.dense())
    assert torch.equal(torch.cat([part.dense() for part in xs.split(size)]), xs.dense())


@each(TASKS)
def test_judge_gives_the_declared_metrics_with_a_row_for_each_trial(row):
    task = row.make()
    batch = task.train_batch(0)
    trials = task.score(torch.rand(task.batch_size, task.output_size), batch)
    assert set(task.metrics) | set(batch.conditions) <= set(trials)
    assert all(value.shape == (task.batch_size,) for value in trials.values())
    assert all(0 <= float(trials[name].min()) <= float(trials[name].max()) <= 1 for name in task.metrics)


@each(TASKS)
def test_a_perfect_answer_scores_one_and_its_opposite_less(row):
    task = row.make()
    batch = task.train_batch(0)
    right = batch.target
    if not right.is_floating_point():
        right = torch.nn.functional.one_hot(right, task.output_size).float()
    assert all(float(task.score(right, batch)[name].min()) == 1 for name in task.metrics)
    assert all(float(task.score(1 - right, batch)[name].max()) < 1 for name in task.metrics)


@each(TASKS)
def test_the_example_is_one_trial_of_the_test(row):
    task = row.make()
    batch, marks = task.example()
    first = next(task.eval_batches("test"))
    assert batch.xs.shape == (1, task.input_size)
    assert torch.equal(batch.xs.dense(), first.xs.dense()[:, :1])
    assert torch.equal(batch.target, first.target[:1])
    assert all(torch.equal(value, first.conditions[name][:1]) for name, value in batch.conditions.items())
    assert all(0 <= start < stop <= task.steps for start, stop in marks.values())


@each(TASKS)
def test_summary_and_figures_are_made_of_real_trials(row):
    task = row.make()
    trials = judged(task)
    assert all(isinstance(value, float) and value == value for value in task.summary(trials).values())
    figures = task.figures(trials)
    assert all(isinstance(figure, Figure) for figure in figures.values())


@each(TASKS)
def test_an_image_has_as_many_pixels_as_the_task_has_inputs(row):
    task = row.make()
    image = task.input_image()
    assert image is None or image[0] * image[1] == task.input_size


@each(TASKS)
def test_moving_to_a_device_changes_nothing(row):
    task = row.make()
    assert task.to(torch.device("cpu")) is task
    assert same(task.train_batch(1), row.make().train_batch(1))


def test_slices_cover_everything_once():
    assert [range(10)[part] for part in sliced(10, 4)] == [range(4), range(4, 8), range(8, 10)]
    assert list(sliced(0, 4)) == []


def test_a_batch_that_was_drawn_with_others_is_as_drawn_alone():
    task = PoissonClicks(duration=[0.1], batch_size=2)
    for number in (0, 5, 200, 4, 199):
        alone = task.make("train", torch.arange(2 * number, 2 * number + 2))
        assert same(task.train_batch(number), alone)


def test_batches_that_were_drawn_ahead_are_forgotten_when_the_task_changes():
    task = StoreRecall(batch_size=2)
    task.train_batch(0)
    task.seed += 1
    changed = StoreRecall(batch_size=2)
    changed.seed += 1
    assert torch.equal(task.train_batch(0).xs.dense(), changed.train_batch(0).xs.dense())
