"""Triton's kernels compile for a GPU on a machine without one, and round after each operation as the reference."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

COMPILE = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from tracetorch.backends import cuda

whole = dict.fromkeys(("steps", "batch", "channels", "neurons", "traces", "first"), "i32")
outputs, flags = {"outputs": "*i8", "total": "*fp64"}, dict.fromkeys(("OUTPUTS", "TOTAL", "TRACE"), True)
drawn = {"limits": "*i32", "samples": "*i64", "first": "*i64", "drawn": "*bf16"}
softmaxes = []
for kernel, types, constants in [
    (cuda.trace_kernel, {"xs": "*i8"}, {}),
    (cuda.sensitivity_kernel, {"xs": "*bf16"}, {}),
    (cuda.spikes_kernel, drawn, {"VARYING": True, "TRACE": True}),
    *((cuda.scan_kernel, outputs, flags | {"KIND": kind}) for kind in range(3)),
]:
    constants = constants | {"BLOCK": 128}
    for real in ("*fp32", "*fp64"):
        known = whole | types | dict.fromkeys(constants, "constexpr")
        signature = {name: known.get(name, real) for name in kernel.arg_names}
        places = {(kernel.arg_names.index(name),): value for name, value in constants.items()}
        source = ASTSource(fn=kernel, signature=signature, constexprs=places)
        made = triton.compile(source, target=GPUTarget("cuda", 90, 32), options={"enable_fp_fusion": False}).asm
        fused = made["ptx"].count("fma.rn.f32") + made["ptx"].count("fma.rn.f64")
        assert len(made["cubin"]) > 1000 and "st.global" in made["ptx"], kernel
        assert not fused or constants["KIND"] == 2, kernel
        softmaxes += [fused] * (constants.get("KIND") == 2)
assert any(softmaxes), "the search for fused products finds none at all"
"""


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="no Triton here")
def test_every_kernel_becomes_machine_code_that_rounds_each_operation(tmp_path):
    # In a process of its own, because Triton decides once whether it compiles or interprets.
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment["TRITON_CACHE_DIR"] = str(tmp_path)
    command = [sys.executable, "-W", "ignore", "-c", COMPILE]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    source = Path(importlib.util.find_spec("tracetorch.backends.cuda").origin).read_text("utf-8")
    assert source.count("enable_fp_fusion=False") == source.count("_kernel[(") == 4, "as in the launches"
