"""Who a track is: a known identity, a new one, or nobody the gallery holds."""

from __future__ import annotations

import logging
import threading
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from deploy.gallery import Gallery
from deploy.metrics import Metrics
from pat.base.errors import Failure, UserError

log = logging.getLogger(__name__)

Remember = Literal["all", "known", "nothing"]
CANDIDATES = 10
"""Nearest entries looked at: those of people who are in view elsewhere in the frame are passed over."""


@dataclass(frozen=True)
class Recognition:
    """What the gallery says of a track."""

    identity: str | None
    """None: unknown."""
    score: float | None
    """Cosine to the nearest entry that could be this person; None where there is none."""
    new: bool = False
    """The identity was made for this track."""
    stored: bool = False
    """The gallery has acknowledged the track's vector."""


NOBODY = Recognition(None, None)


class Recogniser:
    """Looks tracks up in the gallery and lets it take them up; safe to call from every camera's thread.

    `threshold` is the least cosine to a known identity. Failing gallery calls are logged and counted; the track is
    then unknown, and asked for again with its next view.
    """

    def __init__(self, gallery: Gallery, metrics: Metrics, *, threshold: float, remember: Remember) -> None:
        self._gallery = gallery
        self._metrics = metrics
        self._threshold = threshold
        self._remember = remember
        # Looking up and taking up are one step: two cameras that see one new person must not make two of it.
        self._lock = threading.Lock()

    def recognise(
        self,
        vector: NDArray[np.float32],
        *,
        camera: str,
        time: float,
        track: int,
        in_view: Collection[str],
    ) -> Recognition:
        """Look up a track's vector [D], unit length; a person the gallery lacks is taken up when it should be.

        `in_view` are identities of other tracks in the same camera now: nobody is in two places of one image.
        """
        with self._lock, self._metrics.timed("gallery"):
            try:
                matches = self._gallery.search(vector, CANDIDATES)
                best = next((match for match in matches if match.identity not in in_view), None)
                score = None if best is None else best.score
                if best is not None and best.score >= self._threshold:
                    return Recognition(best.identity, score)
                if self._remember != "all":
                    return Recognition(None, score)
                identity = new_name(camera, time, track)
                self._add(vector, identity, camera, time)
                return Recognition(identity, score, new=True, stored=True)
            except (UserError, Failure) as error:
                self._gallery_failed(error)
                return NOBODY

    def add_view(self, vector: NDArray[np.float32], *, identity: str, camera: str, time: float) -> bool:
        """Keep one more vector of a known identity, when tracks are to be remembered; whether it is stored."""
        if self._remember == "nothing":
            return False
        with self._lock, self._metrics.timed("gallery"):
            try:
                self._add(vector, identity, camera, time)
            except (UserError, Failure) as error:  # a clock that jumped may make a time too old to keep
                self._gallery_failed(error)
                return False
        return True

    def _add(self, vector: NDArray[np.float32], identity: str, camera: str, time: float) -> None:
        self._gallery.add(vector[None], identity=identity, camera=camera, time=time)

    def _gallery_failed(self, error: Exception) -> None:
        self._metrics.gallery_failures.inc()
        log.error("the gallery failed: %s", error)


def new_name(camera: str, time: float, track: int) -> str:
    """A name for a person never seen before: where and when (UTC) that was, e.g. gate-1123T085731-17."""
    seen = datetime.fromtimestamp(time, tz=timezone.utc)
    return f"{camera}-{seen:%m%dT%H%M%S}-{track}"
