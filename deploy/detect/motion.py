"""Where in an image it is worth looking for people: where something moves, and where people were a moment ago.

A fixed camera shows the same street nearly all the time, and looking at all of it is what finding people costs.
The background is learned (MOG2, Zivkovic 2004, of OpenCV) from a small copy of each image; a look at the whole
image comes now and then, for whoever stands still.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from deploy.detect import Detector
from deploy.frames import Boxes, Detections, Frame, Pixels, clipped, ious

COLUMNS = 320
"""Width at which motion is looked for."""
LEARNED_IN = 20.0
"""Seconds after which something new is mostly background."""
VARIANCE = 25.0
"""Squared distance to the background, in its variances, from which on a pixel is another thing."""
SPECK = 12
"""Pixels of the small copy that move together, below which it is noise."""
ROOM = 0.15
"""Share of its height by which a region goes on beyond what moves, up and down and to the sides: a detector wants
to see some ground around a person, and perhaps not all of one has moved."""
LEAST_ROOM = 6
"""Pixels of the small copy."""
RECENT = 0.5
"""Seconds for which it is looked where somebody was found, whether anything moves there or not."""
STILL = 0.05
"""Share of a box that moves, below which what is found there is a poster or a pillar, unless somebody came."""
SURE = 0.7
"""Score from which on somebody is believed to stand where nothing moves. Of 185 false alarms of HOG on two streets
of rendered people 95 % were below, of the people it found half were above."""
STANDS = 5.0
"""Seconds for which it is remembered where somebody was, who may stand there."""
SAME = 0.3
"""IoU of two boxes of somebody who stands."""
THING = 0.8
"""IoU of two boxes of one thing that is no person."""
REMEMBERED = 60.0
"""Seconds for which it is remembered where such a thing was found."""
MOST = 0.7
"""Share of the image from which on all of it is looked at."""


class MotionGate:
    """Regions of one camera's images; used by one thread.

    `full_look` are the seconds between two looks at a whole image; 0 always looks at all of it.
    """

    def __init__(self, full_look: float) -> None:
        self._full_look = full_look
        self._start_over()

    def _start_over(self) -> None:
        self._background = cv2.createBackgroundSubtractorMOG2(varThreshold=VARIANCE, detectShadows=False)
        self._shape: tuple[int, ...] = ()
        self._time = self._looked = -math.inf
        self._found: list[tuple[float, Boxes]] = []  # when, and where
        self._things: list[tuple[float, Boxes]] = []  # when and where somebody was found who is none
        self._motion, self._zoom = np.zeros((1, 1), dtype=np.uint8), 1.0

    def find(self, detector: Detector, frame: Frame) -> Detections:
        """People in a frame, the surest first, found by a detector where it is worth looking."""
        return self.people(frame, detector.detect(frame.pixels, self.regions(frame)))

    def regions(self, frame: Frame) -> Boxes | None:
        """Where to look: boxes [n, 4] of whole pixels that may overlap; None: everywhere."""
        if self._full_look == 0:
            return None
        if frame.pixels.shape != self._shape or frame.time < self._time:
            self._start_over()
        self._shape = frame.pixels.shape
        height, width = self._shape[:2]
        zoom = min(COLUMNS / width, 1.0)
        moving = self._moving(frame.pixels, zoom, frame.time - self._time)
        self._time, self._motion, self._zoom = frame.time, moving, zoom
        self._found = [each for each in self._found if frame.time - each[0] <= STANDS]
        if frame.time - self._looked >= self._full_look:
            self._looked = frame.time
            return None
        wanted = np.zeros(moving.shape, dtype=np.uint8)
        count, _, stats, _ = cv2.connectedComponentsWithStats(moving)
        for left, top, columns, rows, area in stats[1:count]:
            if area >= SPECK:
                _mark(wanted, left, top, left + columns, top + rows)
        for time, boxes in self._found:
            if frame.time - time > RECENT:
                continue
            for left, top, right, bottom in boxes * zoom:
                _mark(wanted, math.floor(left), math.floor(top), math.ceil(right), math.ceil(bottom))
        if wanted.mean() > MOST:
            return None
        count, _, stats, _ = cv2.connectedComponentsWithStats(wanted)
        corners = stats[1:count, :4].astype(np.float32)  # [n, 4] left, top, width, height
        edges = np.concatenate((corners[:, :2], corners[:, :2] + corners[:, 2:]), axis=1) / zoom
        inside, _ = clipped(np.round(edges), height, width)
        return inside

    def people(self, frame: Frame, found: Detections) -> Detections:
        """Those found that move, stand where somebody came, or are sure to be people; the next images are looked
        at there too. What was found before where nobody had come is no person when somebody passes it, either."""
        if self._full_look == 0 or not len(found):
            return found
        before = [boxes for _, boxes in self._found]
        moving = self._moves(found.boxes) >= STILL
        kept = moving.copy()
        if before:
            kept |= ious(found.boxes, np.concatenate(before)).max(axis=1) >= SAME
        self._things = [each for each in self._things if frame.time - each[0] <= REMEMBERED]
        if self._things:
            things = np.concatenate([boxes for _, boxes in self._things])
            kept &= ious(found.boxes, things).max(axis=1) < THING
        kept |= found.scores >= SURE
        if (still := ~kept & ~moving).any():  # what is only passed by does not stay a thing for ever
            self._things.append((frame.time, found.boxes[still]))
        people = Detections(found.boxes[kept], found.scores[kept])
        if len(people):
            self._found.append((frame.time, people.boxes))
        return people

    def _moves(self, boxes: Boxes) -> NDArray[np.float32]:
        """Share of each box [n] in which something moves."""
        height, width = self._motion.shape
        edges = np.round(boxes * self._zoom).astype(int)
        left, top = np.minimum(edges[:, 0], width - 1), np.minimum(edges[:, 1], height - 1)
        right, bottom = np.maximum(edges[:, 2], left + 1), np.maximum(edges[:, 3], top + 1)
        right, bottom = np.minimum(right, width), np.minimum(bottom, height)
        total = cv2.integral((self._motion > 0).astype(np.uint8))
        moving = total[bottom, right] - total[top, right] - total[bottom, left] + total[top, left]
        return np.asarray(moving / ((right - left) * (bottom - top)), dtype=np.float32)

    def _moving(self, pixels: Pixels, zoom: float, seconds: float) -> np.ndarray:
        """Where the small copy u8 [h, w] differs from the background: 255."""
        height, width = pixels.shape[:2]
        size = max(round(width * zoom), 1), max(round(height * zoom), 1)
        small = cv2.resize(np.ascontiguousarray(pixels), size, interpolation=cv2.INTER_AREA)
        rate = 1.0 if math.isinf(seconds) else 1 - math.exp(-seconds / LEARNED_IN)
        moving = self._background.apply(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), learningRate=rate)
        if math.isinf(seconds):  # the first image is all new, and nothing in it has moved
            moving[:] = 0
        return np.asarray(cv2.morphologyEx(moving, cv2.MORPH_CLOSE, np.ones((5, 3), np.uint8)))


def _mark(wanted: np.ndarray, left: int, top: int, right: int, bottom: int) -> None:
    """A region, with room around it."""
    room = max(round(ROOM * (bottom - top)), LEAST_ROOM)
    wanted[max(top - room, 0) : bottom + room, max(left - room, 0) : right + room] = 1
