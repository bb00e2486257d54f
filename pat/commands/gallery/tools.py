"""What the subcommands of `pat gallery` share."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, TypeVar

import numpy as np
from tyro.conf import Positional, arg

from deploy.gallery import Gallery, Record, facts_of
from pat.base.errors import UserError
from pat.base.files import written_whole
from pat.base.progress import Progress

T = TypeVar("T")


@dataclass(frozen=True)
class OnGallery:
    """A subcommand that works on one gallery."""

    gallery: Annotated[Positional[str], arg(metavar="GALLERY")]
    """The folder of the gallery; cameras may be using it."""


def opened(place: str) -> Gallery:
    """The gallery that is at `place`, with its own model and retention. Raises UserError when there is none."""
    facts = facts_of(place)
    return Gallery.open(place, dimension=facts.dimension, model=facts.model, retention=facts.retention)


def of_somebody(done: T | None, identity: str, place: str) -> T:
    """What was done with a person. Raises UserError when nobody has the name, so that it was not."""
    if done is None:
        raise UserError(f"nobody in the gallery {place} is called {identity!r}; `pat gallery list` shows who is")
    return done


def moment(seconds: float) -> str:
    """Seconds since the epoch as the local date and time."""
    return datetime.fromtimestamp(seconds).isoformat(" ", "seconds")


def seconds_of(name: str, text: str) -> float | None:
    """A date and time (ISO 8601, local unless it says otherwise) or seconds since the epoch; None for "".

    Raises UserError, naming the flag, for anything else.
    """
    if not text:
        return None
    try:
        return float(text)
    except ValueError:
        pass
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError, OSError) as error:
        raise UserError(
            f"{name} {text!r} is no time; write 2026-11-23T08:57 or seconds since the epoch"
        ) from error


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table on standard output. The first column, a name to be copied, is never shortened."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Column, Table

    rows = list(rows)
    longest = max((len(row[0]) for row in rows), default=0)
    first, *others = columns
    table = Table(Column(first, min_width=longest, no_wrap=True), *others)
    for row in rows:
        table.add_row(*(escape(cell) for cell in row))
    Console(file=sys.stdout).print(table)


def write_lines(path: Path, records: Iterable[Record], count: int, progress: Progress) -> int:
    """Write entries as JSON lines, whole or not at all, and return how many there were."""
    written = 0
    with (
        written_whole(path) as temporary,
        open(temporary, "w", encoding="utf-8") as file,
        progress.bar("export", count) as advance,
    ):
        for each in records:
            values = {"id": each.id, "identity": each.identity, "camera": each.camera, "time": each.time}
            values |= {"note": each.note, "vector": each.vector.tolist()}
            file.write(json.dumps(values, ensure_ascii=False) + "\n")
            written += 1
            advance(1)
    return written


def write_arrays(path: Path, records: Sequence[Record]) -> int:
    """Write entries as arrays of an .npz, whole or not at all, and return how many there were."""
    names = ("id", "identity", "camera", "time", "note", "vector")
    ids, identities, cameras, times, notes, vectors = (
        np.array([getattr(each, name) for each in records]) for name in names
    )
    with written_whole(path) as temporary, open(temporary, "wb") as file:
        np.savez(
            file, ids=ids, identities=identities, cameras=cameras, times=times, notes=notes, vectors=vectors
        )
    return len(records)
