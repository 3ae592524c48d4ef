"""Connections map an input to a current: any torch module that is linear in its input, up to a constant bias."""

import math

import torch
from torch import Tensor
from torch.nn import Linear, Module, Parameter

from tracetorch.backends import Form
from tracetorch.modes import kind_of, whole


def make_linear(in_features: int, out_features: int, bias: bool) -> Linear:
    """Make a fully connected `Linear`. Weights are uniform in ±1/√in_features; biases are 0."""
    in_features, out_features = whole(in_features, "in_features"), whole(out_features, "out_features")
    if in_features < 1 or out_features < 1:
        raise ValueError(f"a layer needs at least 1 input and 1 neuron, got {in_features} and {out_features}")
    if not isinstance(bias, bool):
        raise TypeError(f"bias must be True or False, got {bias!r}")
    connection = Linear(in_features, out_features, bias=bias, device="meta")  # draws no weights of its own
    bound = 1 / math.sqrt(in_features)
    connection.weight = Parameter(torch.empty(out_features, in_features).uniform_(-bound, bound))
    if bias:
        connection.bias = Parameter(torch.zeros(out_features))
    return connection


def check_connection(connection: object) -> Module:
    """Return the connection unchanged. Raises: TypeError, with advice, if it is not a module."""
    if isinstance(connection, Module):
        return connection
    expected = "a layer takes its numbers of inputs and neurons, or a connection, such as torch.nn.Linear(784, 256)"
    advice = f"; make an instance of it: {connection.__name__}(…)" if isinstance(connection, type) else ""
    raise TypeError(f"{expected}; got {kind_of(connection)}{advice}")


def is_dense(connection: Module) -> bool:
    """Whether the current is `W·x + b` and no hook or other code runs, so that compiled code may compute it."""
    has_hooks = connection._forward_hooks or connection._forward_pre_hooks
    return not has_hooks and type(connection).forward is Linear.forward and "forward" not in vars(connection)


def is_plain(connection: Module) -> bool:
    """Whether the weight of a `Linear` is a parameter; `torch.nn.utils.parametrize` and pruning compute it."""
    return isinstance(connection, Linear) and not connection._modules and "weight" in connection._parameters


def form_of(connection: Module) -> Form:
    """The connection's form, as defined in `backends.dispatch`."""
    return "module" if not is_dense(connection) else "weight" if is_plain(connection) else "computed"


@torch.no_grad()
def check_linear(connection: Module, x: Tensor, name: str) -> None:
    """Refuse a connection that is not linear. A `Linear` is not checked, nor are its hooks.

    Args: x: one sample, for its shape, dtype and device. name: of the layer, for messages.
    Raises: ValueError unless f(a + b) + f(0) = f(a) + f(b), and f(a) gives the same result twice; TypeError unless f
        gives a tensor.

    Gradients are computed from the average input, which gives the average current only for a linear connection.
    """
    if type(connection).forward is Linear.forward and "forward" not in vars(connection):
        return
    index = torch.arange(x[0].numel(), dtype=x.dtype, device=x.device).view_as(x[:1])
    a, b = torch.cos(index), torch.sin(1.7 * index + 1)
    zero, of_a, repeated, of_b, of_sum = (connection(value) for value in (0 * a, a, a, b, a + b))
    if not isinstance(of_a, Tensor):
        raise TypeError(f"{name}: a connection gives a tensor of currents, and {connection} gives {kind_of(of_a)}")
    tolerance = 1e4 * torch.finfo(of_a.dtype).eps * max(1.0, float(of_sum.abs().max()))
    is_repeatable = bool(((of_a - repeated).abs() <= tolerance).all())
    is_linear = bool(((of_sum + zero - of_a - of_b).abs() <= tolerance).all())
    if not (is_repeatable and is_linear):
        reason = "not linear in its input" if is_repeatable else "random: the same input gives different currents"
        raise ValueError(
            f"{name}: the connection {connection} is {reason}. Put such a module in front of the layer instead"
        )


def trainable_names(connection: Module) -> list[str]:
    """Names that `trainable` takes for a connection: the short names of its parameters, such as "weight".

    The name of a parameter that is None is one of them, so that a preset can list a bias and leave it out.
    """
    return list(dict.fromkeys((*connection._parameters, *(name for name, _ in short_named_parameters(connection)))))


def short_named_parameters(connection: Module) -> list[tuple[str, Parameter]]:
    """The parameters of a connection, each with the last part of its name, such as ("weight", …).

    Parameters from which `torch.nn.utils.parametrize` computes a weight have the weight's name.
    """
    return [(_short(name.split(".")), parameter) for name, parameter in connection.named_parameters()]


def _short(parts: list[str]) -> str:
    return parts[parts.index("parametrizations") + 1] if "parametrizations" in parts else parts[-1]
