"""What sites tell each other of entries, people and themselves, and who holds where two say different things."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from deploy.gallery.entries import Floats


@dataclass(frozen=True, slots=True)
class Point:
    """An entry as the cluster keeps it."""

    id: str
    person: str
    """Key of the identity to which it was added; merges are told by `PersonRecord.into`."""
    camera: str
    time: float
    expires: float | None
    vector: Floats
    mapped: bool
    """Carried over from another model's vector."""


@dataclass(frozen=True, slots=True)
class PersonRecord:
    """An identity as one site knows it."""

    key: str
    name: str
    into: str | None
    """Key of the identity that this one was merged into."""
    time: float
    """Of that merge, or when the last one was taken back; 0 when there was none."""


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """A person of another site who is like somebody here."""

    site: str
    key: str
    name: str
    score: float
    camera: str
    time: float


@dataclass(frozen=True, slots=True)
class SiteRecord:
    """What is known of a site of the cluster, this one among them; the API shows it as it is."""

    node: str
    """Stands for the site's gallery."""
    site: str
    model: str
    entries: int
    seen: float
    """When it was last there; seconds since the epoch."""
    unacknowledged: int
    """Of what was forgotten anywhere, what it has not yet deleted."""


def newest_of(records: Iterable[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """Of what several sites say of one person, the newest; of two at once the node's number decides."""
    found: dict[str, Mapping[str, Any]] = {}
    for each in sorted(records, key=lambda each: (each["time"], each["node"])):
        found[each["key"]] = each
    return found


def resolved(key: str, records: Mapping[str, Mapping[str, Any]]) -> str:
    """Who a person is after merges; where sites merged in a circle, the least key of it, whoever asks."""
    path = [key]
    while (into := records.get(path[-1], {}).get("into")) is not None:
        if into in path:
            return min(path[path.index(into) :])
        path.append(into)
    return path[-1]
