"""Time inside a source: a clock that never steps back, and which images to keep of too many."""

from __future__ import annotations

import math

LONGEST_GAP = 3600.0
"""Seconds; a longer gap between two images is a broken time stamp."""
ASSUMED_RATE = 25.0
"""Images per second of a recording that does not tell: a folder, a raw stream."""


class StreamClock:
    """Seconds since the first image, from time stamps that may be missing, repeated or broken."""

    def __init__(self, rate: float) -> None:
        """`rate` is what the source says of itself, in images per second."""
        self._interval = 1 / (rate if 0 < rate < 1000 else ASSUMED_RATE)
        self._stamp: float | None = None
        self._seconds = 0.0
        self._started = False

    def seconds(self, stamp: float | None) -> float:
        """Never decreases. A stamp that is missing, steps back or leaps hours ahead counts as one image on."""
        if not self._started:
            self._started = True
        elif stamp is None or self._stamp is None or not 0 <= stamp - self._stamp <= LONGEST_GAP:
            self._seconds += self._interval
        else:
            self._seconds += stamp - self._stamp
        self._stamp = stamp
        return self._seconds


class Thinner:
    """Keeps about `rate` images per second of those that pass; 0 keeps all."""

    def __init__(self, rate: float) -> None:
        self._period = 1 / rate if rate > 0 else 0.0
        self._due = self._last = -math.inf

    def keeps(self, seconds: float) -> bool:
        # A little early will do: time stamps jitter, and an image missed by a hair would halve the rate.
        early = min(self._period / 4, (seconds - self._last) / 2)
        self._last = seconds
        if seconds < self._due - early:
            return False
        self._due += self._period
        if self._due <= seconds:  # the first, or one after a gap, which is not caught up
            self._due = seconds + self._period
        return True
