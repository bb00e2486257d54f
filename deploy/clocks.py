"""Time on the camera side: stamps of live frames, and how long to wait before another try."""

from __future__ import annotations

import random
import time
from collections.abc import Callable


class FrameClock:
    """Wall-clock time that never steps back, for the frames of one camera.

    Where the wall clock is set back, this one runs at half speed until the other has caught up: tracks keep their
    order and their length within a factor of two, and the error goes away by itself. A step forward is followed
    at once.
    """

    def __init__(
        self, wall: Callable[[], float] = time.time, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._wall, self._monotonic = wall, monotonic
        self._last, self._last_monotonic = wall(), monotonic()

    def now(self) -> float:
        """Seconds since the epoch, never less than before."""
        monotonic = self._monotonic()
        half_speed = self._last + (monotonic - self._last_monotonic) / 2
        self._last = max(self._wall(), half_speed)
        self._last_monotonic = monotonic
        return self._last


class Backoff:
    """Waits that double from `shortest` to `longest`, each drawn at random up to there (full jitter).

    So cameras that were lost together, with their switch, do not all come back in the same moment.
    """

    def __init__(self, shortest: float, longest: float) -> None:
        self._shortest = shortest
        self._longest = max(shortest, longest)
        self._tries = 0

    def next(self) -> float:
        """Seconds to wait before the next try."""
        self._tries = min(self._tries + 1, 60)
        return random.uniform(self._shortest, min(self._longest, self._shortest * 2.0**self._tries))

    def reset(self) -> None:
        """The work went well for a while: begin at `shortest` again."""
        self._tries = 0


class RecordedClock:
    """Times of a recording's frames: those of its own clock, counted from `start`."""

    def __init__(self, start: float) -> None:
        self._start = start
        self._seconds = 0.0
        self._interval = 0.0
        self._played_from: float | None = None  # the monotonic time at which time 0 would have been

    def at(self, seconds: float) -> float:
        """Seconds since the epoch of the frame at `seconds` of the recording."""
        self._interval = max(seconds - self._seconds, 0.0) or self._interval
        self._seconds = seconds
        return self._start + seconds

    def wait(self, stamp: float) -> float:
        """Seconds until the frame of that time is due, if the first one asked for was due at once."""
        now = time.monotonic()
        if self._played_from is None:
            self._played_from = now - stamp
        return max(0.0, self._played_from + stamp - now)

    def again(self) -> None:
        """The recording begins anew, one interval after its last frame."""
        self._start += self._seconds + (self._interval or 0.04)
        self._seconds = 0.0
