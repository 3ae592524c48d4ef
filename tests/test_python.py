"""What users do to a network from outside: hooks, processes, modes of torch, seeds, arrays, systems other than Unix."""

import pickle
import subprocess
import sys
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

import tracetorch as tt
from tests.command_line import CLICKS
from tracetorch import memory
from tracetorch.nn import LIF, LIS, Sequential

XS = (torch.rand(70, 3, 6, generator=torch.Generator().manual_seed(0)) < 0.4).float()  # more than one chunk of e-prop
SIGNAL = torch.tensor([[0.5, -0.5], [-0.2, 0.2], [0.1, -0.1]])
RULES = {rule: getattr(tt.rules, rule) for rule in ("Trace", "BPTT", "CoarseBPTT", "EProp", "OTTT", "ThreeFactor")}


def network(trainable=("weight", "threshold")):
    torch.manual_seed(0)
    return Sequential(LIF(6, 5, trainable=trainable), LIS(5, 2, trainable=["weight"]))


def gradients_of(net, make):
    """The gradients that a rule finds, after one `forward` and one `backward`."""
    rule = make(net)
    rule.reset()
    rule.forward(XS, reduce="mean")
    if isinstance(rule, tt.rules.ThreeFactor):
        rule.observe(SIGNAL)
        rule.backward(torch.ones(3))
    else:
        rule.backward(SIGNAL)
    return [parameter.grad for parameter in net.parameters() if parameter.requires_grad]


@pytest.mark.parametrize("rule", RULES)
def test_each_hook_of_a_parameter_is_called_once_with_the_whole_gradient(rule):
    decays = ["decay"] * (rule in ("Trace", "BPTT", "CoarseBPTT"))  # the others learn decays from each step alone
    trainable = ("weight", *decays, "threshold")
    wanted = gradients_of(network(trainable), RULES[rule])
    net, seen, used = network(trainable), {}, []
    parameters = [parameter for parameter in net.parameters() if parameter.requires_grad]
    for at, parameter in enumerate(parameters):
        parameter.register_hook(lambda g, at=at: (seen.setdefault(at, []).append(g.clone()), 2 * g)[1])
        parameter.register_post_accumulate_grad_hook(lambda p: used.append(p.grad.clone()))
    found = gradients_of(net, RULES[rule])
    for at, gradient in enumerate(wanted):
        if gradient is None:
            assert found[at] is None and at not in seen
            continue
        assert len(seen[at]) == 1
        torch.testing.assert_close((seen[at][0], found[at]), (gradient, 2 * gradient))
        assert found[at].stride() == parameters[at].stride()
    assert len(used) == len(seen) and all(any(torch.equal(a, b) for b in used) for a in found if a is not None)


def test_an_optimizer_may_step_in_a_hook_without_a_change_below():
    wanted, net = gradients_of(network(), RULES["Trace"]), network()
    for parameter in net.parameters():
        if parameter.requires_grad:
            optimizer = torch.optim.SGD([parameter], lr=1.0)
            parameter.register_post_accumulate_grad_hook(lambda p, optimizer=optimizer: optimizer.step())
    torch.testing.assert_close(gradients_of(net, RULES["Trace"]), wanted)


def test_forward_hooks_are_called_once_a_chunk_and_may_change_its_values():
    net, seen = network(), []
    plain = net.run(XS, chunk=30)
    net.reset()
    net.register_forward_hook(lambda module, given, got: seen.append((module, given[0], got)))
    net[0].register_forward_hook(lambda module, given, got: seen.append((module, given[0], got)))
    torch.testing.assert_close(net.run(XS, chunk=30), plain, rtol=0, atol=1e-6)
    assert [module for module, _, _ in seen] == [net[0], net] * 3
    assert torch.equal(torch.cat([given for module, given, _ in seen if module is net]), XS)
    assert seen[0][2].shape == (30, 3, 5)
    net[0].register_forward_pre_hook(lambda module, given: torch.zeros_like(given[0]))
    net.reset()
    mean = net.run(tt.encode.poisson(XS[0], steps=70), reduce="mean")
    torch.testing.assert_close(mean, torch.full((3, 2), 0.5))
    assert not net[0].state.trace.any()


def test_a_network_in_another_process_has_a_state_of_its_own():
    net = network()
    net.run(XS)
    sent = pickle.loads(ForkingPickler.dumps(net))  # through shared memory, as a process that is spawned gets it
    before = net.save_state()
    for other in (sent, net):
        other(XS[0])
        other.run(XS)
    assert int(net[0].state.steps[0]) == int(sent[0].state.steps[0]) == 2 * len(XS) + 1
    before["0.steps"] += len(XS) + 1
    assert torch.equal(net.save_state()["0.steps"], before["0.steps"])


STREAMS = {
    "constant": lambda values: tt.encode.constant(values, steps=9),
    "latency": lambda values: tt.encode.latency(values, steps=9),
    "poisson": lambda values: tt.encode.poisson(values, steps=9, seed=1, samples=values.view(torch.int32)[:, 0]),
    "poisson in time": lambda values: tt.encode.poisson(values.expand(9, -1, -1), steps=9, seed=1)[2:7],
}


def test_a_stream_keeps_its_values_and_can_be_pickled():
    for stream, make in STREAMS.items():
        values = torch.rand(2, 40, generator=torch.Generator().manual_seed(3))
        made = make(values)
        before = made.dense().clone()
        values.zero_()
        assert torch.equal(made.dense(), before), stream
        assert torch.equal(pickle.loads(pickle.dumps(made)).dense(), before), stream


def test_a_batch_of_a_task_can_be_pickled_and_a_stream_passes_a_worker_of_a_data_loader():
    tasks = tt.tasks.PoissonClicks(), tt.tasks.CueAccumulation(), tt.tasks.StoreRecall(), tt.tasks.SequentialMNIST()
    for task in (*tasks, tt.tasks.Blocks(tt.tasks.StoreRecall(), classes=1)):
        xs = task.train_batch(0).xs[:20]
        assert torch.equal(pickle.loads(pickle.dumps(xs)).dense(), xs.dense()), task
    streams = [tt.encode.poisson(torch.full((1, 40), 0.5), steps=9, seed=seed) for seed in (0, 1)]
    found = list(DataLoader(streams, batch_size=None, num_workers=1))
    assert all(torch.equal(one.dense(), other.dense()) for one, other in zip(found, streams, strict=True))


def test_no_latency_is_lost_in_half_precision():
    for dtype in (torch.bfloat16, torch.float16):
        values = torch.linspace(0.001, 1, 41)[None].to(dtype)
        made, wanted = (tt.encode.latency(of, steps=4096).dense()[:, 0] for of in (values, values.double()))
        assert torch.equal(made.double(), wanted) and bool((made.sum(dim=0) == 1).all())


@pytest.mark.parametrize("rule", ["BPTT", "EProp"])
def test_autocast_changes_nothing(rule):
    wanted = gradients_of(network(), RULES[rule])
    with torch.autocast("cpu"):
        found = gradients_of(network(), RULES[rule])
    for a, b in zip(found, wanted, strict=True):
        assert (a is None and b is None) or torch.equal(a, b)


def test_a_network_that_ran_in_inference_mode_continues_and_learns():
    wanted, net = network(("weight", "decay")), network(("weight", "decay"))
    for one, mode in ((wanted, torch.no_grad), (net, torch.inference_mode)):
        with mode():
            one.run(XS)
            one(XS[0])
            one.reset(torch.tensor([True, False, False]))
        one(XS[1])
        one.backward(SIGNAL)
        one.run(XS)
    pairs = [(a.grad, b.grad) for a, b in zip(net.parameters(), wanted.parameters(), strict=True) if a.requires_grad]
    assert len(pairs) == 3 and all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("seed", [np.int64(-7), torch.tensor(2**40 + 5)])
def test_a_seed_is_any_whole_number(seed):
    rates, plain = torch.full((2, 50), 0.3), int(seed)
    one, other = (tt.encode.poisson(rates, steps=9, seed=of).dense() for of in (seed, plain))
    assert torch.equal(one, other)
    assert tt.encode.mix_seed(seed, 1) == tt.encode.mix_seed(plain, 1)
    a, b = (tt.rules.EProp(network(), feedback="random", seed=of % 1000) for of in (seed, plain))
    assert torch.equal(a.feedback_weights()[0], b.feedback_weights()[0])
    for kind in (tt.tasks.CueAccumulation, tt.tasks.PoissonClicks, tt.tasks.StoreRecall):
        kind(seed=1, batch_size=2).train_batch(0)
        for wrong in ([1], 1.0):  # also after an equal one
            with pytest.raises(TypeError, match=r"seed must be a whole number, got "):
                kind(seed=wrong, batch_size=2).train_batch(0)


@pytest.mark.parametrize(
    ("rule", "options"),
    [
        ("Trace", {"rate_map": "line"}),
        ("Trace", {"rate_map": "logistic"}),
        ("Trace", {"reset": "zero"}),
        ("BPTT", {"reset": "zero"}),
        ("EProp", {}),
    ],
)
def test_gradients_stay_finite_for_tiny_thresholds(rule, options):
    torch.manual_seed(0)
    net = Sequential(LIF(6, 5, trainable=["weight", "threshold"], **options), LIS(5, 2))
    with torch.no_grad():
        net[0].neuron.raw_threshold.fill_(-1e3)
    assert all(bool(gradient.isfinite().all()) for gradient in gradients_of(net, RULES[rule]) if gradient is not None)


def test_a_network_runs_without_a_compiler():
    code = (
        "import torch, tracetorch as tt\n"
        "net = tt.nn.LIF(5, 8)\n"
        "net.run(tt.encode.poisson(torch.full((2, 5), .3), steps=4), reduce='mean')\n"
        "print(net(torch.rand(2, 5)).shape)"
    )
    environment = {"NUMBA_DISABLE_JIT": "1", "PATH": ""}
    ended = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert "torch.Size([2, 8])" in ended.stdout and "NUMBA_DISABLE_JIT" in ended.stderr


UNIX = ("fcntl", "resource", "pwd", "grp", "termios", "tty", "pty")
SCRIPT = f"""
import signal, sys

sys.modules |= dict.fromkeys({UNIX})
for name in ("SIGHUP", "SIGUSR1", "SIGUSR2", "SIGKILL", "pthread_sigmask"):
    delattr(signal, name)
from typer.testing import CliRunner
from tracetorch.cli.main import app

for words in (["list", "rule"], ["show"], ["show", "-m", "seed=0,1"], ["info"], ["run", *sys.argv[1:]], ["info", "a"]):
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, (words, result.output)
"""


def test_every_verb_works_without_the_modules_of_unix(here):
    subprocess.run([sys.executable, "-c", SCRIPT, *CLICKS, "output.dir=a"], check=True)


def test_the_peak_of_memory_is_unknown_without_a_system_that_reports_it(monkeypatch):
    monkeypatch.setattr(memory, "_STATUS", Path("no such file"))
    monkeypatch.setattr(memory, "resource", None)
    assert memory.peak_memory_bytes(torch.device("cpu")) is None
