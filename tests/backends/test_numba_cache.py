"""Compiled code that is kept on disk is that of the source, and whole; a wait for the compiler is announced, once."""

import ast
import importlib.util
import os
import re
import sys
from pathlib import Path

import pytest
from numba.core import caching
from numba.core.dispatcher import Dispatcher

from tracetorch.backends.cpu import cache, compiled


def test_all_that_is_compiled_is_in_one_file_which_reads_no_other_and_kept_in_files_that_are_checked():
    """numba sees a change in the file of a function, and not in what it calls or reads from another."""
    own = [path for path in Path(compiled.__file__).parents[1].rglob("*.py") if path.name != "cache.py"]
    assert [path.name for path in own if re.search(r"@.*(njit|compiled)", path.read_text("utf-8"))] == ["compiled.py"]
    tree = ast.parse(Path(compiled.__file__).read_text(encoding="utf-8"))
    froms = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    read = [alias.name for node in froms if node.module.startswith("tracetorch") for alias in node.names]
    assert read == ["compiled"]
    functions = [one for one in vars(compiled).values() if isinstance(one, Dispatcher)]
    assert len(functions) > 15 and all(isinstance(one._cache, cache._Cache) for one in functions)


@pytest.fixture
def call(tmp_path, monkeypatch):
    """A function as a new process has it, with the files of earlier calls. Returns: its result; was it compiled?"""
    monkeypatch.setattr(caching.config, "CACHE_DIR", str(tmp_path / "cache"))
    file = tmp_path / "own.py"

    def calls(body: str = "x + 1"):
        source = f"from tracetorch.backends.cpu.cache import compiled\n\n@compiled\ndef double(x):\n    return {body}\n"
        file.write_text(source, encoding="utf-8")
        module = importlib.util.module_from_spec(importlib.util.spec_from_file_location("own", file))
        sys.modules["own"] = module
        exec(compile(source, file, "exec"), vars(module))
        return module.double(1), bool(module.double.stats.cache_misses)

    yield calls
    sys.modules.pop("own", None)


def kept(tmp_path) -> list[Path]:
    return [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


def test_a_function_is_compiled_once_and_again_when_its_file_has_changed(tmp_path, call):
    assert [call(), call(), call("x + 2"), call("x + 2"), call()] == [
        (2, True), (2, False), (3, True), (3, False), (2, True)
    ]  # fmt: skip
    assert len(kept(tmp_path)) == 1


def test_what_is_damaged_or_of_another_numba_costs_a_compilation_and_a_full_disk_too(tmp_path, call, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    call()
    [path] = kept(tmp_path)
    whole = path.read_bytes()
    one_bit = whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:]
    for damaged in (b"", whole[:-3], one_bit, whole[cache._SEAL_BYTES :]):
        path.write_bytes(damaged)
        assert [call(), call()] == [(2, True), (2, False)], damaged
    monkeypatch.setattr(cache.numba, "__version__", "0.0")
    assert [call(), call()] == [(2, True), (2, False)]
    monkeypatch.setattr(cache.pickle, "loads", lambda code: {}["gone"])  # a class that is gone
    assert call() == (2, True)
    path.unlink()
    monkeypatch.setattr(caching.IndexDataCacheFile, "_open_for_write", full)
    assert call() == (2, True) and kept(tmp_path) == []


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
        caching.FunctionCache(kept)
