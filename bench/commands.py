"""What the commands share: a dataclass of options read from the command line, and how a command ends badly."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import MISSING, field, fields
from types import NoneType
from typing import Any, TypeVar, get_args, get_type_hints

from pat.base.errors import Failure, UserError
from pat.base.parser import OneLineParser

T = TypeVar("T")


def option(default: Any, help: str, *, positional: bool = False, **how: Any) -> Any:
    """A field that the command line sets; `how` is what `add_argument` takes beside its type and default."""
    return field(default=default, metadata={"help": help, "positional": positional, **how})


def read_options(options: type[T], command: str, arguments: Sequence[str]) -> T:
    """The dataclass `options`, its `option` fields from the command line; ends the process for a mistake in it."""
    parser = OneLineParser(prog=f"python -m bench {command}")
    types = get_type_hints(options)
    for each in fields(options):  # type: ignore[arg-type]
        if not each.metadata:
            continue  # for callers alone
        how = dict(each.metadata)
        name = each.name if how.pop("positional") else f"--{each.name.replace('_', '-')}"
        if each.default is False:
            how["action"] = "store_true"
        else:
            how["default"] = None if each.default is MISSING else each.default
            some = [kind for kind in get_args(types[each.name]) if kind is not NoneType]
            how.setdefault("type", some[0] if some else types[each.name])
        parser.add_argument(name, **how)
    return options(**vars(parser.parse_intermixed_args(arguments)))


def exit_status(work: Callable[[], int]) -> int:
    """That of `work`; 2 for a user's mistake, 1 for what broke, either said in one line."""
    try:
        return work()
    except (UserError, Failure) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, UserError) else 1
