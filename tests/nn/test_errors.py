"""What a layer or network says to wrong use: the layer, what it wanted, what it got, and never a silent acceptance."""

import pytest
import torch

from tests.common import BATCH, IN, LAYERS, OUT, build, each, normal, spikes
from tracetorch.nn import LI, LIF, LIS, Sequential

TWO, HALF = torch.tensor([0.5, 0.9]), torch.full((OUT,), 0.5)


def each_refused(*wrong):
    """Every call of these (call, message) ends in a message that matches."""
    for call, message in wrong:
        with pytest.raises((ValueError, RuntimeError), match=message):
            call()


@each([row for row in LAYERS if row.name in ("LIF-groups", "own", "network")])
def test_wrong_calls_are_refused_and_change_nothing(row):
    net, xs = build(row), spikes()
    each_refused(
        (lambda: net(torch.ones(IN)), r"\(6, \d\)\)? expects a step of shape \(batch, 6\), got \(6,\)"),
        (lambda: net(torch.ones(BATCH, 5)), r"expects a step of shape \(batch, 6\), got \(3, 5\)"),
        (lambda: net.run(torch.ones(9, BATCH, 5)), r"a chunk of shape \(time, batch, 6\), got \(9, 3, 5\)"),
        (lambda: net.run(torch.ones(BATCH, IN)), r"run expects \(time, batch, features\), got shape \(3, 6\)"),
        (lambda: net.run(xs, reduce="sum"), r'reduce must be None \(all outputs\) or "mean", got \'sum\''),
        *(
            (lambda window=window: net.run(xs, reduce="mean", window=window), f"window={window} .* and the 24 steps")
            for window in (0, -1, 25)
        ),
        (lambda: net.run(xs, window=3), 'window=3 needs reduce="mean"'),
        (lambda: net.run(xs[:0]), "at least 1 step"),
        (lambda: net.backward(normal(BATCH, OUT)), r"\(\d, 4\)\)? has seen no input: call net\(x\) or net.run\(xs\)"),
    )
    assert net.save_state() == {}
    net(xs[0])
    each_refused(
        (lambda: net.run(xs, chunk=-1), "a chunk needs at least 1 step, got -1"),
        (lambda: net.run(xs, reduce="mean", chunk=0), "a chunk needs at least 1 step, got 0"),
        *((lambda shape=shape: net.backward(torch.ones(shape)), r"expects a signal of shape \(3, 4\), got \(")
          for shape in ((1, OUT), (BATCH, OUT + 1), (BATCH,), (2, BATCH, OUT))),
        *((use, r"holds a state of batch 3, got batch 1: call net.reset\(\) first")
          for use in (lambda: net(torch.ones(1, IN)), lambda: net.run(torch.ones(5, 1, IN)))),
    )  # fmt: skip
    assert all(value.grad is None for value in net.parameters())


BAD_LAYERS = [
    (LIF, {"trainable": ("wieght",)}, "trainable: a LIF has no 'wieght'; did you mean 'weight'"),
    (LIF, {"trainable": "zzz"}, r"trainable: .* has no 'zzz'; it has weight, bias, trace_decay, decay"),
    (LIS, {"trainable": ("weight", "raw_decay")}, "has no 'raw_decay'"),
    (LIF, {"trainable": ("trace_decay",)}, "a tied trace_decay follows the membrane's"),
    (LI, {"trainable": ("threshold",)}, "a LI has no 'threshold'"),
    (LIF, {"decay": 1.0}, r"a decay must be between 0 and 1 \(both excluded\), got 1.0"),
    (LI, {"decay": torch.tensor([0.5, -0.1])}, "a decay must be between 0 and 1"),
    (LIF, {"trace_decay": "x"}, 'trace_decay must be a number, one for each input, or "membrane", got .x.'),
    (LI, {"trace_decay": HALF}, r"trace_decay must be a number or 6 of them, got shape \(4,\)"),
    (LIF, {"trace_decay": 0.5, "decay": TWO}, r"decay must be a number or 4 of them, got shape \(2,\)"),
    (LIS, {"decay": torch.full((3,), 0.5)}, r"one for each of equal groups of neurons, got shape \(3,\)"),
    (LIF, {"threshold": 0}, "a threshold must be a finite number above 0"),
    (LIF, {"threshold": torch.ones(3)}, r"threshold must be a number or 4 of them, got shape \(3,\)"),
    (LIF, {"rate_map": "linear"}, "rate_map must be one of line, logistic, got 'linear'"),
]


@pytest.mark.parametrize(("neuron", "options", "message"), BAD_LAYERS)
def test_a_layer_that_cannot_be(neuron, options, message):
    with pytest.raises(ValueError, match=message):
        neuron(IN, OUT, **options)


def test_networks_and_sizes_that_cannot_be():
    many, layer = torch.full((17,), 0.9), LIF(3, 3)
    each_refused(
        (Sequential, "a network needs at least one layer"),
        (lambda: Sequential(LIF(IN, 5), LI(4, 2)), r"LIF\(6, 5\) gives 5 outputs, but LI\(4, 2\) takes 4"),
        (lambda: Sequential(layer, LI(3, 3), layer), r"LIF\(3, 3\) is in the network twice"),
        (lambda: LIF(0, OUT), "at least 1 input and 1 neuron, got 0 and 4"),
        (lambda: LIF(IN, 17, decay=many), r"17 decays tied .* would need 17 traces .* give trace_decay a number"),
    )
    assert LIF(IN, 16, decay=many[:16]).input_trace.groups == 16
    assert LIF(IN, 17, decay=many, trace_decay=0.9).input_trace.groups == 1


def state_of(net) -> dict[str, torch.Tensor]:
    net.run(torch.ones(3, BATCH, IN))
    return net.save_state()


def test_a_state_of_another_layer_is_refused():
    layer, shorter, state = LIF(IN, OUT), Sequential(LIF(IN, OUT)), state_of(LIF(IN, OUT))
    longer = state_of(Sequential(LIF(IN, OUT), LI(OUT, 2)))
    strangers = r"1\.membrane, 1\.steps, 1\.trace, 1\.trace_sensitivity"
    kept = "keeps membrane, trace, trace_sensitivity, steps, got"
    each_refused(
        (lambda: layer.load_state(state_of(LIF(IN, OUT + 1))), r"cannot take a membrane of shape \(3, 5\)"),
        (lambda: layer.load_state(state_of(LIF(IN, OUT, decay=TWO))), r"cannot take a trace of shape \(2, 3, 6\)"),
        (lambda: layer.load_state(state_of(shorter)), rf"{kept} 0\.membrane"),
        (lambda: layer.load_state({"membrane": state["membrane"], "steps": state["steps"]}), f"{kept} membrane, steps"),
        (
            lambda: LIF(5, OUT).load_state(state),
            r"LIF\(5, 4\) cannot take a trace of shape \(3, 6\): it keeps \(3, 5\)",
        ),
        (lambda: Sequential(layer).load_state(longer), f"a network of 1 layers has no place for {strangers}"),
    )
    assert layer.state is None


@pytest.mark.parametrize("how", ["load_state", "state"])
def test_a_state_of_whole_numbers_is_refused(how):
    layer = LIF(5, 4)
    layer(torch.ones(2, 5))
    state = layer.state.map(torch.Tensor.long)
    with pytest.raises(ValueError, match=r"cannot take a membrane of torch.int64, which would hold no fractions"):
        layer.load_state(state.named()) if how == "load_state" else setattr(layer, "state", state)
