"""The gallery: identities with their vectors, where and when they were seen."""

from __future__ import annotations

import contextlib
import logging
import math
import threading
import time as clocks
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import ArrayLike

from deploy.errors import DeployError, DeployFailure
from deploy.gallery import snapshot
from deploy.gallery.entries import (
    Identity,
    Match,
    Record,
    Where,
    checked_name,
    checked_time,
    checked_vectors,
    one_each,
)
from deploy.gallery.facts import DAY, Facts, words
from deploy.gallery.store import Store, open_store

log = logging.getLogger(__name__)

SWEEP_EVERY = 60.0
"""Seconds between two deletions of expired entries at least."""
CLOCK_TOLERANCE = 60.0
"""Seconds that an entry may be ahead of this process's clock: clocks of machines differ."""
PURGE_SHARE = 0.2
"""Of the entries kept: when more than this was deleted, the files are rewritten without it."""


class Gallery:
    """Identities and their vectors in a store; safe to call from several threads.

    **Retention.** No search, count, listing or export returns an entry older than `now - retention`, whether or
    not it was deleted yet. Expired entries are deleted on opening and, at most once a minute, when something is
    added or searched for. They leave the disk when the gallery is closed, or once a fifth has been deleted.

    **Clocks.** An entry more than a minute ahead of `clock` is stored with the clock's time, so that none outlives
    the retention. When the clock was set back, entries ahead of it are kept, but hidden until their time comes: a
    machine that starts with a wrong clock must not lose its gallery. A process that has been up for longer than
    the retention knows better than any clock that they are too old, and deletes them.
    """

    def __init__(self, store: Store, *, clock: Callable[[], float] = clocks.time) -> None:
        self._store = store
        self._clock = clock
        self._lock = threading.RLock()
        self._closed = False
        self._opened = clocks.monotonic()
        self._swept = -math.inf
        self._deleted = 0
        self._sweep()
        self._purge_if_possible()  # also what a process that was killed had deleted

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
        """The gallery in a folder, or at http(s)://host:port[/collection]; made where there is none.

        `model` is the fingerprint of the model that makes the vectors of `dimension` numbers, `retention` is in
        seconds. Raises DeployError for another model's gallery, one in use by another process, or a damaged one,
        DeployFailure when the disk is full or the server does not answer.
        """
        store = open_store(place, Facts(dimension, model, retention))
        try:
            if store.facts.retention != retention:
                log.warning(
                    "%s: entries are now kept for %s, no longer for %s",
                    store.name,
                    words(retention),
                    words(store.facts.retention),
                )
                store.keep_for(retention)
            return cls(store, clock=clock)
        except BaseException:
            store.close()
            raise

    @property
    def facts(self) -> Facts:
        """Dimension, model and retention."""
        return self._store.facts

    def add(
        self,
        vectors: ArrayLike,
        *,
        identity: str | Sequence[str],
        camera: str | Sequence[str],
        time: float | Sequence[float],
        note: str | Sequence[str] = "",
    ) -> list[str]:
        """Store vectors float [n, D] of unit length and return their ids; durable when it returns.

        The other values are one for all vectors, or one each; `time` is in seconds since the epoch. Many at once
        are much faster than one by one. Raises DeployError, and stores nothing, for vectors that are not finite
        and of unit length, names with control characters, and times that the retention has passed.
        """
        checked = checked_vectors(vectors, self.facts.dimension)
        count = len(checked)
        names = [checked_name("identity", each) for each in one_each("identity", identity, count)]
        cameras = [checked_name("camera", each) for each in one_each("camera", camera, count)]
        notes = [checked_name("note", each, empty=True) for each in one_each("note", note, count)]
        with self._use():
            times = [self._checked_time(each) for each in one_each("time", time, count)]
            ids = [str(uuid.uuid4()) for _ in range(count)]
            rows = zip(ids, names, cameras, times, notes, checked, strict=True)
            if count:
                self._store.write([Record(*row) for row in rows])
            self._sweep_when_due()
        return ids

    def search(
        self,
        vector: ArrayLike,
        k: int = 10,
        *,
        camera: str | None = None,
        exclude_camera: str | None = None,
        since: float | None = None,
        until: float | None = None,
    ) -> list[Match]:
        """The `k` entries nearest to a vector float [D] of unit length by cosine, best first.

        `camera`, `exclude_camera` and the times limit what is searched; both ends of the time window belong to it.
        """
        query = checked_vectors(np.asarray(vector)[None], self.facts.dimension)[0]
        if isinstance(k, bool) or not isinstance(k, (int, np.integer)) or k < 1:
            raise DeployError(f"k is {k!r}; ask for 1 answer at least")
        asked = Where(
            camera=None if camera is None else checked_name("camera", camera),
            exclude_camera=None if exclude_camera is None else checked_name("camera", exclude_camera),
            since=None if since is None else checked_time("since", since),
            until=None if until is None else checked_time("until", until),
        )
        with self._use():
            self._sweep_when_due()
            window = self._window()
            found = self._store.nearest(query, int(k), asked)
            # A condition on the time makes a search some three times as slow, and hardly ever changes the answer.
            if not all(window.holds_time(match.time) for match in found):
                found = self._store.nearest(query, int(k), asked.within(window))
            return found

    def merge(self, source: str, target: str) -> int:
        """Give the entries of the identity `source` to `target`, and return how many there were."""
        source, target = checked_name("identity", source), checked_name("identity", target)
        if source == target:
            raise DeployError(f"{source!r} cannot be merged with itself; name two identities")
        with self._use():
            where = Where(identity=source)
            count = self._store.count(where)
            if count:
                self._store.rename(where, target)
            return count

    def forget(self, identity: str) -> int:
        """Delete an identity, from the disk too, and return how many entries it had.

        A folder's files are rewritten without it; a server does that by itself, some time later. Snapshots and
        exports that were made before still hold it.
        """
        with self._use():
            count = self._delete(Where(identity=checked_name("identity", identity)))
            try:
                self._purge()
            except DeployFailure as error:
                raise DeployFailure(f"{identity} is deleted, but not yet gone from the disk: {error}") from error
            return count

    def expire(self, before: float) -> int:
        """Delete the entries older than `before` (seconds since the epoch), and return how many there were."""
        if math.isnan(before):
            raise DeployError("before is NaN, no number of seconds since the epoch")
        with self._use():
            count = self._delete(Where(until=math.nextafter(before, -math.inf)))
            self._purge_when_worth_it()
            return count

    def count(self, identity: str | None = None) -> int:
        """The number of entries, of everybody or of one identity."""
        name = None if identity is None else checked_name("identity", identity)
        with self._use():
            window = self._window()
            if name is not None:
                return self._store.count(Where(identity=name).within(window))
            # Counting the few that are hidden is much faster than counting the many that are not.
            return self._store.count(Where()) - sum(self._store.count(each) for each in window.outside())

    def identities(self) -> Iterator[Identity]:
        """Who is in the gallery, sorted by name."""
        seen: dict[str, list[Record]] = {}
        for record in self._records(vectors=False):
            seen.setdefault(record.identity, []).append(record)
        for name, records in sorted(seen.items()):
            times = [record.time for record in records]
            cameras = tuple(sorted({record.camera for record in records}))
            yield Identity(name, len(records), cameras, min(times), max(times))

    def export(self) -> Iterator[Record]:
        """Every entry with its vector, in no order that means anything."""
        return self._records(vectors=True)

    def snapshot(self, path: str | Path) -> int:
        """Write all entries into one file, whole or not at all, and return how many there were."""
        return snapshot.write(Path(path), self.facts, list(self.export()))

    @classmethod
    def restore(cls, file: str | Path, place: str | Path) -> int:
        """Make a gallery at a path or URL from a snapshot, and return how many entries it held.

        The new gallery keeps the snapshot's model and retention: what is older is deleted when it is opened.
        Raises DeployError when the file is no snapshot, or damaged, and when there is a gallery already.
        """
        return snapshot.restore(Path(file), place)

    def close(self) -> None:
        """Let go of the folder or server. A gallery that is closed can be closed again."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            try:
                if self._deleted:
                    self._purge_if_possible()
            finally:
                self._store.close()

    def __enter__(self) -> Gallery:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @contextlib.contextmanager
    def _use(self) -> Iterator[None]:
        """The store for this thread alone. Raises DeployError when the gallery is closed."""
        with self._lock:
            if self._closed:
                raise DeployError(f"the gallery {self._store.name} is closed")
            yield

    def _window(self) -> Where:
        """What may be shown now."""
        now, retention = self._clock(), self.facts.retention
        return Where(since=None if retention is None else now - retention, until=now + CLOCK_TOLERANCE)

    def _records(self, *, vectors: bool) -> Iterator[Record]:
        with self._use():
            pages = self._store.pages(Where().within(self._window()), vectors=vectors)
        while True:
            with self._use():
                page = next(pages, None)
            if page is None:
                return
            yield from page

    def _checked_time(self, time: float) -> float:
        time = checked_time("the time of an entry", time)
        window = self._window()
        if window.holds_time(time):
            return time
        now = self._clock()
        if time > now:
            log.warning("an entry %.0f s ahead of the clock is stored with the clock's time", time - now)
            return now
        raise DeployError(
            f"the entry is {words(now - time)} old, and the gallery keeps {words(self.facts.retention)}; nothing "
            "was stored"
        )

    def _sweep_when_due(self) -> None:
        # A clock that was set back must not put this off.
        if abs(self._clock() - self._swept) >= SWEEP_EVERY:
            self._sweep()
            self._purge_when_worth_it()

    def _sweep(self) -> None:
        """Delete what the retention has passed."""
        window, self._swept = self._window(), self._clock()
        if self.facts.retention is None:
            return
        expired, ahead = window.outside()
        count = self._delete(expired)
        if clocks.monotonic() - self._opened > self.facts.retention:
            count += self._delete(ahead)
        if count:
            log.info("%s: %d expired entries deleted", self._store.name, count)

    def _delete(self, where: Where) -> int:
        count = self._store.count(where)
        if count:
            self._store.delete(where)
            self._deleted += count
        return count

    def _purge_when_worth_it(self) -> None:
        if self._deleted and self._deleted > PURGE_SHARE * self._store.count(Where()):
            self._purge_if_possible()

    def _purge(self) -> None:
        self._store.purge()
        self._deleted = 0

    def _purge_if_possible(self) -> None:
        """What is deleted is out of reach: a full disk is no reason to stop working."""
        try:
            self._purge()
        except DeployFailure as error:
            log.warning("deleted entries stay on the disk for now: %s", error)
