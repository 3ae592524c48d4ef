"""Triton's kernels compile for a GPU, on a machine without one; and round after every operation, as the reference does.

In a process of its own, because Triton decides once whether it compiles or interprets.
"""

import importlib.util
import json
import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="no Triton here")

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
    print(json.dumps({
        "kernel": kernel.__name__, "kind": constants.get("KIND"), "bytes": len(made.asm["cubin"]),
        "stores": ptx.count("st.global"), "fused": ptx.count("fma.rn.f32") + ptx.count("fma.rn.f64"),
    }))

sizes = ["steps", "batch", "channels"]
for real, xs in [("*fp32", "*i8"), ("*fp32", "*bf16"), ("*fp32", "*fp32"), ("*fp64", "*i8"), ("*fp64", "*fp64")]:
    pointers = {"xs": xs} | dict.fromkeys(("trace", "decays"), real)
    compiled(cuda.trace_kernel, pointers, sizes, {"BLOCK": 128})
    pointers |= dict.fromkeys(("sensitivity", "sensitivity_decays"), real)
    compiled(cuda.sensitivity_kernel, pointers, [*sizes, "traces"], {"BLOCK": 128})
for drawn, varying, trace in [
    ("*fp32", False, "*fp32"), ("*bf16", True, "*fp32"), ("*fp64", True, "*fp64"), ("*i8", False, None),
]:
    pointers = {"limits": "*i32", "samples": "*i64", "first": "*i64", "drawn": drawn}
    pointers |= dict.fromkeys(("trace", "decays"), trace or "*i32")
    compiled(cuda.spikes_kernel, pointers, sizes, {"VARYING": varying, "TRACE": trace is not None, "BLOCK": 128})
for real, (kind, outputs) in itertools.product(
    ("*fp32", "*fp64"), [(0, None), (0, "*i8"), (0, "*bf16"), (0, "same"), (1, "same"), (2, "same")]
):
    pointers = {name: real for name in ("currents", "membrane", "decays", "thresholds", "trace", "trace_decays")}
    pointers |= {"outputs": real if outputs in (None, "same") else outputs, "total": "*fp64" if outputs else real}
    flags = dict.fromkeys(("OUTPUTS", "TOTAL", "TRACE"), outputs is not None) | {"KIND": kind, "BLOCK": 128}
    compiled(cuda.scan_kernel, pointers, ["steps", "batch", "neurons", "first"], flags)
"""

KERNELS = {"trace_kernel": 5, "sensitivity_kernel": 5, "spikes_kernel": 4, "scan_kernel": 12}


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> list[dict]:
    """What came out of the compiler, a row for each way in which a kernel is called."""
    cache = str(tmp_path_factory.mktemp("triton"))
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", COMPILE],
        env=environment | {"TRITON_CACHE_DIR": cache}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("kernel", KERNELS)
def test_every_way_to_call_it_becomes_machine_code(made, kernel):
    rows = [row for row in made if row["kernel"] == kernel]
    assert len(rows) == KERNELS[kernel]
    assert all(row["bytes"] > 1000 and row["stores"] for row in rows)


def test_no_product_and_sum_are_rounded_only_once_but_in_the_softmax(made):
    exact = [row for row in made if row["kind"] != 2]
    assert len(exact) == sum(KERNELS.values()) - 2
    assert not [row for row in exact if row["fused"]]
    assert any(row["fused"] for row in made if row["kind"] == 2), "the search for fused products finds none at all"
