"""A gallery in a folder, kept by Qdrant Edge inside this process.

What was measured on 50,000 vectors of 768 numbers (bench/test_gallery.py has the figures) led to these choices:

- No graph index. Building one takes minutes in which Qdrant Edge lets no other Python thread run, and until it is
  built a search is slow. Instead every vector is also kept in 4 bits per number as it is added; a search compares
  with all of these and works out the exact cosine of the best. It is as fast right after an insert as a day later.
- No write-ahead log of the store's own: it keeps what was deleted until it has grown by another 32 MB. What is
  added goes to a journal (deploy.gallery.journal) first, other changes straight into the store's files. Either is
  synced to disk before a call returns, and survives a power cut as well as kill -9.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import qdrant_edge as qdrant

from deploy.errors import DeployError, DeployFailure
from deploy.gallery.entries import Floats, Match, Record, Where
from deploy.gallery.facts import Facts
from deploy.gallery.folder import JOURNAL, Folder, free_bytes, used_bytes
from deploy.gallery.journal import Journal
from deploy.gallery.store import PAGE

CANDIDATES = 64
"""Entries at least, and 4 for each answer wanted, whose exact cosine is worked out."""
WRITE_AT_ONCE = 500
JOURNAL_RECORDS = 1000
"""Entries in the journal at which the store's files are synced, and the journal is emptied."""
RESERVE = 64 << 20
"""Bytes of disk left free: memory-mapped files kill a process that fills the disk, so it must not come to that."""


class EdgeStore:
    """The entries in a folder. See `deploy.gallery.store.Store`."""

    def __init__(self, folder: Folder, facts: Facts, shard: qdrant.EdgeShard, journal: Journal) -> None:
        self.name = str(folder.path)
        self.facts = facts
        self._folder = folder
        self._shard = shard
        self._journal = journal
        self._failed = ""
        self._replay()

    @classmethod
    def open(cls, path: Path, facts: Facts) -> EdgeStore:
        """The gallery in the folder, made where there is none; see `Folder.open` for the errors."""
        folder, stored = Folder.open(path, facts, lambda store: _make_shard(store, facts.dimension))
        try:
            with _translated(f"the gallery {path} is damaged", DeployError, "; restore it from a snapshot"):
                shard = qdrant.EdgeShard.load(str(folder.store))
            with _translated(f"writing to the gallery {path} failed", DeployFailure):
                journal = Journal(path / JOURNAL)
                return cls(folder, stored, shard, journal)
        except BaseException:
            folder.close()
            raise

    def write(self, records: Sequence[Record]) -> None:
        self._check_sound()
        self._check_space(sum(3 * record.vector.nbytes for record in records if record.vector is not None))
        if len(records) + self._journal.records <= JOURNAL_RECORDS:
            with self._journal.holding(records), self._changed(synced=False):
                self._upsert(records)
        else:
            with self._changed():
                self._upsert(records)

    def nearest(self, vector: Floats, k: int, where: Where) -> list[Match]:
        widened = max(4.0, CANDIDATES / k)
        request = qdrant.QueryRequest(
            limit=k,
            query=qdrant.Query.Nearest(_numbers(vector)),
            filter=_filter(where),
            with_payload=True,
            params=qdrant.SearchParams(
                quantization=qdrant.QuantizationSearchParams(rescore=True, oversampling=widened)
            ),
        )
        with self._read():
            found = self._shard.query(request)
            return [Match(score=each.score, id=str(each.id), **_fields(each.payload)) for each in found]

    def count(self, where: Where) -> int:
        with self._read():
            return self._shard.count(qdrant.CountRequest(exact=True, filter=_filter(where)))

    def pages(self, where: Where, *, vectors: bool) -> Iterator[list[Record]]:
        offset = None
        while True:
            request = qdrant.ScrollRequest(
                offset=offset, limit=PAGE, filter=_filter(where), with_payload=True, with_vector=vectors
            )
            with self._read():
                found, offset = self._shard.scroll(request)
                page = [
                    Record(id=str(each.id), vector=_floats(each.vector), **_fields(each.payload)) for each in found
                ]
            yield page
            if offset is None:
                return

    def rename(self, where: Where, identity: str) -> None:
        self._check_space(0)
        with self._changed():
            change = qdrant.UpdateOperation.set_payload_by_filter(_condition(where), {"identity": identity})
            self._shard.update(change)

    def delete(self, where: Where) -> None:
        with self._changed():
            self._shard.update(qdrant.UpdateOperation.delete_points_by_filter(_condition(where)))

    def purge(self) -> None:
        """Rewrite the files without the deleted entries: 2.5 s for 50,000 vectors, in which no thread runs."""
        self._check_space(used_bytes(self._folder.store))
        with self._changed():
            self._shard.optimize()

    def keep_for(self, retention: float | None) -> None:
        self.facts = Facts(self.facts.dimension, self.facts.model, retention)
        self._folder.write_facts(self.facts)

    def close(self) -> None:
        try:
            if not self._failed:
                self._sync()
            with _translated(f"closing the gallery {self.name} failed", DeployFailure):
                self._shard.close()
            if not self._failed:
                self._folder.seal()
        finally:
            self._journal.close(remove=not self._failed)
            self._folder.close()

    def _replay(self) -> None:
        """Bring what a killed process had acknowledged into the store."""
        if records := list(self._journal.read()):
            self._upsert(records)
            self._shard.flush()
        self._journal.empty()

    def _upsert(self, records: Sequence[Record]) -> None:
        points = [qdrant.Point(each.id, _numbers(each.vector), _payload(each)) for each in records]
        for begin in range(0, len(points), WRITE_AT_ONCE):
            batch = points[begin : begin + WRITE_AT_ONCE]
            self._shard.update(qdrant.UpdateOperation.upsert_points(batch))

    def _sync(self) -> None:
        """Sync the store's files, which makes the journal superfluous."""
        with self._changed():
            pass

    @contextlib.contextmanager
    def _read(self) -> Iterator[None]:
        self._check_sound()
        with _translated(f"reading the gallery {self.name} failed", DeployFailure):
            yield

    @contextlib.contextmanager
    def _changed(self, synced: bool = True) -> Iterator[None]:
        """For changes to the store. When `synced`, they are in its files afterwards.

        A failure leaves the gallery closed to further calls: memory and disk may differ, and the disk holds what
        was acknowledged.
        """
        self._check_sound()
        try:
            with _translated(f"writing to the gallery {self.name} failed", DeployFailure):
                # What a change deletes or renames must not come back from the journal.
                if synced and self._journal.records:
                    self._shard.flush()
                    self._journal.empty()
                yield
                if synced:
                    self._shard.flush()
        except DeployFailure as error:
            self._failed = str(error)
            raise

    def _check_sound(self) -> None:
        if self._failed:
            raise DeployFailure(f"{self._failed}; open the gallery again")

    def _check_space(self, wanted: int) -> None:
        free = free_bytes(self._folder.path)
        if free < wanted + RESERVE:
            raise DeployFailure(
                f"the disk of the gallery {self.name} is full: {free >> 20} MB are free, "
                f"{(wanted + RESERVE) >> 20} MB are needed"
            )


def _make_shard(path: Path, dimension: int) -> None:
    """A new, empty store. OSError when the disk refuses."""
    path.mkdir()
    everything = 1 << 30  # in kB: more than a gallery holds
    config = qdrant.EdgeConfig(
        vectors=qdrant.EdgeVectorParams(size=dimension, distance=qdrant.Distance.Cosine),
        quantization_config=qdrant.TurboQuantQuantizationConfig(bits=qdrant.TurboQuantBitSize.Bits4),
        hnsw_config=qdrant.HnswIndexConfig(m=0, ef_construct=4, full_scan_threshold=everything),
        optimizers=qdrant.EdgeOptimizersConfig(
            deleted_threshold=0.0,
            vacuum_min_vector_number=0,
            default_segment_number=1,
            max_segment_size=everything,
            indexing_threshold=everything,
        ),
        wal_enabled=False,
    )
    with _translated(f"cannot make a gallery in {path.parent}", OSError):
        shard = qdrant.EdgeShard.create(str(path), config)
        for field in ("identity", "camera"):
            shard.update(qdrant.UpdateOperation.create_field_index(field, qdrant.PayloadSchemaType.Keyword))
        shard.update(qdrant.UpdateOperation.create_field_index("time", qdrant.PayloadSchemaType.Float))
        shard.flush()
        shard.close()


@contextlib.contextmanager
def _translated(what: str, kind: type[Exception], hint: str = "") -> Iterator[None]:
    """Qdrant Edge's errors, which have no class of their own, as one line of `kind`."""
    try:
        yield
    except BaseException as error:
        # A panic of its Rust code is no Exception, and its class cannot be imported.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        reason = " ".join(str(error).split())[:300].removeprefix("Service runtime error: ")
        raise kind(f"{what}: {reason}{hint}") from error


def _filter(where: Where) -> qdrant.Filter | None:
    """The conditions; None without any, which is twice as fast as a filter that lets everything pass."""
    return None if where == Where() else _condition(where)


def _condition(where: Where) -> qdrant.Filter:
    must: list[Any] = []
    must_not: list[Any] = []
    if where.identity is not None:
        must.append(qdrant.FieldCondition("identity", match=qdrant.MatchValue(where.identity)))
    if where.camera is not None:
        must.append(qdrant.FieldCondition("camera", match=qdrant.MatchValue(where.camera)))
    if where.exclude_camera is not None:
        must_not.append(qdrant.FieldCondition("camera", match=qdrant.MatchValue(where.exclude_camera)))
    if where.since is not None or where.until is not None:
        must.append(qdrant.FieldCondition("time", range=qdrant.RangeFloat(gte=where.since, lte=where.until)))
    return qdrant.Filter(must=must, must_not=must_not)


def _payload(record: Record) -> dict[str, Any]:
    values = {"identity": record.identity, "camera": record.camera, "time": record.time}
    return {**values, "note": record.note} if record.note else values


def _fields(payload: Any) -> dict[str, Any]:
    return {"note": "", **payload}


def _numbers(vector: Floats | None) -> list[float]:
    assert vector is not None
    numbers: list[float] = vector.tolist()
    return numbers


def _floats(vector: Any) -> Floats | None:
    return None if vector is None else np.array(vector, dtype=np.float32)
