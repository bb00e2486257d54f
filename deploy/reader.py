"""One connection of a camera, read from opening to its end: a thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from deploy.frames import Pixels
from deploy.sources import Source


class Reader(threading.Thread):
    """Opens a source and hands its images on until it ends, fails, or is not wanted any more.

    A read may hang in a driver or in a library whatever its time limits say. So nobody waits for its thread: the
    camera gives the reader up, and it ends (and closes its source) when the read returns.

    Args:
        open: makes the source, in this thread.
        accept: takes (this reader, pixels, seconds); False tells it to end.
        finished: called at the end.
    """

    def __init__(
        self,
        name: str,
        open: Callable[[], Source],
        accept: Callable[[Reader, Pixels, float], bool],
        finished: Callable[[], None],
    ) -> None:
        super().__init__(name=f"reader of {name}", daemon=True)
        self._open, self._accept, self._finished = open, accept, finished
        self._source: Source | None = None
        self._unwanted = False
        self._begun = time.monotonic()
        self.frames = 0
        """Images that were accepted."""
        self.error: Exception | None = None
        self.done = False
        """Set last, when `error` and the counts will not change any more and the source is closed."""

    def run(self) -> None:
        try:
            with self._open() as source:
                self._source = source
                if not self._unwanted:  # opening may have taken longer than anybody waited
                    self._read(source)
        except Exception as error:  # judged by the camera, whatever it is
            self.error = error
        finally:
            self.done = True
            self._finished()

    def _read(self, source: Source) -> None:
        for pixels, seconds in source:
            if not self._accept(self, pixels, seconds):
                return
            self.frames += 1

    def stop(self) -> None:
        """Asks it to end at the next image."""
        self._unwanted = True
        if self._source is not None:
            self._source.stop()

    @property
    def live(self) -> bool | None:
        """Whether the source goes on without end; None while it is being opened."""
        return None if self._source is None else self._source.live

    @property
    def broken(self) -> int:
        return 0 if self._source is None else self._source.broken

    @property
    def heard(self) -> float:
        """Monotonic time of the last sign of life: the start, or the last image (skipped ones too)."""
        return self._begun if self._source is None else max(self._begun, self._source.heard)
