"""Plain values of a JSON or TOML file as frozen dataclasses, and back.

One decoder for settings, model files and manifests: it refuses what does not fit in one line that names the field.
Limits stand in the type: `Annotated[int, Within(1, 8192)]`.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union

from pat.base.errors import UserError

DEEPEST = 64
"""Levels of nesting that a file may have; no file of this project has ten."""

T = TypeVar("T")


@dataclass(frozen=True)
class Within:
    """Limits of a number, in the annotation of a field: `least` <= number <= `most`, or above `above`."""

    least: float | None = None
    most: float | None = None
    above: float | None = None

    def holds(self, value: float) -> bool:
        """Whether a number keeps the limits; NaN keeps none."""
        return (
            (self.least is None or value >= self.least)
            and (self.most is None or value <= self.most)
            and (self.above is None or value > self.above)
            and math.isfinite(value)
        )

    def words(self) -> str:
        """The limits as they stand in a message."""
        said = [
            f"above {self.above:g}" if self.above is not None else "",
            f"of at least {self.least:g}" if self.least is not None else "",
            f"{'' if self.least is not None else 'of '}at most {self.most:g}" if self.most is not None else "",
        ]
        return " and ".join(filter(None, said))


def read_mapping(path: str | Path, *, remedy: str = "") -> dict[str, Any]:
    """The values of a TOML or JSON file, by its ending.

    Raises UserError when it cannot be read, does not parse, is nested without end or holds no table; `remedy` says
    what to do.
    """
    path = Path(path)
    advice = f"; {remedy}" if remedy else ""
    try:
        text = path.read_text(encoding="utf-8")
        values = json.loads(text) if path.suffix == ".json" else _toml(text)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}{advice}") from error
    except ValueError as error:  # both parsers' errors, and bad UTF-8
        raise UserError(f"{path} does not parse: {error}{advice}") from error
    except RecursionError:
        raise UserError(f"{path} is nested too deep to be read{advice}") from None
    if not isinstance(values, dict):
        raise UserError(f"{path} holds {type(values).__name__} at the top, not a table of values{advice}")
    if _deeper(values, DEEPEST):
        raise UserError(f"{path} is nested more than {DEEPEST} levels deep{advice}")
    return values


def from_mapping(
    kind: type[T], values: Any, where: str = "the configuration", *, remedy: str = "", ignore_unknown: bool = False
) -> T:
    """Build the dataclass `kind` from nested plain values.

    Raises UserError for a missing or unknown key (naming the nearest known one), a value of the wrong type or
    outside its limits, and a choice that does not exist. `where` names the file, `remedy` says what to do;
    `ignore_unknown` leaves out what a newer writer added.
    """
    return _Decoder(where, remedy, ignore_unknown).build(kind, values, "")


def to_mapping(value: Any) -> Any:
    """The nested plain values of a dataclass, ready for JSON: `from_mapping` reads them back."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {each.name: to_mapping(getattr(value, each.name)) for each in dataclasses.fields(value)}
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {key: to_mapping(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [to_mapping(item) for item in value]
    return value


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested values by their dotted names."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value}
    return found


def check_limits(config: Any, where: str = "the settings", prefix: str = "") -> None:
    """Refuse what the limits of a dataclass exclude, wherever it came from; errors as in `from_mapping`."""
    hints = typing.get_type_hints(type(config), include_extras=True)
    for name, kind in hints.items():
        value = getattr(config, name)
        if dataclasses.is_dataclass(value):
            check_limits(value, where, f"{prefix}{name}.")
        else:
            _Decoder(where).convert(kind, to_mapping(value), prefix + name)


def overlay(base: T, values: Mapping[str, Any], where: str) -> T:
    """`base` with the given values replaced, at any depth; errors as in `from_mapping`."""
    return from_mapping(type(base), _merged(to_mapping(base), values), where)


def _merged(base: dict[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in values.items():
        nested = isinstance(value, Mapping) and isinstance(base.get(key), dict)
        merged[key] = _merged(base[key], value) if nested else value
    return merged


def _toml(text: str) -> Any:
    try:
        import tomllib
    except ImportError:  # Python 3.10
        import tomli as tomllib
    return tomllib.loads(text)


def _deeper(values: Any, levels: int) -> bool:
    """Whether lists and tables lie in one another more than `levels` deep; without recursion."""
    layer = [values]
    for _ in range(levels):
        inner = (each.values() if isinstance(each, dict) else each for each in layer)
        layer = [item for each in inner for item in each if isinstance(item, (dict, list))]
    return bool(layer)


@dataclass(frozen=True)
class _Decoder:
    where: str
    remedy: str = ""
    ignore_unknown: bool = False

    def error(self, text: str) -> UserError:
        return UserError(f"{self.where}: {text}" + (f"; {self.remedy}" if self.remedy else ""))

    def check_keys(self, kind: type, values: Mapping[str, Any], prefix: str) -> None:
        known = [each.name for each in dataclasses.fields(kind)]
        for key in values:
            if key not in known:
                near = difflib.get_close_matches(str(key), known, n=1, cutoff=0.5)
                meant = f"did you mean {prefix}{near[0]}?" if near else f"known keys: {', '.join(known)}"
                raise self.error(f"unknown key {prefix}{key}; {meant}")

    def build(self, kind: type[T], values: Any, prefix: str) -> T:
        if not isinstance(values, Mapping):
            raise self.error(f"{prefix.rstrip('.') or 'the top level'} must be a table of settings")
        fields = {each.name: each for each in dataclasses.fields(kind)}  # type: ignore[arg-type]
        if self.ignore_unknown:
            values = {key: value for key, value in values.items() if key in fields}
        self.check_keys(kind, values, prefix)
        missing = [
            prefix + name
            for name, each in fields.items()
            if name not in values and each.default is each.default_factory is dataclasses.MISSING
        ]
        if missing:
            raise self.error(f"{', '.join(missing)} is missing")
        hints = typing.get_type_hints(kind, include_extras=True)
        return kind(**{key: self.convert(hints[key], value, prefix + key) for key, value in values.items()})

    def convert(self, kind: Any, value: Any, key: str) -> Any:
        """`value` as the type that the dataclass declares."""
        origin, options = typing.get_origin(kind), typing.get_args(kind)
        if kind is Any:
            return value
        if dataclasses.is_dataclass(kind) and isinstance(kind, type):
            return self.build(kind, value, key + ".")
        if origin is Annotated:
            number = self.convert(options[0], value, key)
            limits = [each for each in options[1:] if isinstance(each, Within)]
            if number is None or all(each.holds(number) for each in limits):
                return number
        elif origin in (Union, types.UnionType):
            for option in options:
                try:
                    return self.convert(option, value, key)
                except UserError:
                    continue
        elif kind is type(None) and value is None:
            return None
        elif origin is Literal and any(type(value) is type(each) and value == each for each in options):
            return value
        elif origin is tuple and isinstance(value, (list, tuple)):
            kinds = [options[0]] * len(value) if options[-1] is Ellipsis else list(options)
            if len(kinds) == len(value):
                return tuple(self.convert(each, item, key) for each, item in zip(kinds, value, strict=True))
        elif isinstance(origin, type) and issubclass(origin, Mapping) and isinstance(value, Mapping):
            return {name: self.convert(options[1], item, f"{key}.{name}") for name, item in value.items()}
        elif kind is Path and isinstance(value, (str, Path)) and value != "":
            return Path(value)
        elif kind is float and isinstance(value, (int, float)) and not isinstance(value, bool):
            return float(value)
        elif kind in (int, str, bool) and type(value) is kind:
            return value
        raise self.error(f"{key} = {value!r} is not {spelled(kind)}")


def spelled(kind: Any) -> str:
    """A type in the words of someone who writes a file."""
    origin, options = typing.get_origin(kind), typing.get_args(kind)
    if origin is Annotated:
        limits = " and ".join(each.words() for each in options[1:] if isinstance(each, Within))
        return f"{spelled(options[0])} {limits}".rstrip()
    if origin is Literal:
        return "one of " + ", ".join(map(str, options))
    if origin in (Union, types.UnionType):
        return " or ".join(spelled(option) for option in options)
    if origin is tuple:
        return "a list of " + spelled(options[0])
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return "a table"
    names = {int: "a whole number", float: "a number", str: "text", bool: "true or false", Path: "a path"}
    return names.get(kind, "nothing" if kind is type(None) else str(kind))
