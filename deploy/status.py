"""How a camera is doing, for people and metrics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["connecting", "live", "stale", "failed", "ended"]
"""See `deploy.camera.Camera`."""


@dataclass(frozen=True, slots=True)
class CameraStatus:
    """A camera at one moment, for people and metrics."""

    name: str
    url: str
    """Without password."""
    state: State
    since: float
    """Seconds since the epoch at which the state began."""
    frames: int
    """Read so far; `Frame.index` counts these."""
    dropped: int
    """Of these, overtaken by a newer one before somebody took them."""
    broken: int
    """Packets or images that could not be decoded."""
    reconnects: int
    """Times that frames came again after a loss."""
    last_frame: float | None
    """Seconds since the epoch, by the frame's own time."""
    error: str
    """Why it is not live; empty when it is."""
