"""Who a track is: a known identity, a new one, or nobody the gallery holds."""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from time import monotonic
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from deploy.gallery import Gallery, Match
from deploy.metrics import Metrics
from pat.base.errors import Failure, UserError

log = logging.getLogger(__name__)

Remember = Literal["all", "known", "nothing"]
VIEWS = 8
"""Of a person met by the cameras, at most: the most different ones are kept."""
CANDIDATES = 4
"""People looked at: the best, who comes second, and whom the track was taken for."""
COMPLAIN_EVERY = 60.0
"""Seconds between two lines in the log about a gallery that fails; the metrics count all."""
TOO_MANY = 0.01
"""Share of the pairs of people seen at once that may reach the threshold. By a gallery of fifty, two of five new
people are then taken for somebody else."""
ALIKE = 5
"""Such pairs, before anything is said of them."""
HOST = secrets.token_hex(2)
"""Of this process, in the names it gives: two hosts may see two people in one second by cameras of one name."""


@dataclass(frozen=True)
class Recognition:
    """What the gallery says of a track."""

    identity: str | None
    """None: unknown."""
    score: float | None
    """Cosine to the nearest view of the nearest person it could be; None where there is none."""
    new: bool = False
    """The identity was made for this track."""
    stored: bool = False
    """The gallery has acknowledged the track's vector."""
    key: str | None = None
    """The person's, whatever the name is."""
    entry: str | None = None
    """What was stored of this track."""
    sure: bool = True
    """False when another person is almost as likely: then it is not told who it is."""
    forgotten: bool = False
    """The person was forgotten while in view: the track is never looked up or stored again."""


NOBODY = Recognition(None, None)
FORGOTTEN = Recognition(None, None, forgotten=True)


class Recogniser:
    """Looks tracks up in the gallery and lets it take them up; safe to call from every camera's thread.

    `threshold` is the least cosine to a known identity, `margin` by how much the best must be ahead of the second.
    Failing gallery calls are logged and counted; the track is then what it was before, and asked for again
    with its next view.
    """

    def __init__(
        self, gallery: Gallery, metrics: Metrics, *, threshold: float, remember: Remember, margin: float = 0.0
    ) -> None:
        self.threshold, self._margin = threshold, margin
        self._gallery, self._metrics, self._remember = gallery, metrics, remember
        # Looking up and taking up are one step: two cameras that see one new person must not make two of it.
        self._lock = threading.Lock()
        self._complained = -COMPLAIN_EVERY
        self._strangers = self._alike = 0
        self._complain_from = ALIKE

    def recognise(
        self,
        vector: NDArray[np.float32],
        *,
        camera: str,
        time: float,
        track: int,
        others: Collection[str] = (),
        known: Recognition = NOBODY,
        agrees: bool = True,
    ) -> Recognition:
        """Look up a track's vector [D], unit length; a person the gallery lacks is taken up when it should be.

        `others` are the keys of people who were seen in one image with the track: nobody is in an image twice.
        Views that do not agree with each other make no new person.
        `known` is what was said of this track before: it stays unless the views have come to say something else.
        Who is not ahead of the second stays undecided (`sure` is False, no identity): of two people who are alike
        either is as likely, and a wrong name is worse than none.
        """
        with self._lock, self._metrics.timed("gallery"):
            try:
                known = self._present(known)
                if known.forgotten:
                    return known
                found = self._gallery.people(vector, CANDIDATES, exclude=others)
                rivals = [each for each in found if each.key != known.key]
                if known.key is not None and not self._contradicted(known, found, rivals):
                    return known
                best = rivals[0] if rivals else None
                score = None if best is None else best.score
                if best is not None and best.score >= self.threshold:
                    second = rivals[1].score if len(rivals) > 1 else -1.0
                    if best.score - second < self._margin:
                        return known if known.new else Recognition(None, score, sure=False)
                    if known.new and known.entry is not None:
                        self._gallery.remove([known.entry])  # it was somebody known after all
                    return Recognition(best.identity, score, key=best.key)
                if known.new:
                    return known
                if self._remember != "all" or not agrees:
                    return Recognition(None, score)
                name = new_name(camera, time, track)
                (entry,) = self._gallery.add(vector[None], identity=name, camera=camera, time=time)
                key = self._gallery.key_of(name)
                return Recognition(name, score, new=True, stored=True, key=key, entry=entry)
            except (UserError, Failure) as error:
                self._gallery_failed(error)
                return known

    def add_view(self, vector: NDArray[np.float32], known: Recognition, *, camera: str, time: float) -> bool:
        """Keep the final vector of a track in place of what was stored of it before, when tracks are to be
        remembered and it is known who it is; whether it is stored."""
        if self._remember == "nothing" or known.key is None:
            return False
        with self._lock, self._metrics.timed("gallery"):
            try:
                before = [known.entry] if known.entry is not None else []
                entry = self._gallery.add_view(
                    known.key, vector, camera=camera, time=time, instead_of=before, most=VIEWS
                )
            except (UserError, Failure) as error:  # a clock that jumped may make a time too old to keep
                self._gallery_failed(error)
                return False
        return entry is not None

    def saw(self, known: Recognition, *, camera: str, first: float, last: float) -> None:
        """Note when a person was in view, for whoever asks where somebody was."""
        if known.key is None or self._remember == "nothing":
            return
        try:
            self._gallery.saw(known.key, camera, first=first, last=last, score=known.score)
        except (UserError, Failure) as error:
            self._gallery_failed(error)

    def saw_apart(self, likeness: float) -> None:
        """Note the cosine of two people who were seen at once: whether the threshold fits the site."""
        with self._lock:
            alike = likeness >= self.threshold
            self._strangers, self._alike = self._strangers + 1, self._alike + alike
            self._metrics.strangers.inc()
            self._metrics.strangers_alike.inc(alike)
            if self._alike >= self._complain_from and self._alike > TOO_MANY * self._strangers:
                self._complain_from = 2 * self._alike
                log.warning(
                    "the threshold %.3f is too low for this site: of %d pairs of people seen at once %d reach it, "
                    "and would be taken for one; `pat gallery calibrate` finds a better one in recordings of it",
                    self.threshold, self._strangers, self._alike,
                )  # fmt: skip

    def _present(self, known: Recognition) -> Recognition:
        """`known` as it is now: the person may have been renamed, merged, forgotten, or have expired.

        Somebody new whom an operator named or merged is not new any more: what was stored of the track is theirs.
        """
        if known.key is None:
            return known
        person = self._gallery.person(known.key)
        if person is None:
            return FORGOTTEN if self._gallery.forgotten(known.key) else NOBODY
        new = known.new and person.key == known.key
        return replace(known, identity=person.name, key=person.key, new=new)

    def _contradicted(self, known: Recognition, found: list[Match], rivals: list[Match]) -> bool:
        """Whether somebody else is clearly more like the track, or whom it was taken for is clearly not."""
        rival = rivals[0].score if rivals else -1.0
        if known.new:  # its own first view is all there is of the person
            return rival >= self.threshold + self._margin
        own = next((each.score for each in found if each.key == known.key), -1.0)
        return own < self.threshold - self._margin or (rival >= self.threshold and rival - own > self._margin)

    def _gallery_failed(self, error: Exception) -> None:
        self._metrics.gallery_failures.inc()
        now = monotonic()
        if now - self._complained >= COMPLAIN_EVERY:  # a full disk fails many times a second
            self._complained = now
            log.error("the gallery failed: %s", error)


def new_name(camera: str, time: float, track: int) -> str:
    """A name for a person never seen before: where and when (UTC) that was, e.g. gate-1123T085731-17-a3f2."""
    seen = datetime.fromtimestamp(time, tz=timezone.utc)
    return f"{camera}-{seen:%m%dT%H%M%S}-{track}-{HOST}"
