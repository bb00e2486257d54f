"""deploy.track: people walking on known paths, gaps, clocks that jump, and boxes that are none."""

from __future__ import annotations

import sys
import warnings
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest

from deploy.detect.hog import HogDetector
from deploy.frames import Detections, Frame
from deploy.track import Tracked, Tracker
from flat_street import RATE, SCALE, film_camera, walks_of
from fresh import python
from pat.cli import EXTRAS
from pat.synthetic.flat.domains import style_named
from pat.synthetic.flat.wardrobe import identities

PIXELS = np.zeros((480, 640, 3), dtype=np.uint8)


def frame(index: int, time: float | None = None, *, camera: str = "gate", pixels=PIXELS) -> Frame:
    return Frame(camera, index, 1.7e9 + index / 10 if time is None else time, pixels)


def people(*boxes, scores=None) -> Detections:
    boxes = np.array(boxes, dtype=np.float32).reshape(-1, 4)
    return Detections(boxes, np.array([0.9] * len(boxes) if scores is None else scores, dtype=np.float32))


def walker(index: int, *, start=100.0, pace=4.0, top=100.0) -> tuple[float, float, float, float]:
    """Someone 40 x 120 pixels who walks `pace` pixels in a frame."""
    left = start + pace * index
    return left, top, left + 40, top + 120


def seen(tracked: list[Tracked]) -> list[int]:
    return [each.track for each in tracked if not each.lost]


@pytest.fixture
def tracker() -> Tracker:
    return Tracker(rate=10)


@pytest.fixture(autouse=True)
def _no_warnings():
    """The library warns of clocks and frames that it cannot use; it never gets such."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def test_two_people_keep_their_numbers(tracker):
    for index in range(40):
        boxes = walker(index), walker(index, start=500, pace=-4, top=300)
        tracked = tracker.update(people(*boxes), frame(index))
        if index < 1:
            assert tracked == []  # min_hits is 2
        else:
            assert seen(tracked) == [0, 1]
            np.testing.assert_array_equal([each.box for each in tracked], np.array(boxes, np.float32))
            assert [each.score for each in tracked] == pytest.approx([0.9, 0.9])
    assert tracker.finished() == []


def test_one_who_is_missed_is_expected_further_on_and_found_again(tracker):
    for index in range(20):
        tracker.update(people(walker(index)), frame(index))
    for index in range(20, 30):
        (lost,) = tracker.update(people(), frame(index))
        assert lost.lost
        assert lost.track == 0
        assert abs(lost.box[0] - walker(index)[0]) < 8
    (again,) = tracker.update(people(walker(30)), frame(30))
    assert (again.track, again.lost) == (0, False)


def test_a_track_ends_after_lost_seconds_and_is_told_once(tracker):
    for index in range(10):
        tracker.update(people(walker(index)), frame(index))
    ended = []
    for index in range(10, 40):
        tracker.update(people(), frame(index))
        ended += [(index, each) for each in tracker.finished()]
    assert ended == [(30, 0)]  # last seen in frame 9, 2 s are 20 frames


def test_frames_that_were_dropped_are_bridged_by_time():
    """30 frames per second, of which the process takes every sixth: the walker moves 24 pixels each time."""
    tracker = Tracker(rate=30)
    numbers = [seen(tracker.update(people(walker(index)), frame(index, index / 30))) for index in range(0, 120, 6)]
    assert numbers[2:] == [[0]] * 18
    assert tracker.finished() == []


def test_who_moves_more_than_a_width_at_once_is_followed(tracker):
    """From one frame to the next the boxes do not meet; somebody who stands farther off is somebody else."""
    near = [walker(0), walker(0, start=144), walker(0, start=188)]
    assert [seen(tracker.update(people(box), frame(index))) for index, box in enumerate(near)] == [[], [0], [0]]
    far = walker(0, start=420)
    assert [seen(tracker.update(people(far), frame(index))) for index in (3, 4)] == [[], [1]]


def test_a_long_gap_ends_the_tracks():
    tracker = Tracker(rate=10, lost_seconds=1)
    for index in range(10):
        tracker.update(people(walker(0)), frame(index))
    assert seen(tracker.update(people(walker(0)), frame(500))) == []
    assert tracker.finished() == [0]
    tracker.update(people(walker(0)), frame(501))
    assert seen(tracker.update(people(walker(0)), frame(502))) == [1]


@pytest.mark.parametrize("jump", [-3600.0, -0.1, -1e9, float("nan"), float("-inf")])
def test_a_clock_that_goes_backwards_costs_nothing(tracker, jump):
    for index in range(60):
        time = 1.7e9 + index / 10 + (jump if index >= 20 else 0)
        tracked = tracker.update(people(walker(index)), frame(index, time))
        assert index < 2 or seen(tracked) == [0]


def test_a_clock_that_stands_still_costs_nothing(tracker):
    for index in range(40):
        tracked = tracker.update(people(walker(index)), frame(index, 5.0))
        assert index < 2 or seen(tracked) == [0]


def test_numbers_are_not_given_again_after_a_reset(tracker):
    for index in range(5):
        tracker.update(people(walker(index), walker(index, top=300)), frame(index))
    tracker.reset()
    assert sorted(tracker.finished()) == [0, 1]
    assert tracker.finished() == []
    for index in range(5, 9):
        tracked = tracker.update(people(walker(index)), frame(index, index - 1000.0))
    assert seen(tracked) == [2]
    tracker.reset()
    tracker.reset()
    assert tracker.finished() == [2]


def test_a_frame_of_another_size_starts_again(tracker):
    for index in range(5):
        tracker.update(people(walker(index)), frame(index))
    larger = np.zeros((960, 1280, 3), dtype=np.uint8)
    assert tracker.update(people(walker(5)), frame(5, pixels=larger)) == []
    assert tracker.finished() == [0]


def test_frames_of_two_cameras_are_not_mixed(tracker):
    tracker.update(people(), frame(0))
    with pytest.raises(ValueError, match="a frame of yard was given to the tracker of gate"):
        tracker.update(people(), frame(1, camera="yard"))


def test_boxes_that_are_none_are_left_out(tracker):
    nan, inf = float("nan"), float("inf")
    bad = [
        (nan, 0, 10, 10), (0, 0, inf, 10), (50, 50, 50, 90), (90, 90, 50, 50), (700, 10, 800, 90), (-90, 0, -1, 5),
    ]  # fmt: skip
    for index in range(10):
        scores = [0.9] * 7 + [nan]
        tracked = tracker.update(people(walker(index), *bad, (300, 300, 340, 420), scores=scores), frame(index))
        assert index < 2 or seen(tracked) == [0]


def test_a_box_that_reaches_outside_is_cut(tracker):
    for index in range(4):
        tracked = tracker.update(people((-20, -30, 40, 120)), frame(index))
    assert tracked[0].box.tolist() == [0, 0, 40, 120]


def test_nobody_for_ever(tracker):
    for index in range(50):
        assert tracker.update(people(), frame(index)) == []
    assert tracker.finished() == []


def test_low_scores_go_on_with_a_track_and_begin_none():
    tracker = Tracker(rate=10, min_confidence=0.5)
    for index in range(10):
        assert tracker.update(people(walker(index), scores=[0.3]), frame(index)) == []
    for index in range(10, 30):
        score = 0.9 if index < 15 else 0.3
        tracked = tracker.update(people(walker(index), scores=[score]), frame(index))
    assert seen(tracked) == [0]
    assert tracked[0].score == pytest.approx(0.3)


def test_memory_is_bounded(tracker):
    """A thousand people appear, stay for five frames and vanish."""
    ended = 0
    for index in range(5000):
        person = index // 5
        tracker.update(people(walker(0, start=50 + 60 * (person % 9), top=50 + 250 * (person % 2))), frame(index))
        ended += len(tracker.finished())
    assert ended > 100
    assert len(tracker._lives) <= 20
    assert len(tracker._tracker.tracks) <= 25


def test_the_people_of_the_synthetic_street_are_followed():
    """Detected by HOG: every track shows one person nearly always, and most of the detections are in tracks."""
    style = style_named("source")
    walks = walks_of(style, 3, list(islice(identities(style, 0), 4)), 0)
    walks = [replace(walk, begins=walk.begins - 5) for walk in walks]
    truth: list[dict] = []
    detector, tracker = HogDetector(), Tracker(rate=RATE)
    shown: dict[int, list[int]] = {}
    detected = 0
    for index, pixels in enumerate(film_camera(style, 3, walks, 30, SCALE, truth.append)):
        detections = detector.detect(pixels)
        detected += int((detections.scores > 0.5).sum())
        here = [line for line in truth if line["frame"] == index]
        for each in tracker.update(detections, frame(index, index / RATE, pixels=pixels)):
            middle = (each.box[0] + each.box[2]) / 2
            nearest = min(here, key=lambda line: abs((line["box"][0] + line["box"][2]) / 2 - middle))
            if not each.lost:
                shown.setdefault(each.track, []).append(nearest["person"])
    views = sum(map(len, shown.values()))
    assert views >= 0.6 * detected > 20
    assert sum(max(map(people.count, set(people))) for people in shown.values()) >= 0.9 * views


def test_the_library_is_loaded_by_the_first_tracker_alone():
    loaded = "[m for m in ('trackers', 'supervision', 'scipy', 'cv2') if m in sys.modules]"
    code = f"import sys, deploy.track; a = {loaded}; deploy.track.Tracker(rate=5); print(a, len({loaded}))"
    assert python("-c", code).stdout.strip() == "[] 4"


def test_a_missing_library_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "trackers", None)
    with pytest.raises(ModuleNotFoundError) as caught:
        Tracker(rate=5)
    assert EXTRAS[caught.value.name] == "deploy"


def test_tracking_does_not_use_the_network():
    code = (
        "import socket\n"
        "def refuse(*given, **named): raise SystemExit(f'connects to {given}')\n"
        "socket.socket.connect = socket.getaddrinfo = socket.create_connection = refuse\n"
        "import numpy as np\n"
        "from deploy.frames import Detections, Frame\n"
        "from deploy.track import Tracker\n"
        "tracker = Tracker(rate=5)\n"
        "pixels = np.zeros((99, 99, 3), np.uint8)\n"
        "boxes, scores = np.array([[9, 9, 40, 90]], np.float32), np.ones(1, np.float32)\n"
        "for k in range(5): tracked = tracker.update(Detections(boxes, scores), Frame('a', k, k / 5, pixels))\n"
        "print(len(tracked))"
    )
    done = python("-c", code)
    assert done.stdout.strip() == "1", done.stderr
