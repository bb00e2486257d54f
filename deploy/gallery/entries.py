"""What a gallery holds and answers, what it is asked for, and which names and vectors it takes."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pat.base.errors import UserError

Floats = NDArray[np.float32]

LONGEST_NAME = 200
"""Characters of an identity, a camera or a note at most."""
UNIT_TOLERANCE = 1e-2
"""How far from 1 the length of a vector may be: fp16 and INT8 engines round."""


@dataclass(frozen=True, slots=True)
class Record:
    """One entry: a vector and where it came from."""

    id: str
    """A UUID."""
    identity: str
    camera: str
    time: float
    """Seconds since the epoch."""
    note: str
    vector: Floats
    """[D], unit length."""


@dataclass(frozen=True, slots=True)
class Match:
    """An entry that is like a vector."""

    identity: str
    score: float
    """Cosine, 1 for the same direction."""
    camera: str
    time: float
    id: str
    note: str
    key: str
    """The person's; after a new name or a merge it is another, to which this one leads: see `Gallery.person`."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What the gallery holds of one person."""

    identity: str
    vectors: int
    cameras: tuple[str, ...]
    first: float
    last: float


@dataclass(frozen=True, slots=True)
class Change:
    """A merge or a split that was made."""

    number: int
    """With which `Gallery.undo` takes it back."""
    entries: int
    """How many went to somebody else; hidden ones are not counted."""


def checked_name(what: str, name: str, *, empty: bool = False) -> str:
    """`name` in Unicode's composed form (NFC), so that one name cannot be two.

    Raises UserError for control characters (also those that turn the direction of text), surrogates, surrounding
    white space, more than 200 characters and, unless `empty`, no character at all.
    """
    if not isinstance(name, str):
        raise UserError(f"the {what} {name!r} is no text")
    name = unicodedata.normalize("NFC", name)
    if not name and not empty:
        raise UserError(f"the {what} is empty; give it a name")
    if len(name) > LONGEST_NAME:
        raise UserError(f"the {what} {name[:20]!r}... has {len(name)} characters; {LONGEST_NAME} are the most")
    bad = next((each for each in name if _is_control(each)), None)
    if bad is not None:
        raise UserError(f"the {what} {name!r} holds the control character U+{ord(bad):04X}; leave it out")
    if name != name.strip():
        raise UserError(f"the {what} {name!r} begins or ends with a space; leave it out")
    return name


def _is_control(character: str) -> bool:
    if character in "\u200c\u200d":  # joiners: part of names in Persian and Hindi
        return False
    return unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp")


def checked_vectors(vectors: ArrayLike, dimension: int) -> Floats:
    """`vectors` as float32 [n, D]. Raises UserError unless every one is finite and of unit length."""
    found = np.asarray(vectors)
    if found.ndim != 2 or found.shape[1] != dimension or not np.issubdtype(found.dtype, np.floating):
        raise UserError(
            f"vectors must be floats [n, {dimension}], not {found.dtype} {list(found.shape)}; nothing was stored"
        )
    found = np.ascontiguousarray(found, dtype=np.float32)
    lengths = np.linalg.norm(found.astype(np.float64), axis=1)  # [n]; float32 could overflow
    wrong = np.flatnonzero(~(np.abs(lengths - 1) <= UNIT_TOLERANCE))  # so written, NaN is wrong too
    if len(wrong):
        raise UserError(
            f"vector {wrong[0]} of {len(found)} has the length {lengths[wrong[0]]:g}, not 1 "
            "(NaN: a number in it is not finite); nothing was stored"
        )
    return found


def checked_time(what: str, time: float) -> float:
    """`time` as a float. Raises UserError when it is not finite."""
    try:
        time = float(time)
    except (TypeError, ValueError) as error:
        raise UserError(f"{what} is {time!r}, no number of seconds since the epoch") from error
    if not math.isfinite(time):
        raise UserError(f"{what} is {time}, no number of seconds since the epoch")
    return time


def one_each(what: str, value: Any, count: int) -> list[Any]:
    """`count` values: one for all of them, or one each. Raises UserError for another number of them."""
    if isinstance(value, str) or not isinstance(value, (Sequence, np.ndarray)):
        return [value] * count
    if len(value) != count:
        raise UserError(f"{len(value)} values of {what} for {count} vectors; give one for all, or one each")
    return list(value)
