"""Tasks with a fixed set of samples: batches, normalization, metrics, losses, datasets, and data that do not fit."""

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from tracetorch import nn, rules
from tracetorch.data import Samples
from tracetorch.loss import cross_entropy, mse
from tracetorch.tasks import CountedBatch, Dataset, File, SampledTask
from tracetorch.tasks.counted import counted_loss
from tracetorch.tasks.evaluate import evaluate


def samples(inputs, target, **more):
    names = [f"sample {at}" for at in range(len(inputs))]
    return Samples(inputs, np.asarray(inputs[0]).shape[-1], target, more.pop("fields", {}), names, "data", **more)


def series(count=20, steps=6, channels=2, classes=2, seed=0):
    random = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    return random.normal(labels[:, None, None], 1, (count, steps, channels)).astype(np.float32), labels


def task_of(inputs, target, **options):
    options = {"test": 0.25, "validation": 0.0, "batch_size": 4, "normalize": "none"} | options
    return SampledTask(samples(list(inputs), list(target)), **options)


class TestBatches:
    def test_a_pass_shows_a_training_sample_at_most_once_and_has_a_new_order(self):
        task = task_of(*series())
        numbers = [task.train_batch(at).conditions["sample"] for at in range(2 * task.batches_per_pass)]
        first, second = (torch.cat(part).tolist() for part in (numbers[:3], numbers[3:6]))
        shown = set(first)
        assert len(shown) == 12 and first != second and not shown & set(task.splits["test"].tolist())
        assert torch.equal(task.train_batch(1).xs.dense(), task_of(*series()).train_batch(1).xs.dense())

    def test_the_input_as_current_has_the_values_of_the_sample(self):
        inputs, labels = series()
        batch = task_of(inputs, labels).train_batch(0)
        for row, number in enumerate(batch.conditions["sample"].tolist()):
            assert np.array_equal(batch.xs.dense()[:, row], inputs[number]) and batch.target[row] == labels[number]
        assert not isinstance(batch, CountedBatch)

    def test_samples_of_different_lengths_end_together(self):
        parts = [np.full((length, 1), length, dtype=np.float32) for length in (2, 3, 4, 5)]
        task = task_of(parts, [0, 1, 0, 1], test=np.array([False, False, False, True]), batch_size=3)
        batch = task.train_batch(0)
        for row, number in enumerate(batch.conditions["sample"].tolist()):
            length = number + 2
            assert batch.xs.dense()[:, row, 0].tolist() == [0.0] * (4 - length) + [float(length)] * length
            assert batch.counted[:, row].tolist() == [False] * (4 - length) + [True] * length
        tested = task_of(parts, [0, 1, 0, 1], test=np.array([True, False, False, True]), batch_size=2)
        drawn = tested.example()[0]  # begins with the sample, not with empty steps
        assert drawn.xs.dense()[:, 0, 0].tolist() == [2.0, 2.0] and drawn.counted[:, 0].tolist() == [True, True]

    def test_encodings(self):
        inputs, labels = series()
        shape = {"current": 2, "poisson": 2, "delta": 4}
        for encoding, size in shape.items():
            task = task_of(inputs, labels, encoding=encoding, normalize="auto")
            xs = task.train_batch(0).xs.dense()
            assert xs.shape == (6, 4, size) == (task.steps, 4, task.input_size)
            assert encoding == "current" or set(xs.unique().tolist()) <= {0.0, 1.0}
        assert task_of(inputs, labels, population=5).train_batch(0).xs.dense().shape == (6, 4, 10)
        for encoding in ("latency", "poisson"):  # noise and rates above 1 are limited to what the encoding takes
            steady = task_of(inputs[:, 0], labels, encoding=encoding, normalize="range", steps=7, noise=0.5, max_rate=2)
            xs = steady.train_batch(0).xs.dense()
            assert xs.sum() > 0 and (encoding == "poisson" or bool((xs.sum(dim=0) <= 1).all()))
        made = [task_of(inputs[:, 0], labels, encoding="current", steps=3, max_rate=rate) for rate in (1, 2)]
        once, twice = (task.train_batch(0).xs.dense() for task in made)
        assert torch.equal(twice, 2 * once) and bool(once.any())

    def test_frames_last_several_steps(self):
        inputs, labels = series()
        xs = task_of(inputs, labels, steps_per_frame=3).train_batch(0).xs.dense()
        assert len(xs) == 18 and torch.equal(xs[0::3], xs[2::3])

    def test_only_training_samples_are_augmented_and_differently_in_each_pass(self):
        inputs, labels = series(steps=8, channels=5)
        task = task_of(inputs, labels, augment_steps=2, augment_channels=1, noise=0.5, batch_size=15)
        plain = task_of(inputs, labels, batch_size=15)
        first, again, later = (task.train_batch(at) for at in (0, 0, 1))
        assert torch.equal(first.xs.dense(), again.xs.dense())
        by_sample = [batch.xs.dense()[:, batch.conditions["sample"].argsort()] for batch in (first, later)]
        assert not torch.allclose(*by_sample)
        tests = [next(each.eval_batches("test")).xs.dense() for each in (task, plain)]
        assert torch.equal(*tests)

    def test_a_shift_moves_the_values_and_fills_with_zeros(self):
        inputs = [np.arange(1.0, 5.0, dtype=np.float32)[:, None]] * 12
        task = task_of(inputs, [0, 1] * 6, augment_steps=1, batch_size=9)
        found = {tuple(row.tolist()) for row in task.train_batch(0).xs.dense()[:, :, 0].T}
        assert found == {(1, 2, 3, 4), (0, 1, 2, 3), (2, 3, 4, 0)}


class TestNormalization:
    @pytest.mark.parametrize("method", ["standard", "range"])
    def test_the_scale_is_learned_from_the_training_samples(self, method):
        inputs, labels = series(count=40)
        tested = np.arange(40) >= 30
        other = inputs.copy()
        other[tested] *= 100
        made = [task_of(x, labels, normalize=method, test=tested) for x in (inputs, other)]
        assert np.array_equal(made[0].scale.factor, made[1].scale.factor)
        shown = made[0].scale(inputs[~tested])
        if method == "standard":
            assert shown.mean() == pytest.approx(0, abs=1e-5) and shown.std(axis=(0, 1)) == pytest.approx(
                [1, 1], abs=1e-4
            )
        else:
            assert (shown.min(), shown.max()) == (0, 1)

    def test_a_trained_network_is_tested_with_the_scale_of_its_training_data(self):
        inputs, labels = series()
        trained, other = (
            task_of(inputs, labels, normalize="standard"),
            task_of(inputs * 3 + 1, labels, normalize="standard"),
        )
        other.load_for_test(trained.state_dict())
        assert np.array_equal(other.scale.shift, trained.scale.shift)
        with pytest.raises(ValueError, match="trained on the classes 0, 1, and data has the classes 5, 6"):
            task_of(inputs, labels + 5).load_for_test(trained.state_dict())

    def test_a_constant_channel_stays_finite(self):
        inputs, labels = series()
        inputs[..., 0] = 7
        assert bool(task_of(inputs, labels, normalize="standard").train_batch(0).xs.dense().isfinite().all())


class TestMetrics:
    def test_balanced_accuracy_is_the_mean_of_the_classes_accuracies(self):
        target = [0] * 6 + [1] * 2 + [0, 1] * 4
        task = task_of(series(16)[0], target, test=np.arange(16) < 8)
        batch = next(task.eval_batches("test"))
        output = torch.eye(2)[torch.tensor([0, 0, 0, 1, 1, 1, 1, 0])]
        found = task.score(output, batch)
        assert float(found["accuracy"].mean()) == pytest.approx(4 / 8)
        assert float(found["balanced_accuracy"].mean()) == pytest.approx((3 / 6 + 1 / 2) / 2)
        assert task.summary(found) == {"accuracy_of_0": 0.5, "accuracy_of_1": 0.5}

    def test_r2_and_mse_are_those_of_the_split_in_units_of_the_data(self):
        values = np.random.default_rng(0).normal(50, 20, (16, 2)).astype(np.float32)
        task = task_of(series(16)[0], values, test=np.arange(16) < 10)
        batch = next(task.eval_batches("test"))
        guess = batch.target + 0.3 * torch.randn(10, 2, generator=torch.Generator().manual_seed(0))
        found, guessed, true = task.score(guess, batch), task.in_units(guess).numpy(), values[:10]
        assert np.allclose(task.in_units(batch.target), true, atol=1e-3)
        r2 = 1 - ((guessed - true) ** 2).sum(axis=0) / ((true - true.mean(axis=0)) ** 2).sum(axis=0)
        assert float(found["r2"].mean()) == pytest.approx(r2.mean(), abs=1e-4)
        assert float(found["mse"].mean()) == pytest.approx(((guessed - true) ** 2).mean(), rel=1e-4)

    def test_for_targets_at_steps_r2_and_mse_are_over_all_steps_with_a_target(self):
        random = np.random.default_rng(0)
        inputs = [random.normal(size=(length, 1)).astype(np.float32) for length in (3, 4, 5, 6)]
        target = [random.normal(size=len(sample)).astype(np.float32) for sample in inputs]
        target[0][1] = np.nan
        task = task_of(inputs, target, test=np.array([True, True, True, False]))
        batch = next(task.eval_batches("test"))
        output = torch.zeros(5, 3, 1)
        found = task.score(output, batch)
        true = np.concatenate(target[:3])
        true, guess = true[~np.isnan(true)], float(task.target_scale.shift[0])
        assert float(found["r2"].mean()) == pytest.approx(1 - ((true - guess) ** 2).mean() / true.var(), abs=1e-4)
        assert float(found["mse"].mean()) == pytest.approx(((true - guess) ** 2).mean(), rel=1e-4)
        rows = task.score_steps(output, batch)  # padding and the step without a target are left out
        assert rows["sample"].tolist() == [0] * 2 + [1] * 4 + [2] * 5
        assert rows["step"].tolist() == [0, 2, *range(4), *range(5)]
        assert torch.allclose(rows["target_0"], torch.from_numpy(true), atol=1e-6)
        assert rows["prediction_0"].tolist() == pytest.approx([guess] * 11)

    def test_details_are_the_name_and_the_fields_of_each_trial(self):
        inputs, labels = series(4)
        fields = {"speaker": np.array(["ann", "bob", "ann", "=1"]), "target": np.arange(4)}
        held = np.array([False, True, True, False])
        task = SampledTask(samples(list(inputs), list(labels), fields=fields), test=held, validation=0.0)
        batch = next(task.eval_batches("test"))
        found = task.details(task.score(torch.rand(2, 2), batch))
        assert found == {"name": ["sample 1", "sample 2"], "speaker": ["bob", "ann"], "field_target": [1, 2]}

    def test_labels_at_each_step_have_a_chance_level_and_a_confusion_matrix(self):
        inputs = [np.ones((length, 1), dtype=np.float32) for length in (3, 4, 5, 5)]
        target = [np.array(row) for row in ([0, -1, 1], [1, 1, 1, 0], [0, 0, 1, 1, 1], [0, 1, 1, 1, 0])]
        task = task_of(inputs, target, test=np.array([True, True, False, False]), batch_size=4)
        batch = next(task.eval_batches("test"))
        output = torch.zeros(4, 2, 2)
        output[-1, :, 1] = 1  # class 1 in the last step, 0 before
        trials = task.score(output, batch)
        assert trials["steps_of_1_as_0"].tolist() == [0, 3] and trials["steps_of_0_as_1"].tolist() == [0, 1]
        accuracy = {"accuracy_of_0": 1 / 2, "accuracy_of_1": 1 / 4}
        assert task.summary(trials) == pytest.approx({"chance_accuracy": 4 / 6} | accuracy)
        assert task.figures(trials)["confusion"].axes[0].get_title("left") == "33.3 % correct (n = 6)"


class TestCountedLosses:
    def test_the_signal_is_the_derivative_at_every_step(self):
        inputs = [np.ones((length, 1), dtype=np.float32) for length in (2, 4, 5, 3)]
        for target, loss in (([0, 1, 1, 0], cross_entropy), ([[1.0], [2.0], [0.5], [3.0]], mse)):
            task = task_of(inputs, target, test=np.array([False, False, False, True]), batch_size=3)
            batch = task.train_batch(0)
            output = torch.rand(5, 3, task.output_size, dtype=torch.float64).requires_grad_()
            found = counted_loss(loss, output, batch, 0, 3)
            assert torch.allclose(torch.autograd.grad(found.loss, output)[0], found.signal, atol=1e-12)
            assert not bool(found.signal[~batch.counted].any()) and not bool(found.signal[:2].any())

    def test_for_targets_at_steps_the_loss_is_the_mean_over_steps(self):
        inputs, target = series(4)[0], np.arange(24).reshape(4, 6) % 3
        task = task_of(inputs, target, test=np.array([False, False, False, True]), batch_size=3)
        assert task.target.at_steps
        batch = task.train_batch(0)
        output = torch.rand(6, 3, 3, dtype=torch.float64).requires_grad_()
        found = counted_loss(cross_entropy, output, batch, 0, None)
        assert found.loss.item() == pytest.approx(cross_entropy(output.flatten(0, 1), batch.target.flatten())[0].item())
        part = counted_loss(cross_entropy, output[2:4], batch, 2, None)
        assert part.loss.item() == pytest.approx(
            cross_entropy(output[2:4].flatten(0, 1), batch.target[2:4].flatten())[0].item()
        )

    def test_padding_does_not_change_the_loss(self):
        torch.manual_seed(0)
        net = nn.Sequential(nn.LIF(2, 8), nn.LIS(8, 2))
        random = np.random.default_rng(0)
        inputs = [random.normal(1, 1, (length, 2)).astype(np.float32) for length in (4, 9, 6, 7)]
        together = task_of(inputs, [0, 1, 1, 0], test=np.array([True, True, False, False]))
        loss = evaluate(rules.Trace(net), together, cross_entropy, "test", 3).means["loss"]
        alone = []
        for at in range(2):
            net.reset()
            output = net.run(torch.from_numpy(inputs[at])[:, None], reduce="mean", window=3)
            alone.append(cross_entropy(output, torch.tensor([at]))[0].item())
        assert loss == pytest.approx(np.mean(alone), abs=1e-6)


def test_a_long_condition_is_not_a_path(here):
    inputs, labels = series()
    np.savez("a.npz", inputs=inputs, label=labels, subject=np.arange(20))
    subjects = ",".join(str(at) for at in (2, 5, *range(100, 200)))
    assert File(path="a.npz", test=f"subject={subjects}", validation=0).splits["test"].tolist() == [2, 5]


def test_a_split_of_the_data_is_not_split_again(here):
    inputs, labels = series()
    (here / "mine").mkdir()
    for name, part in (("train", slice(0, 15)), ("test", slice(15, 20))):
        np.savez(f"mine/{name}.npz", inputs=inputs[part], label=labels[part], subject=np.arange(20)[part])
    assert File(path="mine", test=0.5).splits["test"].tolist() == [15, 16, 17, 18, 19]
    with pytest.raises(ValueError, match="mine is split into train and test, and"):
        File(path="mine", test="subject<5")


class TestDataset:
    def test_a_loader_gives_its_dataset_and_its_batch_size_and_each_item_is_read_once(self):
        inputs, labels = series(40)
        loader = DataLoader(TensorDataset(torch.from_numpy(inputs), torch.from_numpy(labels)), batch_size=5)
        task = Dataset(loader, test=0.5)
        assert (task.batch_size, task.input_size, task.output_size, len(task.splits["test"])) == (5, 2, 2, 20)

        class Counted(TensorDataset):  # read once at the start; training items once more if a scale is learned
            def __getitem__(self, at):
                reads[at] += 1
                return super().__getitem__(at)

        data = Counted(torch.from_numpy(inputs), torch.from_numpy(labels))
        for options, most in (({"normalize": "none"}, 1), ({}, 2)):
            reads = np.zeros(40, dtype=int)
            task = Dataset(data, **options)
            reads[0] = 1  # it is also read for the form of all
            assert (np.delete(reads[task.splits["train"]], 0) == most).all() and (reads[task.splits["test"]] == 1).all()

    def test_images_are_steady_inputs_and_a_second_dataset_is_the_test(self):
        images = TensorDataset(torch.rand(10, 1, 4, 4), torch.arange(10) % 2)
        task = Dataset(images, test=TensorDataset(torch.rand(4, 1, 4, 4), torch.arange(4) % 2), validation=0, steps=3)
        assert task.train_batch(0).xs.dense().shape == (3, 10, 16)
        assert task.splits["test"].tolist() == [10, 11, 12, 13]

    def test_other_items_than_pairs_of_array_and_target_are_refused(self):
        with pytest.raises(ValueError, match="train holds no items"):
            Dataset([])
        with pytest.raises(ValueError, match=r"train item 0 is 0.5; wanted: an array \(channels,\)"):
            Dataset([(0.5, 1)])
        with pytest.raises(ValueError, match=r"test item 1 has the shape \(4, 3\); wanted: \(steps, 2\), as the first"):
            Dataset([(np.ones((5, 2)), 1)], test=[(np.ones((4, 2)), 1), (np.ones((4, 3)), 0)])
        with pytest.raises(ValueError, match="train item 0 must be a pair"):
            Dataset([1, 2])
        with pytest.raises(ValueError, match=r"test item 1 has the shape \(3, 4\); wanted: \(steps, 2\), as the first"):
            Dataset([(np.zeros((3, 2)), 0)] * 4, test=[(np.zeros((3, 2)), 0), (np.zeros((3, 4)), 0)])
        with pytest.raises(TypeError, match="train must be a dataset with a length"):
            Dataset(7)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"target": ["a"] * 20}, "the only label is a; wanted: at least two classes"),
        ({"target": [-1, 1] * 10}, "the only label is 1 (−1, NaN and an empty text are not labels); wanted"),
        ({"encoding": "latency"}, "holds values at each time step; choose current, poisson, delta or auto"),
        ({"steps": 5}, "have steps of their own"),
        ({"at": "steps"}, "wanted: a target for each step"),
        ({"target": [[1, 2]] * 20}, "wanted: one label for each sample"),
        ({"target": np.full(20, np.inf)}, "wanted: finite numbers"),
        ({"target": np.arange(20)}, "occurs in the test samples, and in none of the"),
        ({"test": 0.0}, "no sample is left to test on"),
        ({"normalize": "rnage"}, "normalize must be one of auto, none, standard, range, got 'rnage'"),
        ({"population": 3, "encoding": "delta"}, "does not go with task.encoding=delta"),
    ],
)
def test_data_that_do_not_fit_get_one_sentence(change, sentence):
    inputs, labels = series()
    with pytest.raises(ValueError, match=r"data|task|normalize") as raised:
        task_of(inputs, change.pop("target", labels), **change)
    assert sentence in str(raised.value) and "\n" not in str(raised.value)
