"""A filmed street: the same people in every camera, and a truth that is where they are."""

from __future__ import annotations

import json
from collections import defaultdict

import numpy as np
import pytest

from pat.synthetic.people.camera import COLUMNS, ROWS
from pat.synthetic.people.person import Person
from pat.synthetic.people.street import LARGEST, SMALLEST, Walk, film_people, scene, street_site

av = pytest.importorskip("av")


def test_a_walk_crosses_the_image_upright_and_leaves_the_rest_of_it_alone():
    site, ways = street_site(0, 1)
    walk = Walk(1, Person.sample(1), 0.0, 1.3, tuple(ways[0][0]), tuple(ways[0][1]))
    empty, nobody = scene(site, [])
    assert not nobody.any()
    middles = []
    for share in (0.3, 0.5, 0.7):
        light, owner = scene(site, [walk.at(share * walk.ends)])
        rows, columns = np.nonzero(owner)
        assert 0.7 * SMALLEST < np.ptp(rows) < 1.2 * LARGEST
        middles.append(columns.mean())
        assert (np.abs(light - empty).max(axis=2) > 1e-6).mean() < 0.25
    assert np.diff(middles).min() * np.diff(middles).max() > 0


@pytest.mark.slow
def test_everyone_walks_past_each_camera_inside_the_boxes_of_the_truth(tmp_path):
    frames = film_people(tmp_path / "street", cameras=2, people=2, look_alikes=True, workers=1)
    truth = [json.loads(line) for line in (tmp_path / "street" / "truth.jsonl").read_text().splitlines()]
    seen = defaultdict(set)
    for line in truth:
        left, top, right, bottom = line["box"]
        assert 0 <= left < right <= COLUMNS
        assert 0 <= top < bottom <= ROWS
        seen[line["camera"]].add(line["person"])
    assert seen == {"camera-1": {1, 2}, "camera-2": {1, 2}}
    tall = np.median([line["box"][3] - line["box"][1] for line in truth])
    assert SMALLEST * 0.8 < tall < LARGEST * 1.2

    with av.open(str(tmp_path / "street" / "camera-1.mp4")) as video:
        images = [frame.to_ndarray(format="rgb24").astype(int) for frame in video.decode(video=0)]
    assert images[0].shape == (ROWS, COLUMNS, 3)
    assert len(images) <= frames
    empty = np.median(images, axis=0)
    alone = defaultdict(list)
    for line in truth:
        if line["camera"] == "camera-1":
            alone[line["frame"]].append(line["box"])
    for frame, boxes in list(alone.items())[:: max(1, len(alone) // 8)]:
        change = np.abs(images[frame] - empty).sum(axis=2)
        for left, top, right, bottom in boxes:
            assert change[top:bottom, left:right].mean() > 4 * np.median(change)
