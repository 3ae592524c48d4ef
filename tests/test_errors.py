"""Wrong use from Python: each ends in one sentence of the library, never in an error of torch's or in silence."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

import tracetorch as tt
from tests.common import BATCH, IN, LAYERS, OUT, build, each, normal, spikes
from tracetorch import device, encode, loss, runs, tasks
from tracetorch import functional as F
from tracetorch.compare.comparison import NothingToCompareError, compare
from tracetorch.modes import all_finite
from tracetorch.nn import LI, LIF, LIS, Layer, Sequential, feedforward, neurons

X = torch.full((2, 4), 0.5)
TWO, HALF = torch.tensor([0.5, 0.9]), torch.full((4,), 0.5)
P = torch.full((2, 3), 1 / 3)
ARRAY = np.ones((2, 4), np.float32)
TAKEN = torch.tensor([0, 1])


def network():
    return Sequential(LIF(4, 5), LIS(5, 3))


def mixed():
    net = network()
    net[0].precision = torch.bfloat16
    return net


def ran():
    net = network()
    net(X)
    return net


def reflect(*given):
    reflect = loss.Reflect(decay=0.9)
    reflect.observe(P, TAKEN)
    return reflect(*given)


def gives(x, steps):
    return encode.Stream(lambda start, stop: x[None], steps, (2, 4))


def critic(*given):
    actor_critic = loss.ActorCritic()
    actor_critic.observe(P, TAKEN)
    return actor_critic(*given)


ENDS = torch.tensor([True, False])

CASES = [
    (lambda: tasks.RewardedTask(tasks.PoissonClicks()).act(ARRAY), "act: expected a torch tensor, got numpy"),
    (lambda: network()(ARRAY), "LIF(4, 5): expected a torch tensor, got numpy.ndarray; torch.as_tensor(value)"),
    (lambda: network()(encode.poisson(X, 3)), "got tracetorch.Stream; net.run takes a stream"),
    (lambda: network()(X.to("meta")), "LIF(4, 5) is on cpu, and its input on meta: move one of them with .to"),
    (lambda: network().run(X[None].to("meta")), "LIF(4, 5) is on cpu, and its input on meta: move one of them"),
    (lambda: Sequential(LIF(4, 5), LIS(5, 3).to("meta")).run(X[None]), "LIS(5, 3) is on meta, and its input on cpu"),
    *(
        (lambda name=name: device.resolve(name), f"device={name} is not a device: use auto, cpu, cuda")
        for name in ("cpu:", "cpu:0", "cuda:x", "gpu")
    ),
    *[(lambda: device.resolve("mps"), "device=mps: this machine has no Apple GPU")]
    * (not torch.backends.mps.is_available()),
    (lambda: network()(X + 0j), "expected a dense tensor of real numbers, got torch.complex64"),
    (lambda: network().run(X[None].to_sparse()), "run: expected a dense tensor of real numbers"),
    (lambda: ran().backward(ARRAY[:, :3]), "the signal for LIS(5, 3): expected a torch tensor, got numpy"),
    (
        lambda: ran().backward(P + 0j),
        "the signal for LIS(5, 3): expected a dense tensor of real numbers, got torch.com",
    ),
    (lambda: ran().backward(P.to_sparse()), "the signal for LIS(5, 3): expected a dense tensor of real numbers, got"),
    (lambda: ran().backward(loss.mse(P, P)), "got tuple; a loss returns (loss, signal): pass one of them"),
    (lambda: ran().backward(torch.ones(2, 3, device="meta")), "LIS(5, 3) is on cpu, and its signal on meta: move"),
    (lambda: ran().reset([True, False]), "mask: expected a torch tensor, got list"),
    (lambda: LIF(4, 3).load_state([1]), "load_state takes the result of save_state, tensors by name, got list"),
    (lambda: ran().load_state([1]), "load_state takes the result of save_state, tensors by name, got list"),
    (lambda: ran().load_state(ran().save_state() | {"0.trace": ARRAY}), "trace: expected a torch tensor, got numpy"),
    (lambda: loss.cross_entropy(P.numpy(), TAKEN), "the output that a loss takes: expected a torch tensor"),
    (lambda: loss.mse(P, P.numpy()), "the target of a loss: expected a torch tensor, got numpy.ndarray"),
    (lambda: loss.cross_entropy_with_logits(P.long(), TAKEN), "a loss takes real numbers of shape (batch, outputs)"),
    (lambda: loss.mse(P[0, 0], P[0, 0]), "a loss takes real numbers of shape (batch, outputs), got torch.float32 of"),
    (lambda: encode.poisson(X, 3, samples=[0, 1]), "samples: expected a torch tensor, got list"),
    (lambda: encode.population(ARRAY, 3), "values to encode: expected a torch tensor, got numpy"),
    (lambda: encode.two_sided(ARRAY), "values to encode: expected a torch tensor, got numpy"),
    (lambda: encode.population(X[0, 0], 3), "have the shape (…, channels), got ()"),
    (lambda: F.trace_step(ARRAY, X, 0.9), "x: expected a torch tensor, got numpy.ndarray"),
    (lambda: F.trace_step(X, ARRAY, 0.9), "trace: expected a torch tensor, got numpy.ndarray"),
    (lambda: F.lif_step(ARRAY, X, 0.9, 1.0), "current: expected a torch tensor, got numpy.ndarray"),
    (lambda: F.lif_step(X, ARRAY, 0.9, 1.0), "membrane: expected a torch tensor, got numpy.ndarray"),
    (lambda: F.li_step(ARRAY, X, 0.9), "current: expected a torch tensor, got numpy.ndarray"),
    (lambda: F.average_input(ARRAY, 0.9), "trace: expected a torch tensor, got numpy.ndarray"),
    (lambda: F.rise(torch.tensor(0.9), 3), "steps: expected a torch tensor, got int"),
    (lambda: F.lif_rate(ARRAY, 0.9, 1.0), "current: expected a torch tensor, got numpy.ndarray"),
    (lambda: F.lif_rate_logistic(ARRAY, 0.9, 1.0), "current: expected a torch tensor, got numpy.ndarray"),
    (lambda: F.li_level(ARRAY, 0.9), "current: expected a torch tensor, got numpy.ndarray"),
    (lambda: F.lis_distribution(ARRAY, 0.9), "current: expected a torch tensor, got numpy.ndarray"),
    (lambda: F.li_step(X, ARRAY, 0.9), "membrane: expected a torch tensor, got numpy.ndarray"),
    (lambda: loss.Reflect().policy(P.numpy()), "the output: expected a torch tensor, got numpy.ndarray"),
    (lambda: loss.ActorCritic().policy(P.numpy()), "the output: expected a torch tensor, got numpy.ndarray"),
    (lambda: loss.Reflect().observe(P.numpy(), TAKEN), "the output: expected a torch tensor, got numpy.ndarray"),
    (lambda: loss.Reflect().observe(P, [0, 1]), "the action: expected a torch tensor, got list"),
    (lambda: loss.Reflect().observe(P, TAKEN[:1]), "the action must be whole numbers of shape (2,), got torch.int64"),
    (lambda: loss.Reflect().observe(P, X[:, 0]), "the action must be whole numbers of shape (2,), got torch.float32"),
    (lambda: loss.ActorCritic().observe(P[0], TAKEN), "must have the shape (batch, outputs), got (3,)"),
    (lambda: reflect(1.0), "the reward: expected a torch tensor, got float; torch.as_tensor(value) makes one"),
    (lambda: reflect(X[:, 0], ENDS.numpy()), "done: expected a torch tensor, got numpy.ndarray"),
    (lambda: reflect(X[:, 0], ENDS[:1]), "done must be torch.bool of shape (2,), got torch.bool of"),
    (lambda: critic(X[:, 0], X[:, 0], P), "terminated must be torch.bool of shape (2,), got torch.float"),
    (lambda: critic(X[:, 0], ENDS, P.numpy()), "upcoming: expected a torch tensor, got numpy.ndarray"),
    (lambda: critic(X[:, 0], ENDS, P[:1]), "that was observed, (2, 3), got (1, 3)"),
    (lambda: LIF(4.0, 3), "in_features must be a whole number, got 4.0"),
    (lambda: LI(4, 3, decay="0.9"), "decay must be a number, or a list of numbers, got '0.9'"),
    (lambda: tt.constrain.decay_from_half_life("a"), "a half-life must be a number, or a list of numbers"),
    (lambda: LIF(4, 3, bias="no"), "bias must be True or False, got 'no'"),
    (lambda: LIF(4, 3, decay_gradient="none"), "decay_gradient must be one of exact, stationary, got 'none'"),
    (lambda: LIF(4, 3, bank=[0.9], trace_bank=[0.9]), "bank is now trace_bank: give one of them"),
    (
        lambda: LIF(torch.nn.Conv2d(1, 2, 3), decay=TWO),
        "with neurons of several dimensions, a tied trace has one decay",
    ),
    (lambda: Layer(4, 3, neuron=lambda features: None), "neuron makes the neurons from their number, such as"),
    (lambda: setattr(network(), "precision", torch.float16), "precision must be torch.bfloat16, torch.float32,"),
    (lambda: mixed().precision, "the layers have different precisions, {"),
    (lambda: LIF(4, 3, trainable=3), "trainable is a list of parameters, such as ['weight'] or [], got 3"),
    (lambda: Layer(torch.nn.LSTM(4, 3), neuron=neurons.LIF)(X), "a tensor of currents, and LSTM(4, 3) gives tuple"),
    (lambda: LIF(4, 3, trace_bank=None), "trace_bank is a list of decays, such as [0.97], got None"),
    (lambda: network().run(X[None], reduce="mean", window="1"), "window must be a whole number, got '1'"),
    (lambda: network().run(X[None], chunk=2.5), "chunk must be a whole number, got 2.5"),
    (lambda: encode.poisson(X, steps=3.5), "steps must be a whole number, got 3.5"),
    (lambda: loss.cross_entropy(P, TAKEN, floor="a"), "floor must be a number, got 'a'"),
    (lambda: loss.Reflect(entropy="a"), "entropy must be a number, got 'a'"),
    (lambda: loss.Reflect(uniform="a"), "uniform must be a number, got 'a'"),
    (lambda: loss.Reflect(mixture_rate="a"), "mixture_rate must be a number, got 'a'"),
    (lambda: loss.Reflect(decay=["a"]), "decay must be a number, got 'a'"),
    (lambda: loss.Reflect(mixture="a"), "mixture must be a number, or a list of numbers, got 'a'"),
    (lambda: loss.ActorCritic(discount=[1]), "discount must be a number, got [1]"),
    (lambda: Sequential(LIF, LIS(5, 3)), "got the class LIF; make a layer of it: LIF(inputs, neurons)"),
    (lambda: Sequential([LIF(4, 5), LIS(5, 3)]), "got list; unpack it: Sequential(*layers)"),
    (lambda: Sequential(torch.nn.Linear(4, 5)), "got torch.Linear; torch.nn.Sequential joins"),
    (lambda: feedforward(4, 3, hidden=5, neuron=LIF, readout=LIS), "hidden is a list of sizes, such as [256]"),
    (lambda: feedforward(4, 3, hidden=[5], neuron=LIF(4, 5), readout=LIS), "such as tracetorch.nn.LIF, got LIF(4, 5)"),
    (lambda: encode.Stream(X, 3, (2, 4)), "a stream is made by a function make(start, stop), got Tensor"),
    (lambda: LIF(4, 3).run(gives(X, 3)), "make(0, 3) of a stream must give the shape (3, 2, 4), got (1, 2, 4)"),
    (lambda: LIF(4, 3).run(gives(ARRAY, 1)), "a chunk of a stream: expected a torch tensor, got numpy.ndarray"),
    (lambda: LIF(4, 3).run(ARRAY[None]), "run: expected a torch tensor, got numpy.ndarray; torch.as_tensor(value)"),
    (lambda: encode.poisson(ARRAY, steps=3), "expected a torch tensor, got numpy.ndarray; torch.as_tensor(value)"),
    (lambda: encode.poisson(X, steps=5, seed=0.5), "seed must be a whole number, got 0.5"),
    (lambda: LIF(6, 4, trainable=("wieght",)), "trainable: a LIF has no 'wieght'; did you mean 'weight'"),
    (lambda: LIF(6, 4, trainable="zzz"), "has no 'zzz'; it has weight, bias, trace_decay, decay"),
    (lambda: LIS(6, 4, trainable=("weight", "raw_decay")), "has no 'raw_decay'"),
    (lambda: LIF(6, 4, trainable=("trace_decay",)), "a tied trace_decay equals the membrane's"),
    (lambda: LI(6, 4, trainable=("threshold",)), "a LI has no 'threshold'"),
    (lambda: LIF(6, 4, decay=1.0), "a decay must be between 0 and 1 (both excluded), got 1.0"),
    (lambda: LI(6, 4, decay=torch.tensor([0.5, -0.1])), "a decay must be between 0 and 1"),
    (lambda: LIF(6, 4, trace_decay="x"), "trace_decay must be a number, one for each input, or \"membrane\", got 'x'"),
    (lambda: LI(6, 4, trace_decay=HALF), "trace_decay must be a number or 6 of them, got shape (4,)"),
    (lambda: LIF(6, 4, trace_decay=0.5, decay=TWO), "decay must be a number or 4 of them, got shape (2,)"),
    (lambda: LIS(6, 4, decay=torch.full((3,), 0.5)), "one for each of equal groups of neurons, got shape (3,)"),
    (lambda: LIS(6, 4, decay=torch.full((2, 2), 0.5)), "one for each of equal groups of neurons, got shape (2, 2)"),
    (lambda: LIS(6, 4, decay=[]), "one for each of equal groups of neurons, got shape (0,)"),
    (lambda: LIF(6, 4, threshold=0), "a threshold must be a finite number above 0"),
    (lambda: LIF(6, 4, threshold=torch.ones(3)), "threshold must be a number or 4 of them, got shape (3,)"),
    (lambda: LIF(6, 4, rate_map="linear"), "rate_map must be one of line, logistic, got 'linear'"),
    (lambda: LIF(6, 4, reset="none"), "reset must be one of subtract, zero, got 'none'"),
    (lambda: LIF(6, 4, reset="zero", rate_map="logistic"), "the only rate_map is line, got 'logistic'"),
    (Sequential, "a network needs at least one layer"),
    (lambda: Sequential(LIF(6, 5), LI(4, 2)), "LIF(6, 5) gives 5 outputs, but LI(4, 2) takes 4"),
    (lambda: Sequential(*[LIF(3, 3)] * 2), "LIF(3, 3) is in the network twice"),
    (lambda: LIF(0, 4), "at least 1 input and 1 neuron, got 0 and 4"),
    (lambda: LIF(4, 0), "at least 1 input and 1 neuron, got 4 and 0"),
    (lambda: LIF(6, 17, decay=torch.full((17,), 0.9)), "a trace tied to 17 decays would need 17 traces"),
]


@pytest.mark.parametrize(("call", "phrase"), CASES, ids=[phrase for _, phrase in CASES])
def test_a_wrong_argument_is_refused_in_one_sentence(call, phrase):
    with pytest.raises((TypeError, ValueError), match=re.escape(phrase)) as caught:
        call()
    assert "\n" not in str(caught.value)
    assert "tracetorch" in str(caught.traceback[-1].path)


def each_refused(*wrong):
    """Every call of these (call, message) ends in a message that matches."""
    for call, message in wrong:
        with pytest.raises((ValueError, RuntimeError), match=message):
            call()


@each([row for row in LAYERS if row.name in ("LIF-zero", "own", "network")])
def test_wrong_calls_are_refused_and_change_nothing(row):
    net, xs = build(row), spikes()
    each_refused(
        (lambda: net(torch.ones(IN)), r"\(6, \d\)\)? expects a step of shape \(batch, 6\), got \(6,\)"),
        (lambda: net(torch.ones(BATCH, 5)), r"expects a step of shape \(batch, 6\), got \(3, 5\)"),
        (lambda: net.run(torch.ones(9, BATCH, 5)), r"a chunk of shape \(time, batch, 6\), got \(9, 3, 5\)"),
        (lambda: net.run(torch.ones(9, BATCH, IN, 1)), r"a chunk of shape \(time, batch, 6\), got \(9, 3, 6, 1\)"),
        (lambda: net.run(torch.ones(BATCH, IN)), r"run expects \(time, batch, features\), got shape \(3, 6\)"),
        (lambda: net.run(xs, reduce="sum"), r'reduce must be None \(all outputs\) or "mean", got \'sum\''),
        (lambda: net.run(xs, reduce="mean", window=0), "window=0 .* and the 24 steps"),
        (lambda: net.run(xs, reduce="mean", window=25), "window=25 .* and the 24 steps"),
        (lambda: net.run(xs, window=3), 'window=3 needs reduce="mean"'),
        (lambda: net.run(xs[:0]), "at least 1 step"),
        (lambda: net.run(xs, chunk=-1), "a chunk needs at least 1 step, got -1"),
        (lambda: net.run(xs, reduce="mean", chunk=0), "a chunk needs at least 1 step, got 0"),
        (lambda: net.backward(normal(BATCH, OUT)), r"\(\d, 4\)\)? has seen no input: call net\(x\) or net.run\(xs\)"),
    )
    assert net.save_state() == {}
    net(xs[0])
    each_refused(
        *((lambda shape=shape: net.backward(torch.ones(shape)), r"expects a signal of shape \(3, 4\), got \(")
          for shape in ((1, OUT), (BATCH, OUT + 1), (BATCH,), (2, BATCH, OUT))),
        *((use, r"holds a state of batch 3, got batch 1: call net.reset\(\) first")
          for use in (lambda: net(torch.ones(1, IN)), lambda: net.run(torch.ones(5, 1, IN)))),
    )  # fmt: skip
    assert all(value.grad is None for value in net.parameters())


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
        (lambda: LIF(5, OUT).load_state(state), r"cannot take a trace of shape \(3, 6\): it keeps \(3, 5\)"),
        (lambda: Sequential(layer).load_state(longer), f"a network of 1 layers has no state named {strangers}"),
    )
    assert layer.state is None
    layer(torch.ones(2, IN))
    whole = layer.state.map(torch.Tensor.long)
    message = "cannot take a membrane of torch.int64, which holds no fractions"
    each_refused((lambda: layer.load_state(whole.named()), message), (lambda: setattr(layer, "state", whole), message))


def test_numbers_of_numpy_and_of_python_and_whole_numbers_are_accepted():
    net = Sequential(LIF(np.int64(4), 5, decay=np.float32(0.8)), LIS(5, 3, decay=np.full(1, 0.9)))
    assert repr(net[0]) == "LIF(4, 5)"
    assert net.run(encode.poisson(X, steps=np.int64(3)), reduce="mean", window=np.int64(2)).shape == (2, 3)
    steps, whole = torch.tensor([[3], [4]]), torch.tensor([[0, 1]])
    as_tensor = F.average_input(X, torch.tensor(0.9), steps)
    torch.testing.assert_close(F.average_input(X, 0.9, steps), as_tensor)
    torch.testing.assert_close(F.li_level(X, 0.9, steps), F.li_level(X, torch.tensor(0.9), steps))
    torch.testing.assert_close(encode.population(whole, 4), encode.population(whole.float(), 4))
    many = torch.full((17,), 0.9)  # too many for traces tied to them
    assert LIF(IN, 16, decay=many[:16]).input_trace.groups == 16
    assert LIF(IN, 17, decay=many, trace_decay=0.9).input_trace.groups == 1


def test_paths_may_be_text(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    net, other = ran(), network()
    runs.save_checkpoint("run/latest.pt", net, torch.optim.Adam(net.parameters()), update=3)
    assert runs.load_checkpoint("run/latest.pt", other)["update"] == 3
    torch.testing.assert_close(other.save_state(), net.save_state())
    with pytest.raises(FileNotFoundError, match=r"there is no checkpoint nowhere\.pt"):
        runs.load_checkpoint("nowhere.pt", other)
    assert runs.RunFolder("run").path == Path("run")
    with runs.Run({"seed": 0}, experiment="mine", root="here") as run:
        run.record({"update": 1, "loss": 0.5})
    assert run.folder.path.parent == tmp_path / "here" / "mine"
    with pytest.raises(NothingToCompareError):
        compare("run")


@pytest.mark.parametrize("value", [X.to(torch.complex64), X.to_sparse()], ids=["complex", "sparse"])
def test_a_complex_and_a_sparse_tensor_are_each_refused(value):
    with pytest.raises(TypeError, match="expected a dense tensor of real numbers, got torch"):
        LIF(4, 3)(value)


def test_large_numbers_are_finite_though_their_sum_is_not():
    assert all_finite(torch.full((4,), 3e38)) and not all_finite(torch.tensor([1.0, torch.inf]))
    assert not all_finite(torch.tensor([torch.inf, -torch.inf]))
