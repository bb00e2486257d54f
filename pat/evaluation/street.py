"""How well cameras told the people of a filmed street apart, against the truth.

ID switches and IDF1 are those of TrackEval (CLEAR; Identity, Ristani 2016): boxes match from an IoU of 0.5. Tracks
are scored within a camera, identities over all cameras at once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

LEAST_IOU = 0.5
SHARE = 0.5
"""Of a track's boxes that must lie on one person, for the track to be hers."""
AWAY = 2.0
"""Seconds out of sight after which a person comes anew."""
GAPS = ((0.0, 5.0), (5.0, 30.0), (30.0, 300.0), (300.0, float("inf")))

CameraFrame = tuple[str, int]
"""Camera and frame."""


@dataclass(frozen=True)
class Box:
    """Somebody in a frame: `who` is a person of the truth, or a track."""

    who: Hashable
    edges: tuple[float, float, float, float]


@dataclass(frozen=True)
class Run:
    """What the camera process said."""

    boxes: Mapping[CameraFrame, Sequence[Box]]
    """By track."""
    said: Mapping[int, Sequence[tuple[str, str | None]]]
    """For each track its events recognised, new, revised, unknown in order, with the identity."""
    order: Sequence[int]
    """Tracks in the order in which they got their first identity."""


@dataclass(frozen=True)
class Passage:
    """One time that a person was in view of a camera."""

    camera: str
    person: int
    first: float
    last: float
    identity: str | None
    """What most of the frames were called; None: nobody."""


@dataclass
class Scores:
    """Counts, which add up over streets."""

    people: int = 0
    seen: int = 0
    """People with a track of their own."""
    tracks: int = 0
    """Those that were decided or ended."""
    nobody: int = 0
    """Tracks that lie on no person, or on several."""
    recognised: int = 0
    """Tracks taken for somebody known in the end."""
    right: int = 0
    """Of those: it was the one."""
    new: int = 0
    """Tracks that became a new identity in the end."""
    new_right: int = 0
    """Of those: of a person who had none."""
    unknown: int = 0
    identities: int = 0
    """That were made."""
    boxes: int = 0
    found: int = 0
    """True boxes with a tracked one on them."""
    switches: int = 0
    """Of tracks on a person, within a camera."""
    track_matches: int = 0
    identity_matches: int = 0
    tracked: int = 0
    """Boxes of tracks."""
    named: int = 0
    """Boxes of tracks with an identity."""
    gaps: Counter[tuple[str, float]] = field(default_factory=Counter)
    """Passages after a gap: (same or other camera, begin of the class of gap)."""
    recalled: Counter[tuple[str, float]] = field(default_factory=Counter)

    def __iadd__(self, other: Scores) -> Scores:
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)
        return self

    @property
    def idf1_tracks(self) -> float:
        return _ratio(2 * self.track_matches, self.boxes + self.tracked)

    @property
    def idf1_identities(self) -> float:
        return _ratio(2 * self.identity_matches, self.boxes + self.named)

    def rows(self) -> list[tuple[str, str]]:
        """Names and values for a table."""
        decided, good = self.recognised + self.new, self.right + self.new_right
        rows = [
            ("people filmed, with a track", f"{self.people}, {self.seen}"),
            ("true boxes found", _share(self.found, self.boxes)),
            ("tracks; on nobody or on several", f"{self.tracks}; {self.nobody}"),
            ("right recognitions, one a track", _share(self.right, self.recognised)),
            ("new identities of people without one", _share(self.new_right, self.new)),
            ("both right", _share(good, decided)),
            ("tracks left unknown", f"{self.unknown}"),
            ("identities for each person with a track", f"{_ratio(self.identities, self.seen):.2f}"),
            ("ID switches of tracks", f"{self.switches}"),
            ("IDF1 of tracks, of identities", f"{self.idf1_tracks:.3f}, {self.idf1_identities:.3f}"),
        ]
        for (where, gap), count in sorted(self.gaps.items()):
            end = next(last for first, last in GAPS if first == gap)
            rows.append(
                (f"recalled after {gap:g} to {end:g} s, {where}", _share(self.recalled[where, gap], count))
            )
        return rows


def score(
    truth: Mapping[CameraFrame, Sequence[Box]], run: Run, seconds: Mapping[CameraFrame, float], people: int
) -> Scores:
    """Compare a run with the truth. Persons are ints; `people` were filmed; `seconds` are those of the frames."""
    pairs = _pairs(truth, run.boxes)
    owners = _owners(pairs, run.boxes)
    scores = Scores(people=people, seen=len({owner for owner in owners.values() if owner is not None}))
    scores.boxes = sum(map(len, truth.values()))
    scores.tracked = sum(map(len, run.boxes.values()))
    scores.found = len(pairs)
    scores.switches = _switches(pairs)
    scores.track_matches = _identity_matches((place[0], person, track) for place, person, track in pairs)
    final = {track: said[-1] for track, said in run.said.items() if said}
    names = {track: identity for track, (_, identity) in final.items() if identity is not None}
    scores.named = sum(box.who in names for boxes in run.boxes.values() for box in boxes)
    scores.identity_matches = _identity_matches(
        ("", person, names[track]) for _, person, track in pairs if track in names
    )
    _judge(scores, owners, final, run.order)
    _recall(scores, _passages(truth, pairs, names, seconds))
    return scores


def _judge(
    scores: Scores,
    owners: Mapping[int, int | None],
    final: Mapping[int, tuple[str, str | None]],
    order: Sequence[int],
) -> None:
    """Tracks in the order of their decisions: who made an identity is the one whom it means."""
    means: dict[str, int | None] = {}
    scores.tracks = len(owners)
    scores.nobody = sum(owner is None for owner in owners.values())
    for track in order:
        event, identity = final.get(track, ("", None))
        if identity is None:
            continue
        person = owners.get(track)
        if event == "new" or identity not in means:
            scores.new += 1
            scores.identities += 1
            scores.new_right += person is not None and person not in means.values()
            means[identity] = person
        else:
            scores.recognised += 1
            scores.right += person is not None and means[identity] == person
    scores.unknown = sum(final.get(track, ("", None))[1] is None for track in owners)


def _recall(scores: Scores, passages: Sequence[Passage]) -> None:
    by_person: dict[int, list[Passage]] = {}
    for each in sorted(passages, key=lambda passage: passage.first):
        by_person.setdefault(each.person, []).append(each)
    for person in by_person.values():
        for before, after in pairwise(person):
            if before.identity is None:
                continue  # she could not be known
            gap = max(after.first - before.last, 0.0)
            where = "same camera" if before.camera == after.camera else "other camera"
            key = where, next(first for first, last in GAPS if first <= gap < last)
            scores.gaps[key] += 1
            scores.recalled[key] += after.identity == before.identity


def _pairs(truth: Mapping[CameraFrame, Sequence[Box]], found: Mapping[CameraFrame, Sequence[Box]]) -> list[tuple]:
    """(place, person, track) of boxes that match; whom a track matched before it matches first (CLEAR)."""
    pairs = []
    before: dict[tuple[str, Hashable], Hashable] = {}
    for place in sorted(truth):
        people, tracks = truth[place], found.get(place, ())
        if not people or not tracks:
            continue
        value = _iou(people, tracks)
        for row, person in enumerate(people):
            for column, track in enumerate(tracks):
                if before.get((place[0], person.who)) == track.who and value[row, column] >= LEAST_IOU:
                    value[row, column] += 1000
        value[value < LEAST_IOU] = 0
        for row, column in zip(*linear_sum_assignment(value, maximize=True), strict=True):
            if value[row, column] > 0:
                pairs.append((place, people[row].who, tracks[column].who))
                before[place[0], people[row].who] = tracks[column].who
    return pairs


def _iou(ours: Sequence[Box], theirs: Sequence[Box]) -> NDArray[np.float64]:
    a, b = (np.array([box.edges for box in boxes], dtype=np.float64) for boxes in (ours, theirs))
    low, high = np.maximum(a[:, None, :2], b[None, :, :2]), np.minimum(a[:, None, 2:], b[None, :, 2:])
    common = np.prod(np.maximum(high - low, 0), axis=2)
    areas = [np.prod(each[:, 2:] - each[:, :2], axis=1) for each in (a, b)]
    return np.asarray(common / (areas[0][:, None] + areas[1][None] - common))


def _owners(pairs: Sequence[tuple], found: Mapping[CameraFrame, Sequence[Box]]) -> dict[int, int | None]:
    """Whose each track is."""
    lengths = Counter(box.who for boxes in found.values() for box in boxes)
    votes: dict[Hashable, Counter] = {track: Counter() for track in lengths}
    for _, person, track in pairs:
        votes[track][person] += 1
    owners: dict = {}
    for track, count in votes.items():
        person, most = count.most_common(1)[0] if count else (None, 0)
        owners[track] = person if most >= SHARE * lengths[track] else None
    return owners


def _switches(pairs: Sequence[tuple]) -> int:
    """How often a person's track is another than the one before, in one camera."""
    last: dict[tuple[str, int], int] = {}
    switches = 0
    for (camera, _), person, track in pairs:
        switches += last.get((camera, person), track) != track
        last[camera, person] = track
    return switches


def _identity_matches(pairs: Iterable[tuple[str, int, Hashable]]) -> int:
    """True positives of the one-to-one assignment of people (of a camera) to tracks or names that has the most."""
    counts = Counter(((camera, person), name) for camera, person, name in pairs)
    if not counts:
        return 0
    people, names = (set(each) for each in zip(*counts, strict=True))
    table = np.array([[counts[person, name] for name in names] for person in people])
    return int(table[linear_sum_assignment(table, maximize=True)].sum())


def _passages(
    truth: Mapping[CameraFrame, Sequence[Box]],
    pairs: Sequence[tuple],
    names: Mapping[int, str],
    seconds: Mapping[CameraFrame, float],
) -> list[Passage]:
    said: dict[tuple[CameraFrame, int], str] = {
        (place, person): names[track] for place, person, track in pairs if track in names
    }
    frames: dict[tuple[str, int], list[int]] = {}
    for (camera, frame), boxes in sorted(truth.items()):
        for box in boxes:
            frames.setdefault((camera, box.who), []).append(frame)  # type: ignore[arg-type]
    passages = []
    for (camera, person), when in frames.items():
        times = [seconds[camera, frame] for frame in when]
        for part in np.split(np.array(when), np.flatnonzero(np.diff(times) > AWAY) + 1):
            called = Counter(
                said[(camera, int(frame)), person] for frame in part if ((camera, int(frame)), person) in said
            )
            name = called.most_common(1)[0][0] if called else None
            first, last = (seconds[camera, int(frame)] for frame in part[[0, -1]])
            passages.append(Passage(camera, person, first, last, name))
    return passages


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else float("nan")


def _share(part: int, whole: int) -> str:
    return f"{part} of {whole}" + (f" ({100 * part / whole:.0f} %)" if whole else "")
