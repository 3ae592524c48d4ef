"""What a layer or network says to wrong use: the layer, what it wanted, what it got, and never a silent acceptance."""

import pytest
import torch

import tracetorch as tt
from tests.common import BATCH, IN, LAYERS, OUT, build, each, normal, spikes
from tracetorch.nn import LI, LIF, LIS, Sequential


def test_a_network_has_at_least_one_layer_and_fitting_sizes():
    with pytest.raises(ValueError, match="a network needs at least one layer"):
        Sequential()
    with pytest.raises(ValueError, match=r"LIF\(6, 5\) gives 5 outputs, but LI\(4, 2\) takes 4"):
        Sequential(LIF(IN, 5), LI(4, 2))


@each(LAYERS)
def test_input_of_a_wrong_shape(row):
    net = build(row)
    with pytest.raises(ValueError, match=r"\(6, \d\) expects a step of shape \(batch, 6\), got \(6,\)"):
        net(torch.ones(IN))
    with pytest.raises(ValueError, match=r"expects a step of shape \(batch, 6\), got \(3, 5\)"):
        net(torch.ones(BATCH, 5))
    with pytest.raises(ValueError, match=r"expects a chunk of shape \(time, batch, 6\), got \(9, 3, 5\)"):
        net.run(torch.ones(9, BATCH, 5))
    with pytest.raises(ValueError, match=r"run expects \(time, batch, features\), got shape \(3, 6\)"):
        net.run(torch.ones(BATCH, IN))
    assert net.save_state() == {}


@each(LAYERS)
def test_another_batch_without_a_reset(row):
    net = build(row)
    net(spikes()[0])
    for use in (lambda: net(torch.ones(1, IN)), lambda: net.run(torch.ones(5, 1, IN))):
        with pytest.raises(ValueError, match=r"holds a state of batch 3, got batch 1: call net.reset\(\) first"):
            use()


@each(LAYERS)
def test_learning_before_the_first_step_and_with_a_wrong_signal(row):
    net = build(row)
    with pytest.raises(RuntimeError, match=r"\(\d, 4\) has seen no input: call net\(x\) or net.run\(xs\) before"):
        net.backward(normal(BATCH, OUT))
    net(spikes()[0])
    for shape in ((1, OUT), (BATCH, OUT + 1), (BATCH,), (2, BATCH, OUT)):
        with pytest.raises(ValueError, match=r"expects a signal of shape \(3, 4\), got \("):
            net.backward(torch.ones(shape))
    assert all(value.grad is None for value in net.parameters())


@each(LAYERS)
def test_a_run_that_cannot_be_reduced(row):
    net, xs = build(row), spikes()
    with pytest.raises(ValueError, match=r'reduce must be None \(all outputs\) or "mean", got \'sum\''):
        net.run(xs, reduce="sum")
    for window in (0, -1, 25):
        with pytest.raises(ValueError, match=f"window={window} .* between 1 and the 24 steps"):
            net.run(xs, reduce="mean", window=window)
    with pytest.raises(ValueError, match='window=3 needs reduce="mean"'):
        net.run(xs, window=3)
    with pytest.raises(ValueError, match="at least 1 step"):
        net.run(xs[:0])
    assert net.save_state() == {}


@pytest.mark.parametrize("reduce", [None, "mean"])
def test_a_chunk_of_less_than_one_step_is_refused(reduce):
    net = LIF(IN, OUT)
    with pytest.raises(ValueError, match="chunk"):
        net.run(spikes(), reduce=reduce, chunk=-1)


# ── construction ────────────────────────────────────────────────────────────────────────────────────────────────────

NEURONS = pytest.mark.parametrize("neuron", [LIF, LI, LIS])


@NEURONS
def test_unknown_names_in_learn(neuron):
    with pytest.raises(ValueError, match=f"trainable: a {neuron.__name__} has no 'wieght'; did you mean 'weight'"):
        neuron(IN, OUT, trainable=("wieght",))
    with pytest.raises(ValueError, match=r"trainable: .* has no 'zzz'; it has weight, bias, trace_decay, decay"):
        neuron(IN, OUT, trainable="zzz")
    with pytest.raises(ValueError, match="has no 'raw_decay'"):
        neuron(IN, OUT, trainable=("weight", "raw_decay"))
    with pytest.raises(ValueError, match="a tied trace_decay follows the membrane's"):
        neuron(IN, OUT, trainable=("weight", "trace_decay"))


@pytest.mark.parametrize("neuron", [LI, LIS])
def test_an_integrator_has_no_threshold(neuron):
    with pytest.raises(ValueError, match="has no 'threshold'"):
        neuron(IN, OUT, trainable=("threshold",))


@NEURONS
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"decay": 1.0}, r"a decay must be between 0 and 1 \(both excluded\), got 1.0"),
        ({"decay": torch.tensor([0.5, -0.1])}, "a decay must be between 0 and 1"),
        ({"trace_decay": 0.0}, "a decay must be between 0 and 1"),
        (
            {"trace_decay": "membrain"},
            'trace_decay must be a number, one for each input, or "membrane", got .membrain.',
        ),
        ({"trace_decay": torch.full((OUT,), 0.5)}, r"trace_decay must be a number or 6 of them, got shape \(4,\)"),
        (
            {"trace_decay": 0.5, "decay": torch.full((2,), 0.5)},
            r"decay must be a number or 4 of them, got shape \(2,\)",
        ),
        ({"decay": torch.full((3,), 0.5)}, r"one for each of equal groups of neurons, got shape \(3,\)"),
        ({"decay": torch.full((2, 2), 0.5)}, r"one for each of equal groups of neurons, got shape \(2, 2\)"),
    ],
)
def test_bad_decays(neuron, options, message):
    with pytest.raises(ValueError, match=message):
        neuron(IN, OUT, **options)


def test_a_tied_decay_for_each_of_many_neurons_is_refused_with_the_way_out():
    with pytest.raises(ValueError, match=r"17 decays tied .* would need 17 traces .* give trace_decay a number"):
        LIF(IN, 17, decay=torch.full((17,), 0.9))
    assert LIF(IN, 16, decay=torch.full((16,), 0.9)).input_trace.groups == 16
    assert LIF(IN, 17, decay=torch.full((17,), 0.9), trace_decay=0.9).input_trace.groups == 1


def test_bad_thresholds_sizes_and_rates():
    with pytest.raises(ValueError, match="a threshold must be a finite number above 0"):
        LIF(IN, OUT, threshold=0)
    with pytest.raises(ValueError, match=r"threshold must be a number or 4 of them, got shape \(3,\)"):
        LIF(IN, OUT, threshold=torch.ones(3))
    with pytest.raises(ValueError, match="at least 1 input and 1 neuron, got 0 and 4"):
        LIF(0, OUT)
    with pytest.raises(ValueError, match="rate_map must be one of line, logistic, got 'linear'"):
        LIF(IN, OUT, rate_map="linear")


# ── states of others ────────────────────────────────────────────────────────────────────────────────────────────────


def run_state(net) -> dict[str, torch.Tensor]:
    net.run(torch.ones(3, BATCH, IN))
    return net.save_state()


TWO = torch.tensor([0.5, 0.9])


@pytest.mark.parametrize(
    "theirs",
    [LIF(IN, OUT + 1), LIF(IN, OUT, decay=TWO), Sequential(LIF(IN, OUT))],
    ids=["another-width", "groups", "a-network"],
)
def test_a_state_of_another_layer_is_refused(theirs):
    layer = LIF(IN, OUT)
    with pytest.raises(ValueError):
        layer.load_state(run_state(theirs))
    assert layer.state is None


@pytest.mark.parametrize("how", ["load_state", "state"])
def test_a_state_of_whole_numbers_is_refused(how):
    layer = tt.nn.LIF(5, 4)
    layer(torch.ones(2, 5))
    state = layer.state.map(torch.Tensor.long)
    with pytest.raises(ValueError, match=r"cannot take a membrane of torch.int64, which would hold no fractions"):
        layer.load_state(state.named()) if how == "load_state" else setattr(layer, "state", state)


def test_a_state_with_another_number_of_inputs_or_other_names_is_refused():
    state = run_state(LIF(IN, OUT))
    with pytest.raises(ValueError, match=r"LIF\(5, 4\) cannot take a trace of shape \(3, 6\): it keeps \(3, 5\)"):
        LIF(5, OUT).load_state(state)
    with pytest.raises(
        ValueError, match=r"LIF\(6, 4\) keeps membrane, trace, trace_sensitivity, steps, got membrane, steps"
    ):
        LIF(IN, OUT).load_state({name: state[name] for name in ("membrane", "steps")})


def test_a_state_of_a_longer_network_is_refused():
    longer, shorter = Sequential(LIF(IN, OUT), LI(OUT, 2)), Sequential(LIF(IN, OUT))
    names = r"1\.membrane, 1\.steps, 1\.trace, 1\.trace_sensitivity"
    with pytest.raises(ValueError, match=f"a network of 1 layers has no place for {names}"):
        shorter.load_state(run_state(longer))
    assert shorter.save_state() == {}


def test_unknown_submodules():
    with pytest.raises(AttributeError, match="No tracetorch attribute rule"):
        tt.rule  # noqa: B018
    assert set(tt.__all__) <= set(dir(tt))
