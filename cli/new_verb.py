"""`tracetorch new`: write a part of the user's own, as a file that runs, with its YAML and its test."""

from __future__ import annotations

import json
import keyword
import re
import sys
import tomllib
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal

import typer

from tracetorch.cli import project
from tracetorch.cli.errors import UsageError, quote, shorten
from tracetorch.cli.shared_arguments import Traceback
from tracetorch.cli.terminal import say
from tracetorch.files import read_text, write_whole

_GROUPS = {"task": "task", "neuron": "network", "connection": "network", "rule": "rule", "loss": "loss", "env": "task"}
_TEMPLATES = Path(__file__).parent / "templates"
_NAME = re.compile(r"[a-z][a-z0-9_]{0,40}", re.ASCII)
_LIST = re.compile(r"^packages[ \t]*=[ \t]*\[[^\]#]*\]", re.MULTILINE)
_TABLE = re.compile(r"^\[tracetorch\][^\n]*\n?", re.MULTILINE)
_NEW_PROJECT = """# This folder is a project of traceTorch: see docs/own-code.md.
[tracetorch]
# The folder of configs: conf/task/NAME.yaml, conf/experiment/NAME.yaml, …
conf = "conf"
# The modules that these configs, and the runs in this folder, may call.
packages = ["{name}"]
"""

Kind = Annotated[
    Literal["task", "neuron", "connection", "rule", "loss", "env"],
    typer.Argument(metavar="KIND", help="task, neuron, connection, rule, loss or env (a task with rewards)."),
]
Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of the file and of the choice, such as louder_half.")]


def command(kind: Kind, name: Name, traceback: Traceback = False) -> None:
    """Write a part of your own that runs as it stands: NAME.py, its YAML in conf/, and test_NAME.py.

    Outside of a project, makes the folder one (tracetorch.toml); in one, adds NAME to its packages. Overwrites no other
    file.
    """
    group = _GROUPS[kind]
    own = project.current()
    root = own.root if own else Path.cwd()
    conf = own.conf if own and own.conf else root / "conf"
    _check_name(name, group, root)
    module, preset, test = _filled(kind, name)
    texts = {root / f"{name}.py": module, conf / group / f"{name}.yaml": preset, root / f"test_{name}.py": test}
    if existing := [str(_shown(path)) for path in (*texts, root / name) if path.exists() or path.is_symlink()]:
        verb = "exists" if len(existing) == 1 else "exist"
        raise UsageError(f"{', '.join(existing)} {verb} already: give another name, such as {name}_2")
    listed = None if own is None or name in own.packages else _with_package(own, name)
    if own is None:
        texts[root / project.FILE] = _NEW_PROJECT.format(name=name)
    _write_new(texts, {root / project.FILE: listed} if listed is not None else {})
    say(f"wrote {', '.join(str(_shown(path)) for path in texts)}")
    if listed is not None:
        say(f"added {name} to packages in {_shown(root / project.FILE)}")
    (run,) = [line.removeprefix("# Run:").strip() for line in preset.splitlines() if line.startswith("# Run:")]
    say(
        f"to train with it:  {run}",
        f"to test it:        pytest {_shown(root / f'test_{name}.py')}",
    )


def _check_name(name: str, group: str, root: Path) -> None:
    """Raises: UsageError for a name that cannot be a module of the project, or that is taken."""
    from tracetorch.cli.adapter import conf_dir

    if not _NAME.fullmatch(name) or keyword.iskeyword(name):
        raise UsageError(
            f"{shorten(name)!r} cannot name a module: use small letters, digits and _, such as louder_half"
        )
    if (conf_dir() / group / f"{name}.yaml").exists():
        raise UsageError(f"{group}={name} comes with tracetorch: give another name, such as my_{name}")
    if (
        name in sys.stdlib_module_names
        or name in ("conf", "own_part")
        or (not (root / f"{name}.py").exists() and _is_installed(name))
    ):
        raise UsageError(
            f"there is a module {name} already, which {name}.py would hide: give another name, such as my_{name}"
        )


def _is_installed(name: str) -> bool:
    with suppress(ImportError, ValueError):
        return find_spec(name) is not None
    return False


def _filled(kind: str, name: str) -> list[str]:
    """Fill the templates of a kind. Returns: the texts of the part, of its YAML and of its test.

    For the name louder_half: own_part, Own part → louder_half, Louder half; OwnPart → LouderHalf; own_function →
    louder_half. A class or function whose name the texts use for something else gets the prefix My or my_.
    """
    texts = [
        (_TEMPLATES / file).read_text(encoding="utf-8") for file in (f"{kind}.py", f"{kind}.yaml", f"{kind}_test.py")
    ]
    words = name.replace("_", " ")
    taken = {*re.findall(r"\w+", " ".join(texts)), *keyword.kwlist}
    class_name, function = words.title().replace(" ", ""), name
    new_names = {
        f"{__package__}.templates.{kind}": name,  # that the test imports
        "OwnPart": f"My{class_name}" if class_name in taken else class_name,
        "own_function": f"my_{function}" if function in taken else function,
        "own_part": name,
        "Own part": words.capitalize(),
    }
    pattern = "|".join(map(re.escape, new_names))  # in one pass: a new name may hold a placeholder
    return [re.sub(pattern, lambda found: new_names[found[0]], text) for text in texts]


def _with_package(own: project.Project, name: str) -> str:
    """The text of the project's file with one more package. Raises: UsageError if it must be added by hand."""
    text = read_text(own.file).removeprefix("\ufeff")
    content = tomllib.loads(text)
    table = content.get("tracetorch", {})
    names = [*table.get("packages", []), name]
    line = f"packages = [{', '.join(map(json.dumps, names))}]"
    if "packages" in table:
        new = _LIST.sub(lambda found: line, text, count=1)
    elif "tracetorch" in content:
        new = _TABLE.sub(lambda found: f"{found[0].rstrip()}\n{line}\n", text, count=1)
    else:
        new = f"{text.rstrip()}\n\n[tracetorch]\n{line}\n".lstrip()
    with suppress(ValueError):
        if tomllib.loads(new) == {"tracetorch": {**table, "packages": names}}:
            return new
    raise UsageError(
        f'add "{name}" to packages in {own.file} first: this command cannot edit the list as it is written'
    )


def _write_new(texts: dict[Path, str], changed: dict[Path, str]) -> None:
    """Write new files, and change others; after an error, remove the new ones again. Raises: UsageError."""
    written: list[Path] = []
    try:
        for path, text in texts.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("x", encoding="utf-8") as file:
                written.append(path)
                file.write(text)
        for path, text in changed.items():
            write_whole(path, text)
    except OSError as error:
        for path in written:
            with suppress(OSError):
                path.unlink()
        raise UsageError(f"cannot write to {error.filename or 'the disk'}: {error.strerror}") from error


def _shown(path: Path) -> str:
    """A path, relative to the working directory if it is below it."""
    with suppress(ValueError, OSError):
        return quote(path.relative_to(Path.cwd()))
    return quote(path)
