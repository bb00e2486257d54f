"""Sends what changed in a site's gallery to the cluster, and obeys what others have forgotten.

The gallery's outbox says *which* entries and people changed; what is sent is how they are now. So a round that was
cut short, by the network or by kill -9, is simply done again: nothing is lost, and nothing is there twice. Up to
where the outbox was sent stands in the gallery itself; where nothing does, everything is sent.
"""

from __future__ import annotations

import math
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
from filelock import FileLock, Timeout

from deploy.cluster.cluster import AT_ONCE, Cluster, in_parts
from deploy.cluster.records import PersonRecord, Point, SiteRecord
from deploy.gallery import Gallery
from deploy.gallery.changes import GROUP, owner_of, retention_of
from deploy.gallery.database import MANY, Database, made_once, many
from pat.base.errors import UserError

MIRROR = "cluster"
LINES = 1000
"""Of the outbox, taken at once."""
HOUSE_EVERY = 60.0
"""Seconds between two looks at what has expired in the cluster and who else is there; after a failure at once."""
ENTRY = """SELECT entries.id, uuid, identities.key, identities.id, camera, time, vector FROM entries
JOIN identities ON identities.id = entries.identity"""
PERSON = """SELECT one.key, one.name, other.key, coalesce((SELECT max(time) FROM aliases
WHERE kind IN ('merge', 'undone') AND source = one.id), 0)
FROM identities one LEFT JOIN identities other ON other.id = one.merged_into"""


def node_of(database: Database) -> str:
    """What stands for this gallery in the cluster: random, made when it is asked for first."""
    with database.changing() as connection:
        return made_once(connection, "node")


@contextmanager
def alone(database: Database) -> Iterator[None]:
    """One process at a time sends a gallery. Raises UserError when another does."""
    try:
        with FileLock(database.folder / "cluster.lock", timeout=0):
            yield
    except Timeout as error:
        raise UserError(f"another process sends the gallery {database.folder} to a cluster already") from error


def no_mirror(database: Database) -> None:
    """The gallery is in no cluster, or not any more: its outbox need not be kept for one."""
    database.change("DELETE FROM mirrors WHERE name = ?", MIRROR)


class Sync:
    """Sends one gallery; for one thread, within `alone`. `ending` cuts a round short between two requests."""

    def __init__(
        self, gallery: Gallery, database: Database, cluster: Cluster, ending: Callable[[], bool] = lambda: False
    ) -> None:
        self._gallery, self._database, self._cluster, self._ending = gallery, database, cluster, ending
        self._house_at = 0.0
        self.sites: Sequence[SiteRecord] = ()
        """As they were at the last look."""
        self.sent = self.obeyed = 0
        """Entries sent, and entries deleted because others had forgotten them, since the start."""

    def round(self) -> None:
        """Send all that waits. Raises Failure when the cluster is not there: what was sent until then counts."""
        house_at, self._house_at = self._house_at, 0.0
        due = time.monotonic() >= house_at
        if due and not self._cluster.prepare():  # new, or it has lost what it had
            no_mirror(self._database)
        self._tell_forgotten()
        self._obey()
        if due:
            self.sites = self._cluster.keep_house(self._gallery.count(), time.time())
        place = self._place()
        if place is None:
            place = self._send_everything()
        while (lines := self._lines(place)) and not self._ending():
            self._tell_forgotten()  # who was forgotten since the round began is among these lines
            self._send(lines)
            place = lines[-1][0]
            self._move(place)
        self._house_at = time.monotonic() + HOUSE_EVERY if due else house_at

    def waiting(self) -> int:
        """Lines of the outbox that were not sent yet, or entries where none was."""
        place = self._place()
        if place is None:
            return int(self._database.value("SELECT count(*) FROM entries"))
        return self._newest() - place

    def _newest(self) -> int:
        return int(self._database.value("SELECT coalesce(max(seq), 0) FROM outbox"))

    def _place(self) -> int | None:
        place: int | None = self._database.value("SELECT seq FROM mirrors WHERE name = ?", MIRROR)
        return place

    def _move(self, place: int) -> None:
        self._database.change("INSERT OR REPLACE INTO mirrors VALUES (?, ?)", MIRROR, place)

    def _lines(self, place: int) -> list[tuple[int, str, int | None, str | None]]:
        lines = "SELECT seq, kind, entry, uuid FROM outbox WHERE seq > ? ORDER BY seq LIMIT ?"
        return self._database.rows(lines, place, LINES)

    def _tell_forgotten(self) -> None:
        """First of all: whom this site has forgotten since."""
        place, after = self._place(), ""
        since = "" if place is None else f"AND key IN (SELECT uuid FROM outbox WHERE seq > {place})"
        forgotten = f"SELECT key FROM tombstones WHERE key > ? {since} ORDER BY key LIMIT ?"
        while keys := [row[0] for row in self._database.rows(forgotten, after, AT_ONCE)]:
            self._cluster.forget(keys, time.time())
            after = keys[-1]

    def _obey(self) -> None:
        """Then: whom others have forgotten. What was sent late by anybody goes with it."""
        while (orders := self._cluster.orders()) and not self._ending():
            self.obeyed += self._gallery.obey(orders)
            self._cluster.withdraw(orders)
            self._cluster.acknowledge(orders, time.time())

    def _send(self, lines: Sequence[tuple[int, str, int | None, str | None]]) -> None:
        told: dict[str, set] = {}
        for _, kind, number, id in lines:
            told.setdefault(kind, set()).add(number if kind in ("person", "people") else id)
        changed = told.get("add", set()) | told.get("move", set())
        for person in told.get("people", ()):  # a change of a person changes how long entries are kept
            rows = self._database.rows(f"SELECT uuid FROM entries WHERE identity IN ({GROUP})", person)
            changed |= {row[0] for row in rows}
        self._send_people(told.get("person", set()) | told.get("people", set()))
        self._send_entries(changed)
        for ids, remove in (
            (told.get("delete", set()), self._cluster.remove),
            (told.get("gone", set()), self._cluster.remove_people),
        ):
            for some in in_parts(ids):
                remove(some)

    def _send_everything(self) -> int:
        """A cluster that knows nothing of this gallery, or what it knows may be old; where the outbox goes on."""
        place = self._newest()
        self._send_people(row[0] for row in self._database.rows("SELECT id FROM identities"))
        last = 0
        while not self._ending():
            rows = self._database.rows(
                "SELECT id, uuid FROM entries WHERE id > ? ORDER BY id LIMIT ?", last, AT_ONCE
            )
            if not rows:
                break
            self._send_entries(row[1] for row in rows)
            last = rows[-1][0]
        else:
            return place
        known = "SELECT 1 FROM entries WHERE uuid = ?"
        self._remove_unknown(self._cluster.held, self._cluster.remove, known)
        known = "SELECT 1 FROM identities WHERE key = ?"
        self._remove_unknown(self._cluster.held_people, self._cluster.remove_people, known)
        self._move(place)
        return place

    def _remove_unknown(
        self,
        held: Callable[[str | None], tuple[list[str], str | None]],
        remove: Callable[[Sequence[str]], None],
        known: str,
    ) -> None:
        """What the cluster has from this gallery and the gallery has no more."""
        after: str | None = None
        while True:
            ids, after = held(after)
            if lost := [each for each in ids if self._database.row(known, each) is None]:
                remove(lost)
            if after is None:
                return

    def _send_people(self, numbers: Iterable[int]) -> None:
        for some in in_parts(numbers):
            rows = self._database.rows(f"{PERSON} WHERE one.id IN {MANY}", many(some))
            gone = self._cluster.forgotten(row[0] for row in rows)
            if records := [PersonRecord(*row) for row in rows if row[0] not in gone]:
                self._cluster.put_people(records)

    def _send_entries(self, ids: Iterable[str]) -> None:
        for some in in_parts(ids):
            with self._database.reading() as connection:
                rows = connection.execute(f"{ENTRY} WHERE uuid IN {MANY}", (many(some),)).fetchall()
                points = [self._point(connection, row) for row in rows]
            # A gallery from a backup may hold people who were forgotten since.
            gone = self._cluster.forgotten({*(each.id for each in points), *(each.person for each in points)})
            if gone:
                self.obeyed += self._gallery.obey(sorted(gone))
            if kept := [each for each in points if not gone & {each.id, each.person}]:
                self._cluster.put(kept)
                self.sent += len(kept)

    def _point(self, connection: sqlite3.Connection, row: tuple) -> Point:
        number, id, key, identity, camera, when, vector = row
        own = retention_of(connection, owner_of(connection, identity))
        retention = self._gallery.facts.retention if own is None else own
        expires = None if retention is None or math.isinf(retention) else when + retention
        mapped = number in self._gallery.mapped
        return Point(id, key, camera, when, expires, np.frombuffer(vector, dtype="<f4"), mapped)
