"""deploy.detect: OpenCV's HOG on synthetic people, what comes of raw boxes, and how a detector is opened."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest

from deploy.detect import open_detector
from deploy.detect.boxes import in_frame, nested, suppressed
from deploy.detect.hog import HogDetector
from flat_street import SCALE, film_camera, walks_of
from pat.base.errors import UserError
from pat.synthetic.flat.domains import style_named
from pat.synthetic.flat.wardrobe import identities


def iou(a, b) -> float:
    low, high = np.maximum(a[:2], b[:2]), np.minimum(a[2:], b[2:])
    common = np.prod(np.maximum(high - low, 0))
    return float(common / (np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - common))


@pytest.fixture(scope="module")
def street() -> list[tuple[np.ndarray, list[np.ndarray]]]:
    """Frames with the true boxes of the people in them."""
    style = style_named("source")
    walks = [
        replace(walk, begins=walk.begins - 6)
        for walk in walks_of(style, 3, list(islice(identities(style, 0), 6)), 0)
    ]
    truth: list[dict] = []
    frames = list(film_camera(style, 3, walks, 12, SCALE, truth.append))
    return [
        (pixels, [np.array(line["box"], float) for line in truth if line["frame"] == number])
        for number, pixels in enumerate(frames)
    ]


def test_hog_finds_the_people_of_the_synthetic_street(street):
    detector = HogDetector()
    found = people = false = 0
    for pixels, boxes in street:
        detections = detector.detect(pixels)
        assert detections.boxes.dtype == detections.scores.dtype == np.float32
        assert (np.diff(detections.scores) <= 0).all()
        assert ((detections.scores > 0) & (detections.scores < 1)).all()
        people += len(boxes)
        found += sum(any(iou(box, each) > 0.5 for each in detections.boxes) for box in boxes)
        false += sum(not any(iou(box, each) > 0.3 for box in boxes) for each in detections.boxes)
    assert people >= 24
    assert found >= 0.6 * people
    assert false <= 0.25 * people


def test_hog_maps_boxes_back_from_its_working_width(street):
    """The same image twice as large, and half as wide to work at: the boxes are in pixels of the frame."""
    pixels, _ = street[0]
    small = HogDetector().detect(pixels)
    large = HogDetector().detect(np.repeat(np.repeat(pixels, 2, axis=0), 2, axis=1))
    assert len(small) >= 1
    assert any(iou(2 * small.boxes[0], each) > 0.8 for each in large.boxes)


def test_a_higher_threshold_leaves_the_surer_ones(street):
    pixels, _ = street[0]
    loose, strict = HogDetector(threshold=0.2).detect(pixels), HogDetector(threshold=0.7).detect(pixels)
    assert len(loose) > len(strict) >= 1
    assert (strict.scores >= 0.7 - 1e-6).all()
    assert {tuple(box) for box in strict.boxes} <= {tuple(box) for box in loose.boxes}


def test_hog_takes_frames_of_any_size_one_after_the_other(street):
    detector = HogDetector()
    for shape in [(1, 1), (10, 10), (63, 400), (500, 5), (40, 9000), (2000, 2), (128, 64), (0, 0), (0, 9)]:
        detections = detector.detect(np.full((*shape, 3), 90, dtype=np.uint8))
        assert detections.boxes.shape == (0, 4)
        assert detections.scores.shape == (0,)
    assert len(detector.detect(street[0][0])) >= 1


def test_hog_takes_views_that_are_not_contiguous(street):
    pixels, _ = street[0]
    mirrored = HogDetector().detect(pixels[:, ::-1])
    assert np.array_equal(mirrored.boxes, HogDetector().detect(np.ascontiguousarray(pixels[:, ::-1])).boxes)
    assert len(mirrored) >= 1


def test_overlapping_boxes_leave_the_surest():
    boxes = np.array([[0, 0, 10, 20], [1, 0, 11, 20], [40, 0, 50, 20], [0, 0, 10, 9]], dtype=np.float32)
    scores = np.array([0.5, 0.9, 0.3, 0.8], dtype=np.float32)
    assert suppressed(boxes, scores, 0.45).tolist() == [1, 3, 2]
    assert suppressed(boxes[:0], scores[:0], 0.45).tolist() == []


def test_a_box_in_a_surer_one_or_around_it_is_nested():
    surest_first = np.array(
        [[10, 10, 20, 30], [12, 12, 18, 20], [0, 0, 60, 60], [30, 40, 50, 55], [18, 10, 28, 30]], dtype=np.float32
    )
    # The third holds the first; the fourth lies in the third alone, which is left out itself.
    assert nested(surest_first, 0.8).tolist() == [False, True, True, False, False]


def test_boxes_are_clipped_and_those_outside_left_out():
    boxes = np.array([[-5, -5, 10, 10], [90, 0, 200, 30], [120, 0, 140, 30], [4, 4, 4.5, 40]], dtype=np.float32)
    detections = in_frame(boxes, np.array([0.2, 0.7, 0.9, 0.8], dtype=np.float32), 50, 100)
    assert detections.boxes.tolist() == [[90, 0, 100, 30], [0, 0, 10, 10]]
    assert detections.scores.tolist() == pytest.approx([0.7, 0.2])


def test_one_hog_serves_the_threads_of_all_cameras(street):
    views = [pixels[: pixels.shape[0] - 40 * (number % 2)] for number, (pixels, _) in enumerate(street)]
    alone, shared = [HogDetector().detect(pixels) for pixels in views], HogDetector()
    with ThreadPoolExecutor(8) as pool:
        for wanted, found in zip(alone * 4, pool.map(shared.detect, views * 4), strict=True):
            assert np.array_equal(found.boxes, wanted.boxes)
            assert np.array_equal(found.scores, wanted.scores)


def test_hog_opens_by_name():
    assert isinstance(open_detector("hog", threshold=0.6), HogDetector)


def test_hog_may_be_given_a_width():
    detector = open_detector("hog:640")
    assert isinstance(detector, HogDetector)
    assert detector.width == 640
    for width in ["wide", "-5", "1.5", "63", "0"]:
        with pytest.raises(UserError, match="width is"):
            open_detector(f"hog:{width}")


@pytest.mark.parametrize("threshold", [0, 1, -0.5, 7, float("nan")])
def test_a_threshold_outside_0_to_1_is_refused(threshold):
    with pytest.raises(UserError, match="threshold"):
        open_detector("hog", threshold=threshold)


def test_opencv_without_hog_is_refused(monkeypatch):
    monkeypatch.delattr("cv2.HOGDescriptor")
    with pytest.raises(UserError, match=r"opencv-python>=4\.8,<5"):
        open_detector("hog")


def test_a_detector_that_finds_thousands_is_bounded():
    from deploy.detect.boxes import MOST_BOXES, MOST_PEOPLE, in_frame, suppressed

    corners = np.random.default_rng(0).uniform(0, 900, (5000, 2)).astype(np.float32)
    boxes, scores = np.hstack([corners, corners + 5]), np.linspace(0.1, 0.9, 5000, dtype=np.float32)
    kept = suppressed(boxes, scores, 0.5)
    assert len(kept) <= MOST_BOXES
    assert kept[0] == 4999  # the surest
    found = in_frame(boxes[kept], scores[kept], 1000, 1000)
    assert len(found) == MOST_PEOPLE
    assert found.scores[0] == np.float32(0.9)
