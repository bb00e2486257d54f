"""Finished crops of people in 3D, on one core: person, pose, place, shadow, film and JPEG.

    python -m pytest bench/test_people.py

Places are drawn before, as `pat synth people` draws them once a camera; everything is compiled by then.
"""

from __future__ import annotations

import io

import pytest

pytest.importorskip("numba")

from pat.synthetic.people.dataset import QUALITY, take_shot
from pat.synthetic.people.plan import Plan
from pat.synthetic.people.site import Sites

PEOPLE = range(1, 9)


def test_crops(tmp_path, measure_images):
    """256 x 128 with 4 samples a pixel; 24 images of each of 8 people in 4 cameras."""
    plan = Plan(cameras=4, cameras_each=4)
    sites = Sites(tmp_path)

    def draw() -> int:
        written = 0
        for identity, person in zip(PEOPLE, plan.people(PEOPLE), strict=True):
            for shot in plan.shots(identity):
                buffer = io.BytesIO()
                take_shot(plan, sites, person, shot).image.save(buffer, "JPEG", quality=QUALITY)
                written += 1
        return written

    count = draw()
    assert count == len(PEOPLE) * plan.images
    facts = {"shape": "256x128, 2x2 samples", "dtype": "uint8", "implementation": "ours"}
    measure_images(draw, count, rounds=3, operation="people in 3D", **facts)
