"""The vectors in memory, kept up with the database: what this process and others have changed is in its outbox."""

from __future__ import annotations

import logging
import math
import sqlite3
import threading
import time
from dataclasses import dataclass

import numpy as np

from deploy.gallery.changes import PEOPLE, checksum
from deploy.gallery.database import MANY, Database, many
from deploy.gallery.facts import Facts
from deploy.gallery.vectors import Row, Vectors

log = logging.getLogger(__name__)

AT_ONCE = 500
"""Entries read at once."""
LOOK_EVERY = 0.1
"""Seconds between two looks at what other processes have changed."""
ENTRY = "SELECT id, uuid, identity, camera, time, note, vector, checksum FROM entries"


@dataclass(frozen=True, slots=True)
class Person:
    """An identity that was not merged into another."""

    key: str
    name: str
    retention: float
    """Seconds, infinity to keep."""


@dataclass(frozen=True, slots=True)
class Details:
    """What is told of an entry that was found."""

    uuid: str
    camera: str
    time: float
    note: str


class Index:
    """Vectors, names and cameras of the database in memory."""

    def __init__(self, database: Database, facts: Facts) -> None:
        self._database, self._facts = database, facts
        self._lock = threading.RLock()  # of what follows, for whoever brings it up to date
        self._looked = -math.inf
        self._version = self._seq = -1
        self._load()

    def refresh(self) -> None:
        """Take up all that was committed until now."""
        with self._lock, self._database.reading() as connection:
            self._looked = time.monotonic()
            version = connection.execute("PRAGMA data_version").fetchone()[0]
            if version != self._version:
                self._catch_up(connection)
                self._version = version  # where that failed, it is done again

    def look(self) -> None:
        """The same now and then, and only when nobody else is at it: searching waits for no disk."""
        if time.monotonic() - self._looked > LOOK_EVERY and self._lock.acquire(blocking=False):
            try:
                self.refresh()
            finally:
                self._lock.release()

    def default_retention(self) -> float:
        """Seconds that people are kept who have no retention of their own."""
        return math.inf if self._facts.retention is None else self._facts.retention

    def _load(self) -> None:
        with self._lock, self._database.reading() as connection:
            connection.execute("BEGIN")
            try:
                self.vectors = Vectors(self._facts.dimension)
                self.details: dict[int, Details] = {}  # by entry
                self.cameras: dict[str, int] = {}
                self._read_people(connection, {})
                self._seq = connection.execute("SELECT coalesce(max(seq), 0) FROM outbox").fetchone()[0]
                self._take(connection.execute(ENTRY))
            finally:
                connection.execute("COMMIT")

    def _catch_up(self, connection: sqlite3.Connection) -> None:
        first = connection.execute("SELECT min(seq) FROM outbox").fetchone()[0]
        if first is not None and first > self._seq + 1:  # what came between was dropped
            self._load()
            return
        lines = connection.execute(
            "SELECT seq, kind, entry FROM outbox WHERE seq > ? ORDER BY seq", (self._seq,)
        ).fetchall()
        told: dict[str, list[int]] = {}
        for _, kind, entry in lines:
            told.setdefault(kind, []).append(entry)
        for entry in told.get("delete", ()):
            self.vectors.remove(entry)
            self.details.pop(entry, None)
        for identity in told.get("gone", ()):
            self._part_with(identity)
        for identity in told.get("person", ()):
            self._meet(connection, identity)
        if "people" in told or "move" in told:
            moved = "SELECT id, identity FROM entries WHERE id IN"
            self._read_people(
                connection, dict(connection.execute(f"{moved} {MANY}", (many(told.get("move", ())),)).fetchall())
            )
        if "add" in told:
            self._take(connection.execute(f"{ENTRY} WHERE id IN {MANY}", (many(told["add"]),)))
        if lines:
            self._seq = lines[-1][0]

    def _meet(self, connection: sqlite3.Connection, number: int) -> None:
        """A new identity, unless it is gone again already, or somebody else's."""
        row = connection.execute(
            "SELECT key, name, retention FROM identities WHERE id = ? AND merged_into IS NULL", (number,)
        ).fetchone()
        if row is not None:
            key, name, retention = row
            person = Person(key, name, self.default_retention() if retention is None else retention)
            self.people[number], self.keys[key], self.names[name] = person, number, number
            self.groups[number] = number, person.retention

    def _part_with(self, identity: int) -> None:
        """An identity that was deleted."""
        self.groups.pop(identity, None)
        if (person := self.people.pop(identity, None)) is not None:
            self.keys.pop(person.key, None)
            if self.names.get(person.name) == identity:
                del self.names[person.name]

    def _read_people(self, connection: sqlite3.Connection, identities: dict[int, int]) -> None:
        rows = connection.execute(
            f"""{PEOPLE} SELECT identities.id, key, name, coalesce(people.retention, ?), owner
            FROM identities JOIN owners ON owners.id = identities.id JOIN people ON people.id = owner""",
            (self.default_retention(),),
        ).fetchall()
        self.people = {row[0]: Person(*row[1:4]) for row in rows if row[0] == row[4]}
        self.keys = {row[1]: row[4] for row in rows}
        self.names = {person.name: number for number, person in self.people.items()}
        self.groups = {row[0]: (row[4], self.people[row[4]].retention) for row in rows}
        self.vectors.assign(identities, self.groups)

    def _take(self, cursor: sqlite3.Cursor) -> None:
        while found := cursor.fetchmany(AT_ONCE):
            rows, vectors = [], []
            for entry, uuid, identity, camera, when, note, blob, expected in found:
                if checksum(uuid, camera, when, note, blob) != expected or len(blob) != 4 * self._facts.dimension:
                    log.error("an entry of the gallery %s is damaged, and left out", self._database.folder)
                    continue
                person, retention = self.groups.get(identity, (identity, -math.inf))
                number = self.cameras.setdefault(camera, len(self.cameras))
                self.details[entry] = Details(uuid, camera, when, note)
                rows.append(Row(entry, identity, person, number, when, when + retention))
                vectors.append(np.frombuffer(blob, dtype="<f4"))
            if rows:
                self.vectors.add(rows, np.stack(vectors).astype(np.float32))
