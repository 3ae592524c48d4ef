"""Hydra's access to a user's folder of presets: through our reader, and only inside the folder."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from hydra.core.object_type import ObjectType
from hydra.core.plugins import Plugins
from hydra.plugins.config_source import ConfigResult, ConfigSource
from omegaconf import OmegaConf

from tracetorch.cli.adapter.reading import parse_yaml, read_config_text
from tracetorch.cli.errors import UsageError, shorten

_SCHEME = "presets"
_CHOICE = re.compile(r"[\w @:/-]+(\.yaml)?", re.ASCII)


def searched(folder: Path) -> str:
    """The folder as Hydra's search path has it."""
    Plugins.instance().register(Presets)
    return f"{_SCHEME}://{quote(str(folder.resolve()), safe='/')}"


class Presets(ConfigSource):
    """Reads the presets of a folder that may come from elsewhere.

    Its files hold plain values and references to other values of the same config, and choose by name; see `read_yaml`.
    """

    @staticmethod
    def scheme() -> str:
        return _SCHEME

    def load_config(self, config_path: str) -> ConfigResult:
        path = self._path(f"{config_path.removesuffix('.yaml')}.yaml")
        if not path.resolve().is_relative_to(self._path("")):
            raise UsageError(f"{path} is a link that leads out of {self._path('')}")
        text = read_config_text(path)
        content = parse_yaml(text, path, references=True)
        for line in _texts(content.get("defaults")):
            if not _CHOICE.fullmatch(line) or re.search(r"\bhydra\b", line):
                raise UsageError(
                    f"{path}: defaults: {shorten(repr(line))} is not a choice such as override /task: mnist"
                )
        first = text.lstrip().partition("\n")[0].split()
        package = first[2] if first[:2] == ["#", "@package"] and len(first) == 3 else None
        if package is None and config_path.startswith("experiment/"):
            raise UsageError(f"{path} does not say where its keys belong: begin it with '# @package _global_'")
        if "hydra" in content or str(package).startswith("hydra"):
            raise UsageError(f"{path} has settings of Hydra, which have no effect on a run; leave them out")
        header = {"package": package}
        return ConfigResult(self.provider, self.full_path(), OmegaConf.create(content), header)

    def available(self) -> bool:
        return self.is_group("")

    def is_group(self, config_path: str) -> bool:
        return self._path(config_path).is_dir()

    def is_config(self, config_path: str) -> bool:
        return self._path(f"{config_path.removesuffix('.yaml')}.yaml").is_file()

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        folder = self._path(config_path)
        names = {path.stem for path in folder.glob("*.yaml") if path.is_file()}
        groups = {path.name for path in folder.iterdir() if path.is_dir()}
        kinds = {None: names | groups, ObjectType.CONFIG: names, ObjectType.GROUP: groups}
        return sorted(kinds.get(results_filter, set()))

    def _path(self, inside: str) -> Path:
        if ".." in Path(inside).parts or Path(inside).is_absolute():
            raise UsageError(f"{shorten(inside)} lies outside of {unquote(self.path)}")
        return Path(unquote(self.path)) / inside


def _texts(value: Any) -> Iterator[str]:
    """All words in a list of defaults."""
    if isinstance(value, dict):
        value = [*value, *value.values()]
    if isinstance(value, list):
        for inner in value:
            yield from _texts(inner)
    elif value is not None:
        yield str(value)
