"""What the service says and takes, as OpenAPI describes it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from deploy.cluster.records import Elsewhere, SiteRecord
from deploy.service.access import Role
from deploy.status import State

Item = TypeVar("Item")
Row = TypeVar("Row", bound=BaseModel)
Kind = Literal["recognised", "new"]
"""Of a question; see `deploy.service.reviews.Question`."""
Answer = Literal["same", "different"]


def view_of(entry: str) -> str:
    """The address of an entry's image."""
    return f"/api/v1/entries/{entry}/view.jpg"


def of_row(kind: type[Row], row: Iterable[object]) -> Row:
    """The model whose fields are a row's values, in their order."""
    return kind(**dict(zip(kind.model_fields, row, strict=True)))


class Page(BaseModel, Generic[Item]):
    """A part of a list."""

    items: list[Item]
    next: str | None = Field(description="Give it as `cursor` to get the next part; null at the end.")


class Person(BaseModel):
    """A person of the gallery."""

    key: str = Field(description="Another after a new name or a merge; this one leads there then.")
    name: str
    kept: bool = Field(description="Enrolled or named: kept until forgotten.")
    entries: int
    sightings: int
    cameras: list[str]
    first: float = Field(description="Seconds since the epoch.")
    last: float
    in_view: list[str] = Field(description="Cameras that see the person now.")
    image: str | None = Field(description="Address of the best view, where views are kept.")


class Sighting(BaseModel):
    """A person in view of a camera."""

    id: int
    camera: str
    first: float
    last: float
    score: float | None = Field(description="Cosine when the person was recognised; null for the first time.")


class Entry(BaseModel):
    """A vector of a person, without its numbers."""

    id: str
    camera: str
    time: float
    note: str
    image: str | None


class Name(BaseModel):
    name: str = Field(min_length=1, max_length=200)


class Merge(BaseModel):
    into: str = Field(max_length=64, description="Key of the person that stays.")


class Split(BaseModel):
    entries: list[str] = Field(
        min_length=1, max_length=500, description="Ids of the entries that are somebody else's."
    )
    name: str = Field(min_length=1, max_length=200, description="Of the person they are given to.")


class Changed(BaseModel):
    """What a change came to."""

    change: int = Field(description="POST /changes/{change}/undo takes it back.")
    person: Person


class Change(BaseModel):
    """A merge, a split or a new name."""

    id: int
    kind: str
    time: float
    source: str
    target: str


class Receipt(BaseModel):
    """What was deleted when a person was forgotten; it does not say who."""

    id: str
    time: float
    entries: int
    views: int
    sightings: int
    events: int
    reviews: int
    keys: list[str] = Field(description="Of the person and of who was merged into it: random, they name nobody.")


class Review(BaseModel):
    """A question to a person."""

    id: int
    time: float
    kind: Kind
    camera: str
    subject: Person
    candidate: Person
    score: float
    image: str | None = Field(description="Of what was stored of the track, where views are kept.")
    answer: Answer | None


class AnswerTo(BaseModel):
    answer: Answer


class Match(BaseModel):
    """Somebody like a person in a photo."""

    person: Person
    score: float = Field(description="Cosine of the most similar entry.")
    camera: str
    time: float
    decision: Literal["same", "perhaps", "different"]


class InPhoto(BaseModel):
    """A person in a photo."""

    box: tuple[int, int, int, int] = Field(description="x0, y0, x1, y1 in pixels of the photo.")
    quality: float
    seen_before: Literal["yes", "perhaps", "no"]
    matches: list[Match]
    elsewhere: list[Elsewhere] = Field(description="People of other sites, by the cluster's threshold.")


class Search(BaseModel):
    width: int
    height: int
    threshold: float
    people: list[InPhoto]
    cluster: str | None = Field(description="Why other sites could not be asked; null where they were.")


class InView(BaseModel):
    """A track that a camera sees now."""

    track: int
    name: str | None
    key: str | None
    score: float | None
    box: tuple[float, float, float, float] = Field(description="x0, y0, x1, y1 as shares of the image, 0 to 1.")


class Camera(BaseModel):
    name: str
    source: str = Field(description="Without password.")
    state: State
    since: float
    error: str
    frames: int
    dropped: int
    broken: int
    reconnects: int
    frames_per_second: float
    last_frame: float | None
    width: int | None
    height: int | None
    in_view: list[InView]


class Rates(BaseModel):
    """What a threshold costs, as it was measured."""

    threshold: float
    false_match_rate: float
    false_non_match_rate: float | None
    false_alarms: float = Field(description="Chance that a stranger is taken for somebody of this gallery.")


class Threshold(BaseModel):
    threshold: float
    configured: float
    uncertain: float = Field(description="Scores so near to the threshold are asked about.")
    entries: int
    expected: Rates | None
    measured: list[Rates]
    measured_on: str


class NewThreshold(BaseModel):
    threshold: float = Field(ge=-1, le=1, allow_inf_nan=False)


class Storage(BaseModel):
    entries: int
    mapped: int = Field(description="Entries whose vectors were carried over from an earlier model's.")
    bytes: int
    free_bytes: int
    ok: bool


class Model(BaseModel):
    bundle: str
    fingerprint: str
    numbers: int
    precision: str
    broken_for: float
    ok: bool


class Cluster(BaseModel):
    model_config = ConfigDict(use_attribute_docstrings=True)  # those of SiteRecord
    url: str
    site: str
    node: str
    error: str | None = Field(description='Why the cluster is away; "" when it is there, null until it was asked.')
    since: float = Field(description="Since when that holds.")
    waiting: int = Field(description="Changes not sent yet.")
    sent: int
    sites: Sequence[SiteRecord]


class Status(BaseModel):
    version: str
    started: float
    now: float
    role: Role | None
    caller: str | None
    cameras: list[Camera]
    storage: Storage
    model: Model
    milliseconds: dict[str, float] = Field(description="Mean time of each stage.")
    crops_per_second: float
    people: int
    reviews: int
    events_lost: int
    views: Literal["none", "best"]
    retention_hours: float | None = Field(description="null: for ever.")
    cluster: Cluster | None = Field(description="null: this site shares nothing.")


class AuditLine(BaseModel):
    id: int
    time: float
    who: str
    role: str
    address: str
    action: str
    subject: str
    status: int


class Login(BaseModel):
    token: str = Field(max_length=200)


class Session(BaseModel):
    caller: str | None
    role: Role | None
