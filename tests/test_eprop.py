"""E-prop: its definition, written out; where it equals backpropagation through time, and where it is known not to."""

import pytest
import torch

from tests.common import BATCH, IN, OUT, normal, spikes
from tests.test_bptt import gradients, lively
from tracetorch.encode import poisson
from tracetorch.nn import LI, LIF, LIS, Sequential
from tracetorch.rules import BPTT, EProp, replayed
from tracetorch.rules.surrogate import Triangle


def definition(net, xs, signal, window, surrogate, feedback):
    """Σ_t L_j(t)·ē_ji(t) for every synapse and sample on its own, by plain loops."""
    hidden, readout = net
    sums = [torch.zeros_like(layer.weight) for layer in net]
    for sample in range(BATCH):
        v, y = torch.zeros(hidden.out_features).double(), torch.zeros(OUT).double()
        trace, filtered = torch.zeros(IN).double(), torch.zeros(hidden.out_features).double()
        eligibility = torch.zeros_like(hidden.weight)
        for step, x in enumerate(xs[:, sample]):
            trace = hidden.decay * trace + x
            raised = hidden.decay * v + hidden.weight @ x
            fired = (raised > hidden.threshold).double()
            v = raised - hidden.threshold * fired
            pseudo = surrogate.derivative((raised - hidden.threshold) / hidden.threshold) / hidden.threshold
            eligibility = readout.decay * eligibility + torch.outer(pseudo, trace)
            y = readout.decay * y + readout.weight @ fired
            filtered = readout.decay * filtered + fired
            if step < len(xs) - window:
                continue
            error = signal[sample] / window
            if isinstance(readout, LIS):
                p = torch.softmax(y, dim=-1)
                error = p * (error - p @ error)
            sums[0] += (feedback.T @ error)[:, None] * eligibility
            sums[1] += torch.outer(error, filtered)
    return sums


@pytest.fixture(params=[64, 5])
def chunk(request, monkeypatch):
    """All 24 steps at once; or 4, and then 5 at a time."""
    monkeypatch.setattr(replayed, "CHUNK", request.param)
    return request.param


@pytest.mark.usefixtures("chunk")
@pytest.mark.parametrize("feedback", ["symmetric", "random"])
@pytest.mark.parametrize("window", [1, 7, 24])
@pytest.mark.parametrize("readout", [LI, LIS])
@pytest.mark.parametrize("streamed", [False, True])
def test_its_weight_gradient_is_its_definition(feedback, window, readout, streamed):
    net = Sequential(lively("LIF-LI")[0], readout(5, OUT, decay=0.9).double())
    stream = poisson(torch.full((BATCH, IN), 0.4, dtype=torch.float64), 24, seed=2)
    signal, rule = normal(BATCH, OUT), EProp(net, feedback=feedback, seed=4)
    rule.begin()
    rule.forward(stream if streamed else stream.dense(), reduce="mean", window=window)
    rule.backward(signal)
    (sent_down,) = rule.feedback_weights()
    assert torch.equal(sent_down, net[1].weight) is (feedback == "symmetric")
    with torch.no_grad():
        wanted = definition(net, stream.dense(), signal, window, Triangle(), sent_down)
    for layer, value in zip(net, wanted, strict=True):
        assert value.abs().max() > 0
        torch.testing.assert_close(layer.weight.grad, value, rtol=1e-9, atol=1e-9)


def both(net, reference, *, reduce, **options):
    """Gradients of e-prop and of BPTT with the same surrogate, of the same network on the same input."""
    signal = normal(BATCH, OUT)
    for rule in (EProp(net, **options), BPTT(reference, surrogate="triangle")):
        rule.begin()
        rule.forward(spikes(), reduce=reduce)
        rule.backward(signal)
    return gradients(net), gradients(reference)


@pytest.mark.usefixtures("chunk")
@pytest.mark.parametrize("reduce", [None, "mean"])
@pytest.mark.parametrize(
    ("hidden", "readout"),
    [
        (lambda: LIF(IN, 6, decay=0.8, threshold=0.6, bias=True), lambda: LI(6, OUT, decay=0.9, bias=True)),
        (lambda: LIF(IN, 6, decay=torch.tensor([0.5, 0.9]), threshold=0.6, bias=True), lambda: LIS(6, OUT, decay=0.7)),
    ],
    ids=["LI", "groups-LIS"],
)
def test_next_to_the_readout_nothing_is_dropped(hidden, readout, reduce):
    def make():
        torch.manual_seed(3)
        net = Sequential(hidden(), readout()).double()
        net[0].weight.data.uniform_(-0.2, 0.8)
        return net

    found, wanted = both(make(), make(), reduce=reduce)
    for name in [name for name in wanted if name.endswith(("weight", "bias"))]:
        assert wanted[name].abs().max() > 0
        torch.testing.assert_close(found[name], wanted[name], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("reduce", [None, "mean"])
def test_however_time_is_cut_into_chunks_it_is_the_same_gradient(reduce, monkeypatch):
    """Down to single steps; with groups, free traces, biases, and a sequence that is under way already."""
    found = []
    for size in (1, 5, 23, 64):
        monkeypatch.setattr(replayed, "CHUNK", size)
        net = lively("LIF-LIF-LIS")
        net[2].bias = torch.nn.Parameter(torch.full((OUT,), 0.1).double())
        rule = EProp(net, surrogate="arctan")
        rule.begin()
        rule.forward(spikes()[:3])
        rule.forward(spikes()[3:], reduce=reduce)
        rule.backward(normal(BATCH, OUT))
        found.append(gradients(net))
    assert len(found[0]) == 10 and all(value.abs().max() > 0 for value in found[0].values())
    for other in found[1:]:
        for name, value in found[0].items():
            torch.testing.assert_close(other[name], value, rtol=1e-9, atol=1e-9)


@pytest.mark.usefixtures("chunk")
@pytest.mark.parametrize("learnt", ["every", "last"])
def test_stretch_by_stretch_it_remembers_what_came_before(learnt):
    """Three stretches of a sequence, learnt from at each end or at the last; in the latter a sample begins anew."""
    found = []
    for parts in ([6, 9, 9], [24]):
        net, xs = lively("LIF-LI"), spikes()
        if learnt == "last" and len(parts) == 1:
            xs[:6, 1] = 0  # what a sample that begins anew after 6 steps has not seen
        rule = EProp(net)
        rule.begin()
        for at, part in enumerate(xs.split(parts)):
            rule.forward(part, reduce="mean", window=3)
            if learnt == "every" or at == len(parts) - 1:
                net.zero_grad()
                rule.backward(normal(BATCH, OUT))
            if at == 0 and len(parts) > 1 and learnt == "last":
                rule.begin(torch.tensor([False, True, False]))
        found.append(gradients(net))
    for name in ("layers.0.weight", "layers.1.weight"):
        assert found[0][name].abs().max() > 0
        torch.testing.assert_close(found[0][name], found[1][name], rtol=1e-9, atol=1e-9)


def test_lanes_begin_anew_with_biases_and_groups_too():
    """As if what these samples saw before had been nothing: a run of the rest alone, for them."""
    lanes = torch.tensor([False, True, False])
    found = []
    for whole in (True, False):
        torch.manual_seed(3)
        net = Sequential(LIF(IN, 6, decay=torch.tensor([0.5, 0.9]), threshold=0.6, bias=True), LI(6, OUT)).double()
        net[0].weight.data.uniform_(-0.2, 0.8)
        rule, signal = EProp(net), normal(BATCH, OUT)
        rule.begin()
        if whole:
            rule.forward(spikes()[:9])
            rule.backward(signal)
            rule.begin(lanes)
        net.zero_grad()
        rule.forward(spikes()[9:])
        rule.backward(signal * lanes[:, None])  # of those that began anew alone
        found.append(gradients(net))
    for name, value in found[1].items():
        torch.testing.assert_close(found[0][name], value, rtol=1e-9, atol=1e-9)
    assert found[0]["layers.0.bias"].any() and found[0]["layers.0.weight"].any()


def streams(rule, *what):
    """Stretches of one sequence, learnt from at the last alone; what is a number of steps, or something to do."""
    xs, at = spikes(), 0
    rule.begin()
    for part in what:
        if callable(part):
            part(rule, xs)
        else:
            rule.forward(xs[at : at + part], reduce="mean")
            at += part
    rule.net.zero_grad()
    rule.backward(normal(BATCH, OUT))
    return gradients(rule.net)["layers.0.weight"]


def an_odd_input(rule, xs):
    with pytest.raises(ValueError, match=r"features|shape"):
        rule.forward(xs[..., :-1])


def an_odd_signal(rule, xs):
    with pytest.raises(ValueError, match=r"expected a signal of shape \(3, 4\), got"):
        rule.backward(normal(BATCH, OUT)[:, :1])


def a_look_without_learning(rule, xs):
    with torch.no_grad():
        rule.forward(xs[:1])


@pytest.mark.usefixtures("chunk")
@pytest.mark.parametrize("error", [an_odd_input, an_odd_signal])
def test_after_an_error_it_goes_on_as_if_it_had_not_been(error):
    found = streams(EProp(lively("LIF-LI")), 9, error, 15)
    torch.testing.assert_close(found, streams(EProp(lively("LIF-LI")), 9, 15), rtol=1e-9, atol=1e-9)


def test_a_look_without_autograd_ends_all_eligibilities():
    found = streams(EProp(lively("LIF-LI")), 9, a_look_without_learning, 15)
    again = streams(EProp(lively("LIF-LI")), 9, lambda rule, xs: rule.backward(normal(BATCH, OUT)),
                    a_look_without_learning, 15)  # fmt: skip
    torch.testing.assert_close(found, again, rtol=1e-9, atol=1e-9)


def test_a_checkpoint_holds_its_eligibilities():
    def reload(rule, xs):
        rule.backward(normal(BATCH, OUT))
        state = rule.state_dict()
        rule._eligibilities = rule._none_yet()
        rule.load_state_dict(state)

    found = streams(EProp(lively("LIF-LI")), 9, reload, 15)
    torch.testing.assert_close(found, streams(EProp(lively("LIF-LI")), 9, 15), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("above", [LI, LIF])
def test_eligibilities_are_formed_only_if_a_signal_may_meet_them(chunk, above):
    rule = EProp(Sequential(lively("LIF-LI")[0], above(5, OUT).double()))
    for stretch in (1, 2):
        rule.forward(spikes(), reduce="mean")
        rule.backward(normal(BATCH, OUT))
        (eligibility,) = rule._eligibilities
        assert (eligibility.weight is not None) is (above is LI and (chunk == 5 or stretch == 2))


@pytest.mark.parametrize("options", [{}, {"feedback": "random"}], ids=str)
def test_known_limit_further_down_and_with_random_feedback_it_is_another_gradient(options):
    found, wanted = both(lively("LIF-LIF-LIS"), lively("LIF-LIF-LIS"), reduce="mean", **options)
    name = "layers.0.weight" if not options else "layers.1.weight"
    agreement = float(torch.nn.functional.cosine_similarity(found[name].flatten(), wanted[name].flatten(), dim=0))
    assert abs(agreement) < 0.95, agreement


@pytest.mark.usefixtures("chunk")
def test_a_network_that_fires_to_the_end_has_no_filter():
    found, wanted = both(lively("LIF"), lively("LIF"), reduce="mean")
    torch.testing.assert_close(found["layers.0.weight"], wanted["layers.0.weight"], rtol=1e-9, atol=1e-9)


def test_random_feedback_follows_its_seed_and_stays():
    net = lively("LIF-LI")
    first, same, other = (EProp(net, feedback="random", seed=seed).feedback_weights()[0] for seed in (1, 1, 2))
    assert torch.equal(first, same) and not torch.equal(first, other)


def test_what_cannot_be_is_told():
    with pytest.raises(ValueError, match="feedback must be symmetric or random, got 'adaptive'"):
        EProp(lively("LIF-LI"), feedback="adaptive")
    several = Sequential(LIF(IN, 4), LI(4, OUT, decay=torch.tensor([0.5, 0.9])))
    with pytest.raises(ValueError, match="needs a single one"):
        EProp(several)
    with pytest.raises(RuntimeError, match="nothing was run"):
        EProp(lively("LIF-LI")).backward(normal(BATCH, OUT))
