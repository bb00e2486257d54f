"""What a killed process has left, its events and its gallery, looked through for what is damaged or missing."""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from deploy.gallery import Gallery, changes, facts_of
from deploy.gallery.database import FILE
from deploy.recognise import VIEWS


class Events:
    """What a process has written to its file of events and to those put aside."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._expected: set[str] = set()
        self.torn = 0
        """Lines that are no event: cut off by a kill."""
        self.problems: list[str] = []
        """Of the last look."""

    def expect(self) -> None:
        """What a reader finds now must be there later."""
        self._expected = {each["id"] for each in self.read()}

    def read(self) -> list[dict[str, Any]]:
        """All events, oldest first."""
        lines = self._lines()
        found, self.torn, self.problems = [], 0, []
        for line in lines:
            try:
                found.append(json.loads(line))
            except ValueError:
                self.torn += 1
                if '{"schema"' in line[1:]:
                    self.problems.append(f"a line that was cut off took another with it: {line}")
        lost = self._expected - {each["id"] for each in found}
        self.problems += [f"the event {each} was in the file, and is gone" for each in lost]
        return found

    def _lines(self) -> list[str]:
        while True:
            aside = sorted(self.path.parent.glob(f"{self.path.name}.*"), key=lambda each: -int(each.suffix[1:]))
            with contextlib.suppress(FileNotFoundError):  # put aside in this moment
                return [line for each in (*aside, self.path) for line in each.read_text().splitlines()]


@contextlib.contextmanager
def copied(folder: Path) -> Iterator[tuple[sqlite3.Connection, bytes]]:
    """A copy of a gallery without SQLite's shared memory, open; and all bytes that the next process leaves of it.

    That process, not the one that was killed, writes the file anew where somebody was forgotten.
    """
    with tempfile.TemporaryDirectory(dir=folder.parent) as place:
        left, next_one = Path(place, "left"), Path(place, "next")
        shutil.copytree(folder, left, ignore=shutil.ignore_patterns("*-shm"))
        shutil.copytree(left, next_one)
        facts = facts_of(next_one)
        Gallery.open(next_one, dimension=facts.dimension, model=facts.model, retention=facts.retention).close()
        content = b"".join(file.read_bytes() for file in next_one.glob(f"{FILE}*"))
        with contextlib.closing(sqlite3.connect(left / FILE)) as connection:
            yield connection, content


def whole(connection: sqlite3.Connection, buried: set[str]) -> Iterator[str]:
    """What is damaged, or came back; the tombstones join `buried`, those of the kills before."""
    for check in ("integrity_check", "foreign_key_check"):
        rows = connection.execute(f"PRAGMA {check}").fetchall()
        if rows not in ([], [("ok",)]):
            yield f"{check}: {rows[:3]}"
    for entry in connection.execute("SELECT uuid, camera, time, note, vector, checksum FROM entries"):
        if changes.checksum(*entry[:5]) != entry[5]:
            yield f"the checksum of the entry {entry[0]} is wrong"
    now = {row[0] for row in connection.execute("SELECT key FROM tombstones")}
    known = {row[0] for row in connection.execute("SELECT key FROM identities UNION SELECT uuid FROM entries")}
    if undone := (buried - now) | (now & known):
        yield f"tombstones were undone: {undone}"
    buried |= now


def stored(connection: sqlite3.Connection, events: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Tracks that were told as stored, and of which the gallery has no view.

    It has one by that camera and from that time on, or as many views of the person as are kept; or the person was
    let go of on purpose, which the outbox or a tombstone says.
    """
    told = "SELECT key FROM tombstones UNION SELECT uuid FROM outbox WHERE kind = 'gone'"
    gone = {row[0] for row in connection.execute(told)}
    first: dict[int, float] = {}
    last: dict[int, Mapping[str, Any]] = {}
    for each in events:
        if each.get("stored"):
            first.setdefault(each["track"], each["time"])
            last[each["track"]] = each
    for track, each in last.items():
        person = changes.number_of(connection, each["key"])
        views = [] if person is None else connection.execute(
            f"SELECT camera, time FROM entries WHERE identity IN ({changes.GROUP})",
            (changes.owner_of(connection, person),),
        ).fetchall()  # fmt: skip
        there = any(camera == each["camera"] and when > first[track] - 0.001 for camera, when in views)
        if not there and len(views) < VIEWS and each["key"] not in gone:
            yield f"track {track} was told as stored, and is not there: {dict(each)}"


def audited(connection: sqlite3.Connection, acknowledged: Mapping[str, int]) -> Iterator[str]:
    """Changes that were acknowledged and do not stand in the audit log."""
    count_all = "SELECT action, count(*) FROM service_audit WHERE status < 300 GROUP BY action"
    lines = dict(connection.execute(count_all))
    for action, count in acknowledged.items():
        if lines.get(action, 0) < count:
            yield f"{action} was acknowledged {count} times, the audit log has {lines.get(action, 0)}"
