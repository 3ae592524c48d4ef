"""Compiled code that is kept on disk is that of the sources: a change in any file of the kernels reaches it.

And who has to wait for the compiler is told so, once.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import tracetorch

SPIKES = """
import numpy as np
from tracetorch.kernels.cpu.arrays import Traces
from tracetorch.kernels.cpu.neurons import LIF, Neurons, Onward, Outlet
from tracetorch.kernels.cpu.scan import _from_currents
one, nothing, flat = np.ones(1), np.zeros((0, 0, 0)), np.zeros((0, 0))
outlet = Outlet(nothing, flat, 0, Traces(nothing, flat, nothing, flat))
neurons = Neurons(LIF, np.zeros((1, 1)), one, one)
print(_from_currents(0, 1, np.ones((1, 1, 1)), neurons, outlet, Onward(flat, one[:0], neurons, outlet)))
"""
"""A membrane exactly at its threshold, which does not fire. The neuron and the loop that calls it lie in two files."""


@pytest.mark.slow
def test_a_changed_neuron_or_type_is_compiled_anew_into_the_loop_that_uses_it(tmp_path):
    package = tmp_path / "tracetorch"
    shutil.copytree(Path(tracetorch.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    environment = os.environ | {"PYTHONPATH": str(tmp_path), "NUMBA_CACHE_DIR": str(tmp_path / "cache")}

    def spikes(code: str = SPIKES) -> tuple[str, bool]:
        command = [sys.executable, "-c", code]
        ended = subprocess.run(command, env=environment, cwd=tmp_path, check=True, capture_output=True, text=True)
        assert ended.stderr.count("compiling kernels") == len(ended.stderr.splitlines())
        return ended.stdout, ended.stderr != ""

    neurons = package / "kernels" / "cpu" / "neurons.py"
    source = neurons.read_text(encoding="utf-8")
    assert source.count("raised > threshold[neuron]") == 1
    assert spikes() == ("0\n", True)
    assert spikes() == ("0\n", False)
    neurons.write_text(source.replace("raised > threshold[neuron]", "raised >= threshold[neuron]"), encoding="utf-8")
    assert spikes() == ("1\n", True)
    for file in (package / "kernels" / "cpu").glob("*.py"):
        file.write_text(re.sub(r"\bTraces\b", "Renamed", file.read_text(encoding="utf-8")), encoding="utf-8")
    assert spikes(SPIKES.replace("Traces", "Renamed")) == ("1\n", True)
