"""One camera's part of the process: frames -> people -> tracks -> vectors -> identities -> events."""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

import numpy as np

from deploy.annotate import Label, View
from deploy.appearance import ROUNDING, Array, EmbeddingPolicy, qualities, touching
from deploy.camera import Camera
from deploy.embedder import Embedder
from deploy.events import Event, EventLog, Kind
from deploy.frames import Detections, Frame, clipped, ious
from deploy.metrics import Metrics
from deploy.person import Person, meet
from deploy.recognise import Recogniser
from deploy.runtime.session import Vectors
from deploy.track import Tracked, Tracker
from pat.base.errors import Failure

log = logging.getLogger(__name__)

PENDING = 4
"""Frames whose crops may be with the model at once: detection goes on meanwhile, memory stays bounded."""
TOUCHING = 0.05
"""IoU of a track's box with another one from which on the track may jump there."""
ENOUGH = 2
"""Views of a track at least, to learn from it: one alone may be of a pillar, or of half a person. What one taught
wrongly was recognised ever after."""
FAR = 2.0
"""How many times as far from 1 as the threshold a view's likeness must be, to show a jump of a track that was
never out of sight or near another one."""
FRAME_WAIT = 0.2
"""Seconds between two looks at whether the process is stopping."""


@dataclass(frozen=True)
class Pending:
    """Views of one frame that are with the model."""

    views: Sequence[tuple[int, float, bool]]
    """Track, quality, and whether no other box touched its own."""
    vectors: Future[Vectors]


class Worker:
    """Runs one camera on the calling thread, until the source ends or `stopping` is set.

    `find` tells where people are in a frame.
    `new_tracker` makes a tracker; one is made again after an unexpected error, so that a bad frame costs the
    tracks in view and not the camera.
    """

    def __init__(
        self,
        camera: Camera,
        find: Callable[[Frame], Detections],
        new_tracker: Callable[[], Tracker],
        new_policy: Callable[[], EmbeddingPolicy],
        embedder: Embedder,
        recogniser: Recogniser,
        events: EventLog,
        metrics: Metrics,
        view: View,
        *,
        track_numbers: Iterator[int],
        decide_after: float,
    ) -> None:
        self.camera, self._find, self._view = camera, find, view
        self._new_tracker, self._new_policy = new_tracker, new_policy
        self._embedder, self._recogniser, self._events, self._metrics = embedder, recogniser, events, metrics
        self._track_numbers, self._decide_after = track_numbers, decide_after
        self._start_over()

    def run(self, stopping: threading.Event) -> None:
        """Process frames; an unexpected error is logged, counted and survived."""
        pause = 0.1
        told = ("", "")
        while not stopping.is_set() and not self.camera.ended:
            try:
                told = self._tell_state(told)
                frame = self.camera.get(timeout=FRAME_WAIT)
                if frame is not None:
                    self._process(frame)
                    pause = 0.1
                elif self.camera.state == "failed":
                    break
                else:
                    self._collect(wait=False)
                if self._events.nobody_reads:
                    stopping.set()  # the tracks in view are kept all the same
            except Exception:
                log.exception(
                    "camera %s: a frame could not be processed; its tracks are dropped", self.camera.name
                )
                self._metrics.worker_failures.labels(self.camera.name).inc()
                self._start_over()
                stopping.wait(pause)
                pause = min(2 * pause, 10.0)
        self._finish()
        self._tell_state(told)

    def _start_over(self) -> None:
        self._tracker = self._new_tracker()
        self._policy = self._new_policy()
        self._people: dict[int, Person] = {}  # by the tracker's own number
        self._pending: deque[Pending] = deque()

    def _finish(self) -> None:
        """Everyone in view leaves: their vectors are awaited and kept."""
        try:
            self._collect(wait=True)
            for track in list(self._people):
                self._leave(track)
        except Exception:
            log.exception("camera %s: its last tracks are lost", self.camera.name)
        self._metrics.people.labels(self.camera.name).set(0)
        self._view.close()

    def _process(self, frame: Frame) -> None:
        metrics = self._metrics
        with metrics.timed("detect"):
            detections = self._find(frame)
        with metrics.timed("track"):
            tracked = self._tracker.update(detections, frame)
        seen = [each for each in tracked if not each.lost]
        for each in seen:
            person = self._people.get(each.track)
            if person is None:
                person = self._people[each.track] = Person(next(self._track_numbers), each, frame, frame.time)
            elif not ious(person.last.box[None], each.box[None])[0, 0] > 0:
                person.doubtful = True  # a tracker that bridges the gap may bridge it to somebody else
            person.last, person.frame = each, frame
        meet([self._people[each.track] for each in seen])
        self._submit(frame, seen, self._doubt(tracked))
        self._collect(wait=False)
        if finished := [track for track in self._tracker.finished() if track in self._people]:
            self._collect(wait=True)  # their last views may still be with the model
            for track in finished:
                self._leave(track)
        self._show(frame, tracked)
        metrics.people.labels(self.camera.name).set(len(self._people))
        metrics.frames.labels(self.camera.name).inc()
        if self.camera.live:
            metrics.age.labels(self.camera.name).observe(max(0.0, time.time() - frame.time))

    def _doubt(self, tracked: Sequence[Tracked]) -> set[int]:
        """Note which tracks may jump: those unseen, and those whose boxes touch, which are returned."""
        boxes = np.stack([each.box for each in tracked]) if tracked else np.empty((0, 4), np.float32)
        people = [self._people.get(each.track) for each in tracked]
        near = touching(boxes, TOUCHING).tolist()
        for each, person, row in zip(tracked, people, near, strict=True):
            if person is not None:
                person.doubtful |= each.lost or any(row)
                person.touched |= {other.track for other in itertools.compress(people, row) if other is not None}
        return {each.track for each in itertools.compress(tracked, map(any, near))}

    def _submit(self, frame: Frame, seen: Sequence[Tracked], touching: Collection[int]) -> None:
        """Send the views worth embedding to the model."""
        if not seen:
            return
        height, width = frame.pixels.shape[:2]
        boxes, usable = clipped(np.stack([each.box for each in seen]), height, width)
        with self._metrics.timed("quality"):
            scores = np.array([each.score for each in seen], dtype=np.float32)
            quality = qualities(frame.pixels, boxes, scores)
        chosen = [
            row
            for row, each in enumerate(seen)
            if usable[row]
            and self._policy.wants(
                each.track,
                frame.time,
                float(quality[row]),
                # Who may be somebody else by now is looked at as soon as the view can show it.
                at_once=each.track not in touching and self._people[each.track].wondered_at(float(quality[row])),
            )
        ]
        if not chosen:
            return
        vectors = self._embedder.submit(frame.pixels, boxes[chosen])
        views = [(seen[row].track, float(quality[row]), seen[row].track not in touching) for row in chosen]
        self._pending.append(Pending(views, vectors))

    def _collect(self, *, wait: bool) -> None:
        """Take up the vectors that are ready, oldest first; with `wait`, all of them."""
        while self._pending and (wait or len(self._pending) > PENDING or self._pending[0].vectors.done()):
            pending = self._pending.popleft()
            try:
                vectors = pending.vectors.result()
            except Failure:
                continue  # the embedder has told why; the next views will do
            for (track, quality, alone), vector in zip(pending.views, vectors, strict=True):
                if track in self._people:
                    self._take(track, vector, quality, alone)

    def _take(self, track: int, vector: Array, quality: float, alone: bool) -> None:
        """Add a view to its track; where two in a row show somebody else, the track is split in two."""
        person, least = self._people[track], self._recogniser.threshold
        likeness = person.appearance.likeness(vector)
        if likeness < least:
            if not alone or not person.clear(quality):
                return  # half hidden, cut off or blurred: no reason to think of somebody else
            if not person.doubtful and 1 - likeness < FAR * (1 - least):
                # Followed from image to image: the same person, from another side.
                self._accept(person, vector, quality)
                return
            if person.odd is not None and float(person.odd @ vector) >= least:
                self._tell_left(person)
                number = next(self._track_numbers)
                self._people[track] = person = Person(number, person.last, person.frame, person.frame.time)
                meet([each for each in self._people.values() if each.frame is person.frame])
            else:
                person.odd = vector
                return
        self._accept(person, vector, quality)

    def _accept(self, person: Person, vector: Array, quality: float) -> None:
        if person.appearance.add(vector, quality):
            person.odd, person.doubtful = None, False
            self._recognise(person)

    def _recognise(self, person: Person, *, final: bool = False) -> None:
        """Ask who it is once it was seen for long enough, then whenever its views have doubled."""
        vector, before = person.appearance.vector, person.recognition
        if vector is None or before.forgotten:
            return
        if not final:
            undecided = before.key is None
            enough = person.frame.time - person.since >= self._decide_after - ROUNDING
            if not enough or (not undecided and person.appearance.samples < 2 * person.asked):
                return
        person.asked = person.appearance.samples
        person.recognition = now = self._recogniser.recognise(
            vector,
            camera=self.camera.name,
            time=person.frame.time,
            track=person.track,
            others=person.met_and_left
            | {
                other.recognition.key
                for other in self._people.values()
                if other is not person and other.track in person.met and other.recognition.key is not None
            },
            known=before,
            agrees=self._teaches(person),
        )
        if now.forgotten:
            return
        if before.key is not None and now.key != before.key:
            self._tell("revised", person, now.stored if now.new else None, before=before.identity)
        elif before.key is None and now.new:
            self._tell("new", person, now.stored)
        elif before.key is None and now.key is not None:
            self._tell("recognised", person)
        elif now.key is None and (now.sure or final) and not person.told:
            person.told = True
            self._tell("unknown", person)

    def _teaches(self, person: Person) -> bool:
        """Whether something may be learned from the track: it has enough views, and they agree."""
        seen = person.appearance
        return seen.samples >= ENOUGH and seen.agrees(self._recogniser.threshold)

    def _leave(self, track: int) -> None:
        """The track has ended."""
        self._tell_left(self._people[track])
        del self._people[track]
        self._policy.forget(track)

    def _tell_left(self, person: Person) -> None:
        """Decide with what there is, keep the vector if its views agree, tell."""
        self._recognise(person, final=True)
        known, vector, when = person.recognition, person.appearance.vector, person.frame.time
        stored = known.stored
        if known.key is not None and vector is not None and self._teaches(person):
            kept = self._recogniser.add_view(vector, known, camera=self.camera.name, time=when)
            stored = kept or stored
        self._recogniser.saw(known, camera=self.camera.name, first=person.since, last=when)
        if vector is not None and self._teaches(person):
            beside = person.met - person.touched - {person.track}
            for other in self._people.values():
                if other.track in beside and self._teaches(other):
                    self._recogniser.saw_apart(other.appearance.likeness(vector))
        if known.key is not None:
            for other in self._people.values():
                if person.track in other.met and other is not person:
                    other.met_and_left.add(known.key)
        self._tell("left", person, stored)

    def _tell(self, event: Kind, person: Person, stored: bool | None = None, before: str | None = None) -> None:
        left, top, right, bottom = (round(float(edge)) for edge in person.last.box)
        score = person.recognition.score
        height, width = person.frame.pixels.shape[:2]
        self._events.tell(
            Event(
                event, time=round(person.frame.time, 3), camera=self.camera.name, track=person.track,
                identity=person.identity, score=None if score is None else round(score, 6),
                box=(left, top, right, bottom), size=(width, height), frame=person.frame.index,
                views=person.appearance.samples, stored=stored, before=before, key=person.recognition.key,
            )
        )  # fmt: skip

    def _tell_state(self, before: tuple[str, str]) -> tuple[str, str]:
        """Tell the camera's state when it is another than `before`, log its error too; returns both."""
        status = self.camera.status()
        self._metrics.set_state(self.camera.name, status.state)
        self._metrics.dropped.labels(self.camera.name).set(status.dropped)
        self._metrics.broken.labels(self.camera.name).set(status.broken)
        self._metrics.reconnects.labels(self.camera.name).set(status.reconnects)
        now = status.state, status.error
        if now != before:
            level = logging.WARNING if status.error else logging.INFO
            error = f": {status.error}" if status.error else ""
            log.log(level, "camera %s is %s%s", self.camera.name, status.state, error)
        if status.state != before[0]:
            event = Event(
                "camera", round(time.time(), 3), self.camera.name, state=status.state, error=status.error or None
            )
            self._events.tell(event)
        return now

    def _show(self, frame: Frame, tracked: Sequence[Tracked]) -> None:
        if not self._view.wanted:
            return
        with self._metrics.timed("draw"):
            labels = []
            for each in tracked:
                person = self._people.get(each.track)
                if person is not None and not each.lost:
                    labels.append(Label(each.box, person.track, person.identity, person.recognition.score))
            self._view.show(frame, labels)
