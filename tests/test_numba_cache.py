"""Compiled code that is kept on disk is that of the source, and whole; a wait for the compiler is announced, once."""

import ast
import importlib.util
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
from tracetorch.backends.cpu import cache, compiled

SPIKES = """
import numpy as np
from tracetorch.backends.cpu.compiled import LIF, NeuronArrays, OutputArrays, ReadoutArrays, TraceArrays, scan_currents
one, nothing, flat = np.ones(1), np.zeros((0, 0, 0)), np.zeros((0, 0))
out = OutputArrays(nothing, flat, 0, TraceArrays(nothing, flat, nothing, flat))
neurons = NeuronArrays(LIF, np.zeros((1, 1)), one, one)
print(scan_currents(0, 1, np.ones((1, 1, 1)), neurons, out, ReadoutArrays(flat, one[:0], neurons, out)))
"""
"""A membrane exactly at its threshold, which does not fire."""


@pytest.mark.slow
def test_a_changed_neuron_or_type_is_compiled_again_into_the_loop_that_uses_it(tmp_path):
    package = tmp_path / "tracetorch"
    shutil.copytree(Path(tracetorch.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    environment = os.environ | {"PYTHONPATH": str(tmp_path), "NUMBA_CACHE_DIR": str(tmp_path / "cache")}

    def spikes(code: str = SPIKES) -> tuple[str, bool]:
        command = [sys.executable, "-c", code]
        ended = subprocess.run(command, env=environment, cwd=tmp_path, check=True, capture_output=True, text=True)
        assert ended.stderr.count("compiling kernels") == len(ended.stderr.splitlines())
        return ended.stdout, ended.stderr != ""

    file = package / Path(compiled.__file__).relative_to(Path(tracetorch.__file__).parent)
    source = file.read_text(encoding="utf-8")
    assert source.count("raised > threshold[neuron]") == 1
    assert spikes() == ("0\n", True)
    assert spikes() == ("0\n", False)
    source = source.replace("raised > threshold[neuron]", "raised >= threshold[neuron]")
    file.write_text(source, encoding="utf-8")
    assert spikes() == ("1\n", True)
    for path in file.parent.glob("*.py"):
        path.write_text(re.sub(r"\bTraceArrays\b", "Renamed", path.read_text(encoding="utf-8")), encoding="utf-8")
    assert spikes(SPIKES.replace("TraceArrays", "Renamed")) == ("1\n", True)


def test_all_that_is_compiled_is_in_one_file_which_reads_nothing_from_the_others():
    """numba sees a change in the file of a function, and not in what it calls or reads from another."""
    own = [path for path in Path(compiled.__file__).parents[1].rglob("*.py") if path.name != "cache.py"]
    assert [path.name for path in own if re.search(r"@.*(njit|compiled)", path.read_text("utf-8"))] == ["compiled.py"]
    tree = ast.parse(Path(compiled.__file__).read_text(encoding="utf-8"))
    froms = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    read = [alias.name for node in froms if node.module.startswith("tracetorch") for alias in node.names]
    assert read == ["compiled"]


# ── damaged, or with no folder to write to ──────────────────────────────────────────────────────────────────────────


@pytest.fixture
def call(tmp_path, monkeypatch):
    """A function as a new process has it, with the files of earlier calls. Returns: its result; was it compiled?"""
    monkeypatch.setattr(caching.config, "CACHE_DIR", str(tmp_path / "cache"))
    file = tmp_path / "own.py"

    def calls(body: str = "x + 1"):
        source = f"from tracetorch.backends.cpu.cache import compiled\n\n@compiled\ndef double(x):\n    return {body}\n"
        file.write_text(source, encoding="utf-8")
        spec = importlib.util.spec_from_file_location("own", file)
        module = importlib.util.module_from_spec(spec)
        sys.modules["own"] = module
        exec(compile(source, file, "exec"), vars(module))
        return module.double(1), bool(module.double.stats.cache_misses)

    yield calls
    sys.modules.pop("own", None)


def kept(tmp_path) -> list[Path]:
    return [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


def test_every_compiled_function_is_kept_in_a_file_that_is_checked():
    functions = [one for one in vars(compiled).values() if isinstance(one, Dispatcher)]
    assert len(functions) > 15 and all(isinstance(one._cache, cache._Cache) for one in functions)


def test_a_function_is_compiled_once_and_again_when_its_file_has_changed(tmp_path, call):
    assert [call(), call(), call("x + 2"), call("x + 2"), call()] == [
        (2, True), (2, False), (3, True), (3, False), (2, True)
    ]  # fmt: skip
    assert len(kept(tmp_path)) == 1


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[:-3],
        lambda content: b"x" * len(content),
        lambda content: content[:-9] + bytes([content[-9] ^ 1]) + content[-8:],
        lambda content: content[cache._SEAL_BYTES :],
    ],
    ids=["empty", "cut", "other", "one-bit", "not-sealed"],
)
def test_a_damaged_file_costs_a_compilation(tmp_path, call, damage):
    call()
    [path] = kept(tmp_path)
    path.write_bytes(damage(path.read_bytes()))
    assert [call(), call()] == [(2, True), (2, False)]


def test_code_of_another_numba_or_of_a_class_that_is_gone_costs_a_compilation(tmp_path, call, monkeypatch):
    call()
    monkeypatch.setattr(cache.numba, "__version__", "0.0")
    assert [call(), call()] == [(2, True), (2, False)]
    monkeypatch.setattr(cache.pickle, "loads", lambda code: {}["gone"])
    assert call() == (2, True)


def test_on_a_full_disk_a_function_is_used_and_not_kept(tmp_path, call, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(caching.IndexDataCacheFile, "_open_for_write", full)
    assert call() == (2, True)
    assert kept(tmp_path) == []


@pytest.mark.parametrize("taken", [False, True])
def test_without_a_folder_to_write_to_a_private_temporary_one_keeps_functions(tmp_path, call, monkeypatch, taken):
    temporary, before = tmp_path / "cache", caching._CacheLocator.ensure_cache_path
    temporary.mkdir()

    def ensure(self):
        if not Path(self.get_cache_path()).is_relative_to(temporary):
            raise PermissionError(13, "Permission denied", self.get_cache_path())
        before(self)

    monkeypatch.setattr(caching._CacheLocator, "ensure_cache_path", ensure)
    monkeypatch.setattr(caching.config, "CACHE_DIR", "")
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    folder = temporary / f"tracetorch-numba-{os.getuid()}"
    if taken:  # by another user, who could write into it
        folder.mkdir()
        folder.chmod(0o777)
    assert [call(), call()] == [(2, True), (2, taken)]
    assert len(kept(tmp_path)) == (0 if taken else 1)
    assert taken or folder.stat().st_mode & 0o777 == 0o700
    with pytest.raises(RuntimeError, match="cannot cache"):  # functions of others are left as they are
        caching.FunctionCache(test_on_a_full_disk_a_function_is_used_and_not_kept)
