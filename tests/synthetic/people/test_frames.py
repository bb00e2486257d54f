"""Frames for a detector: boxes lie where people are seen, and nobody is boxed in an empty place."""

from __future__ import annotations

import numpy as np
import pytest

from pat.synthetic.people import frames
from pat.synthetic.people.camera import COLUMNS, ROWS, Camera
from pat.synthetic.people.frames import surveillance_camera, take_frame
from pat.synthetic.people.person import Person
from pat.synthetic.people.site import make_site
from pat.synthetic.people.street import visible_box
from pat.synthetic.randomness import stream


def test_the_visible_box_holds_the_true_pixels_and_no_more():
    mask = np.zeros((6, 8), bool)
    assert visible_box(mask) == ([0, 0, 0, 0], 0)
    mask[1, 5] = mask[4, 2] = True
    assert visible_box(mask) == ([2, 1, 6, 5], 2)


def test_cameras_follow_from_their_seed_and_some_hang_high():
    cameras = [surveillance_camera(seed) for seed in range(40)]
    assert cameras == [surveillance_camera(seed) for seed in range(40)]
    assert max(camera.height for camera in cameras) > 6
    assert max(camera.pitch for camera in cameras) > 1.2 * max(Camera.sample(seed).pitch for seed in range(40))


def test_people_are_where_their_boxes_are(monkeypatch):
    site = make_site(Camera.sample(7, {"plaza": 1.0}))
    people = [Person.sample(number) for number in range(4)]
    monkeypatch.setattr(frames, "EMPTY", 1.0)
    empty = take_frame(site, people, stream("frame", 0))
    assert empty.pixels.shape == (ROWS, COLUMNS, 3)
    assert empty.boxes.shape == (0, 4)
    monkeypatch.setattr(frames, "EMPTY", 0.0)
    full = next(
        frame for number in range(9) if len((frame := take_frame(site, people, stream("frame", number))).boxes) > 1
    )
    left, top, right, bottom = full.boxes.T
    assert ((left >= 0) & (top >= 0) & (right <= COLUMNS) & (bottom <= ROWS) & (bottom - top > 20)).all()
    assert ((full.seen > 0) & (full.seen <= 1)).all()
    assert full.seen.max() == pytest.approx(1, abs=0.15)
    change = np.abs(full.pixels.astype(int) - empty.pixels).sum(axis=2)
    for box in full.boxes.astype(int):
        assert change[box[1] : box[3], box[0] : box[2]].mean() > 2 * np.median(change)
