"""The gallery of the model before, from which another was made (deploy.gallery.remodel).

It is known again by a random id, wherever the two folders were moved to.
"""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

from deploy.gallery.database import FILE, Database

log = logging.getLogger(__name__)

ID, FOLDER, BEFORE = "id", "before", "before_id"
"""Facts: a gallery's own id, which it has from when another is made of it; where that one's source was; its id."""


def descend(connection: sqlite3.Connection, source: Path, id: str) -> None:
    """Note in a copy of a gallery that it is another one, made from that of this id in the folder `source`."""
    connection.execute("DELETE FROM facts WHERE name = ?", (ID,))
    connection.executemany(
        "INSERT OR REPLACE INTO facts VALUES (?, ?)", {FOLDER: str(source.resolve()), BEFORE: id}.items()
    )


def find_before(database: Database) -> Path | None:
    """Where the gallery of the model before is, if there is one: beside this one, or where it was."""
    facts = dict(database.rows("SELECT name, value FROM facts"))
    if FOLDER not in facts:
        return None
    was = Path(facts[FOLDER])
    found = next((each for each in _places(was, database.folder) if _id_of(each) == facts.get(BEFORE, "")), None)
    if found is None:
        log.warning(
            "%s: the gallery of the model before is neither beside it nor at %s; unless it was deleted, put it "
            "beside this one: until then whoever is forgotten here stays there",
            database.folder, was,
        )  # fmt: skip
    return found


def _places(was: Path, folder: Path) -> Iterator[Path]:
    beside = folder.resolve().parent
    yield beside / was.name
    yield was
    with suppress(OSError):  # a folder whose neighbours nobody may list
        yield from sorted(beside.iterdir())


def _id_of(folder: Path) -> str | None:
    """None for what is no gallery, or one of which none was made."""
    if not os.path.isfile(folder / FILE):  # unlike Path.is_file, no error where it may not look
        return None
    with suppress(sqlite3.Error), closing(sqlite3.connect(folder / FILE)) as connection:
        row = connection.execute("SELECT value FROM facts WHERE name = ?", (ID,)).fetchone()
        return None if row is None else str(row[0])
    return None
