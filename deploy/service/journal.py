"""Events as they are kept: in order, for whoever listens now and for consumers that were away.

A consumer (a webhook, the MQTT broker) has a cursor of its own in the database. It reads what comes after it, and
moves it when the other side has acknowledged.
"""

from __future__ import annotations

import json
import logging
import queue
import sqlite3
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from anyio import to_thread

from deploy.events import Event
from deploy.gallery.database import MANY, many
from deploy.service.store import Store
from pat.base.errors import Failure, UserError

log = logging.getLogger(__name__)

WAITING = 10_000
"""Events that may wait for the disk; what comes beyond is counted and lost."""
AT_ONCE = 500
PERSONAL = ("identity", "before", "key", "entry", "view", "there")
"""What an event says of who it was."""


@dataclass(frozen=True, slots=True)
class Kept:
    """An event with its place in the order."""

    seq: int
    values: Mapping[str, Any]


class Journal:
    """Writes events on a thread of its own; a context manager.

    `before` is called on that thread with each event and may add fields to it; `woken` after new ones are on disk.
    """

    def __init__(
        self,
        store: Store,
        *,
        most: int,
        before: Callable[[Event], Mapping[str, Any]] = lambda event: {},
        woken: Callable[[], None] = lambda: None,
    ) -> None:
        self._store, self._most, self._before, self._woken = store, most, before, woken
        self._queue: queue.Queue[Event | None] = queue.Queue(WAITING)
        self.lost = 0
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)

    def tell(self, event: Event) -> None:
        """Take up an event; returns at once."""
        try:
            self._queue.put_nowait(event)
        except queue.Full:
            self.lost += 1

    def after(self, seq: int, kinds: Sequence[str] = ()) -> list[Kept]:
        """Events after a place in the order, oldest first."""
        where, given = (f"AND kind IN {MANY}", [many(kinds)]) if kinds else ("", [])
        return self._found(f"seq > ? {where} ORDER BY seq LIMIT ?", seq, *given, AT_ONCE)

    def before(
        self, seq: int | None, limit: int, *, kind: str | None = None, camera: str | None = None,
        key: str | None = None,
    ) -> list[Kept]:  # fmt: skip
        """Events before a place in the order (None: the newest), newest first."""
        limits = {"kind": kind, "camera": camera, "key": key}
        given = {name: value for name, value in limits.items() if value is not None}
        where = "".join(f" AND {name} = ?" for name in given)
        newest = 2**62 if seq is None else seq
        return self._found(f"seq < ? {where} ORDER BY seq DESC LIMIT ?", newest, *given.values(), limit)

    def _found(self, which: str, *values: object) -> list[Kept]:
        rows = self._store.rows(f"SELECT seq, body FROM service_events WHERE {which}", *values)
        return [Kept(seq, json.loads(body)) for seq, body in rows]

    @property
    def newest(self) -> int:
        """The place of the newest event."""
        return int(self._store.value("SELECT coalesce(max(seq), 0) FROM service_events"))

    def cursor(self, consumer: str) -> int:
        """Up to where a consumer has acknowledged; one that is new begins with what comes from now on."""
        with self._store.changing() as connection:
            connection.execute(
                "INSERT OR IGNORE INTO service_consumers SELECT ?, coalesce(max(seq), 0) FROM service_events",
                (consumer,),
            )
            known = "SELECT seq FROM service_consumers WHERE name = ?"
            return int(connection.execute(known, (consumer,)).fetchone()[0])

    def acknowledge(self, consumer: str, seq: int) -> None:
        """The consumer has everything up to here."""
        self._store.change("INSERT OR REPLACE INTO service_consumers VALUES (?, ?)", consumer, seq)

    def keep_consumers(self, names: Iterable[str]) -> None:
        """Forget the cursors of all others: nobody serves them any more."""
        self._store.change(f"DELETE FROM service_consumers WHERE name NOT IN {MANY}", many(names))

    def __enter__(self) -> Journal:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._queue.put(None)
        self._thread.join(timeout=15)

    def _run(self) -> None:
        ending = False
        while not ending:
            events = [self._queue.get()]
            while len(events) < AT_ONCE and not self._queue.empty():
                events.append(self._queue.get())
            ending = None in events
            try:
                self._write([{**each.values(), **self._before(each)} for each in events if each is not None])
            except (UserError, Failure) as error:
                self.lost += len(events)
                log.error("events could not be kept: %s", error)
            except Exception:  # a defect must not end what all consumers wait for
                log.exception("events could not be kept")
            else:
                self._woken()

    def _write(self, events: Sequence[Mapping[str, Any]]) -> None:
        with self._store.changing() as connection:
            events = [_without_the_forgotten(connection, each) for each in events]
            connection.executemany(
                "INSERT INTO service_events (id, time, camera, kind, key, body) VALUES (?, ?, ?, ?, ?, ?)",
                [
                    (each["id"], each["time"], each.get("camera", ""), each["event"], each.get("key"),
                     json.dumps(each))
                    for each in events
                ],
            )  # fmt: skip
            connection.execute(
                "DELETE FROM service_events WHERE seq <= (SELECT max(seq) FROM service_events) - ?", (self._most,)
            )


async def acknowledge(journal: Journal, consumer: str, seq: int) -> None:
    """The same from an event loop. Where the disk refuses, what was told is told again after a restart."""
    try:
        await to_thread.run_sync(journal.acknowledge, consumer, seq)
    except Failure as error:
        log.error("what %s has could not be noted: %s", consumer, error)


def _without_the_forgotten(connection: sqlite3.Connection, values: Mapping[str, Any]) -> Mapping[str, Any]:
    """An event that waited while its person was forgotten does not bring the name back."""
    gone = connection.execute("SELECT 1 FROM tombstones WHERE key = ?", (values.get("key"),)).fetchone()
    return {key: value for key, value in values.items() if key not in PERSONAL} if gone else values
