"""ES-D-RTRL, and D-RTRL as OTTT, against BrainTrace's own gradients; skipped where `braintrace` is not installed."""

import warnings

import numpy as np
import pytest
import torch

from tests.common import normal
from tests.oracle import TRIANGLE, example, network
from tests.rules.test_stepwise import learned_at_steps
from tracetorch.nn import LI
from tracetorch.rules import ESDRTRL, OTTT

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    braintrace = pytest.importorskip("braintrace")  # pip install braintrace
    import brainstate
    import jax
    import jax.numpy as jnp

jax.config.update("jax_enable_x64", True)
pytestmark = pytest.mark.filterwarnings("ignore")


@jax.custom_vjp
def spike(x):
    return (x > 0).astype(x.dtype)


def triangle(x, signal):
    return (signal * jnp.clip(1 - jnp.abs(x), 0, None),)


spike.defvjp(lambda x: (spike(x), x), triangle)


class Theirs(brainstate.nn.Module):
    """A layer of ours, of LIF neurons or leaky integrators; its state is the membrane before the reset."""

    def __init__(self, layer, through_reset):
        super().__init__()
        values = {"weight": layer.weight.T, "bias": layer.bias}
        self.weight = brainstate.ParamState({name: jnp.asarray(np.array(value)) for name, value in values.items()})
        self.decay, self.through_reset = float(layer.neuron.decay), through_reset
        self.threshold = float(layer.neuron.threshold) if layer.neuron.spiking else None

    def init_state(self, *_args, **_options):
        self.membrane = brainstate.HiddenState(jnp.zeros((1, len(self.weight.value["bias"]))))

    def spikes(self, membrane):
        return spike((membrane - self.threshold) / self.threshold)

    def update(self, x):
        kept, values = self.membrane.value, self.weight.value
        current = braintrace.matmul(x, values["weight"], values["bias"])
        if self.threshold is not None:
            spikes = self.spikes(kept)
            kept = kept - self.threshold * (spikes if self.through_reset else jax.lax.stop_gradient(spikes))
        self.membrane.value = self.decay * kept + current
        return self.membrane.value if self.threshold is None else self.spikes(self.membrane.value)


class Net(brainstate.nn.Module):
    def __init__(self, net, through_reset):
        super().__init__()
        self.parts = [Theirs(layer, through_reset) for layer in net]

    def update(self, x):
        for part in self.parts:
            x = part(x)
        return x


@torch.no_grad()
def of_theirs(net, algorithm, xs, signal, *, through_reset, **options):
    """Weight and bias of each layer, from BrainTrace."""
    theirs, inputs = Net(net, through_reset), jnp.asarray(xs.numpy())
    learner = braintrace.compile(theirs, algorithm, inputs[0], **options)
    found = learner.etrace_grad(
        inputs, jnp.asarray(signal.numpy()), step_fn=lambda x, at: jnp.sum(learner(x) * at), reduction="sum"
    )
    values = [value for _, value in sorted(found.items(), key=lambda item: str(item[0]))]
    return [torch.tensor(np.array(part)) for value in values for part in (value["weight"].T, value["bias"])]


@pytest.mark.parametrize(
    ("make", "algorithm", "options", "through_reset"),
    [(ESDRTRL, "ES_D_RTRL", 0.8, False), (ESDRTRL, "ES_D_RTRL", 0.8, True), (OTTT, "D_RTRL", None, False)],
)
def test_gradients_are_those_of_braintrace(make, algorithm, options, through_reset):
    """With the other treatment of the reset, the hidden layers' are not."""
    net, xs, signal = network(LI, hidden=2), example().xs[:, :1], normal(60, 1, 4)
    ours = {} if options is None else {"decay": options, "through_reset": through_reset}
    theirs = {} if options is None else {"decay_or_rank": options}
    found = learned_at_steps(make(net, surrogate=TRIANGLE, **ours), xs, signal)
    found = [found[f"layers.{at}.connection.{name}"] for at in range(3) for name in ("weight", "bias")]
    for reset in (through_reset, not through_reset):
        wanted = of_theirs(net, getattr(braintrace, algorithm), xs, signal, through_reset=reset, **theirs)
        off = [float((one - other).norm() / other.norm()) for one, other in zip(found, wanted, strict=True)]
        assert max(off) < 1e-9 if reset == through_reset else min(off[:4]) > 0.1, off
