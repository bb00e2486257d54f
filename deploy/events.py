"""What the process tells the world: one JSON object a line, in a rotated file or on standard output."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
import threading
import uuid
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from io import TextIOWrapper
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any, Literal

from deploy.closing import Closing
from deploy.metrics import Metrics
from pat.base.errors import UserError

log = logging.getLogger(__name__)

SCHEMA = 1
"""Version of the fields; it changes when one of them goes away or comes to mean something else."""
Kind = Literal["recognised", "new", "unknown", "revised", "left", "camera", "elsewhere"]


@dataclass(frozen=True)
class Event:
    """Something that happened; fields that do not apply are left out of the line."""

    event: Kind
    """recognised: the track is a known identity; new: it became a new one; unknown: it is none and stays none;
    revised: it is somebody else than `before`, as more views have shown; left: the track has ended; camera: a
    source changed its state; elsewhere: who is new here was seen at another site before."""
    time: float
    """Seconds since the epoch, of the frame."""
    camera: str
    track: int | None = None
    """Number of the track, unique within the process."""
    identity: str | None = None
    score: float | None = None
    """Cosine to the nearest entry of the gallery."""
    box: tuple[int, int, int, int] | None = None
    """(x0, y0, x1, y1) in pixels of the frame."""
    size: tuple[int, int] | None = None
    """(width, height) of the frame in pixels."""
    frame: int | None = None
    views: int | None = None
    """Views that were embedded."""
    stored: bool | None = None
    """The gallery has acknowledged the vector: it survives a killed process."""
    before: str | None = None
    """The identity that was told before."""
    key: str | None = None
    """The person's; after a new name or a merge it is another, to which this one leads."""
    there: Mapping[str, Any] | None = None
    """Who that is at the other site: site, key, name, camera, time."""
    state: str | None = None
    error: str | None = None
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    """Of this event: whoever gets it twice can tell."""

    def values(self) -> dict[str, Any]:
        """What is known, with the schema's version."""
        known = {key: value for key, value in asdict(self).items() if value is not None}
        return {"schema": SCHEMA, "id": known.pop("id"), **known}

    def line(self) -> str:
        """JSON on one line, control characters escaped."""
        return json.dumps(self.values())


class _Private(RotatingFileHandler):
    """Files for their owner's eyes: they say who was where. Where none is kept aside, the file begins anew."""

    def doRollover(self) -> None:
        if not self.backupCount:
            os.truncate(self.baseFilename, 0)
        super().doRollover()

    def _open(self) -> TextIOWrapper:
        descriptor = os.open(self.baseFilename, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        return TextIOWrapper(os.fdopen(descriptor, "ab"), encoding=self.encoding)


class EventLog(Closing):
    """Writes events; safe to call from any thread; a context manager.

    `path` "-" is standard output, "" is nowhere. `listener` hears every event, on the thread that tells it, and
    must not block. A file is flushed at every event, and put aside at `rotate_bytes`. An event that
    cannot be written (full disk) is counted and logged once until writing works again: the process goes on.

    Raises UserError when the file cannot be opened.
    """

    def __init__(
        self,
        path: str,
        metrics: Metrics,
        *,
        rotate_bytes: int,
        keep: int,
        listener: Callable[[Event], None] = lambda event: None,
    ) -> None:
        self._metrics = metrics
        self._listener = listener
        self._lock = threading.Lock()
        self._lost = 0
        self.nobody_reads = False
        """The reader of standard output went away: nothing more is written."""
        self._file = None if path in ("-", "") else Path(path)
        self._handler: logging.StreamHandler | None = None
        if path == "":
            return
        if self._file is None:
            self._handler = logging.StreamHandler(sys.stdout)
        else:
            try:
                self._file.parent.mkdir(parents=True, exist_ok=True)
                self._handler = _Private(self._file, "a", rotate_bytes, keep, encoding="utf-8")
                _end_last_line(self._file)
            except OSError as error:
                raise UserError(f"cannot write events to {path}: {error.strerror or error}") from error
        self._handler.handleError = self._failed  # type: ignore[method-assign]

    def tell(self, event: Event) -> None:
        """Write one event."""
        self._listener(event)
        self._metrics.events.labels(event.event).inc()
        if self._handler is None or self.nobody_reads:
            return
        record = logging.LogRecord("events", logging.INFO, "", 0, event.line(), None, None)
        with self._lock:
            lost = self._lost
            if lost and self._file is not None:
                with contextlib.suppress(OSError):
                    _end_last_line(self._file)
            self._handler.handle(record)
            if lost and self._lost == lost:
                log.warning("events are written again; %d were lost", lost)
                self._lost = 0

    def close(self) -> None:
        with self._lock:
            if self._handler is not None and self._handler.stream is not sys.stdout:
                self._handler.close()

    def _failed(self, record: logging.LogRecord) -> None:
        """Called by the handler inside its exception handler."""
        error = sys.exc_info()[1]
        if isinstance(error, BrokenPipeError):
            self.nobody_reads = True
            return
        self._metrics.events_lost.inc()
        if not self._lost:
            log.error("events cannot be written: %s", error)
        self._lost += 1
        if self._file is not None and self._handler is not None:
            # What is left in the stream's buffer would come out as half a line later.
            stream, self._handler.stream = self._handler.stream, None
            with contextlib.suppress(OSError, AttributeError):
                stream.close()


def _end_last_line(path: Path) -> None:
    """A killed process may have left half a line: the next event starts on its own."""
    with open(path, "rb+") as file:
        if file.seek(0, os.SEEK_END) and file.seek(-1, os.SEEK_END) >= 0 and file.read(1) != b"\n":
            file.write(b"\n")
