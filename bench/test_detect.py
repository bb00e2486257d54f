"""Finding and following people on a CPU: what each step of a frame costs before anybody is embedded.

Frames are synthetic streets. OpenCV is kept to one thread, as where each camera has its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice

import cv2
import numpy as np
import pytest

from deploy.appearance import qualities
from deploy.detect import RENDERED, open_detector
from deploy.detect.hog import HogDetector
from deploy.detect.manifest import DetectorInput
from deploy.detect.onnx import prepared
from deploy.frames import Boxes, Detections, Frame, Pixels
from deploy.track import Tracker
from flat_street import SCALE, film_camera, walks_of
from pat.synthetic.flat.domains import style_named
from pat.synthetic.flat.wardrobe import identities

SIZES = [(576, 768), (720, 1280)]
IDS = [f"{width}x{height}" for height, width in SIZES]
PEOPLE = 20


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    yield
    cv2.setNumThreads(before)


def street(height: int, width: int) -> Pixels:
    """A frame [height, width, 3] with six people in each strip of the street."""
    style = style_named("source")
    walks = walks_of(style, 3, list(islice(identities(style, 0), 6)), 0)
    walks = [replace(walk, begins=walk.begins - 8) for walk in walks]
    (strip,) = film_camera(style, 3, walks, 1, SCALE, lambda line: None)
    rows, columns = -(-height // strip.shape[0]), -(-width // strip.shape[1])
    return np.ascontiguousarray(np.tile(strip, (rows, columns, 1))[:height, :width])


def people(height: int, width: int, time: float = 0.0) -> Boxes:
    """Boxes [20, 4] of people who walk side by side, some before others."""
    generator = np.random.default_rng(0)
    tall = generator.uniform(80, 200, PEOPLE)
    left = generator.uniform(0, width - 100, PEOPLE) + 10 * time * generator.choice([-1, 1], PEOPLE)
    top = generator.uniform(0, height - 200, PEOPLE)
    return np.stack((left, top, left + 0.4 * tall, top + tall), axis=1).astype(np.float32)


@pytest.mark.benchmark(group="detect")
@pytest.mark.parametrize("size", SIZES, ids=IDS)
def test_hog(benchmark, size) -> None:
    detector, pixels = HogDetector(), street(*size)
    found = benchmark.pedantic(detector.detect, args=(pixels,), rounds=10, warmup_rounds=1)
    assert len(found) >= 2
    tell(benchmark, people=len(found))


@pytest.mark.benchmark(group="detect")
@pytest.mark.parametrize("size", SIZES, ids=IDS)
def test_the_detector_in_the_box(benchmark, size) -> None:
    """Preparing the frame, the network, and its boxes."""
    detector, pixels = open_detector(RENDERED, threads=1), street(*size)
    benchmark.pedantic(detector.detect, args=(pixels,), rounds=30, warmup_rounds=3)
    tell(benchmark)


@pytest.mark.benchmark(group="detect")
@pytest.mark.parametrize("size", SIZES, ids=IDS)
def test_preparing_a_frame_for_a_model(benchmark, size) -> None:
    wanted = DetectorInput("images", 640, 640, "BGR", "letterbox", 1.0, (0, 0, 0), (1, 1, 1))
    pixels = street(*size)
    image, _ = benchmark.pedantic(prepared, args=(pixels, wanted), rounds=50, warmup_rounds=3)
    assert image.shape == (1, 3, 640, 640)
    tell(benchmark)


@pytest.mark.benchmark(group="track")
def test_following_20_people(benchmark) -> None:
    tracker, pixels = Tracker(rate=10), np.zeros((720, 1280, 3), dtype=np.uint8)
    frames = iter(range(1_000_000))

    def step() -> int:
        index = next(frames)
        found = Detections(people(720, 1280, time=(index % 40) / 10), np.full(PEOPLE, 0.9, np.float32))
        return len(tracker.update(found, Frame("a", index, index / 10, pixels)))

    tracked = benchmark.pedantic(step, rounds=200, warmup_rounds=5)
    assert tracked >= 10
    tell(benchmark, people=PEOPLE)


@pytest.mark.benchmark(group="quality")
def test_quality_of_20_views(benchmark) -> None:
    pixels, boxes = street(720, 1280), people(720, 1280)
    scores = np.full(PEOPLE, 0.9, np.float32)
    values = benchmark.pedantic(qualities, args=(pixels, boxes, scores), rounds=100, warmup_rounds=3)
    assert (values > 0).sum() >= 10
    tell(benchmark, boxes=PEOPLE)


def tell(benchmark, **facts: int) -> None:
    """Milliseconds (median) of a call, and for each of the things counted in `facts`."""
    if benchmark.stats is None:  # with --benchmark-disable
        return
    median = 1e3 * benchmark.stats.stats.median
    benchmark.extra_info["ms"] = round(median, 3)
    for name, count in facts.items():
        benchmark.extra_info[name] = count
        benchmark.extra_info[f"ms / {name}"] = round(median / count, 4)
