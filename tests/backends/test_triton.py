"""Triton's kernels compile for a GPU, on a machine without one; and round after every operation, as the reference does.

In a process of its own, because Triton decides once whether it compiles or interprets.
"""

import importlib.util
import json
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

COMPILE = """
import itertools, json
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from tracetorch.backends import cuda

def compiled(kernel, pointers, whole, constants):
    types = dict(pointers) | dict.fromkeys(whole, "i32") | dict.fromkeys(constants, "constexpr")
    places = {(kernel.arg_names.index(name),): value for name, value in constants.items()}
    signature = {name: types[name] for name in kernel.arg_names}
    made = triton.compile(
        ASTSource(fn=kernel, signature=signature, constexprs=places),
        target=GPUTarget("cuda", 90, 32), options={"enable_fp_fusion": False},
    )
    ptx = made.asm["ptx"]
    fused = ptx.count("fma.rn.f32") + ptx.count("fma.rn.f64")
    softmax = constants.get("KIND") == 2
    print(json.dumps([kernel.__name__, softmax, fused, len(made.asm["cubin"]), ptx.count("st.global")]))

sizes = ["steps", "batch", "channels"]
for real, xs in [("*fp32", "*i8"), ("*fp32", "*bf16"), ("*fp64", "*fp64")]:
    pointers = {"xs": xs} | dict.fromkeys(("trace", "decays"), real)
    compiled(cuda.trace_kernel, pointers, sizes, {"BLOCK": 128})
    pointers |= dict.fromkeys(("sensitivity", "sensitivity_decays"), real)
    compiled(cuda.sensitivity_kernel, pointers, [*sizes, "traces"], {"BLOCK": 128})
for drawn, varying, trace in [("*bf16", True, "*fp32"), ("*fp64", False, "*fp64"), ("*i8", False, None)]:
    pointers = {"limits": "*i32", "samples": "*i64", "first": "*i64", "drawn": drawn}
    pointers |= dict.fromkeys(("trace", "decays"), trace or "*i32")
    compiled(cuda.spikes_kernel, pointers, sizes, {"VARYING": varying, "TRACE": trace is not None, "BLOCK": 128})
for real, (kind, outputs) in itertools.product(
    ("*fp32", "*fp64"), [(0, None), (0, "*i8"), (0, "*bf16"), (1, "same"), (2, "same")]
):
    pointers = {name: real for name in ("currents", "membrane", "decays", "thresholds", "trace", "trace_decays")}
    pointers |= {"outputs": real if outputs in (None, "same") else outputs, "total": "*fp64" if outputs else real}
    flags = dict.fromkeys(("OUTPUTS", "TOTAL", "TRACE"), outputs is not None) | {"KIND": kind, "BLOCK": 128}
    compiled(cuda.scan_kernel, pointers, ["steps", "batch", "neurons", "first"], flags)
"""


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="no Triton here")
def test_every_way_to_call_a_kernel_becomes_machine_code_that_rounds_each_operation(tmp_path):
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", COMPILE],
        env=environment | {"TRITON_CACHE_DIR": str(tmp_path)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    source = Path(importlib.util.find_spec("tracetorch.backends.cuda").origin).read_text("utf-8")
    assert source.count("enable_fp_fusion=False") == len(re.findall(r"kernel\[\(", source)) == 4, "as in the launches"
    made = [json.loads(line) for line in done.stdout.splitlines()]
    kernels = {"trace_kernel": 3, "sensitivity_kernel": 3, "spikes_kernel": 3, "scan_kernel": 10}
    assert Counter(name for name, *_ in made) == kernels
    assert all(size > 1000 and stores for *_, size, stores in made)
    assert {name for name, softmax, fused, *_ in made if fused and not softmax} == set()
    assert any(fused for _, softmax, fused, *_ in made if softmax), "the search for fused products finds none at all"
