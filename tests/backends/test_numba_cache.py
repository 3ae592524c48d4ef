"""Compiled code that is kept on disk is that of the source, and whole; a wait for the compiler is announced, once."""

import ast
import os
import re
import runpy
from pathlib import Path
from unittest.mock import Mock

import pytest
from numba.core import caching
from numba.core.dispatcher import Dispatcher

from tracetorch.backends.cpu import cache, compiled


def test_all_compiled_functions_are_in_one_file_that_imports_no_other():
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

    def calls(body: str = "x + 1"):
        source = f"from tracetorch.backends.cpu.cache import compiled\n\n@compiled\ndef double(x):\n    return {body}\n"
        (tmp_path / "own.py").write_text(source, encoding="utf-8")
        double = runpy.run_path(str(tmp_path / "own.py"), run_name="own")["double"]
        return double(1), bool(double.stats.cache_misses)

    return calls


def kept(tmp_path) -> list[Path]:
    return [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


def test_a_function_is_compiled_again_if_its_file_changes_or_its_code_is_damaged(tmp_path, call, monkeypatch):
    again = [(2, True), (2, False)]
    assert [call(), call(), call("x + 2"), call("x + 2")] == [*again, (3, True), (3, False)]
    assert call() == (2, True)
    [path] = kept(tmp_path)
    whole = path.read_bytes()
    one_bit = whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:]
    for damaged in (b"", whole[:-3], one_bit, whole[cache._SEAL_BYTES :]):
        path.write_bytes(damaged)
        assert [call(), call()] == again, damaged
    monkeypatch.setattr(cache.numba, "__version__", "0.0")
    assert [call(), call()] == again
    monkeypatch.setattr(cache.pickle, "loads", lambda code: {}["gone"])  # a class that is gone
    assert call() == (2, True)


def test_on_a_full_disk_a_function_is_compiled_and_not_saved(tmp_path, call, monkeypatch, caplog):
    monkeypatch.setattr(caching.IndexDataCacheFile, "_open_for_write", Mock(side_effect=OSError(28, "No space left")))
    assert call() == (2, True) and kept(tmp_path) == []
    monkeypatch.setenv(cache.ANNOUNCED, "")
    monkeypatch.delenv(cache.ANNOUNCED)
    monkeypatch.setattr(cache.event, "unregister", Mock())
    for _ in range(2):  # in this process, and in one that it starts
        cache._Announcer().on_start(Mock(data={"dispatcher": compiled.scan_trace}))
    assert [one.message for one in caplog.records if one.message.startswith("compiling kernels that this")] == [
        caplog.records[-1].message
    ]


@pytest.mark.parametrize("taken", [False, True])
def test_without_a_writable_folder_a_private_temporary_one_is_used(tmp_path, call, monkeypatch, taken):
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
    if taken:  # by another user, with the right to write into it
        folder.mkdir()
        folder.chmod(0o777)
    assert [call(), call()] == [(2, True), (2, taken)]
    assert len(kept(tmp_path)) == (0 if taken else 1)
    assert taken or folder.stat().st_mode & 0o777 == 0o700
    assert caching.config.CACHE_DIR == ""
    with pytest.raises(RuntimeError, match="cannot cache"):  # functions of others are left as they are
        caching.FunctionCache(kept)
