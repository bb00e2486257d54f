"""Neighbours by brute force, agreement and chance by hand on people whose clothes are known."""

import numpy as np
import pytest

from pat.ablation.labels import FEWEST, agreements, neighbours, same_person, shown


def test_neighbours_are_the_nearest_of_others():
    generator = np.random.default_rng(0)
    features = generator.normal(size=(2, 30, 4)).astype(np.float32)
    identities = np.arange(30) // 3
    for people in (None, identities):
        found = neighbours(features, 5, people, batch=7)
        for part, near in zip(features, found, strict=True):
            distance = np.square(part[:, None] - part).sum(-1)
            mine = np.eye(30, dtype=bool) if people is None else people[:, None] == people
            distance[mine] = np.inf
            np.testing.assert_array_equal(near, np.argsort(distance, axis=1)[:, :5])


def test_fewer_than_k():
    (found,) = neighbours(np.eye(3, dtype=np.float32)[None], 2, np.array([0, 0, 1]))
    assert (found[:2] == [2, -1]).all()


def worn(top, bottom, bag="none"):
    parts = [{"part": "top", "box": [0, 20, 9, 60]}, {"part": "bottom", "box": [0, 60, 9, 100]}]
    if bag != "none":
        parts.append({"part": "bag", "box": [0, 50, 9, 90]})
    colours = dict.fromkeys(("top_colour", "top_pattern", "bottom_colour", "bottom_pattern", "bag_colour"), "red")
    return {"parts": parts, "top": top, "bottom": bottom, "bag": bag, **colours}


def test_what_a_band_shows():
    facts = [worn("coat", "jeans", "backpack"), worn("coat", "jeans")]
    assert shown(facts, "top", (0.0, 0.5), 100).tolist() == [True, True]
    assert shown(facts, "bottom", (0.0, 0.5), 100).tolist() == [False, False]
    assert shown(facts, "bag", (0.6, 1.0), 100).tolist() == [True, False]  # 30 of its 40 rows
    assert shown(facts, "bag", (0.0, 0.5), 100).tolist() == [False, False]


def test_agreement_and_chance():
    """Thirty people of two images; the upper feature knows the coat alone, the global one the trousers alone."""
    people = np.repeat(np.arange(30), 2)
    coat, trousers = np.arange(30) % 2, np.arange(30) // 2 % 3
    facts = [worn(f"top {coat[each]}", f"bottom {trousers[each]}") for each in people]
    generator = np.random.default_rng(0)

    def near(values):
        features = np.stack([values[people], 0.01 * generator.normal(size=60)], axis=1)
        return neighbours(features[None].astype(np.float32), 4, people)[0]

    table = agreements(facts, 100, [(0.0, 0.6)], [[near(coat)]], [near(trousers)], people)
    rows = {row.attribute: row for row in table}
    assert set(rows) == {"top", "top colour", "top pattern"}  # the trousers lie outside
    row = rows["top"]
    assert (row.part, row.images, row.people, row.by_part) == (0, 60, 30, 1.0)
    assert row.chance == pytest.approx(28 / 58)  # 14 of the other 29 people
    assert 0.2 < row.by_global < 0.8
    assert row.low <= row.by_part - row.by_global <= row.high
    assert row.low > 0
    assert rows["top colour"].chance == rows["top colour"].by_part == 1
    assert row.over_models is row.p is None

    several = agreements(
        facts, 100, [(0.0, 0.6)], [[near(coat)], [near(trousers)], [near(coat)]], [near(trousers)] * 3, people
    )
    top, colour, _ = several
    differences = 1 - row.by_global, 0, 1 - row.by_global  # that of the second is the noise of its near ties
    assert top.by_part - top.by_global == pytest.approx(np.mean(differences), abs=0.05)
    assert top.over_models.pairs == 3
    assert top.p == pytest.approx(min(1, 3 * top.over_models.p))
    assert colour.p == 1  # everybody wears red: no model differs


def test_what_too_few_show_is_not_told():
    facts = [worn("coat", "jeans")] * (FEWEST - 1)
    none = np.full((len(facts), 3), -1)
    assert agreements(facts, 100, [(0.0, 0.6)], [[none]], [none], np.arange(len(facts))) == []


def test_own_person():
    found = np.array([[1, 2], [0, -1], [0, 1]])
    assert same_person(found, np.array([5, 5, 6])) == pytest.approx((0.5 + 1 + 0) / 3)
