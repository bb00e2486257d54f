"""A GStreamer pipeline through OpenCV: the hardware decoders of a Jetson."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

import cv2
import numpy as np

from deploy.frames import Pixels
from deploy.sources.base import Source, SourceLost
from deploy.sources.names import shown
from deploy.sources.timing import StreamClock, Thinner
from pat.base.errors import UserError

WITHOUT = (
    "this OpenCV has no GStreamer (the opencv-python wheel never has): on a Jetson uninstall it and use JetPack's "
    "python3-opencv in an environment made with --system-site-packages, or build OpenCV with -D WITH_GSTREAMER=ON"
)


def has_gstreamer() -> bool:
    return re.search(r"GStreamer:\s+YES", cv2.getBuildInformation()) is not None


class Pipeline(Source):
    """`elements ! appsink`. Live unless it begins at a file.

    OpenCV gives a pipeline no time limit that can be set in all its versions (its own is 30 s): the camera's
    watchdog watches over it.
    """

    def __init__(self, pipeline: str, *, rate: float, live: bool | None) -> None:
        super().__init__(shown(f"gst:{pipeline}"), live="filesrc" not in pipeline if live is None else live)
        if not re.search(r"!\s*appsink\b", pipeline):
            raise UserError(f"{self.name}: must end in '! videoconvert ! video/x-raw,format=BGR ! appsink'")
        if not has_gstreamer():
            raise UserError(f"{self.name}: {WITHOUT}")
        self._capture = cv2.VideoCapture(pipeline, cv2.CAP_GSTREAMER)
        if not self._capture.isOpened():
            raise SourceLost(f"{self.name}: does not start; try it with gst-launch-1.0 and fakesink for appsink")
        self._clock = StreamClock(self._capture.get(cv2.CAP_PROP_FPS))
        self._thinner = Thinner(rate)

    def __iter__(self) -> Iterator[tuple[Pixels, float]]:
        start = time.monotonic()
        while not self.stopping:
            if not self._capture.grab():
                if self.live:
                    raise SourceLost(f"{self.name}: the pipeline ended; is the camera there?")
                return
            self.heard = time.monotonic()
            position = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
            seconds = self.heard - start if self.live else self._clock.seconds(position)
            if not self._thinner.keeps(seconds):
                continue
            there, image = self._capture.retrieve()
            if not there:
                self.broken += 1
                continue
            yield as_rgb(np.asarray(image, dtype=np.uint8)), seconds

    def close(self) -> None:
        self._capture.release()


def as_rgb(image: Pixels) -> Pixels:
    """RGB of what an appsink gave: BGR [H, W, 3], BGRx [H, W, 4] or grey [H, W]."""
    if image.ndim == 2 or image.shape[2] == 1:
        code = cv2.COLOR_GRAY2RGB
    else:
        code = cv2.COLOR_BGR2RGB if image.shape[2] == 3 else cv2.COLOR_BGRA2RGB
    return np.asarray(cv2.cvtColor(image, code), dtype=np.uint8)
