"""Attention on what is worn: areas by hand, and tokens that look everywhere or at one thing."""

import numpy as np
import pytest

from pat.ablation import attention
from pat.ablation.attention import cover, looks


def test_a_box_covers_patches_by_hand():
    # Patches of 10 x 10 pixels; the box takes the right half of the first column and a fifth of the second row.
    covered = cover((5, 0, 20, 12), (40, 20), (4, 2))
    np.testing.assert_allclose(covered, [[0.5, 1], [0.1, 0.2], [0, 0], [0, 0]])
    assert cover((0, 0, 20, 40), (40, 20), (4, 2)).min() == 1


def test_even_attention_is_the_area_and_a_look_at_one_thing_is_seen():
    people = np.repeat(np.arange(10), 3)
    facts = [{"parts": [{"part": "bottom", "box": [0, 20, 20, 30]}]} for _ in people]  # the third of four rows
    maps = np.ones((30, 2, 4, 2), np.float32)
    maps[:, 1, :2] = 0  # the part's region is the lower half
    (cls, part) = looks(maps, facts, (40, 20), [(0.5, 1.0)], people)
    assert (cls.token, cls.thing, cls.images, cls.people) == (0, "bottom", 30, 10)
    assert (cls.area, cls.attention) == pytest.approx((0.25, 0.25))
    assert (part.area, part.attention) == pytest.approx((0.5, 0.5))
    assert abs(part.low) < 1e-12

    maps[people < 5, 1, 2] = 3  # half of the people look at the thing three times as much as below it
    look = looks(maps, facts, (40, 20), [(0.5, 1.0)], people)[1]
    assert look.attention == pytest.approx(0.625)
    assert look.low < 0.125 < look.high
    assert attention.cells(look)[:2] == ["part 1", "bottom"]
    assert looks(maps, facts, (40, 20), [(0.0, 0.5)], people)[1:] == []  # not in the upper half
