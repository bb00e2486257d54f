"""The gallery: identities with their vectors, where and when they were seen."""

from __future__ import annotations

import logging
import math
import sqlite3
import time as clocks
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from deploy.closing import Closing
from deploy.gallery import aliases, backup, changes, migrate
from deploy.gallery.answers import CLOCK_TOLERANCE, Answers
from deploy.gallery.before import find_before
from deploy.gallery.database import Database, write_facts
from deploy.gallery.entries import (
    Change,
    Floats,
    Record,
    checked_name,
    checked_time,
    checked_vectors,
    one_each,
)
from deploy.gallery.facts import DAY, Facts, words
from deploy.gallery.vectors import Wanted
from pat.base.errors import Failure, UserError

log = logging.getLogger(__name__)

SWEEP_EVERY = 60.0
"""Seconds between two deletions of expired entries at least."""


class Gallery(Answers, Closing):
    """Identities and their vectors in a folder; safe to call from several threads, and open in several processes.

    SQLite keeps everything (deploy.gallery.database); the vectors are also in memory, where they are searched.
    A search reads no disk and waits for nobody. What another process changes is seen after a tenth of a second.

    **Retention.** No search, count, listing or export returns an entry older than its person's retention, or the
    gallery's where the person has none of its own (who was enrolled or named has), whether or not it was deleted
    yet. Expired entries are deleted on opening, when something is added, and by `sweep`; a deleted entry is
    overwritten with zeros.

    **Clocks.** An entry more than a minute ahead of `clock` is stored with the clock's time, so that none outlives
    the retention. When the clock was set back, entries ahead of it are kept, but hidden until their time comes: a
    machine that starts with a wrong clock must not lose its gallery. Those that were there for longer than the
    retention while this process was up are too old whatever the clock says; within twice that they are deleted.
    """

    def __init__(self, database: Database, facts: Facts, *, clock: Callable[[], float]) -> None:
        super().__init__(database, facts, clock)
        before = find_before(database)
        self._before = None if before is None else self._open_before(before)
        self._known = clocks.monotonic(), self._newest()  # since when this entry and all before it are there
        self._swept = -math.inf
        self.sweep()

    @classmethod
    def open(
        cls,
        place: str | Path,
        *,
        dimension: int,
        model: str,
        retention: float | None = DAY,
        clock: Callable[[], float] = clocks.time,
    ) -> Gallery:
        """The gallery in a folder, made where there is none; one of an earlier version is migrated.

        `model` is the fingerprint of the model that makes the vectors of `dimension` numbers, `retention` is in
        seconds. Raises UserError for another model's gallery or a damaged one, Failure when the disk is
        full.
        """
        folder = backup.folder_of(place)
        facts = Facts(dimension, model, retention)
        migrate.if_old(folder, facts)
        database, stored = Database.open(folder, facts)
        try:
            if stored.retention != retention:
                log.warning(
                    "%s: entries are now kept for %s, no longer for %s",
                    folder, words(retention), words(stored.retention),
                )  # fmt: skip
                with database.changing() as connection:
                    write_facts(connection, facts)
            found = cls(database, facts, clock=clock)
            if database.must_be_rewritten():  # a process that was killed after it had forgotten somebody
                found._clean_up()
            return found
        except BaseException:
            database.close()
            raise

    def _open_before(self, folder: Path) -> Gallery:
        """The gallery of the model before: nobody searches it, but it is swept, and whoever is forgotten here is
        forgotten there."""
        facts = backup.facts_of(folder)
        found = Gallery.open(
            folder, dimension=facts.dimension, model=facts.model, retention=facts.retention, clock=self._clock
        )
        if not found.count():
            log.info("%s: nothing is left of the model before; the folder can be deleted", folder)
        return found

    def add(
        self,
        vectors: ArrayLike,
        *,
        identity: str | Sequence[str],
        camera: str | Sequence[str],
        time: float | Sequence[float],
        note: str | Sequence[str] = "",
        keep_for: float | None = None,
    ) -> list[str]:
        """Store vectors float [n, D] of unit length and return their ids; durable when it returns.

        The other values are one for all vectors, or one each; `time` is in seconds since the epoch. `keep_for`
        gives these people a retention of their own, in seconds (inf: for ever). Many at once are much faster than
        one by one. Raises UserError, and stores nothing, for vectors that are not finite and of unit length,
        names with control characters, and times that the retention has passed.
        """
        checked = checked_vectors(vectors, self.facts.dimension)
        count = len(checked)
        names = [checked_name("identity", each) for each in one_each("identity", identity, count)]
        records = self._records_of(checked, names, camera, time, note, keep_for)
        if count:
            with self._changing() as connection:
                known = {name: changes.identity_of(connection, name, keep_for) for name in dict.fromkeys(names)}
                changes.insert(connection, records, [known[name] for name in names])
        if abs(self._clock() - self._swept) >= SWEEP_EVERY:  # abs: a clock that was set back must not put this off
            self.sweep()
        return [each.id for each in records]

    def add_view(
        self,
        key: str,
        vector: ArrayLike,
        *,
        camera: str,
        time: float,
        instead_of: Sequence[str] = (),
        most: int = 0,
    ) -> str | None:
        """Store one more view [D] of a known person, durable when it returns; None when the person is gone.

        Entries `instead_of` leave with it. With more than `most` views, those leave that say least: the older of
        the two that are most alike. People with a retention of their own (enrolled, named) may have so many of
        each camera, and what a camera did not see stays.
        """
        checked = checked_vectors(np.asarray(vector)[None], self.facts.dimension)
        (record,) = self._records_of(checked, ["a view"], camera, time, "", None)
        with self._changing() as connection:
            self._index.refresh()
            if (person := self._index.keys.get(key)) is None:
                return None
            changes.insert(connection, [record], [person])
            replaced = changes.entries_of(connection, instead_of)
            own = changes.retention_of(connection, person) is not None
            theirs = self._wanted(person=person, camera=self._camera(camera) if own else None)
            changes.delete(connection, replaced + self._redundant(theirs, checked[0], most, replaced))
        return record.id

    def remove(self, entries: Sequence[str]) -> int:
        """Delete entries by their ids, and return how many there were."""
        with self._changing() as connection:
            return changes.delete(connection, changes.entries_of(connection, entries))

    def forgotten(self, key: str) -> bool:
        """Whether this person was forgotten, on purpose."""
        return self._database.row("SELECT 1 FROM tombstones WHERE key = ?", key) is not None

    def saw(self, key: str, camera: str, *, first: float, last: float, score: float | None) -> None:
        """Note that a person was in view of a camera, from the first to the last moment."""
        self._database.change(
            "INSERT INTO sightings SELECT id, ?, ?, ?, ? FROM identities WHERE key = ?",
            camera, first, last, score, key,
        )  # fmt: skip

    def merge(self, source: str, target: str) -> Change | None:
        """Give the entries of the identity `source` to `target`; None where nobody is called `source`.

        Later entries of `source` are `target`'s too. `aliases` lists it, `undo` takes it back.
        """
        source, target = checked_name("identity", source), checked_name("identity", target)
        if source == target:
            raise UserError(f"{source!r} cannot be merged with itself; name two identities")
        count = self.count(source)
        with self._changing() as connection:
            number = aliases.merge(connection, source, target, self._clock())
        return None if number is None else Change(number, count)

    def split(self, entries: Sequence[str], identity: str) -> Change | None:
        """Give entries, by their ids, to another identity; None where there is none of them. See `undo`."""
        name = checked_name("identity", identity)
        with self._changing() as connection:
            number = aliases.split(connection, entries, name, self._clock())
            count = len(changes.entries_of(connection, entries))
        return None if number is None else Change(number, count)

    def aliases(self) -> list[tuple[int, str, float, str, str]]:
        """Merges and splits, newest first: number, "merge" or "split", time, from whom, to whom."""
        return self._database.rows(
            """SELECT aliases.id, kind, time, s.name, t.name FROM aliases
            JOIN identities s ON s.id = source JOIN identities t ON t.id = target
            WHERE kind != 'undone' ORDER BY aliases.id DESC"""
        )

    def undo(self, alias: int) -> bool:
        """Take back a merge or a split by its number; whether there was one.

        Raises UserError for a split of entries that a newer one has moved on.
        """
        with self._changing() as connection:
            return aliases.undo(connection, alias, self._clock())

    def forget(self, identity: str) -> int | None:
        """Delete a person, from the disk too; how many entries there were, None where nobody is called so.

        Tracks in view do not bring the person back. Backups and exports that were made before still hold it.
        Copies that SQLite may have made of a row when it moved it go when the gallery is closed or opened next.
        """
        name = checked_name("identity", identity)
        with self._changing() as connection:
            person = changes.find(connection, name)
            ids = [] if person is None else changes.ids_of(connection, person)
            if self._before is not None:  # first: a second try still knows the ids
                self._before.obey(ids)
            count = None if person is None else changes.forget(connection, person, self._clock())
        try:
            self._database.truncate_log()
        except Failure as error:
            raise Failure(f"{identity} is deleted, but not yet gone from the disk: {error}") from error
        return count

    def obey(self, ids: Sequence[str]) -> int:
        """Forget whom another site has forgotten: keys of people, ids of entries; how many entries there were.

        What is not known here is noted too: it shall not come back. Raises Failure as `forget` does.
        """
        with self._changing() as connection:
            if self._before is not None:
                self._before.obey(changes.ids_with(connection, ids))
            count = changes.obey(connection, ids, self._clock())
        self._database.truncate_log()
        return count

    def expire(self, before: float) -> int:
        """Delete the entries older than `before` (seconds since the epoch), and return how many there were.

        People with a retention of their own (enrolled, named) stay.
        """
        if math.isnan(before):
            raise UserError("before is NaN, no number of seconds since the epoch")
        with self._changing() as connection:
            return changes.expire(connection, before)

    def sweep(self) -> int:
        """Delete what the retention has passed, and return how many entries that were."""
        self._swept = now = self._clock()
        if self._before is not None:
            self._before.sweep()
        self._index.refresh()
        expired = self._index.vectors.expired(now)
        with self._changing() as connection:
            changes.expire_sightings(connection, now, self._index.default_retention())
            count = changes.delete(connection, expired + self._outlived(connection, now))
            changes.prune_outbox(connection)
        if count:
            log.info("%s: %d expired entries deleted", self._database.folder, count)
        return count

    def backup(self, path: str | Path) -> int:
        """Write everything into one file, whole or not at all, while others go on; the number of entries."""
        return backup.write(self._database, Path(path))

    def close(self) -> None:
        """Let go of the folder. A gallery that is closed can be closed again."""
        if self._before is not None:
            self._before.close()
        if not self._database.closed:
            self._clean_up()
            self._database.close()

    def _clean_up(self) -> None:
        """Leave nothing of the forgotten in unused parts of the file, nor in the log."""
        try:
            if self._database.must_be_rewritten():
                self._database.rewrite()
        except (UserError, Failure) as error:
            log.warning("who was forgotten may still be in unused parts of the gallery's file: %s", error)
        try:
            self._database.truncate_log()
        except (UserError, Failure) as error:
            log.warning("the log of the gallery stays for now: %s", error)

    def _newest(self) -> int:
        return int(self._database.value("SELECT coalesce(max(id), 0) FROM entries"))

    def _outlived(self, connection: sqlite3.Connection, now: float) -> list[int]:
        """Entries ahead of the clock that this process has known for longer than the retention."""
        up, (since, newest) = clocks.monotonic(), self._known
        if self.facts.retention is None or up - since <= self.facts.retention:
            return []
        self._known = up, self._newest()
        return changes.ahead(connection, now + CLOCK_TOLERANCE, newest)

    @contextmanager
    def _changing(self) -> Iterator[sqlite3.Connection]:
        """A transaction, whose changes are in memory too when it ends."""
        with self._database.changing() as connection:
            yield connection
        self._index.refresh()

    def _records_of(
        self,
        vectors: Floats,
        names: Sequence[str],
        camera: str | Sequence[str],
        time: float | Sequence[float],
        note: str | Sequence[str],
        keep_for: float | None,
    ) -> list[Record]:
        count = len(vectors)
        cameras = [checked_name("camera", each) for each in one_each("camera", camera, count)]
        notes = [checked_name("note", each, empty=True) for each in one_each("note", note, count)]
        times = [self._checked_time(each, keep_for) for each in one_each("time", time, count)]
        ids = [str(uuid.uuid4()) for _ in range(count)]
        return [Record(*row) for row in zip(ids, names, cameras, times, notes, vectors, strict=True)]

    def _checked_time(self, time: float, keep_for: float | None) -> float:
        time, now = checked_time("the time of an entry", time), self._clock()
        retention = self.facts.retention if keep_for is None else keep_for
        if time > now + CLOCK_TOLERANCE:
            log.warning("an entry %.0f s ahead of the clock is stored with the clock's time", time - now)
            return now
        if retention is not None and time < now - retention:
            raise UserError(
                f"the entry is {words(now - time)} old, and the gallery keeps {words(retention)}; nothing was "
                "stored"
            )
        return time

    def _redundant(self, theirs: Wanted, new: Floats, most: int, replaced: Sequence[int]) -> list[int]:
        """A person's entries to do without once the view `new` [D] is stored and others are `replaced`."""
        if not most:
            return []
        entries, _, vectors = self._index.vectors.of(theirs)
        kept = [row for row, entry in enumerate(entries) if entry not in replaced]
        kept.sort(key=lambda row: entries[row])  # the oldest first
        gone = []
        while len(kept) + 1 > most:
            views = np.stack([*(vectors[row] for row in kept), new])
            alike = views @ views.T - 2 * np.eye(len(views), dtype=np.float32)
            row = int(np.argmax(alike.max(axis=1)[:-1]))  # of two that are alike, the older
            gone.append(entries[kept.pop(row)])
        return gone
