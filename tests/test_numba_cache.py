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
from numba.core import caching
from numba.core.dispatcher import Dispatcher

import tracetorch
from tracetorch.kernels.cpu import draw, freshness

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


# ── damaged, or with no place to be kept ────────────────────────────────────────────────────────────────────────────


def test_every_kernel_is_kept_in_files_that_are_checked():
    kept = {name: one._cache for name, one in vars(draw).items() if isinstance(one, Dispatcher)}
    assert kept and all(isinstance(cache._cache_file, freshness._Sealed) for cache in kept.values())


@pytest.mark.parametrize("ending", ["nbi", "nbc"])
@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[:-3],
        lambda content: b"x" * len(content),
        lambda content: content[:-9] + bytes([content[-9] ^ 1]) + content[-8:],
        lambda content: content[freshness._SEAL_BYTES :],  # as numba itself writes it
    ],
)
def test_a_damaged_file_costs_a_compilation(tmp_path, ending, damage):
    file = freshness._Sealed(str(tmp_path), "kernel", "sources")
    file.save("types", {"code": 1})
    assert file.load("types") == {"code": 1}
    [path] = tmp_path.glob(f"*.{ending}")
    path.write_bytes(damage(path.read_bytes()))
    assert file.load("types") is None
    file.save("types", {"code": 2})
    assert file.load("types") == {"code": 2}


def test_code_of_other_sources_is_not_loaded_where_a_process_died_between_index_and_code(tmp_path):
    old, new = (freshness._Sealed(str(tmp_path), "kernel", sources) for sources in ("old", "new"))
    old.save("types", "code of old sources")
    new._save_index({"types": new._data_name(1)})
    assert new.load("types") is None


def test_on_a_full_disk_a_kernel_is_used_and_not_kept(tmp_path, monkeypatch):
    def full(path):
        raise OSError(28, "No space left on device", path)

    file = freshness._Sealed(str(tmp_path), "kernel", "sources")
    monkeypatch.setattr(file, "_open_for_write", full)
    file.save("types", "code")
    assert file.load("types") is None


@pytest.fixture
def read_only(tmp_path, monkeypatch):
    """No folder can be written to but one for temporary files."""
    before = caching._CacheLocator.ensure_cache_path

    def ensure(self):
        if not Path(self.get_cache_path()).is_relative_to(tmp_path):
            raise PermissionError(13, "Permission denied", self.get_cache_path())
        before(self)

    monkeypatch.setattr(caching._CacheLocator, "ensure_cache_path", ensure)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    freshness._temporary.cache_clear()
    yield tmp_path
    freshness._temporary.cache_clear()


@pytest.mark.parametrize("taken", [False, True])
def test_without_a_writable_place_a_temporary_folder_keeps_kernels(read_only, taken):
    if taken:  # by another user, who could write into it
        (read_only / f"tracetorch-numba-{os.getuid()}").mkdir()
        (read_only / f"tracetorch-numba-{os.getuid()}").chmod(0o777)
    kernel = next(one for one in vars(draw).values() if isinstance(one, Dispatcher))
    cache = caching.FunctionCache(kernel.py_func)
    folder = Path(cache.cache_path).parent
    assert folder.parent == read_only and folder.stat().st_mode & 0o777 == 0o700
    with pytest.raises(RuntimeError, match="cannot cache"):  # functions of others are left as they are
        caching.FunctionCache(test_on_a_full_disk_a_kernel_is_used_and_not_kept)
