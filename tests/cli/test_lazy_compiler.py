"""torch's compiler, and SciPy's BLAS: a run does without them, and each loads as soon as something uses it."""

import subprocess
import sys

import pytest

from tracetorch.cli.lazy_compiler import _Deferred, defer_compiler

RUN = """
import sys
from tracetorch.cli.main import app
quick = ["train.updates=1", "task.validation_trials=8", "task.test_trials=8", "train.figures=false"]
app(["run", *quick, "output.dir=run"], standalone_mode=False)
loaded = {"sympy", "torch._dynamo.symbolic_convert", "torch.distributions.normal", "scipy.linalg"} & set(sys.modules)
assert not loaded, loaded
"""

COMPILE = """
import sys
from tracetorch.cli.lazy_compiler import defer_compiler
defer_compiler()
import torch
layer = torch.nn.Linear(3, 2)
optimizer = torch.optim.Adam(layer.parameters())
for _ in range(2):
    optimizer.zero_grad()
    layer(torch.ones(3)).backward(torch.ones(2))
    optimizer.step()
optimizer.load_state_dict(optimizer.state_dict())
try:
    torch.autograd.grad(layer(torch.ones(3)), [layer.weight], torch.ones(3))
except RuntimeError as error:
    assert "Mismatch in shape" in str(error)
else:
    raise AssertionError
assert not {"sympy", "torch.distributions.normal", "torch.export.exported_program"} & set(sys.modules)
from torch.distributions import Normal, kl
import torch.quantization.observer, torch.masked
assert Normal(0.0, 1.0).mean == 0 and torch.masked.MaskedTensor and torch.quantization.observer.MinMaxObserver
assert kl.kl_divergence(torch.distributions.Normal(0.0, 1.0), Normal(0.0, 1.0)) == 0
program = torch.export.export(layer, (torch.ones(3),))
assert torch.equal(program.module()(torch.ones(3)), layer(torch.ones(3)))
compiled = torch.compile(lambda x: torch.sin(x) * x.shape[0], backend="eager", dynamic=True)
for size in (3, 4):
    assert torch.equal(compiled(torch.ones(size)), torch.sin(torch.ones(size)) * size)
optimizer.step()
import torch.fx.experimental.symbolic_shapes as shapes
assert "sympy" in sys.modules and shapes.ShapeEnv and torch._dynamo is sys.modules["torch._dynamo"]
"""

MULTIPLY_AND_DRAW = """
import sys, numba, numpy, torch
from tracetorch import backends
from tracetorch.cli.lazy_compiler import skip_docstrings
backends.bernoulli(torch.full((2, 4), 0.5), 0, range(3), torch.arange(2))
assert "numba.np.arraymath" in sys.modules and "scipy.linalg" not in sys.modules
multiply = numba.njit(lambda x, y: numpy.dot(x, y))
assert multiply(numpy.ones((2, 3)), numpy.ones((3, 2))).tolist() == [[3, 3], [3, 3]]
assert "scipy.linalg.cython_blas" in sys.modules
skip_docstrings()  # which matplotlib must still write as this expects
from matplotlib.figure import Figure
axes = Figure().subplots()
axes.set(xlabel="time", ylim=(0, 1))
assert axes.get_xlabel() == "time" and axes.get_ylim() == (0, 1) and "ylim" not in (type(axes).set.__doc__ or "")
"""


def test_a_stand_in_has_some_functions_and_imports_its_module_for_the_others(monkeypatch):
    name = "wsgiref.headers"
    stand_in = _Deferred(name, False, quick=len)
    monkeypatch.setitem(sys.modules, name, stand_in)
    assert stand_in.quick is len and stand_in.__name__ == name
    assert not hasattr(stand_in, "__path__") and not hasattr(stand_in, "__wrapped__")
    assert sys.modules[name] is stand_in
    assert stand_in.Headers.__module__ == name and sys.modules[name] is not stand_in
    package = _Deferred("wsgiref", True)
    assert not hasattr(package, "__wrapped__") and package.__path__ == sys.modules["wsgiref"].__path__


def test_the_stand_ins_of_the_compiler_do_what_runs_need_of_it(monkeypatch):
    names = ("torch._dynamo", "torch.fx.experimental.symbolic_shapes", "torch.masked")
    for name in names:
        monkeypatch.setitem(sys.modules, name, None)  # so that it is as before after the test
        monkeypatch.delitem(sys.modules, name)
    defer_compiler()
    dynamo, shapes, _ = (sys.modules[name] for name in names)
    assert dynamo.disable(len, recursive=False) is len and dynamo.graph_break() is None
    assert shapes.sym_eq((1, 2), (1, 2)) and not shapes.sym_eq(1, 2) and shapes.expect_true(1) is True


@pytest.mark.parametrize(
    "code",
    [
        pytest.param(RUN, id="run"),
        pytest.param(COMPILE, id="compile", marks=pytest.mark.slow),
        pytest.param(MULTIPLY_AND_DRAW, id="multiply-and-draw", marks=pytest.mark.slow),
    ],
)
def test_unused_modules_are_not_loaded_and_used_ones_work(code, here):
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
