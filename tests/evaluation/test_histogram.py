"""The colour histogram baseline: what it must and must not tell apart."""

from __future__ import annotations

import numpy as np

from pat.evaluation.histogram import GREYS, HUES, SATURATIONS, STRIPES, stripe_histogram


def person(top: tuple[int, int, int], bottom: tuple[int, int, int], noise: int = 0, seed: int = 0) -> np.ndarray:
    image = np.empty((64, 32, 3), np.int64)
    image[:32], image[32:] = top, bottom
    rng = np.random.default_rng(seed)
    return np.clip(image + rng.integers(-noise, noise + 1, image.shape), 0, 255).astype(np.uint8)


RED, BLUE, GREY = (200, 30, 40), (40, 60, 180), (120, 120, 120)


def test_vectors_are_unit_length_and_of_the_stated_size() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 33, 17, 3), dtype=np.uint8)
    vectors = stripe_histogram(pixels)
    assert vectors.shape == (5, STRIPES * (HUES * SATURATIONS + GREYS))
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    assert (vectors >= 0).all()


def test_the_same_clothes_are_nearer_than_others() -> None:
    query, same, swapped, grey = stripe_histogram(
        np.stack([
            person(RED, BLUE, 20, seed=1), person(RED, BLUE, 20, seed=2),
            person(BLUE, RED, 20, seed=3), person(RED, GREY, 20, seed=4),
        ])
    )  # fmt: skip
    assert query @ same > 0.95
    assert query @ grey < 0.75
    assert query @ swapped < 0.3  # the same colours at other heights


def test_a_little_more_light_changes_little() -> None:
    for top, bottom in [(RED, BLUE), (GREY, (60, 60, 60))]:
        darker = tuple(round(0.9 * c) for c in top), tuple(round(0.9 * c) for c in bottom)
        one, other = stripe_histogram(np.stack([person(top, bottom), person(*darker)]))
        assert one @ other > 0.75


def test_reds_on_both_ends_of_the_circle_of_hues_are_alike() -> None:
    one, other = stripe_histogram(np.stack([person((200, 30, 35), BLUE), person((200, 35, 30), BLUE)]))
    assert one @ other > 0.95


def test_the_middle_counts_more_than_the_sides() -> None:
    plain, side, middle = person(GREY, GREY), person(GREY, GREY), person(GREY, GREY)
    side[:, :8] = RED
    middle[:, 12:20] = RED
    vectors = stripe_histogram(np.stack([plain, side, middle]))
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2]
