"""deploy.appearance: what spoils a view, what a track looks like, and which views are embedded."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from deploy.appearance import Appearance, EmbeddingPolicy, covered, qualities, sharpness
from flat_street import SCALE, film_camera, walks_of
from pat.synthetic.flat.domains import style_named
from pat.synthetic.flat.wardrobe import identities

BOX = (200.0, 100.0, 270.0, 270.0)


@pytest.fixture(scope="module")
def textured() -> np.ndarray:
    """A frame with detail everywhere."""
    noise = np.random.default_rng(0).integers(0, 256, (120, 160, 3), dtype=np.uint8)
    return cv2.resize(noise, (640, 480), interpolation=cv2.INTER_LINEAR)


def quality(pixels, box=BOX, *others, score=1.0) -> float:
    boxes = np.array([box, *others], dtype=np.float32)
    return float(qualities(pixels, boxes, np.full(len(boxes), score, np.float32))[0])


def test_qualities_lie_between_0_and_1(textured):
    generator = np.random.default_rng(1)
    boxes = generator.uniform(-100, 700, (500, 4)).astype(np.float32)
    values = qualities(textured, boxes, generator.random(500).astype(np.float32))
    assert values.shape == (500,)
    assert values.dtype == np.float32
    assert ((values >= 0) & (values <= 1)).all()
    assert (values > 0).sum() > 20


def test_a_good_view_is_good(textured):
    assert quality(textured) > 0.6


def test_a_blurred_view_is_worse(textured):
    views = [textured, *(cv2.GaussianBlur(textured, (0, 0), sigma) for sigma in (2, 4, 8, 16))]
    values = [quality(view) for view in views]
    assert values == sorted(values, reverse=True)
    assert values[-1] < 0.1 * values[0]
    assert quality(np.full_like(textured, 128)) == 0


def test_sharpness_does_not_depend_on_the_size_of_the_person():
    style = style_named("source")
    people = iter(identities(style, 0))
    (walk,) = walks_of(style, 1, [next(people)], 0)
    in_the_middle = replace(walk, begins=-(walk.ends - walk.begins) / 2)
    lines: list[dict] = []
    (pixels,) = film_camera(style, 1, [in_the_middle], 1, SCALE, lines.append)
    box = np.array(lines[-1]["box"], dtype=np.float32)
    values = [
        sharpness(cv2.resize(pixels, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_AREA), box * zoom)
        for zoom in (0.6, 0.8, 1.0, 1.5)
    ]
    assert max(values) < 2 * min(values)
    assert sharpness(cv2.GaussianBlur(pixels, (0, 0), 6), box) < 0.2 * min(values)


def test_a_smaller_person_is_worse(textured):
    values = [quality(textured, (200, 100, 200 + 0.41 * tall, 100 + tall)) for tall in (256, 128, 64, 20)]
    assert values == sorted(values, reverse=True)
    assert values[-1] < 0.4 * values[0]


@pytest.mark.parametrize("shift", [(-200, 0), (370, 0), (0, -100), (0, 210)])
def test_a_person_cut_off_by_the_frame_is_worse(textured, shift):
    moved = np.array(BOX) + np.tile(shift, 2)
    assert quality(textured, moved) < 0.7 * quality(textured)


def test_boxes_that_reach_outside_are_judged_by_what_is_inside(textured):
    assert quality(textured, (-30, 100, 40, 270)) == quality(textured, (0, 100, 40, 270))


def test_only_the_nearer_of_two_is_in_front(textured):
    nearer = (220.0, 120.0, 290.0, 290.0)  # its feet are lower in the image
    alone, behind = quality(textured), quality(textured, BOX, nearer)
    hidden = (50 * 150) / (70 * 170)
    assert behind == pytest.approx(alone * (1 - hidden), rel=1e-5)
    assert quality(textured, nearer, BOX) == quality(textured, nearer)


def test_covered_shares():
    boxes = np.array([[0, 0, 10, 10], [5, 0, 15, 12], [0, 5, 10, 14], [50, 50, 60, 60]], dtype=np.float32)
    assert covered(boxes).tolist() == pytest.approx([1.0, 35 / 120, 0, 0])
    assert covered(boxes[:0]).tolist() == []


def test_a_box_of_another_shape_is_worse(textured):
    narrow, wide = (200, 100, 225, 270), (200, 100, 400, 270)
    assert quality(textured, narrow) < 0.5 * quality(textured)
    assert quality(textured, wide) < 0.5 * quality(textured)


def test_a_lower_score_is_worse(textured):
    values = [quality(textured, score=score) for score in (1.0, 0.6, 0.3, 0.0, float("nan"))]
    assert values[0] > values[1] > values[2] > values[3] == values[4] == 0
    assert quality(textured, score=7.0) == values[0]


def test_boxes_that_are_none_are_worth_nothing_and_hide_nobody(textured):
    nan = float("nan")
    bad = [
        (nan, 0, 1, 1),
        (50, 50, 50, 90),
        (700, 0, 900, 90),
        (0.2, 0.2, 0.8, 99),
        (5, 5, 1, 1),
        (0, 0, nan, 500),
    ]
    values = qualities(textured, np.array([BOX, *bad], np.float32), np.ones(7, np.float32))
    assert values[1:].tolist() == [0] * 6
    assert values[0] == quality(textured)
    assert qualities(textured, np.empty((0, 4), np.float32), np.empty(0, np.float32)).shape == (0,)


@pytest.mark.parametrize("shape", [(1, 1), (2, 300), (300, 2), (3, 3)])
def test_frames_of_few_pixels(shape):
    pixels = np.full((*shape, 3), 200, np.uint8)
    boxes = np.array([[0, 0, shape[1], shape[0]]], np.float32)
    assert 0 <= qualities(pixels, boxes, np.ones(1, np.float32))[0] <= 1


def units(count: int, size: int = 16, seed: int = 0) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(count, size)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_the_mean_is_weighted_by_quality():
    vectors, weights = units(20), np.random.default_rng(1).uniform(0.1, 1, 20)
    appearance = Appearance()
    assert appearance.vector is None
    for vector, weight in zip(vectors, weights, strict=True):
        assert appearance.add(vector, float(weight))
    expected = (vectors.astype(np.float64) * weights[:, None]).sum(axis=0)
    np.testing.assert_allclose(appearance.vector, expected / np.linalg.norm(expected), rtol=1e-6)
    assert appearance.vector.dtype == np.float32
    assert appearance.samples == 20
    assert appearance.weight == pytest.approx(weights.sum())
    assert appearance.agreement == pytest.approx(np.linalg.norm(expected) / weights.sum())


def test_the_length_of_a_vector_counts_for_nothing():
    first, second = Appearance(), Appearance()
    for row, vector in enumerate(units(5)):
        first.add(vector, 0.5)
        second.add(vector * 10.0**row, 0.5)
    np.testing.assert_allclose(first.vector, second.vector, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("vector", "quality"),
    [
        ([np.nan, 1], 1.0), ([np.inf, 1], 1.0), ([-np.inf, np.inf], 1.0), ([0, 0], 1.0),
        ([1, 0], 0.0), ([1, 0], -1.0), ([1, 0], np.nan), ([1, 0], np.inf),
    ],
)  # fmt: skip
def test_what_cannot_be_averaged_is_refused(vector, quality):
    appearance = Appearance()
    assert not appearance.add(np.array(vector, np.float32), quality)
    assert appearance.vector is None
    assert appearance.add(np.array([0, 2], np.float32), 0.5)
    assert not appearance.add(np.array(vector, np.float32), quality)
    assert appearance.vector.tolist() == [0, 1]
    assert appearance.samples == 1


def test_opposite_vectors_have_no_mean():
    appearance = Appearance()
    appearance.add(np.array([1, 0], np.float32), 0.7)
    appearance.add(np.array([-1, 0], np.float32), 0.7)
    assert appearance.vector is None
    assert appearance.agreement == 0


def test_a_track_that_jumped_between_two_people_agrees_less():
    one, two = units(2, size=256)
    noise = 0.02 * np.random.default_rng(3).normal(size=(20, 256))
    steady, jumped = Appearance(), Appearance()
    assert steady.agreement == 0
    for row in range(20):
        steady.add(one + noise[row], 0.8)
        jumped.add((one if row < 10 else two) + noise[row], 0.8)
    assert steady.agreement > 0.9 > 0.8 > jumped.agreement > 0.6


def test_vectors_of_another_size_are_an_error():
    appearance = Appearance()
    appearance.add(np.ones(4, np.float32), 1.0)
    with pytest.raises(ValueError, match=r"\(5,\)"):
        appearance.add(np.ones(5, np.float32), 1.0)


def wanted(policy: EmbeddingPolicy, values, track: int = 1) -> list[int]:
    return [index for index, value in enumerate(values) if policy.wants(track, index, value)]


def test_the_first_good_view_then_one_in_every_ten():
    policy = EmbeddingPolicy(every=10, better_by=0.2, least_quality=0.3)
    assert wanted(policy, [0.1, 0.29, *[0.5] * 30]) == [2, 12, 22]


def test_a_clearly_better_view_is_not_waited_for():
    policy = EmbeddingPolicy(every=10, better_by=0.2, least_quality=0.3)
    assert wanted(policy, [0.4, 0.5, 0.59, 0.61, 0.7, 0.85, *[0.9] * 12]) == [0, 3, 5, 15]


def test_a_view_may_be_wanted_at_once():
    policy = EmbeddingPolicy(every=1.0, least_quality=0.2)
    assert policy.wants(1, 0.0, 0.5)
    assert not policy.wants(1, 0.1, 0.5)
    assert policy.wants(1, 0.2, 0.5, at_once=True)
    assert not policy.wants(1, 0.3, 0.1, at_once=True)
    assert not policy.wants(1, 1.1, 0.5)  # 0.9 s after the last


def test_bad_views_are_never_embedded_and_do_not_postpone_good_ones():
    policy = EmbeddingPolicy(every=5, least_quality=0.3)
    assert wanted(policy, [0.5, *[0.1] * 20, 0.5, 0.5]) == [0, 21]
    assert not policy.wants(2, 0, float("nan"))


def test_tracks_do_not_disturb_each_other():
    policy = EmbeddingPolicy(every=10)
    assert wanted(policy, [0.5] * 15, track=1) == wanted(policy, [0.5] * 15, track=2) == [0, 10]


def test_a_frame_count_that_begins_again_is_no_reason_to_wait():
    policy = EmbeddingPolicy(every=10)
    assert policy.wants(1, 100_000, 0.5)
    assert policy.wants(1, 0, 0.5)
    assert not policy.wants(1, 1, 0.5)


def test_memory_is_bounded_by_the_tracks_in_view():
    policy = EmbeddingPolicy()
    for track in range(1000):
        policy.wants(track, track, 0.9)
        policy.wants(track, track, 0.0)
        policy.forget(track)
        policy.forget(track)
    assert len(policy) == 0
