"""A gallery on a Qdrant server or cluster: http(s)://host:port/collection.

An API key comes from the environment variable QDRANT_API_KEY. What a gallery says about itself is the metadata of
its collection, which Qdrant keeps since version 1.16.

Tested against the in-process mode of Qdrant's own client, which shares the requests and models but not the server,
and against servers that refuse, hang or answer nonsense. It has not run against a Qdrant server.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import warnings
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from qdrant_client import QdrantClient, models
from qdrant_client.http.exceptions import ApiException, ResponseHandlingException, UnexpectedResponse

from deploy.errors import DeployError, DeployFailure
from deploy.gallery.entries import Floats, Match, Record, Where
from deploy.gallery.facts import Facts
from deploy.gallery.store import PAGE

log = logging.getLogger(__name__)

KEY = "QDRANT_API_KEY"
PORT = 6333
COLLECTION = "gallery"
TIMEOUT = 10
"""Seconds for one request."""
WRITE_AT_ONCE = 256


class ServerStore:
    """The entries in a collection of a server. See `deploy.gallery.store.Store`.

    Writes wait until the server has applied them. Several processes may share a collection.
    """

    def __init__(self, client: QdrantClient, collection: str, name: str, facts: Facts) -> None:
        self.name = name
        self.facts = facts
        self._client = client
        self._collection = collection

    @classmethod
    def open(cls, url: str, facts: Facts) -> ServerStore:
        """The collection at the URL, made where there is none.

        Raises DeployError for another model, a key that is refused and a collection of something else,
        DeployFailure when the server cannot be reached.
        """
        client, collection, name = connect(url)
        try:
            return cls.with_client(client, collection, name, facts)
        except BaseException:
            client.close()
            raise

    @classmethod
    def with_client(cls, client: QdrantClient, collection: str, name: str, facts: Facts) -> ServerStore:
        """The same with a client at hand."""
        with _translated(name):
            if not client.collection_exists(collection):
                _make_collection(client, collection, facts)
            stored = _stored_facts(client, collection, name)
            facts.check(stored, name)
            _index(client, collection)
        return cls(client, collection, name, stored)

    @classmethod
    def read_facts(cls, url: str) -> Facts:
        """What the gallery at the URL says about itself. Raises DeployError when there is none."""
        client, collection, name = connect(url)
        try:
            with _translated(name):
                if not client.collection_exists(collection):
                    raise DeployError(f"there is no gallery {name}")
                return _stored_facts(client, collection, name)
        finally:
            client.close()

    def write(self, records: Sequence[Record]) -> None:
        points = [
            models.PointStruct(id=each.id, vector=_numbers(each.vector), payload=_payload(each))
            for each in records
        ]
        with _translated(self.name):
            for begin in range(0, len(points), WRITE_AT_ONCE):
                self._client.upsert(self._collection, points[begin : begin + WRITE_AT_ONCE], wait=True)

    def nearest(self, vector: Floats, k: int, where: Where) -> list[Match]:
        with _translated(self.name):
            found = self._client.query_points(
                self._collection, query=_numbers(vector), query_filter=_filter(where), limit=k, with_payload=True
            ).points
            return [Match(score=each.score, id=str(each.id), **_fields(each.payload)) for each in found]

    def count(self, where: Where) -> int:
        with _translated(self.name):
            return self._client.count(self._collection, count_filter=_filter(where), exact=True).count

    def pages(self, where: Where, *, vectors: bool) -> Iterator[list[Record]]:
        offset: Any = None
        while True:
            with _translated(self.name):
                found, offset = self._client.scroll(
                    self._collection,
                    scroll_filter=_filter(where),
                    limit=PAGE,
                    offset=offset,
                    with_payload=True,
                    with_vectors=vectors,
                )
                page = [
                    Record(id=str(each.id), vector=_floats(each.vector), **_fields(each.payload)) for each in found
                ]
            yield page
            if offset is None:
                return

    def rename(self, where: Where, identity: str) -> None:
        with _translated(self.name):
            self._client.set_payload(
                self._collection, payload={"identity": identity}, points=_filter(where), wait=True
            )

    def delete(self, where: Where) -> None:
        with _translated(self.name):
            selected = models.FilterSelector(filter=_filter(where))
            self._client.delete(self._collection, points_selector=selected, wait=True)

    def purge(self) -> None:
        """A server rewrites its files by itself, when enough was deleted; nobody can tell it to."""

    def keep_for(self, retention: float | None) -> None:
        self.facts = Facts(self.facts.dimension, self.facts.model, retention)
        with _translated(self.name):
            self._client.update_collection(self._collection, metadata=self.facts.to_mapping())

    def close(self) -> None:
        self._client.close()


def connect(url: str) -> tuple[QdrantClient, str, str]:
    """A client for the server of the URL (nothing is asked of it yet), the collection, and a name for messages.

    Raises DeployError for a URL that cannot be, or that holds a password.
    """
    parts = urlsplit(url)
    try:
        host, port = parts.hostname, parts.port or PORT
    except ValueError as error:
        raise DeployError(f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}: {error}") from error
    if parts.username or parts.password or parts.query:
        raise DeployError(f"the URL of {host} holds a user, a password or a query; give the key in ${KEY} instead")
    collection = parts.path.strip("/") or COLLECTION
    if not host or not re.fullmatch(r"[A-Za-z0-9_.-]{1,200}", collection):
        raise DeployError(f"{url} is no gallery; give http://host:port/collection")
    if os.environ.get(KEY) and parts.scheme == "http" and host not in ("localhost", "127.0.0.1", "::1"):
        log.warning("the key of %s travels unencrypted; use https", host)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the client, about the key: said above
        client = QdrantClient(
            url=f"{parts.scheme}://{f'[{host}]' if ':' in host else host}:{port}",
            api_key=os.environ.get(KEY) or None,
            timeout=TIMEOUT,
            check_compatibility=False,  # it asks the server, and only warns
        )
    return client, collection, f"{parts.scheme}://{host}:{port}/{collection}"


@contextlib.contextmanager
def _translated(name: str) -> Iterator[None]:
    """The client's errors as one line: what the user can mend, and what went wrong with the server."""
    try:
        yield
    except UnexpectedResponse as error:
        if error.status_code in (401, 403):
            raise DeployError(f"{name} refuses the key; set the environment variable {KEY}") from error
        reason = " ".join((error.content or b"").decode(errors="replace").split())[:200]
        raise DeployFailure(f"{name} answers {error.status_code} {error.reason_phrase}: {reason}") from error
    except ResponseHandlingException as error:
        reason = " ".join(str(error).split())[:200] or type(error.source).__name__
        raise DeployFailure(f"cannot reach the Qdrant server of {name}: {reason}") from error
    except (ApiException, OSError, ValueError, KeyError, TypeError, AttributeError, AssertionError) as error:
        # Answers that do not parse or lack something, and what the client itself refuses.
        raise DeployFailure(f"{name}: {' '.join(str(error).split())[:300]}") from error


def _make_collection(client: QdrantClient, collection: str, facts: Facts) -> None:
    try:
        client.create_collection(
            collection,
            vectors_config=models.VectorParams(size=facts.dimension, distance=models.Distance.COSINE),
            metadata=facts.to_mapping(),
        )
    except UnexpectedResponse as error:
        if error.status_code != 409:  # another process has just made it
            raise


def _index(client: QdrantClient, collection: str) -> None:
    """Indexes that filters need; a process may have been killed before it made them."""
    kinds = {
        "identity": models.PayloadSchemaType.KEYWORD,
        "camera": models.PayloadSchemaType.KEYWORD,
        "time": models.PayloadSchemaType.FLOAT,
    }
    there = client.get_collection(collection).payload_schema
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # in process the client has no indexes, and says so
        for field, kind in kinds.items():
            if field not in there:
                client.create_payload_index(collection, field, kind, wait=True)


def _stored_facts(client: QdrantClient, collection: str, name: str) -> Facts:
    metadata = client.get_collection(collection).config.metadata
    if metadata is None:
        raise DeployError(
            f"the collection {name} says nothing about itself: it is no gallery, or the server is older than 1.16"
        )
    return Facts.from_mapping(metadata, name)


def _filter(where: Where) -> models.Filter:
    must: list[Any] = []
    must_not: list[Any] = []
    if where.identity is not None:
        must.append(_equals("identity", where.identity))
    if where.camera is not None:
        must.append(_equals("camera", where.camera))
    if where.exclude_camera is not None:
        must_not.append(_equals("camera", where.exclude_camera))
    if where.since is not None or where.until is not None:
        must.append(models.FieldCondition(key="time", range=models.Range(gte=where.since, lte=where.until)))
    return models.Filter(must=must, must_not=must_not)


def _equals(field: str, value: str) -> models.FieldCondition:
    return models.FieldCondition(key=field, match=models.MatchValue(value=value))


def _payload(record: Record) -> dict[str, Any]:
    return {"identity": record.identity, "camera": record.camera, "time": record.time, "note": record.note}


def _fields(payload: Any) -> dict[str, Any]:
    return {name: payload[name] for name in ("identity", "camera", "time", "note")}


def _numbers(vector: Floats | None) -> list[float]:
    assert vector is not None
    numbers: list[float] = vector.tolist()
    return numbers


def _floats(vector: Any) -> Floats | None:
    return None if vector is None else np.array(vector, dtype=np.float32)
