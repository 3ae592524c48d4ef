"""Untrusted folders: damaged, hostile or missing files, for each verb that reads a folder.

    python -m tests.faults mutations --count 1000

Each try changes one file of a folder, and runs verbs that read it. A verb must call nothing that the file names, lose
nothing, leave nothing unfinished, report at most two lines, and stay within bounds of memory and time.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import random
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import yaml

from tests.faults import cases
from tests.faults.cases import CLICKS, LIFETIME, SEARCH, SWEEP, Case, Stage, Words
from tests.faults.child import Ended, tracetorch

MARK = "mark-of-hostile-code"
MOST_CPU_SECONDS = 30.0
MOST_BYTES = 500 << 20

ALL = Case(
    "all",
    ("resume", "it"),
    before=(
        ("run", *CLICKS, "train.figures=true", "output.dir=done"),
        ("run", *CLICKS, "seed=1", "output.dir=keep"),
        ("run", *LIFETIME, "output.dir=life"),
        ("eval", "done"),
        (*SWEEP, "output.dir=sweep"),
        ("tune", *SEARCH, "search.trials=3", "--study", "study"),
        ("run", *CLICKS, "seed=2", "output.dir=it"),
    ),
    halfway=True,
)
"""A folder with one of each kind; `it` is a run that was killed."""

_TREE: tuple[Words, ...] = (
    ("compare", ".", "--out", "compared"),
    ("clean", "--failed", "--unfinished", "--root", "."),
    ("clean", "--failed", "--unfinished", "--yes", "--root", "."),
    ("clean", "--older-than", "0m", "--keep-best", "1", "--root", "."),
)


def _run_commands(name: str) -> tuple[Words, ...]:
    return (
        *(("info", name), ("eval", name), ("plot", name), ("resume", name)),
        *(("run", "--from", name, "output.dir=again"), ("compare", name, "keep", "--out", "compared")),
    )


_BEST: Words = ("run", "--config-dir", "study/presets", "experiment=best", "output.dir=again")
VERBS: dict[str, tuple[Words, ...]] = {
    "done": _run_commands("done"),
    "life": _run_commands("life"),
    "it": (("resume", "it"), *_run_commands("it")),
    "sweep": (("resume", "sweep"), ("resume", "sweep"), ("compare", "sweep"), ("info", "sweep")),
    "study": (("tune", "--study", "study", "--trials", "4"), ("compare", "study"), _BEST),
}
"""For each folder, the verbs that read it, in addition to those of `_TREE`, which read all folders."""

_RUN_FILES = (
    *("config.yaml", "config.yaml", "config.yaml", "run.json", "run.json", "metrics.jsonl", "metrics.jsonl"),
    *("checkpoints/latest.pt", "checkpoints/latest.pt", "checkpoints/best.pt"),
    *("overrides.yaml", "trials.csv", "metrics.csv", ".lock", "checkpoints", "plots", "eval"),
)
FILES: dict[str, tuple[str, ...]] = {
    "done": _RUN_FILES,
    "life": _RUN_FILES,
    "it": (*_RUN_FILES, "metrics.jsonl", "checkpoints/latest.pt"),
    "sweep": ("sweep.json", "sweep.json", "sweep.json", ".lock", "000_seed=0/config.yaml", "000_seed=0/run.json"),
    "study": ("study.json", "study.json", "study.jsonl", "study.jsonl", ".lock", "presets/experiment/best.yaml"),
}

# ── values that replace one in JSON or YAML ───────────────────────────────────────────────────────────────────────────

CREATE = f"${{oc.create:{{_target_:os.mkdir,path:{MARK}}}}}"
VALUES: tuple[Any, ...] = (
    *(None, True, False, -1, 0, 10**400, 1e308, float("inf"), float("nan"), 2**63, "", "x" * 200_000, [], {}),
    *(
        "\x1b]0;title\x07\x1b[2J",
        "\u202egpj.exe",
        "a\nb",
        "=cmd|' /C calc'!A0",
        "1",
        "[1, 2",
        "../outside",
        "/etc/passwd",
    ),
    {"a": {0: 2, 1.5: 3, True: 4}},
    [[[[[[[[[[0]]]]]]]]]],
    list(range(3000)),
)
"""Unexpected values for any key of a file."""

HOSTILE: tuple[Any, ...] = (
    *(
        "${oc.env:SECRET}",
        "\\${oc.env:SECRET}",
        "${oc.decode:'${oc.env:SECRET}'}",
        "${hydra:runtime.cwd}",
        "${nowhere}",
    ),
    *(CREATE, f"\\{CREATE}", f"\\\\{CREATE}", f'${{oc.decode:"{{_target_: os.mkdir, path: {MARK}}}"}}'),
    *(f"task.gamma='{CREATE}'", f"task.gamma='\\{CREATE}'", f"+task._target_=os.mkdir +task.path={MARK}"),
    *("output.dir=../outside", "hydra.run.dir=../outside", "task._target_=os.abort", "seed=${oc.env:SECRET}"),
    {"_target_": "os.mkdir", "path": MARK},
    {"_target_": "os.mkdir", "_partial_": True, "path": MARK},
    {"_target_": "os.system", "command": f"mkdir {MARK}"},
    {"_target_": "hydra.utils.instantiate", "config": {"_target_": "os.mkdir", "path": MARK}},
    {"_target_": "torch.load", "f": "done/checkpoints/latest.pt", "weights_only": False},
    {"_target_": "pathlib.Path.mkdir", "_args_": [MARK]},
    [{"_target_": "os.mkdir", "path": MARK}],
    *("os.mkdir", "os.system", "subprocess.run", "builtins.exec", "torch.hub.load", "tracetorch.cli.main.app"),
)
"""Values that would run a function, read the environment, or write elsewhere."""


def _nodes(content: Any) -> list[tuple[Any, Any]]:
    """All values in nested dicts and lists, each as its container and its key."""
    found: list[tuple[Any, Any]] = []
    items = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, value in items:
        found.append((content, key))
        found += _nodes(value)
    return found


def change_value(content: Any, rng: random.Random) -> Any:
    """The content with one value changed, added or removed."""
    nodes = _nodes(content)
    if not nodes:
        return rng.choice(VALUES)
    if rng.random() < 0.03:
        return rng.choice(VALUES)
    container, key = rng.choice(nodes)
    draw = rng.random()
    if draw < 0.35:
        container[key] = rng.choice(HOSTILE)
    elif draw < 0.7:
        container[key] = rng.choice(VALUES)
    elif draw < 0.8:
        del container[key]
    elif isinstance(container, dict):
        new = rng.choice(
            ("_target_", "_args_", "_partial_", "_convert_", "_recursive_", "\x1b[31mred", "split", "1", "")
        )
        container[new] = rng.choice(VALUES) if draw < 0.9 else container.pop(key)
    else:
        container.append(rng.choice(VALUES))
    return content


def _as_json(path: Path, rng: random.Random) -> str:
    content = json.loads(path.read_text())
    path.write_text(_json(change_value(content, rng)))
    return "value"


def _json(content: Any) -> str:
    return json.dumps(content, default=str, ensure_ascii=False)


def _as_lines(path: Path, rng: random.Random) -> str:
    rows = path.read_text().splitlines() or ["{}"]
    at = rng.randrange(len(rows))
    what = rng.choice(("value", "swap", "twice", "gone", "long number"))
    if what == "value":
        rows[at] = _json(change_value(json.loads(rows[at]), rng))
    elif what == "swap":
        rows.insert(0, rows.pop(at))
    elif what == "twice":
        rows.insert(at, rows[at])
    elif what == "gone":
        rows.pop(at)
    else:
        rows[at] = re.sub(r": -?\d[\d.e-]*", ": " + "9" * 5000, rows[at], count=1)
    path.write_text("\n".join(rows) + "\n")
    return what


def _as_yaml(path: Path, rng: random.Random) -> str:
    content = change_value(yaml.safe_load(path.read_text()), rng)
    path.write_text(yaml.safe_dump(content, sort_keys=False, allow_unicode=True))
    return "value"


def _as_aliases(path: Path, rng: random.Random) -> str:
    text = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n"
    text += "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 10))
    path.write_text(rng.choice((text, text + path.read_text(), "a: &a [*a]\n", "a: &a {b: *a}\n", "? [1]\n: 2\n")))
    return "aliases"


def _as_csv(path: Path, rng: random.Random) -> str:
    rows = [line.split(",") for line in path.read_text().splitlines()] or [["a"]]
    row = rng.choice(rows)
    row[rng.randrange(len(row))] = str(rng.choice(VALUES))
    path.write_text("\n".join(",".join(row) for row in rows) + "\n")
    return "cell"


def _as_checkpoint(path: Path, rng: random.Random) -> str:
    what = rng.choice(("pickle", "bomb", "stride", "value", "value", "value", "nan", "foreign"))
    if what == "pickle":
        path.write_bytes(
            rng.choice((pickle.dumps(_CallsMkdir()), _zip({"archive/data.pkl": pickle.dumps(_CallsMkdir(), 2)})))
        )
    elif what == "bomb":
        path.write_bytes(_zip({"archive/data.pkl": pickle.dumps({}, 2), "archive/data/0": bytes(1 << 30)}))
    elif what == "foreign":
        path.write_bytes(Path("keep/checkpoints/latest.pt").read_bytes())
    else:
        content = torch.load(path, map_location="cpu", weights_only=True)
        content.pop("checksum", None)
        if what == "stride":
            first = next(iter(content["net"]))
            content["net"][first] = torch.zeros(1).as_strided((1 << 30,), (0,))
        elif what == "nan":
            first = rng.choice(list(content["net"]))
            content["net"][first] = torch.full_like(content["net"][first], rng.choice((float("nan"), float("inf"))))
        else:
            nodes = [node for node in _nodes(content) if isinstance(node[1], str | int)]
            container, key = rng.choice(nodes)
            container[key] = rng.choice([*VALUES[:15], torch.zeros(3), torch.zeros(0), [1, [2]], (1, 2)])
        from tracetorch.runs import checkpoint

        checksum = checkpoint.checksum_of(content) if what != "stride" else "0" * 64
        buffer = io.BytesIO()
        torch.save({**content, "checksum": checksum}, buffer)
        path.write_bytes(buffer.getvalue())
    return what


class _CallsMkdir:
    def __reduce__(self) -> Any:
        return os.mkdir, (MARK,)


def _zip(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


# ── damage to any file ────────────────────────────────────────────────────────────────────────────────────────────────


def _damaged(path: Path, rng: random.Random) -> str:
    content = bytearray(path.read_bytes())
    at = rng.randrange(len(content) + 1)
    what = rng.choice(("bits", "cut", "empty", "twice", "zeros", "noise", "inserted", "BOM", "carriage returns"))
    if what == "bits":
        for _ in range(rng.choice((1, 3, 50))):
            if content:
                content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    elif what == "cut":
        del content[at:]
    elif what == "empty":
        content.clear()
    elif what == "twice":
        content *= 2
    elif what == "zeros":
        content[at:] = bytes(len(content) - at)  # as on some file systems after a power cut
    elif what == "noise":
        content = bytearray(rng.randbytes(5000))
    elif what == "inserted":
        content[at:at] = rng.choice((b"\x00", b"\xff\xfe", b"\x1b[31m", b"\n\n", b'"', b"[" * 100_000, b"{" * 5000))
    elif what == "BOM":
        content[0:0] = b"\xef\xbb\xbf"
    else:
        content = content.replace(b"\n", b"\r\n")
    path.write_bytes(content)
    return what


def _nested(path: Path, rng: random.Random) -> str:
    deep = rng.choice((70, 5000, 200_000))
    path.write_text(
        rng.choice(("[" * deep + "]" * deep, '{"a":' * deep + "1" + "}" * deep, '{"a": [' + "[]," * 2_000_000 + "1]}"))
    )
    return "nested"


def _large(path: Path, rng: random.Random) -> str:
    os.truncate(path, rng.choice((100 << 20, 5 << 30)))
    return "large"


def _no_file(path: Path, rng: random.Random) -> str:
    """Replace the file by something else."""
    what = rng.choice(
        ("pipe", "loop", "dangling", "outside", "device", "another", "folder", "gone", "gone", "unreadable")
    )
    if what == "unreadable":
        path.chmod(0)
        return what
    if path.is_dir() and not path.is_symlink():
        path.rename(path.with_name("moved"))
    else:
        path.unlink()
    if what == "pipe":
        os.mkfifo(path)
    elif what == "loop":
        path.symlink_to(path.name)
    elif what == "dangling":
        path.symlink_to(rng.choice((Path("nowhere"), Path("../outside/new").resolve())))
    elif what == "outside":
        path.symlink_to(
            rng.choice((Path("../outside").resolve(), Path("../outside/precious").resolve(), "/etc/passwd"))
        )
    elif what == "device":
        path.symlink_to("/dev/zero")
    elif what == "another":
        path.symlink_to(f"../keep/{path.name}")
    elif what == "folder":
        path.mkdir()
        (path / "a").write_text("b")
    return what


Mutation = Callable[[Path, random.Random], str]


def _mutations(path: Path) -> tuple[Mutation, ...]:
    if path.is_dir():
        return (_no_file,)
    special: dict[str, tuple[Mutation, ...]] = {
        ".json": (_as_json,) * 8,
        ".jsonl": (_as_lines,) * 8,
        ".yaml": (*(_as_yaml,) * 8, _as_aliases),
        ".csv": (_as_csv,) * 3,
        ".pt": (_as_checkpoint,) * 8,
    }
    return (*special.get(path.suffix, ()), _damaged, _damaged, _damaged, _nested, _large, _no_file, _no_file)


def mutate(workdir: Path, rng: random.Random) -> tuple[str, str, str]:
    """Change one file. Returns: its folder, its name, and a description of the change."""
    folder = rng.choice(list(VERBS))
    if rng.random() < 0.03:
        return folder, "", _renamed(workdir / folder, rng)
    name = rng.choice(FILES[folder])
    if not (workdir / folder / name).exists():
        name = "sweep.json" if folder == "sweep" else "study.json" if folder == "study" else "config.yaml"
    mutation = rng.choice(_mutations(workdir / folder / name))
    before = Path.cwd()
    os.chdir(workdir)
    try:
        return folder, name, f"{mutation.__name__.strip('_')}, {mutation(workdir / folder / name, rng)}"
    finally:
        os.chdir(before)


def _renamed(folder: Path, rng: random.Random) -> str:
    name = rng.choice(
        ("\x1b[31mred\x1b]0;x\x07", "=1+1", "a\nb", "-rf", "b\udcffd", "[bold]", "${oc.env:SECRET}", "c" * 200)
    )
    folder.rename(folder.with_name(name))
    return f"renamed {name!r}"


# ── checks of the result ──────────────────────────────────────────────────────────────────────────────────────────────


def check(stage: Stage, number: object) -> tuple[int, str]:
    """Change a file and run verbs that read it. Returns: the number of verbs; the fault found, "" if none."""
    rng = cases.generator("mutation", number)
    workdir = stage.new_folder(ALL)
    outside = workdir.parent / "outside"
    outside.mkdir(exist_ok=True)
    (outside / "precious").write_text("keep this\n")
    folder, name, what = mutate(workdir, rng)
    log = f"{folder}/{name}: {what}"
    readers = [_BEST] if "best.yaml" in name else [words for words in VERBS[folder] if words != _BEST]
    chosen = rng.sample(_TREE, 2) if not name else [rng.choice(readers), rng.choice([*readers, *_TREE])]
    for words in chosen:
        before, unfinished_before = _protected(workdir, folder, words), cases.unfinished(workdir)
        ended = tracetorch(*words, cwd=workdir)
        log += f"; {' '.join(words)} → {ended.code} {ended.err.strip()[:160]}"
        if fault := _fault_of(ended, workdir, before, unfinished_before, words):
            return 1, f"{log}: {fault}"
        if {path.name: path.read_text() for path in outside.iterdir()} != {"precious": "keep this\n"}:
            return 1, f"{log}: it wrote outside: {list(outside.iterdir())}"
    return len(chosen), ""


def _protected(workdir: Path, folder: str, words: Words) -> dict[str, str]:
    """Digests of the files that the verb must not change."""
    if words[0] == "clean":
        return {
            name: digest for name, digest in _contents(workdir).items() if name.startswith(("keep/", "life/config"))
        }
    target = (
        "compared"
        if words[0] == "compare"
        else f"{folder}/"
        if words[0] in ("resume", "tune")
        else f"{folder}/plots"
        if words[0] == "plot"
        else None
    )
    return {
        name: digest for name, digest in _contents(workdir).items() if target is None or not name.startswith(target)
    }


def _fault_of(ended: Ended, workdir: Path, before: dict[str, str], unfinished_before: list[str], words: Words) -> str:
    if fault := cases.wrong_output(ended):
        return fault
    if any(path.name == MARK for path in workdir.rglob("*")):
        return "it called a function that a file names"
    if ended.cpu_seconds > MOST_CPU_SECONDS:
        return f"{ended.cpu_seconds:.0f} seconds of processor time"
    if ended.peak_bytes > MOST_BYTES:
        return f"{ended.peak_bytes >> 20} MiB of memory"
    after = _contents(workdir)
    for name, digest in before.items():
        if after.get(name) != digest and not name.endswith(".lock"):
            return f"{name} is {'missing' if name not in after else 'changed'}"
    if words[0] not in ("resume", "tune") and (
        left := [path for path in cases.unfinished(workdir) if path not in unfinished_before]
    ):
        return f"left over: {left}"
    for name in after.keys() - before.keys():
        path = workdir / name
        is_small = path.is_file() and not path.is_symlink() and path.stat().st_size < 1 << 24
        if is_small and b"TheSecretOfThisUser" in path.read_bytes():
            return f"{name} contains the secret"
    if ended.code == 2 and words[0] in ("eval", "run", "info") and (new := after.keys() - before.keys()):
        return f"refused, but left {sorted(new)[:3]}"
    return ""


def _contents(workdir: Path) -> dict[str, str]:
    """As `cases.contents`, but with the size in place of the digest of a large file."""
    found = {}
    for path in sorted(workdir.rglob("*")):
        name = path.relative_to(workdir).as_posix()
        if path.is_symlink():
            found[name] = f"link to {path.readlink()}"
        elif path.is_file():
            is_large = path.stat().st_size > 1 << 24
            found[name] = f"{path.stat().st_size}" if is_large else cases.digest(path)
    return found
