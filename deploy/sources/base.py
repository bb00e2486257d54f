"""What every source of images offers, and the two ways in which one fails."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Iterator

from deploy.closing import Closing
from deploy.frames import Pixels
from pat.base.errors import Failure


class SourceLost(Failure):
    """Nothing comes from the source at the moment; another try may succeed.

    Refused or silent connections, streams that end, a network that is down. What can never work (no such file,
    not a video, a password that is wrong) is a `UserError` instead.
    """


class Source(Closing):
    """Images in order, each with the seconds since the source's start: a context manager and an iterator.

    Those seconds never decrease. A recorded source gives them by its own clock, a live one by when the image
    arrived, since the clocks of cameras cannot be trusted.

    Iterating raises SourceLost when a live source stops, and Failure when a recorded one cannot be read on.
    Only `stop` may be called by another thread than the one that opened the source.
    """

    def __init__(self, name: str, *, live: bool) -> None:
        self.name = name
        """The URL as it may be shown: without password."""
        self.live = live
        """Goes on without end, at its own pace."""
        self.broken = 0
        """Images or packets that could not be decoded, so far."""
        self.heard = time.monotonic()
        """When the last image came, those left out for the rate included: how fresh the source is."""
        self.stopping = False

    @abstractmethod
    def __iter__(self) -> Iterator[tuple[Pixels, float]]:
        """Images uint8 [H, W, 3] RGB, contiguous, and their seconds. The size may change on the way."""

    @abstractmethod
    def close(self) -> None:
        """Gives file and connection back. Called once, by the thread that reads."""

    def stop(self) -> None:
        """Asks the iteration to end at the next packet or image; from any thread."""
        self.stopping = True
