"""One camera: reads its source in the background, watches over its freshness, connects again when it is lost."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable

from deploy.clocks import Backoff, FrameClock, RecordedClock
from deploy.frames import Frame, Pixels
from deploy.reader import Reader
from deploy.sources import Source, SourceLost, open_source, shown
from deploy.status import CameraStatus, State
from pat.base.errors import Failure, UserError

log = logging.getLogger(__name__)

GRACE = 0.5
"""Seconds beyond `stale_after` in which a reader may notice by itself that nothing comes."""
MOST_STUCK = 4
"""Reads that hang in spite of their time limits and were given up; with so many no other is begun."""
STOP_WITHIN = 2.0
READ_AHEAD = 4
"""Frames of a recording that wait to be taken at most."""


class Camera:
    """Frames of one source, taken by `get`.

    A live source keeps the newest frame only; older ones drop out and are counted. A recorded one waits until its
    frames are taken. Memory is bounded either way.

    States: *connecting* (a connection is being made and no frame is overdue), *live*, *stale* (there were frames,
    and none came for `stale_after` seconds, whatever is being tried), *failed* (given up; `status().error` says
    why), *ended* (a recording was read to its end, or the camera was stopped).

    A source that can never work fails at once, unless it is live and worked before: a camera that is unplugged or
    restarts may refuse in strange ways and still come back.

    Args: those of `deploy.settings.CameraSettings`, with None for "auto" and for ever; and
        retry: shortest and longest wait in seconds before another try; see `Backoff`.
        timeout: see `open_source`.
        open: makes the source.
        wall: the wall clock.
    """

    def __init__(
        self,
        name: str,
        url: str,
        *,
        live: bool | None = None,
        loop: bool = False,
        rate: float = 0.0,
        stale_after: float = 5.0,
        retry: tuple[float, float] = (0.5, 30.0),
        give_up_after: float | None = None,
        pace: bool = False,
        timeout: float = 10.0,
        open: Callable[..., Source] = open_source,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.name, self._shown, self._url = name, shown(name), shown(url)
        self._loop, self._pace, self._wall = loop, pace, wall
        self._stale_after, self._give_up_after, self._timeout = stale_after, give_up_after, timeout
        self._open = lambda: open(url, rate=rate, live=live, timeout=timeout, read_timeout=stale_after)
        self._backoff = Backoff(*retry)
        self._clock = FrameClock(wall)
        self._thread = threading.Thread(target=self._supervise, name=f"camera {self._shown}", daemon=True)

        self._changed = threading.Condition()  # guards all that follows
        self._queue: deque[Frame] = deque()
        self._stopping = False
        self._reader: Reader | None = None
        self._stuck: list[Reader] = []
        self._live = bool(live)  # what the source said when it was last open
        self._state: State = "connecting"
        self._since = wall()
        self._error = ""
        self._frames = self._dropped = self._broken = self._reconnects = 0
        self._last_frame: float | None = None
        self._heard = self._connected = time.monotonic()  # when a frame last came; the first of this connection
        self._recorded: RecordedClock | None = None

    def start(self) -> Camera:
        """Begins to read; once."""
        self._heard = time.monotonic()
        self._thread.start()
        return self

    def stop(self) -> None:
        """Ends reading, within about two seconds even if the source hangs (its thread ends when the read does)."""
        deadline = time.monotonic() + STOP_WITHIN
        with self._changed:
            self._stopping = True
            self._queue.clear()
            readers = [*self._stuck, *([self._reader] if self._reader else [])]
            self._changed.notify_all()
        for reader in readers:
            reader.stop()
        if self._thread.is_alive():
            self._thread.join(STOP_WITHIN)
        for reader in readers:
            if reader.is_alive():
                reader.join(max(0.0, deadline - time.monotonic()))

    def __enter__(self) -> Camera:
        return self.start()

    def __exit__(self, *error: object) -> None:
        self.stop()

    def get(self, timeout: float) -> Frame | None:
        """The newest frame (live) or the next; None after `timeout` seconds, at once if no more will ever come."""
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._over, timeout)
            if not self._queue:
                return None
            self._changed.notify_all()  # there is room for another
            return self._queue.popleft()

    @property
    def ended(self) -> bool:
        """A recording came to its end and all its frames were taken, or the camera was stopped."""
        with self._changed:
            return self._state == "ended" and not self._queue

    @property
    def state(self) -> State:
        return self._state

    @property
    def live(self) -> bool:
        """Whether the source goes on without end; by its word once it gave an image."""
        return self._live

    def status(self) -> CameraStatus:
        with self._changed:
            return CameraStatus(
                name=self._shown, url=self._url, state=self._state, since=self._since, frames=self._frames,
                dropped=self._dropped, broken=self._broken + (self._reader.broken if self._reader else 0),
                reconnects=self._reconnects, last_frame=self._last_frame, error=self._error,
            )  # fmt: skip

    # What the supervisor's thread does.

    def _supervise(self) -> None:
        try:
            while not self._over:
                error = self._connect()
                if self._stopping:
                    break
                if error is None:
                    self._at_end()
                elif self._hopeless(error):
                    self._finish("failed", str(error))
                else:
                    self._rest(str(error))
        except Exception as error:  # a defect must not leave a camera that looks alive
            log.exception("camera %s", self._shown)
            self._finish("failed", f"camera {self._shown}: {error!r}")
        if self._state not in ("failed", "ended"):
            self._finish("ended", "")

    def _connect(self) -> Exception | None:
        """One connection from opening to its end; what broke it, None at the end of a recording."""
        reader = Reader(self._shown, self._open, self._accept, self._nudge)
        with self._changed:
            self._reader = reader
        reader.start()
        while (left := self._patience(reader)) > 0:
            with self._changed:
                if self._changed.wait_for(lambda: reader.done or self._stopping, min(left, self._stale_after / 4)):
                    break
                self._note_staleness(reader)
        with self._changed:
            self._reader = None
            self._broken += reader.broken
            if reader.done:
                return reader.error or (SourceLost(f"{self._url}: the stream ended") if reader.live else None)
            self._stuck.append(reader)
        reader.stop()
        return SourceLost(f"{self._url}: no image in time")

    def _patience(self, reader: Reader) -> float:
        """Seconds that the reader may still be silent."""
        now = time.monotonic()
        if not reader.frames:  # opening has two steps of `timeout` each
            limit = 2 * self._timeout + self._stale_after + GRACE - (now - reader.heard)
            return limit if self._give_up_after is None else min(limit, self._give_up_after - (now - self._heard))
        return self._stale_after + GRACE - (now - reader.heard) if reader.live else self._stale_after

    def _note_staleness(self, reader: Reader | None = None) -> None:
        """Under the lock: live turns stale when its time has come. What was never live stays connecting."""
        heard = max(self._heard, reader.heard) if reader and reader.frames else self._heard
        if self._live and self._frames and time.monotonic() - heard >= self._stale_after:
            self._enter("stale", self._error or f"{self._url}: no image for {self._stale_after:g} s")

    def _hopeless(self, error: Exception) -> bool:
        if isinstance(error, SourceLost) or (self._live and self._frames):
            return False
        if not isinstance(error, (UserError, Failure)):
            log.error("camera %s", self._shown, exc_info=error)
        return True

    def _at_end(self) -> None:
        if self._recorded is None:
            self._finish("failed", f"{self._url}: not one image in it can be decoded")
        elif self._loop:
            self._recorded.again()
        else:
            self._finish("ended", "")

    def _rest(self, error: str) -> None:
        """Waits before the next try, longer each time, and while too many reads hang."""
        until = time.monotonic() + self._backoff.next()
        with self._changed:
            self._enter("stale" if self._state == "stale" else "connecting", error)
        while not self._stopping:
            now = time.monotonic()
            if self._give_up_after is not None and now - self._heard >= self._give_up_after:
                return self._finish("failed", error)
            self._stuck = [reader for reader in self._stuck if not reader.done]
            if now >= until and len(self._stuck) < MOST_STUCK:
                return None
            with self._changed:
                self._note_staleness()
                self._changed.wait_for(lambda: self._stopping, min(max(until - now, 0.05), self._stale_after / 4))

    # What the reader's thread does.

    def _accept(self, reader: Reader, pixels: Pixels, seconds: float) -> bool:
        """Takes an image; False when the reader is not wanted any more."""
        with self._changed:
            if not self._wanted(reader):
                return False
            dropping = self._pace or bool(reader.live)
            stamp = self._stamp(reader, seconds)
            if self._pace and self._recorded is not None:
                self._changed.wait_for(lambda: not self._wanted(reader), self._recorded.wait(stamp))
            if not dropping:
                self._changed.wait_for(lambda: len(self._queue) < READ_AHEAD or not self._wanted(reader))
            if not self._wanted(reader):
                return False
            if dropping:
                self._dropped += len(self._queue)
                self._queue.clear()
            self._queue.append(Frame(self.name, self._frames, stamp, pixels))
            self._count(reader, stamp)
            self._enter("live", "")
            self._changed.notify_all()
        return True

    def _wanted(self, reader: Reader) -> bool:
        return self._reader is reader and not self._stopping

    def _stamp(self, reader: Reader, seconds: float) -> float:
        if reader.live:
            return self._clock.now()
        if self._recorded is None:
            self._recorded = RecordedClock(self._clock.now())
        return self._recorded.at(seconds)

    def _count(self, reader: Reader, stamp: float) -> None:
        now = time.monotonic()
        self._live = bool(reader.live)
        if not reader.frames:
            self._reconnects += self._live and self._frames > 0
            self._connected = now
        elif now - self._connected >= self._stale_after:
            self._backoff.reset()  # it has been well for a while
        self._frames += 1
        self._last_frame = stamp
        self._heard = now

    # What both do.

    @property
    def _over(self) -> bool:
        return self._stopping or self._state in ("failed", "ended")

    def _enter(self, state: State, error: str) -> None:
        """Under the lock."""
        if (state, error) == (self._state, self._error):
            return
        if state != self._state:
            self._since = self._wall()
        self._state, self._error = state, error
        log.debug("camera %s: %s %s", self._shown, state, error)
        self._changed.notify_all()

    def _finish(self, state: State, error: str) -> None:
        with self._changed:
            self._enter(state, error)

    def _nudge(self) -> None:
        with self._changed:
            self._changed.notify_all()
