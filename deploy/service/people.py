"""Who is in the gallery, for people who look: summaries, sightings, images; read, never written."""

from __future__ import annotations

import math
import sqlite3
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from deploy.gallery import changes
from deploy.gallery.changes import GROUP, OWNERS, PEOPLE
from deploy.service.models import Entry, Sighting, of_row, view_of
from deploy.service.store import Store
from pat.base.errors import UserError

FRESH = 0.25
"""Seconds that a list of everybody is good for without looking whether something changed."""
ENROLLED = "enrolled"
"""What `pat gallery enrol` says for a camera: when somebody was enrolled is no sighting."""


class NotThere(UserError):
    """What was asked for does not exist, or not any more."""


@dataclass(frozen=True, slots=True)
class Person:
    """A person, with all that was merged into one."""

    key: str
    """Another after a new name or a merge; this one leads there then."""
    number: int
    """In the database."""
    name: str
    kept: bool
    """Enrolled or named: kept until forgotten."""
    retention: float
    """Seconds that what is known of the person is kept, infinity for ever."""
    entries: int
    sightings: int
    cameras: tuple[str, ...]
    first: float
    """Seconds since the epoch; of an entry where there is no sighting yet."""
    last: float


class People:
    """Reads of one gallery; safe to call from several threads."""

    def __init__(self, store: Store, retention: float | None, clock: Callable[[], float] = time.time) -> None:
        self._store, self._clock = store, clock
        self._retention = math.inf if retention is None else retention
        self._lock = threading.Lock()
        self._read = -math.inf
        self._version = -1
        self._everybody: list[Person] = []

    def everybody(self) -> list[Person]:
        """All people, last seen first."""
        with self._lock:
            now = time.monotonic()
            if now - self._read > FRESH:
                with self._store.reading() as connection:
                    version = connection.execute("PRAGMA data_version").fetchone()[0]
                    if version != self._version or now - self._read > 60:
                        self._everybody, self._version = self._summaries(connection), version
                self._read = now
            return self._everybody

    def forget_what_was_read(self) -> None:
        """The next look sees what was changed just now, also when another thread is reading meanwhile."""
        with self._lock:
            self._read = -math.inf

    def person(self, key: str) -> Person:
        """The person of this key, also one that was merged into another. Raises NotThere."""
        with self._store.reading() as connection:
            number = number_of(connection, key)
        found = None if number is None else self._among_everybody(number)
        if found is None:
            raise NotThere(f"there is nobody with the key {key}")
        return found

    def _among_everybody(self, number: int) -> Person | None:
        """Looked for twice: whoever hears of somebody new may ask before the list is read anew."""
        for _ in range(2):
            found = next((each for each in self.everybody() if each.number == number), None)
            if found is not None:
                return found
            self.forget_what_was_read()
        return None

    def by_number(self) -> dict[int, Person]:
        """Everybody by the number in the database, merged ones too."""
        owners = self._store.rows(f"{OWNERS} SELECT id, owner FROM owners")
        known = {each.number: each for each in self.everybody()}
        return {number: known[owner] for number, owner in owners if owner in known}

    def timeline(self, person: Person, limit: int, before: tuple[float, int] | None = None) -> list[Sighting]:
        """When and where a person was seen, newest first; `before` is first time and id of the last one had."""
        first, number = before or (math.inf, 0)
        rows = self._store.rows(
            f"""SELECT rowid, camera, first, last, score FROM sightings WHERE identity IN ({GROUP})
            AND (first < ? OR (first = ? AND rowid < ?)) AND last >= ?
            ORDER BY first DESC, rowid DESC LIMIT ?""",
            person.number, first, first, number, self._oldest(person), limit,
        )  # fmt: skip
        return [of_row(Sighting, row) for row in rows]

    def entries(self, person: Person, limit: int = 200) -> list[Entry]:
        """The person's entries, newest first."""
        rows = self._store.rows(
            f"""SELECT uuid, camera, time, note, service_views.entry IS NOT NULL FROM entries
            LEFT JOIN service_views ON service_views.entry = entries.id
            WHERE identity IN ({GROUP}) AND time >= ? ORDER BY time DESC LIMIT ?""",
            person.number, self._oldest(person), limit,
        )  # fmt: skip
        return [
            Entry(id=id, camera=camera, time=when, note=note, image=view_of(id) if there else None)
            for id, camera, when, note, there in rows
        ]

    def image(self, entry: str) -> bytes:
        """The JPEG of an entry. Raises NotThere."""
        jpeg = self._store.value(
            "SELECT jpeg FROM service_views WHERE entry = (SELECT id FROM entries WHERE uuid = ?)", entry
        )
        if jpeg is None:
            raise NotThere(f"there is no image of the entry {entry}")
        return bytes(jpeg)

    def best_image(self, person: Person) -> bytes:
        """The JPEG of the person's best view. Raises NotThere."""
        jpeg = self._store.value(
            f"""SELECT jpeg FROM service_views JOIN entries ON entries.id = service_views.entry
            WHERE identity IN ({GROUP}) AND time >= ? ORDER BY quality DESC LIMIT 1""",
            person.number, self._oldest(person),
        )  # fmt: skip
        if jpeg is None:
            raise NotThere(f"there is no image of {person.name}")
        return bytes(jpeg)

    def _oldest(self, person: Person) -> float:
        return self._clock() - person.retention

    def _summaries(self, connection: sqlite3.Connection) -> list[Person]:
        rows = connection.execute(
            f"""{PEOPLE} SELECT identities.id, key, name, people.retention FROM identities
            JOIN people ON people.id = identities.id"""
        )
        entries = _by_person(connection, "entries", "min(time), max(time)")
        sightings = _by_person(connection, "sightings", "min(first), max(last)")
        people = []
        for number, key, name, own in rows.fetchall():
            had, seen = entries.get(number, []), sightings.get(number, [])
            if not (had or seen):
                continue
            cameras = tuple(sorted({row[0] for row in [*had, *seen] if row[0] != ENROLLED}))
            times = seen + [row for row in had if row[0] != ENROLLED] or had
            last = max(row[3] for row in times)
            retention = self._retention if own is None else own
            if last < self._clock() - retention:
                continue
            people.append(
                Person(
                    key, number, name, own == math.inf, retention, sum(row[1] for row in had),
                    sum(row[1] for row in seen), cameras, min(row[2] for row in times), last,
                )
            )  # fmt: skip
        return sorted(people, key=lambda each: (-each.last, each.number))


def number_of(connection: sqlite3.Connection, key: str) -> int | None:
    """The number of the person of this key, after merges."""
    number = changes.number_of(connection, key)
    return None if number is None else changes.owner_of(connection, number)


def _by_person(connection: sqlite3.Connection, table: str, times: str) -> dict[int, list[tuple]]:
    """(camera, count, first, last) by person, merged ones under the one they were merged into."""
    found: dict[int, list[tuple]] = {}
    for number, *values in connection.execute(
        f"""{OWNERS} SELECT owner, camera, count(*), {times} FROM {table}
        JOIN owners ON owners.id = identity GROUP BY owner, camera"""
    ):
        found.setdefault(number, []).append(tuple(values))
    return found
