"""What a gallery answers, from memory: who a vector shows, who is in it, how many entries there are."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator

import numpy as np
from numpy.typing import ArrayLike

from deploy.gallery.database import Database, read_mapped
from deploy.gallery.entries import Floats, Identity, Match, Record, checked_name, checked_time, checked_vectors
from deploy.gallery.facts import Facts
from deploy.gallery.index import Index, Person
from deploy.gallery.vectors import Wanted
from pat.base.errors import UserError

CLOCK_TOLERANCE = 60.0
"""Seconds that an entry may be ahead of this process's clock: clocks of machines differ."""
VIEWS = 16
"""Nearest entries looked at first for each person asked for: several views of one may come first."""
UNKNOWN = -2
"""Number of a camera or person that no entry has; -1 is that of free memory."""


class Answers:
    """The part of a `Gallery` that is asked; it reads no disk, but for a look at what others have changed."""

    def __init__(self, database: Database, facts: Facts, clock: Callable[[], float]) -> None:
        self._database, self._clock = database, clock
        self.facts = facts
        """Dimension, model and retention."""
        self._index = Index(database, facts)
        self.mapped = read_mapped(database)
        """Numbers of entries whose vectors were carried over from another model's."""

    def refresh(self) -> None:
        """Take up at once what was changed through another connection."""
        self._index.refresh()

    def search(
        self,
        vector: ArrayLike,
        k: int = 10,
        *,
        camera: str | None = None,
        exclude_camera: str | None = None,
        exclude_identities: Collection[str] = (),
        since: float | None = None,
        until: float | None = None,
    ) -> list[Match]:
        """The `k` entries nearest to a vector float [D] of unit length by cosine, best first.

        The other values limit what is searched; both ends of the time window belong to it.
        """
        query = self._query(vector)
        if isinstance(k, bool) or not isinstance(k, (int, np.integer)) or k < 1:
            raise UserError(f"k is {k!r}; ask for 1 answer at least")
        self._look()
        index = self._index
        wanted = self._wanted(
            camera=self._camera(camera),
            exclude_camera=self._camera(exclude_camera),
            exclude_people=[index.names[each] for each in exclude_identities if each in index.names],
            since=None if since is None else checked_time("since", since),
            until=None if until is None else checked_time("until", until),
        )
        found = index.vectors.nearest(query, int(k), wanted)
        return [each for each in map(self._match, found) if each is not None]

    def people(
        self,
        vector: ArrayLike,
        count: int = 2,
        *,
        exclude: Collection[str] = (),
        camera: str | None = None,
        since: float | None = None,
        until: float | None = None,
    ) -> list[Match]:
        """The nearest entry of each of the `count` people most like a vector [D], best first.

        `exclude` are keys of people, the other limits those of `search`.
        """
        query = self._query(vector)
        self._look()
        index = self._index
        wanted = self._wanted(
            exclude_people=[index.keys[key] for key in exclude if key in index.keys],
            camera=self._camera(camera),
            since=None if since is None else checked_time("since", since),
            until=None if until is None else checked_time("until", until),
        )
        best: dict[int, tuple[int, int, float]] = {}
        k, more = count * VIEWS, True
        while more and len(best) < count:  # one person's views may be as many as that
            nearest = index.vectors.nearest(query, k, wanted)
            for found in nearest:
                best.setdefault(found[1], found)
            more, k = len(nearest) == k, 4 * k
        return [each for each in map(self._match, best.values()) if each is not None][:count]

    def person(self, key: str) -> Person | None:
        """Who has this key now, after merges and renaming; None when there is nobody any more."""
        self._look()
        return self._index.people.get(self._index.keys.get(key, -1))

    def key_of(self, identity: str) -> str | None:
        """The key of the person of this name."""
        self._look()
        found = self._index.people.get(self._index.names.get(identity, -1))
        return None if found is None else found.key

    def count(self, identity: str | None = None) -> int:
        """The number of entries, of everybody or of one identity."""
        name = None if identity is None else checked_name("identity", identity)
        self._look()
        person = None if name is None else self._index.names.get(name, UNKNOWN)
        return self._index.vectors.count(self._wanted(person=person))

    def identities(self) -> Iterator[Identity]:
        """Who is in the gallery, sorted by name."""
        seen: dict[str, list[Record]] = {}
        for record in self.export():
            seen.setdefault(record.identity, []).append(record)
        for name, records in sorted(seen.items()):
            times = [record.time for record in records]
            cameras = tuple(sorted({record.camera for record in records}))
            yield Identity(name, len(records), cameras, min(times), max(times))

    def count_mapped(self) -> int:
        """The number of entries whose vectors were carried over from another model's."""
        self._look()
        return sum(each in self._index.details for each in self.mapped)

    def kept(self) -> list[str]:
        """Names of the people who are kept until they are forgotten."""
        self._look()
        return sorted(each.name for each in self._index.people.values() if math.isinf(each.retention))

    def export(self) -> Iterator[Record]:
        """Every entry with its vector, in no order that means anything."""
        self._look()
        for entry, person, vector in zip(*self._index.vectors.of(self._wanted()), strict=True):
            if (match := self._match((entry, person, 1.0))) is not None:
                yield Record(match.id, match.identity, match.camera, match.time, match.note, vector)

    def _look(self) -> None:
        if self._database.closed:
            raise UserError(f"the gallery {self._database.folder} is closed")
        self._index.look()

    def _query(self, vector: ArrayLike) -> Floats:
        return checked_vectors(np.asarray(vector)[None], self.facts.dimension)[0]

    def _camera(self, name: str | None) -> int | None:
        """The number of a camera; one that no entry has where the gallery does not know it."""
        return None if name is None else self._index.cameras.get(checked_name("camera", name), UNKNOWN)

    def _wanted(self, **limits: object) -> Wanted:
        """What may be shown now."""
        now = self._clock()
        return Wanted(now, now + CLOCK_TOLERANCE, **limits)  # type: ignore[arg-type]

    def _match(self, found: tuple[int, int, float]) -> Match | None:
        """An answer; None when it was deleted in this very moment."""
        entry, person, score = found
        known, details = self._index.people.get(person), self._index.details.get(entry)
        if known is None or details is None:
            return None
        return Match(known.name, score, details.camera, details.time, details.uuid, details.note, known.key)
