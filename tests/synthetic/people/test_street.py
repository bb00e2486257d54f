"""A filmed street: the same people in every camera, and a truth that is where they are."""

from __future__ import annotations

import json
from collections import defaultdict

import numpy as np
import pytest

from pat.base.errors import UserError
from pat.synthetic.people import street
from pat.synthetic.people.camera import COLUMNS, ROWS
from pat.synthetic.people.person import Person
from pat.synthetic.people.street import (
    GAP,
    LARGEST,
    LONGEST,
    QUIET,
    SMALLEST,
    Walk,
    film_people,
    filmed,
    scene,
    street_people,
    street_site,
    visits,
)

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


def test_everyone_passes_each_camera_and_comes_back_once_after_the_seconds_asked_for():
    once = visits(2, 9, (), np.random.default_rng(0))
    plan = visits(2, 9, (5.0, 30.0, 300.0), np.random.default_rng(0))
    last = {}
    for camera, first in zip(plan, once, strict=True):
        assert camera[:9] == first  # coming back changes nothing before
        assert sorted(visit.number for visit in first) == list(range(1, 10))
        assert all(0 <= visit.begins < 9 * GAP for visit in first)
        for visit in first:
            last[visit.number] = max(last.get(visit.number, 0.0), visit.begins)
    back = {visit.number: visit.begins - last[visit.number] - LONGEST for visit in [*plan[0][9:], *plan[1][9:]]}
    assert sorted(back) == list(range(1, 10))
    assert sorted(np.round(list(back.values()), 6)) == [5.0] * 3 + [30.0] * 3 + [300.0] * 3
    assert len(plan[0]) > 9 < len(plan[1])  # to the same camera, and to the other


def test_times_without_anybody_are_left_out_but_for_a_while():
    walks = [Walk(1, None, begins, 1.0, (0.0, 0.0), (4.0, 0.0)) for begins in (3.0, 100.0)]  # of 4 s each
    ticks = filmed(walks, 10)
    times = np.array(ticks) / 10
    assert ticks == sorted(set(ticks))
    assert times[0] == 0  # where all videos begin
    assert times[1] == pytest.approx(3.0 - QUIET)
    (jump,) = np.flatnonzero(np.diff(times) > 1)
    assert (times[jump], times[jump + 1]) == pytest.approx((7.0 + QUIET, 100.0 - QUIET))
    assert times[-1] == pytest.approx(104.0 + QUIET)


@pytest.mark.parametrize(
    "wrong",
    [{"returns": (5.0, 0.0)}, {"returns": (float("nan"),)}, {"rate": 0}, {"seed": -1}, {"look_alikes": 1.5}],
)
def test_numbers_that_make_no_sense_are_refused(tmp_path, wrong):
    with pytest.raises(UserError):
        film_people(tmp_path / "street", people=1, **wrong)
    assert not (tmp_path / "street").exists()


def test_a_street_that_is_stopped_leaves_nothing_behind(tmp_path, monkeypatch):
    def stopped(film, jobs, workers):
        film.args[0].joinpath("camera-1.mp4").write_bytes(b"half a video")
        yield 1, 9, []
        raise KeyboardInterrupt

    monkeypatch.setattr(street, "in_processes", stopped)
    with pytest.raises(KeyboardInterrupt):
        film_people(tmp_path / "street", cameras=2, people=1)
    assert not list(tmp_path.iterdir())


def test_a_share_of_the_people_are_look_alikes():
    plain, some, all_of_them = (street_people(8, share, seed=11) for share in (0.0, 0.2, 1.0))
    assert some == all_of_them[:4] + plain[4:]
    assert all(each.changed for each in all_of_them[1:4] + all_of_them[5:])
    assert not any(each.changed for each in plain)


@pytest.mark.slow
def test_everyone_walks_past_each_camera_inside_the_boxes_of_the_truth(tmp_path):
    frames = film_people(
        tmp_path / "street", cameras=2, people=2, look_alikes=1.0, returns=(40.0,), rate=5, workers=1
    )
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
        decoded = list(video.decode(video=0))
    images = [frame.to_ndarray(format="rgb24").astype(int) for frame in decoded]
    assert images[0].shape == (ROWS, COLUMNS, 3)
    assert len(images) <= frames
    times = [frame.time for frame in decoded]
    for line in truth:
        if line["camera"] == "camera-1":
            assert line["time"] == pytest.approx(times[line["frame"]])
    spans = [[line["time"] for line in truth if line["person"] == person] for person in (1, 2)]
    assert all(np.diff(sorted(span)).max() > 40 for span in spans)  # they were away, and came back
    empty = np.median(images, axis=0)
    alone = defaultdict(list)
    for line in truth:
        if line["camera"] == "camera-1":
            alone[line["frame"]].append(line["box"])
    for frame, boxes in list(alone.items())[:: max(1, len(alone) // 8)]:
        change = np.abs(images[frame] - empty).sum(axis=2)
        for left, top, right, bottom in boxes:
            assert change[top:bottom, left:right].mean() > 4 * np.median(change)
