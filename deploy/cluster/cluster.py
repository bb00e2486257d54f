"""What sites keep together in Qdrant, and every request for it.

pat-entries-MODEL   a point for each entry, by its UUID: vector, and node, person (a key), camera, time, expires
pat-control         points without vectors: a tombstone for all that was forgotten (by the UUID that it had), a
                    record of each person at each site, a record of each site

One collection for each model: vectors of two models never meet. No request depends on what another site does at
the same time, and each can be repeated: points have names of their own, and each node acknowledges a tombstone
under the node's own name.
"""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from deploy.cluster.client import translated
from deploy.cluster.records import Elsewhere, PersonRecord, Point, SiteRecord, newest_of, resolved
from deploy.gallery.entries import Floats
from deploy.gallery.facts import Facts
from pat.base.errors import UserError

if TYPE_CHECKING:
    from qdrant_client import QdrantClient
    from qdrant_client.http.models import Condition, Filter, Record

T = TypeVar("T")
CONTROL, ENTRIES = "pat-control", "pat-entries-"
INDEXES = {
    CONTROL: {"kind": "keyword", "key": "keyword", "node": "keyword"},
    ENTRIES: {"person": "keyword", "node": "keyword", "expires": "float"},
}
AT_ONCE = 128
"""Points in a request at most: 1.5 MB where a vector has 768 numbers."""
KEYS = 8
"""People looked at for each one asked for: several may be one after merges, or forgotten."""
HOPS = 16
"""Of merges of merges that are followed."""


class Cluster:
    """The cluster, as the node of one gallery sees it. Every method raises Failure when the cluster is not there.

    `node` is 32 hexadecimal digits that stand for the gallery, `site` is what people call it.
    """

    def __init__(self, client: QdrantClient, facts: Facts, *, node: str, site: str, where: str = "") -> None:
        from qdrant_client.http import models

        self._q, self._client, self._where = models, client, where
        self._facts, self.node, self.site = facts, node, site
        self._entries = ENTRIES + facts.model

    def prepare(self) -> bool:
        """Make the collections where there are none, and say whether they were there and knew this node.

        Raises UserError for a collection of another dimension.
        """
        q, size = self._q, self._facts.dimension
        with translated(self._where):
            vectors = {CONTROL: {}, self._entries: q.VectorParams(size=size, distance=q.Distance.COSINE)}
            there = {each.name for each in self._client.get_collections().collections}
            for name, params in vectors.items():
                if name not in there:
                    self._client.create_collection(name, vectors_config=params)
                for field, kind in INDEXES[CONTROL if name == CONTROL else ENTRIES].items():
                    if name not in there and self._where:  # the client's local mode has no indexes
                        self._client.create_payload_index(name, field, field_schema=q.PayloadSchemaType(kind))
            found = self._client.get_collection(self._entries).config.params.vectors
            known = bool(self._client.retrieve(CONTROL, [_named("site", self.node)]))
        if not isinstance(found, q.VectorParams) or found.size != size:
            raise UserError(f"{self._entries} at {self._where} is no collection of {size} numbers: not ours")
        return there.issuperset(vectors) and known

    def forgotten(self, ids: Iterable[str]) -> set[str]:
        """Those of these keys of people and ids of entries that have a tombstone."""
        wanted = {_uuid(each): each for each in ids}
        with translated(self._where):
            return {
                wanted[str(each.id)]
                for some in in_parts(wanted)
                for each in self._client.retrieve(CONTROL, some, with_payload=False)
            }

    def forget(self, ids: Sequence[str], now: float) -> None:
        """Write tombstones where there are none, acknowledged by this node; delete what they stand for."""
        there = self.forgotten(ids)
        self._note({
            _uuid(each): {"kind": "tombstone", "of": each, "time": now, "acknowledged": {self.node: now}}
            for each in ids
            if each not in there
        })  # fmt: skip
        self.withdraw(ids)

    def orders(self) -> list[str]:
        """Some of what was forgotten and this node has not acknowledged."""
        with translated(self._where):
            found, _ = self._client.scroll(CONTROL, self._unacknowledged(self.node), limit=AT_ONCE)
        return [str((each.payload or {})["of"]) for each in found]

    def withdraw(self, ids: Sequence[str]) -> None:
        """Delete the entries of these people and these entries, of every model, and the people's records."""
        q = self._q
        whose = q.FieldCondition(key="person", match=q.MatchAny(any=list(ids)))
        points = q.HasIdCondition(has_id=[_uuid(each) for each in ids])
        records = [self._is("kind", "person"), q.FieldCondition(key="key", match=q.MatchAny(any=list(ids)))]
        for name in self._collections():
            self._delete(name, q.Filter(should=[whose, points]))
        self._delete(CONTROL, q.Filter(must=records))

    def acknowledge(self, ids: Sequence[str], now: float) -> None:
        """Say that nothing of these is held here any more."""
        with translated(self._where):
            self._client.set_payload(
                CONTROL, {self.node: now}, points=[_uuid(each) for each in ids], key="acknowledged", wait=True
            )

    def put(self, points: Sequence[Point]) -> None:
        """Keep these entries; those that are there are replaced."""
        q = self._q
        with translated(self._where):
            made = [
                q.PointStruct(
                    id=each.id, vector=each.vector.tolist(),
                    payload={
                        "node": self.node, "person": each.person, "camera": each.camera, "time": each.time,
                        **({} if each.expires is None else {"expires": each.expires}),
                        **({"mapped": True} if each.mapped else {}),
                    },
                )
                for each in points
            ]  # fmt: skip
            self._client.upsert(self._entries, made, wait=True)

    def put_people(self, people: Sequence[PersonRecord]) -> None:
        """Keep these records of people."""
        self._note({
            _named("person", self.node, each.key): {
                "kind": "person", "node": self.node, "site": self.site, "key": each.key, "name": each.name,
                "time": each.time, **({} if each.into is None else {"into": each.into}),
            }
            for each in people
        })  # fmt: skip

    def remove(self, ids: Sequence[str]) -> None:
        """Delete entries of this site."""
        self._delete(self._entries, self._q.PointIdsList(points=list(ids)))

    def remove_people(self, keys: Sequence[str]) -> None:
        """Delete this site's records of people."""
        self._delete(CONTROL, self._q.PointIdsList(points=[_named("person", self.node, each) for each in keys]))

    def held(self, after: str | None) -> tuple[list[str], str | None]:
        """Ids of some entries that the cluster has from this site, and where to go on; None at the end."""
        found, following = self._ours(self._entries, after)
        return [str(each.id) for each in found], following

    def held_people(self, after: str | None) -> tuple[list[str], str | None]:
        """The same for the keys of this site's records of people."""
        found, following = self._ours(CONTROL, after, self._is("kind", "person"))
        return [str((each.payload or {})["key"]) for each in found], following

    def keep_house(self, entries: int, now: float) -> list[SiteRecord]:
        """Say that this site is here; delete what has expired, of every site and model; the sites.

        By this site's clock and another's alike: one that is ahead must not delete what the others keep.
        """
        q = self._q
        here = {"kind": "site", "node": self.node, "site": self.site, "model": self._facts.model}
        self._note({_named("site", self.node): {**here, "entries": entries, "seen": now}})
        with translated(self._where):
            found, _ = self._client.scroll(CONTROL, q.Filter(must=[self._is("kind", "site")]), limit=1000)
            records = [each.payload or {} for each in found]
            others = max((each["seen"] for each in records if each["node"] != self.node), default=now)
            old = q.Filter(must=[q.FieldCondition(key="expires", range=q.Range(lt=min(now, others)))])
            for name in self._collections():
                self._delete(name, old)
            return sorted(
                (
                    SiteRecord(
                        each["node"], each["site"], each["model"], each["entries"], each["seen"],
                        self._client.count(CONTROL, self._unacknowledged(each["node"])).count,
                    )
                    for each in records
                ),
                key=lambda each: (each.site, each.node),
            )  # fmt: skip

    def dismiss(self, node: str) -> None:
        """Delete all that a node has brought, which will not come back."""
        for name in (*self._collections(), CONTROL):
            self._delete(name, self._q.Filter(must=[self._is("node", node)]))

    def search(self, vector: Floats, limit: int, threshold: float, now: float) -> list[Elsewhere]:
        """People of other sites whose nearest entry has at least this cosine to a vector [D], best first."""
        q = self._q
        lives = [
            q.FieldCondition(key="expires", range=q.Range(gte=now)),
            q.IsEmptyCondition(is_empty=q.PayloadField(key="expires")),
        ]
        others = q.Filter(must_not=[self._is("node", self.node)], must=[q.Filter(should=lives)])
        with translated(self._where):
            groups = self._client.query_points_groups(
                self._entries, "person", query=np.asarray(vector, np.float32).tolist(), query_filter=others,
                limit=limit * KEYS, group_size=1, score_threshold=threshold, with_payload=True,
            ).groups  # fmt: skip
        hits = [hit for group in groups for hit in group.hits]
        payloads = {str(each.id): each.payload or {} for each in hits}
        gone = self.forgotten([*payloads, *(each["person"] for each in payloads.values())])
        hits = [each for each in hits if not gone & {str(each.id), payloads[str(each.id)]["person"]}]
        records = self._records({payloads[str(each.id)]["person"] for each in hits})
        best: dict[str, Elsewhere] = {}
        for each in hits:
            of = payloads[str(each.id)]
            record = records.get(resolved(of["person"], records))
            if record is not None and record["key"] not in best:
                found = Elsewhere(
                    record["site"], record["key"], record["name"], each.score, of["camera"], of["time"]
                )
                best[found.key] = found
        return list(best.values())[:limit]

    def _records(self, keys: set[str]) -> dict[str, Mapping[str, Any]]:
        """The record that holds of each of these people, and of those they were merged into."""
        q, found = self._q, dict[str, Mapping[str, Any]]()
        asked: set[str] = set()
        for _ in range(HOPS):
            if not (wanted := keys - asked):
                break
            asked |= wanted
            chosen = q.Filter(
                must=[
                    self._is("kind", "person"),
                    q.FieldCondition(key="key", match=q.MatchAny(any=sorted(wanted))),
                ]
            )
            with translated(self._where):
                rows, _ = self._client.scroll(CONTROL, chosen, limit=1000)
            newest = newest_of([each.payload or {} for each in rows])
            found |= newest
            keys = {each["into"] for each in newest.values() if "into" in each}
        return found

    def _ours(self, collection: str, after: str | None, *more: Condition) -> tuple[Sequence[Record], str | None]:
        """Some points that this site has brought, and where to go on; None at the end."""
        ours = self._q.Filter(must=[self._is("node", self.node), *more])
        with translated(self._where):
            found, following = self._client.scroll(collection, ours, limit=AT_ONCE, offset=after)
        return found, None if following is None else str(following)

    def _unacknowledged(self, node: str) -> Filter:
        q = self._q
        empty = q.IsEmptyCondition(is_empty=q.PayloadField(key=f"acknowledged.{node}"))
        return q.Filter(must=[self._is("kind", "tombstone"), empty])

    def _is(self, field: str, value: str) -> Condition:
        return self._q.FieldCondition(key=field, match=self._q.MatchValue(value=value))

    def _collections(self) -> list[str]:
        with translated(self._where):
            names = [each.name for each in self._client.get_collections().collections]
        return [each for each in names if each.startswith(ENTRIES)]

    def _note(self, payloads: Mapping[str, Mapping[str, Any]]) -> None:
        points = [self._q.PointStruct(id=id, vector={}, payload=dict(each)) for id, each in payloads.items()]
        with translated(self._where):
            for some in in_parts(points):
                self._client.upsert(CONTROL, some, wait=True)

    def _delete(self, collection: str, what: Any) -> None:
        with translated(self._where):
            self._client.delete(collection, what, wait=True)


def in_parts(values: Iterable[T]) -> Iterator[list[T]]:
    """In parts of a request's size."""
    rest = iter(values)
    while some := list(itertools.islice(rest, AT_ONCE)):
        yield some


def _uuid(id: str) -> str:
    """A key (hexadecimal digits) or an entry's id as Qdrant names points."""
    return str(uuid.UUID(id))


def _named(*parts: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, "/".join(("pat-reid", *parts))))
