"""From the words after a command to a configuration: defaults, then a file, then flags."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import tyro
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

from pat.base.errors import UserError
from pat.base.files import named_path
from pat.base.mapping import overlay, read_mapping
from pat.commands.folded import folded
from pat.config import TrainConfig

Config = TypeVar("Config")

ConfigFile = Annotated[
    Path | None,
    tyro.conf.arg(help="TOML or JSON file of settings, laid over the defaults; flags win. May be repeated."),
]
"""A field for the help alone: `with_config_file` has read the files and taken the flag away."""


PATHS = ConstructorRegistry()
"""Reads a path as tyro does, and refuses an empty one."""


@PATHS.primitive_rule
def _path(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Path] | None:
    if info.type is not Path:
        return None
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar="PATH",
        instance_from_str=lambda words: named_path(words[0]),
        is_instance=lambda value: isinstance(value, Path),
        str_from_instance=lambda path: [str(path)],
    )


def parse(kind: Any, arguments: Sequence[str], command: str, default: Any = None) -> Any:
    """An instance of the dataclass `kind` (or the result of calling it) from the command line.

    tyro prints the help, and for a flag that does not exist which one was meant, and exits with 2. Raises
    UserError for an empty path.
    """
    extra = {} if default is None else {"default": default}
    with folded():
        return tyro.cli(kind, args=list(arguments), prog=f"pat {command}", registry=PATHS, **extra)


def writable(folder: Path) -> Path:
    """The folder, which need not be there yet. Raises UserError where no file can be written into it.

    For what takes long before it writes: asked first, a wrong place costs nothing.
    """
    try:
        with tempfile.TemporaryFile(dir=next(place for place in (folder, *folder.parents) if place.exists())):
            return folder
    except OSError as error:
        raise UserError(f"cannot write to {folder}: {error.strerror}; choose another place") from error


def left_to_the_device(config: TrainConfig) -> TrainConfig:
    """`config` with implementations and the bank's precision that `pat.device` chooses."""
    auto = {"model": {"attention": "auto"}, "loss": {"neighbours": "auto", "bank_read": "auto"}}
    return overlay(config, auto, "the defaults")


def with_config_file(default: Config, arguments: Sequence[str]) -> tuple[Config, list[str]]:
    """`default` with the values of `--config FILE` laid over it, and the arguments that remain."""
    known, rest = looked_for(arguments, config={"action": "append", "type": Path, "default": []})
    for path in known.config:
        default = overlay(default, read_mapping(path), str(path))
    return default, rest


def looked_for(arguments: Sequence[str], **flags: dict[str, Any]) -> tuple[argparse.Namespace, list[str]]:
    """The values of some flags, told as `add_argument` takes them, and the arguments that remain."""
    reader = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    for name, how in flags.items():
        reader.add_argument(f"--{name}", **how)
    return reader.parse_known_args(list(arguments))
