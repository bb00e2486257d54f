"""A gallery for another model: the same people under the same keys, with mapped vectors or none.

The old gallery stays what it is until its retention has passed: the new one knows where it is, deletes in it what
has expired, and forgets in it whom it forgets (`Gallery`).
"""

from __future__ import annotations

import json
import logging
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from deploy.gallery.backup import begin_anew, facts_of, folder_of, new_gallery
from deploy.gallery.before import ID, descend
from deploy.gallery.changes import checksum, delete, drop_empty
from deploy.gallery.database import FILE, made_once, translated, write_facts
from deploy.gallery.entries import Floats
from deploy.gallery.facts import Facts
from deploy.gallery.index import AT_ONCE
from deploy.gallery.vectors import to_bytes
from pat.base.errors import UserError

log = logging.getLogger(__name__)


def remodel(
    source: str | Path,
    place: str | Path,
    *,
    dimension: int,
    model: str,
    vector_map: Callable[[Floats], Floats] | None = None,
    about: Mapping[str, Any] | None = None,
) -> int:
    """Make a gallery for another model in a new folder, whole or not at all; the number of entries in it.

    Without a map it has no entries, and the people who are kept or were seen. `about` says where the map is from
    and what it costs; it is kept with the gallery. Damaged entries are left out. Raises UserError when there is
    something in the folder, or nothing to begin with.
    """
    old, before = facts_of(source), folder_of(source)
    if old.model == model:
        raise UserError(f"the gallery {before} holds vectors of this model already")
    with new_gallery(place) as draft:
        with translated(before), closing(sqlite3.connect(before / FILE)) as connection:
            with connection:
                id = made_once(connection, ID)
            connection.execute("VACUUM INTO ?", (str(draft),))
        with translated(folder_of(place)), closing(sqlite3.connect(draft)) as connection:
            with connection:
                begin_anew(connection)
                write_facts(connection, Facts(dimension, model, old.retention))
                descend(connection, before, id)
                known = json.dumps(dict(about or {}))
                connection.execute("INSERT OR REPLACE INTO facts VALUES ('map', ?)", (known,))
                _drop_decisions(connection)
                count = _replace(connection, old, vector_map, before)
            connection.execute("VACUUM")  # no old vector stays in a free page
    return count


def _replace(
    connection: sqlite3.Connection, old: Facts, vector_map: Callable[[Floats], Floats] | None, before: Path
) -> int:
    connection.execute("DROP TABLE IF EXISTS mapped")
    rows: list[tuple] = []
    if vector_map is None:
        connection.execute("DELETE FROM entries")
    else:
        rows = _sound(connection, old.dimension, before)
        connection.execute("CREATE TABLE mapped (entry INTEGER PRIMARY KEY)")
        connection.execute("INSERT INTO mapped SELECT id FROM entries")
        _map(connection, rows, vector_map)
    drop_empty(connection, [row[0] for row in connection.execute("SELECT id FROM identities")])
    connection.execute("DELETE FROM outbox")
    return len(rows)


def _sound(connection: sqlite3.Connection, dimension: int, before: Path) -> list[tuple]:
    """The entries that are as they were written; the others are deleted, lest they get a right checksum."""
    rows = connection.execute("SELECT id, uuid, camera, time, note, vector, checksum FROM entries").fetchall()
    sound = [row[:6] for row in rows if len(row[5]) == 4 * dimension and checksum(*row[1:6]) == row[6]]
    damaged = {row[0] for row in rows} - {row[0] for row in sound}
    if damaged:
        log.warning("%s: %d damaged entries are left out", before, len(damaged))
        delete(connection, sorted(damaged))
    return sound


def _map(connection: sqlite3.Connection, rows: Sequence[tuple], vector_map: Callable[[Floats], Floats]) -> None:
    for begin in range(0, len(rows), AT_ONCE):
        some = rows[begin : begin + AT_ONCE]
        blobs = to_bytes(vector_map(np.stack([np.frombuffer(row[5], dtype="<f4") for row in some])))
        connection.executemany(
            "UPDATE entries SET vector = ?, checksum = ? WHERE id = ?",
            [
                (blob, checksum(id, camera, when, note, blob), number)
                for (number, id, camera, when, note, _), blob in zip(some, blobs, strict=True)
            ],
        )


def _drop_decisions(connection: sqlite3.Connection) -> None:
    """What the service was told about scores of the old model."""
    there = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if "service_reviews" in there:
        connection.execute("DELETE FROM service_reviews WHERE answer IS NULL")
        connection.execute("DELETE FROM service_choices WHERE name = 'threshold'")
