"""The vectors of a gallery in memory, compared with one all at once.

Every vector is kept twice: in 8 bits per number, which a search compares with all of (SIMD kernels of `numkong`),
and in float32, for the exact cosine of the best. Chosen by measurement: bench/test_gallery.py. Memory grows by a
block at a time, so that nothing is copied while others wait.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache

import numkong
import numpy as np
from numpy.typing import NDArray

from deploy.gallery.entries import Floats

BLOCK = 8192
"""Entries for which memory is taken at once (30 MB for 768 numbers, of which the system gives what is used)."""
CANDIDATES = 64
"""Entries at least, and 4 for each answer wanted, whose exact cosine is worked out."""
HELPERS = 2
"""Threads that take half of a search in more than one block; with 2, two searches may run at once."""


@dataclass(frozen=True, slots=True)
class Row:
    """An entry as the index keeps it; the numbers are those of the database."""

    entry: int
    identity: int
    """To which the entry was added."""
    person: int
    """Whom that is now, after merges."""
    camera: int
    time: float
    expires: float


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which entries a search may return; None asks for nothing."""

    now: float
    latest: float
    person: int | None = None
    camera: int | None = None
    exclude_camera: int | None = None
    exclude_people: Collection[int] = ()
    since: float | None = None
    until: float | None = None


class _Block:
    """BLOCK rows; those that are free hold zeros and never pass."""

    def __init__(self, dimension: int) -> None:
        self.vectors = np.zeros((BLOCK, dimension), dtype=np.float32)
        self.codes = np.zeros((BLOCK, dimension), dtype=np.int8)
        self.scales = np.zeros(BLOCK, dtype=np.float32)
        self.entries, self.identities, self.people, self.cameras = np.full((4, BLOCK), -1, dtype=np.int64)
        self.times = np.full(BLOCK, np.nan)
        self.expires = np.full(BLOCK, -np.inf)
        self.used = 0
        """Rows up to the last that was ever taken."""

    def passing(self, wanted: Wanted, rows: slice | NDArray[np.intp]) -> NDArray[np.bool_]:
        """Which of the rows a search may return."""
        passing = (self.expires[rows] >= wanted.now) & (self.times[rows] <= wanted.latest)
        if wanted.person is not None:
            passing &= self.people[rows] == wanted.person
        if wanted.camera is not None:
            passing &= self.cameras[rows] == wanted.camera
        if wanted.exclude_camera is not None:
            passing &= self.cameras[rows] != wanted.exclude_camera
        for person in wanted.exclude_people:
            passing &= self.people[rows] != person
        if wanted.since is not None:
            passing &= self.times[rows] >= wanted.since
        if wanted.until is not None:
            passing &= self.times[rows] <= wanted.until
        return np.asarray(passing)

    def likeliest(self, code: NDArray[np.int8], count: int, wanted: Wanted) -> tuple[NDArray[np.intp], Floats]:
        """The `count` rows that may be returned and are most like the query's code [1, D], with their likeness."""
        rows = slice(self.used)  # others may add meanwhile
        found = np.flatnonzero(self.passing(wanted, rows))
        products = np.asarray(numkong.cdist(code, self.codes[rows], "dot"))[0]
        likeness = np.multiply(products, self.scales[rows], dtype=np.float32, casting="same_kind")
        if len(found) < len(likeness):
            likeness = likeness[found]
        if len(found) > count:
            best = np.argpartition(likeness, len(found) - count)[len(found) - count :]
            found, likeness = found[best], likeness[best]
        return found, likeness


class Vectors:
    """All entries of a gallery; safe to call from several threads."""

    def __init__(self, dimension: int) -> None:
        self._dimension = dimension
        self._lock = threading.Lock()
        self._blocks: list[_Block] = []
        self._free: list[tuple[_Block, int]] = []
        self._places: dict[int, tuple[_Block, int]] = {}

    def add(self, rows: Sequence[Row], vectors: Floats) -> None:
        """Take up entries [n, D] of unit length; those that are there already are passed over."""
        scales = np.abs(vectors).max(axis=1) / 127
        codes = np.round(vectors / scales[:, None]).astype(np.int8)
        with self._lock:
            for row, vector, code, scale in zip(rows, vectors, codes, scales, strict=True):
                if row.entry in self._places:
                    continue
                block, at = self._place()
                block.vectors[at], block.codes[at], block.scales[at] = vector, code, scale
                block.entries[at], block.identities[at], block.people[at] = row.entry, row.identity, row.person
                block.cameras[at], block.times[at], block.expires[at] = row.camera, row.time, row.expires
                self._places[row.entry] = block, at

    def remove(self, entry: int) -> None:
        """Forget an entry, if it is there: its numbers leave the memory too."""
        with self._lock:
            if (place := self._places.pop(entry, None)) is None:
                return
            block, at = place
            block.expires[at] = -np.inf
            block.vectors[at], block.codes[at], block.scales[at] = 0, 0, 0
            block.entries[at] = block.identities[at] = block.people[at] = -1
            self._free.append(place)

    def assign(self, identities: dict[int, int], people: dict[int, tuple[int, float]]) -> None:
        """Say anew whom entries show: `identities` of those named there, person and retention by identity."""
        with self._lock:
            for entry, identity in identities.items():
                if entry in self._places:
                    block, at = self._places[entry]
                    block.identities[at] = identity
            for block in self._blocks:
                rows = np.flatnonzero(block.entries[: block.used] >= 0)
                if not len(rows):
                    continue
                known, inverse = np.unique(block.identities[rows], return_inverse=True)
                found = [people.get(int(each), (int(each), -np.inf)) for each in known]
                block.people[rows] = np.array([person for person, _ in found], dtype=np.int64)[inverse]
                block.expires[rows] = block.times[rows] + np.array([keep for _, keep in found])[inverse]

    def nearest(self, vector: Floats, k: int, wanted: Wanted) -> list[tuple[int, int, float]]:
        """Entry, person and cosine of the `k` nearest to a vector [D] of unit length, best first."""
        blocks = list(self._blocks)
        if not blocks:
            return []
        code = np.round(vector / (float(np.abs(vector).max()) / 127)).astype(np.int8)[None]
        count = max(CANDIDATES, 4 * k)

        def likeliest(some: Sequence[_Block]) -> list[tuple[NDArray[np.intp], Floats]]:
            return [block.likeliest(code, count, wanted) for block in some]

        half = len(blocks) // 2  # by another thread: the kernels let both run
        others = _pool().submit(likeliest, blocks[:half]) if half else None
        ours = likeliest(blocks[half:])
        found = [*(others.result() if others else ()), *ours]
        likeness = np.concatenate([values for _, values in found])
        beyond = len(likeness) - count
        least = np.partition(likeness, beyond)[beyond] if beyond > 0 else -np.inf
        entries, people, cosines = [], [], []
        with self._lock:  # what was removed or renamed meanwhile is judged as it is now
            for block, (at, values) in zip(blocks, found, strict=True):
                at = at[values >= least]
                at = at[block.passing(wanted, at)]
                entries.append(block.entries[at])
                people.append(block.people[at])
                cosines.append(block.vectors[at] @ vector)
        numbers, persons, scores = np.concatenate(entries), np.concatenate(people), np.concatenate(cosines)
        order = np.argsort(-scores, kind="stable")[:k]
        return [(int(numbers[i]), int(persons[i]), float(scores[i])) for i in order]

    def of(self, wanted: Wanted) -> tuple[list[int], list[int], Floats]:
        """The entries that pass, whom they show, and their vectors [n, D]."""
        with self._lock:
            found = [(block, np.flatnonzero(block.passing(wanted, slice(block.used)))) for block in self._blocks]
            entries = [int(each) for block, rows in found for each in block.entries[rows]]
            people = [int(each) for block, rows in found for each in block.people[rows]]
            parts = [block.vectors[rows] for block, rows in found]
        none = np.empty((0, self._dimension), dtype=np.float32)
        return entries, people, np.concatenate([none, *parts])

    def count(self, wanted: Wanted) -> int:
        """The number of entries that pass."""
        return sum(int(block.passing(wanted, slice(block.used)).sum()) for block in list(self._blocks))

    def expired(self, now: float) -> list[int]:
        """Entries that have expired."""
        found: list[int] = []
        with self._lock:
            for block in self._blocks:
                entries = block.entries[: block.used]
                found += entries[(entries >= 0) & (block.expires[: block.used] < now)].tolist()
        return found

    def __len__(self) -> int:
        return len(self._places)

    def _place(self) -> tuple[_Block, int]:
        if self._free:
            return self._free.pop()
        if not self._blocks or self._blocks[-1].used == BLOCK:
            self._blocks.append(_Block(self._dimension))
        block = self._blocks[-1]
        block.used += 1
        return block, block.used - 1


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(HELPERS, thread_name_prefix="gallery search")


def to_bytes(vectors: Floats) -> Sequence[bytes]:
    """Each vector [n, D] as the database keeps it."""
    return [row.tobytes() for row in vectors.astype("<f4")]
