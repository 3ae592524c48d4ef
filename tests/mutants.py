"""Random faults of one line each, and which of them the tests find.

    python -m pip install pytest-cov  # not a dependency: only the map needs it
    COVERAGE_FILE=map python -m pytest -n auto --cov=tracetorch --cov=cli --cov=experiments --cov-context=test \
        --cov-report= -o junit_family=xunit1 --junitxml=map.xml
    python -m tests.mutants --count 150 --seed 0 --map map

The map says which tests run a line; map.xml says how long they take. Both must be of the present sources. Coverage sees
neither compiled functions nor processes that a test starts: for a line that no test is seen to run, tests are taken
that run other lines of its file, else of its folder. A file is changed in place, and restored, also after Ctrl-C.
"""

import argparse
import ast
import json
import os
import random
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter, namedtuple
from contextlib import contextmanager, suppress
from fnmatch import fnmatch
from itertools import accumulate, pairwise, zip_longest
from pathlib import Path
from xml.etree import ElementTree

LEFT_OUT = {"cuda.py", "graph.py"}  # these run only on a GPU
NOT_HERE = {"TYPE_CHECKING", "__name__", "is_cuda", "cuda"}  # what an `if` with one of these guards is left out
SIGNS = "+ -, - +, * /, / *, % *, // *, ** *, & |, < <=, <= <, > >=, >= >, == !=, != ==, and or, or and, += -=, -= +="
SWITCHED = {old.encode(): new.encode() for old, new in (pair.split() for pair in SIGNS.split(", "))}
EXITS = ast.Return | ast.Continue | ast.Break | ast.Raise
SYMMETRIC = {"max", "min", "maximum", "minimum", "equal", "allclose", "Option", "Argument", "suppress"}
"""Functions whose arguments may change places."""


Mutant = namedtuple("Mutant", "file first line begin end new in_function")
"""The bytes from `begin` to `end` become `new`, in a statement from line `first` on; one in a function, or run once."""


class Finder:
    """All mutants of a file. Texts, annotations, decorators and imports stay as they are."""

    def __init__(self, file):
        self.file, self.source, self.found = file, Path(file).read_bytes(), []
        self.starts = [0, *(match.end() for match in re.finditer(b"\n", self.source))]
        self.enter(ast.parse(self.source), 1, False)

    def enter(self, node, first, in_function):
        """Find the mutants of a node, and of all in it."""
        first = node.lineno if isinstance(node, ast.stmt) else first
        changes, pairs = [], []
        match node:
            case ast.Import() | ast.ImportFrom() | ast.JoinedStr() | ast.keyword(arg="strict" | "help"):
                return
            case ast.If() if NOT_HERE & set(re.findall(r"\w+", ast.unparse(node.test))):
                return
            case ast.If():
                changes = [(exit, exit, b"pass") for exit in (*node.body, *node.orelse) if isinstance(exit, EXITS)]
            case ast.Expr(value=ast.Call()) | ast.Assign(targets=[ast.Attribute() | ast.Subscript(), *_]):
                changes = [(node, node, b"pass")]
            case ast.AugAssign():
                changes, pairs = [(node, node, b"pass")], [(node.target, node.value)]
            case ast.UnaryOp(op=ast.USub()):
                changes = [(node, node, self.text(node.operand))]
            case ast.BinOp() if not any(re.match(rb"[fr]?[\"']", self.text(side)) for side in (node.left, node.right)):
                pairs = [(node.left, node.right)]
            case ast.Compare():
                pairs = pairwise((node.left, *node.comparators))
            case ast.BoolOp():
                pairs = pairwise(node.values)
            case ast.Call() if ast.unparse(node.func).rpartition(".")[2] not in SYMMETRIC:
                pairs = pairwise(arg for arg in node.args if not isinstance(arg, ast.Starred))
            case ast.Constant(value=bool() as value):
                changes = [(node, node, str(not value).encode())]
            case ast.Constant(value=float()) if "/plot/" in self.file:
                return  # a size, a place, a shade: figures are judged by eye
            case ast.Constant(value=int() | float() as value) if value + 1 != value:
                changes = [(node, node, str(value + 1).encode())]
        for left, right in pairs:
            between = self.source[self.span(left)[1] : self.span(right)[0]]
            before, sign, after = re.fullmatch(rb"([)\s]*)(.*?)([(\s]*)", between, re.DOTALL).groups()
            one, other = (right, left) if sign == b"," else (left, right)
            changes.append((left, right, self.text(one) + before + SWITCHED.get(sign, sign) + after + self.text(other)))
        for left, right, new in changes:
            begin, end = self.span(left)[0], self.span(right)[1]
            start = left.lineno if isinstance(left, ast.stmt) else first
            if new != self.source[begin:end] and (new == b"pass" or left.lineno == right.end_lineno):
                self.found.append(Mutant(self.file, start, left.lineno, begin, end, new, in_function))
        for name, value in ast.iter_fields(node):
            within = in_function or (name == "body" and isinstance(node, ast.FunctionDef))
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST) and name not in ("decorator_list", "annotation", "returns"):
                    self.enter(child, first, within)

    def span(self, node):
        return self.starts[node.lineno - 1] + node.col_offset, self.starts[node.end_lineno - 1] + node.end_col_offset

    def text(self, node):
        return self.source[slice(*self.span(node))]


class Map:
    """Which tests run which lines, and how long they take."""

    def __init__(self, file, files):
        from coverage import CoverageData

        data = CoverageData(file)
        data.read()
        paths = {name: path for path in data.measured_files() for name in files if path.endswith(f"/{name}")}
        self.lines = {name: data.contexts_by_lineno(path) for name, path in paths.items()}
        for lines in self.lines.values():
            for line, contexts in lines.items():  # such as `tests/test_x.py::test_y[3]|setup`, and "" in no test
                lines[line] = {context.rpartition("|")[0] for context in contexts} - {""}
        self.total = Counter(test for lines in self.lines.values() for tests in lines.values() for test in tests)
        cases = ElementTree.parse(f"{file}.xml").iter("testcase")
        seconds = {f"{case.get('file')}::{case.get('name')}": float(case.get("time")) for case in cases}
        self.seconds = {test: seconds.get(test, 1.0) for test in self.total}

    def choose(self, mutant, most, most_seconds):
        """Where the tests run, and the tests, fastest first.

        Half are those that run little else; the others come from as many files as possible. If they are few, others of
        the same files join them: what a fixture or a cache does is seen in one test, and checked in all.
        """
        here, folder = self.lines.get(mutant.file, {}), Path(mutant.file).parent
        files = [file for file in self.lines if Path(file).parent == folder]
        around = [tests for file in files for tests in self.lines[file].values()]
        line = [here.get(line, ()) for line in range(mutant.first, mutant.line + 1) if mutant.in_function]
        where = "line" if any(line) else "file" if any(here.values()) else "folder"
        found = set().union(*{"line": line, "file": here.values(), "folder": around}[where])
        near = Counter(test for tests in (around if where == "folder" else here.values()) for test in tests)
        files = {test.partition("::")[0] for test in found}
        others = {test for test in near if test.partition("::")[0] in files} - found if len(found) < most else ()
        focus = {test: -round(count / self.total[test], 1) for test, count in near.items()}
        sorts = [sorted(tests, key=lambda test: (focus[test], self.seconds[test], test)) for tests in (found, others)]
        chosen = in_turns(sorts[0], "[") + in_turns(sorts[1], "[")
        chosen = sorted((chosen[: most // 2] + in_turns(chosen[most // 2 :], "::"))[:most], key=self.seconds.get)
        ends = accumulate(map(self.seconds.get, chosen))
        return where, [test for test, end in zip(chosen, ends, strict=True) if end < most_seconds or test == chosen[0]]


def in_turns(tests, end):
    """One test of each group, then another one of each; tests whose names are the same up to `end` are a group."""
    groups = {}
    for test in tests:
        groups.setdefault(test.partition(end)[0], []).append(test)
    return [test for turn in zip_longest(*groups.values()) for test in turn if test]


@contextmanager
def applied(mutant):
    """Change the file for as long as this lasts. Its time is restored, too: numba knows by it what it compiled."""
    path = Path(mutant.file)
    source, stat = path.read_bytes(), path.stat()
    try:
        path.write_bytes(source[: mutant.begin] + mutant.new + source[mutant.end :])
        yield f"{source[mutant.begin : mutant.end].decode()} → {mutant.new.decode()}"
    finally:
        path.write_bytes(source)
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def run(tests, limit, **variables):
    """Run tests. Returns: what failed first, "" if nothing."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-n", "0", "--tb=no", *tests]
    ways = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "start_new_session": True}
    with subprocess.Popen(command, env=os.environ | {"PYTHONDONTWRITEBYTECODE": ""} | variables, **ways) as child:
        try:
            words = child.communicate(timeout=limit)[0].splitlines()
        except subprocess.TimeoutExpired:
            return "time limit"
        finally:
            with suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
    failed = [*(line for line in words if line.startswith(("FAILED", "ERROR"))), f"exit {child.returncode}"][0]
    return max((test for test in tests if test in failed), key=len, default=failed) if child.returncode else ""


def main():
    """Returns: 1 if a test that found a mutant fails without it, too."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=150)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--map", required=True, metavar="FILE")
    parser.add_argument("--tests", type=int, default=100, help="the most tests for one mutant")
    parser.add_argument("--seconds", type=float, default=90, help="the most seconds that they take")
    parser.add_argument("--part", default="1/1", help="such as 2/3: every third mutant, from the second on")
    parser.add_argument("--only", default="*", help="of those drawn, the ones at file:line like this, such as 'cli/*'")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write the table, too")
    given = parser.parse_args()
    if subprocess.check_output(["git", "status", "--porcelain", "--untracked-files=no"]):
        parser.error("there are changes that are not committed")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")  # a mutant may ask for all of it
    resource.setrlimit(resource.RLIMIT_AS, (memory, resource.getrlimit(resource.RLIMIT_AS)[1]))
    listed = subprocess.check_output(["git", "ls-files", "tracetorch/*.py", "cli/*.py", "experiments/*.py"], text=True)
    files, of_lines = sorted(file for file in listed.split() if Path(file).name not in LEFT_OUT), {}
    for mutant in (mutant for file in files for mutant in Finder(file).found):
        of_lines.setdefault((mutant.file, mutant.line), []).append(mutant)
    chance, (part, parts) = random.Random(given.seed), map(int, given.part.split("/"))
    drawn = [chance.choice(of_lines[line]) for line in chance.sample(sorted(of_lines), given.count)][part - 1 :: parts]
    known, rows = Map(given.map, files), []
    for mutant in (mutant for mutant in drawn if fnmatch(f"{mutant.file}:{mutant.line}", given.only)):
        (where, tests), began = known.choose(mutant, given.tests, given.seconds), time.perf_counter()
        with applied(mutant) as change, tempfile.TemporaryDirectory() as cache:
            of_compiler = {"NUMBA_CACHE_DIR": cache} if "/cpu/" in mutant.file else {}
            by = run(tests, 120 + 4 * sum(map(known.seconds.get, tests)), **of_compiler) if tests else ""
        outcome = "found" if by else "survived" if where == "line" or not mutant.in_function else "nothing runs it"
        place, took = f"{mutant.file}:{mutant.line}", round(time.perf_counter() - began, 1)
        print(f"{place}  {change!r}  {outcome} {by}  ({len(tests)} tests of the {where}, {took} s)", flush=True)
        row = {"mutant": place, "change": change, "outcome": outcome, "by": by, "tests": len(tests)}
        rows.append(row | {"tests_of": where, "seconds": took})
        if given.json:
            given.json.write_text(json.dumps(rows, indent=1, ensure_ascii=False), encoding="utf-8")
    counts = Counter(row["outcome"] for row in rows)
    print(", ".join(f"{count} {outcome} ({count / len(rows):.0%})" for outcome, count in counts.most_common()))
    wrong = run(sorted({row["by"] for row in rows if row["by"] in known.seconds}), 3600)
    print(f"fails without a mutant, too: {wrong}" if wrong else "the tests that found something pass without a mutant")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
