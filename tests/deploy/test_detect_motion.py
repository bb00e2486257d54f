"""deploy.detect.motion: people are looked for where something moves, and now and then everywhere."""

from __future__ import annotations

import numpy as np
import pytest

from deploy import assembly
from deploy.detect.motion import MotionGate
from deploy.frames import Detections, Frame
from deploy.settings import DetectSettings, ProcessSettings

NOISE = np.random.default_rng(0).integers(60, 200, (270, 480, 3), dtype=np.uint8)
BOX = np.array([[200, 80, 240, 180]], dtype=np.float32)


def frame(index: int, *, left: int | None = None, rate: float = 10, pixels=NOISE) -> Frame:
    """A still street of noise, with somebody whose left edge is at a column."""
    pixels = pixels.copy()
    if left is not None:
        pixels[80:180, left : left + 40] = 255 - pixels[80:180, left : left + 40]
    return Frame("gate", index, 1e9 + index / rate, pixels)


class Everywhere:
    """A detector that finds one person wherever it looks, and remembers where that was."""

    def __init__(self) -> None:
        self.looked: list = []

    def detect(self, pixels, regions=None):
        self.looked.append(regions)
        boxes = BOX if regions is None or len(regions) else BOX[:0]
        return Detections(boxes, np.full(len(boxes), 0.9, dtype=np.float32))


def holds(region, left, top, right, bottom) -> bool:
    return bool(region[0] <= left and region[1] <= top and region[2] >= right and region[3] >= bottom)


def test_the_first_image_is_looked_at_whole_and_then_nothing_moves():
    gate = MotionGate(2.0)
    assert gate.regions(frame(0)) is None
    for index in range(1, 20):
        assert len(gate.regions(frame(index))) == 0
    assert gate.regions(frame(20)) is None  # two seconds have passed
    assert len(gate.regions(frame(21))) == 0


def test_it_goes_by_seconds_and_not_by_images():
    gate = MotionGate(2.0)
    whole = [index for index in range(12) if gate.regions(frame(index, rate=1)) is None]
    assert whole == [0, 2, 4, 6, 8, 10]


def test_who_moves_is_in_a_region_of_the_image():
    gate = MotionGate(100.0)
    for index in range(10):
        gate.regions(frame(index))
    for index in range(10, 20):
        left = 100 + 5 * index
        regions = gate.regions(frame(index, left=left))
        assert any(holds(region, left, 80, left + 40, 180) for region in regions)
        area = np.prod(regions[:, 2:] - regions[:, :2], axis=1).sum()
        assert area < 0.4 * NOISE.shape[0] * NOISE.shape[1]


def test_where_somebody_was_is_looked_at_for_a_second():
    gate, detector = MotionGate(100.0), Everywhere()
    detector_finds = [len(gate.find(detector, frame(index))) for index in range(4)]
    assert detector_finds == [1, 1, 1, 1]  # standing still: found again where it was found
    assert holds(detector.looked[3][0], *BOX[0])
    for index in range(4):
        gate.people(frame(index), Detections(BOX[:0], np.zeros(0, np.float32)))
    assert len(gate.regions(frame(30))) == 0


def test_when_everything_changes_all_of_it_is_looked_at():
    gate = MotionGate(100.0)
    for index in range(10):
        gate.regions(frame(index))
    assert gate.regions(frame(10, pixels=255 - NOISE)) is None


def test_an_image_of_another_size_starts_over():
    gate = MotionGate(100.0)
    gate.regions(frame(0))
    assert len(gate.regions(frame(1))) == 0
    assert gate.regions(frame(2, pixels=NOISE[:200])) is None
    assert gate.regions(frame(1, pixels=NOISE[:200])) is None  # a clock that was set back


@pytest.mark.parametrize("shape", [(1, 1), (1, 500), (2, 2), (7, 900)])
def test_any_shape_of_image(shape):
    gate = MotionGate(1.0)
    for index in range(3):
        gate.regions(Frame("gate", index, index / 10, np.zeros((*shape, 3), np.uint8)))


def test_zero_looks_at_everything():
    gate = MotionGate(0.0)
    assert [gate.regions(frame(index)) for index in range(5)] == [None] * 5


def test_a_poster_is_no_person_and_who_stops_is_one():
    gate = MotionGate(100.0)

    def found(index: int, boxes, score: float, **who) -> int:
        shown = frame(index, **who)
        gate.regions(shown)
        scores = np.full(len(boxes), score, np.float32)
        return len(gate.people(shown, Detections(np.array(boxes, np.float32), scores)))

    poster = [[20, 20, 60, 120]]
    assert [found(index, poster, 0.5) for index in range(5)] == [0] * 5
    assert found(5, poster, 0.8) == 1  # sure to be somebody
    walks = [found(6 + step, [[x, 80, x + 40, 180]], 0.5, left=x) for step, x in enumerate(range(100, 160, 10))]
    assert walks == [1] * 6
    assert found(12, poster, 0.5, left=50) == 0  # though somebody passes it
    stands = [found(13 + second * 10, [[150, 80, 190, 180]], 0.5, left=150) for second in range(60)]
    assert stands == [1] * 60


def test_who_was_there_first_and_moves_is_a_person_after_a_while():
    gate, noise = MotionGate(100.0), np.random.default_rng(0)

    def found(index: int, moving: bool) -> int:
        shown = frame(index, left=100)
        if moving:
            shown.pixels[80:180, 100:140] = noise.integers(0, 256, (100, 40, 3))
        gate.regions(shown)
        box = np.array([[100, 80, 140, 180]], np.float32)
        return len(gate.people(shown, Detections(box, np.array([0.6], np.float32))))

    assert [found(index, False) for index in range(5)] == [0] * 5
    assert [found(10 * second, True) for second in (30, 50, 65)] == [0, 0, 1]


def test_each_camera_has_a_gate_of_its_own_and_all_share_the_detector(monkeypatch):
    opened = []

    def open_detector(what, **more):
        opened.append(Everywhere())
        return opened[-1]

    monkeypatch.setattr(assembly, "open_detector", open_detector)
    finder = assembly.new_finder(ProcessSettings(detect=DetectSettings(full_look=100.0)))
    finds = [finder(camera) for camera in ("gate", "hall")]
    for index in range(2):
        for find in finds:
            find(frame(index))
    (detector,) = opened
    looks = detector.looked
    assert len(looks) == 4
    assert sum(regions is None for regions in looks) == 2  # the first image of each camera, and no other
