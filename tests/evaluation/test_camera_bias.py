"""What each camera adds to its vectors, taken away again."""

import numpy as np
import pytest

from pat.data.sample import JUNK
from pat.evaluation.camera_bias import PRIOR, without_camera_bias
from pat.evaluation.ranking import Features, evaluate_ranking

ALIKE = np.ones((3, 16))


def filmed(rng, size, tints, stretches=ALIKE, identities=40):
    """Vectors around their identity, which each camera stretches and shifts in its own way."""
    centres = np.random.default_rng(7).standard_normal((identities, 16))
    people, seen = rng.integers(0, identities, size), rng.integers(0, len(tints), size)
    vectors = stretches[seen] * (centres[people] + 0.4 * rng.standard_normal((size, 16))) + tints[seen]
    return Features(vectors, people, seen)


@pytest.mark.parametrize("stretched", [False, True])
def test_people_are_found_again_by_cameras_that_add_something_of_their_own(stretched: bool) -> None:
    own = np.random.default_rng(3).standard_normal((2, 3, 16))
    tints, stretches = (np.zeros((3, 16)), np.exp(own[0])) if stretched else (2 * own[1], ALIKE)
    rng = np.random.default_rng(0)
    query, gallery = filmed(rng, 300, tints, stretches), filmed(rng, 900, tints, stretches)
    before, after = evaluate_ranking(query, gallery), evaluate_ranking(*without_camera_bias(query, gallery))
    assert before.mAP < 0.75 < 0.9 < after.mAP


def test_it_is_the_mean_and_the_deviation_of_a_camera_and_of_forty_images_as_all_are() -> None:
    rng = np.random.default_rng(0)
    query, gallery = filmed(rng, 20, np.ones((3, 16))), filmed(rng, 70, np.eye(16)[:3])
    found = np.concatenate([each.vectors for each in without_camera_bias(query, gallery)])
    vectors, cameras = np.concatenate([query.vectors, gallery.vectors]), np.append(query.cameras, gallery.cameras)
    for camera in range(3):
        own = vectors[cameras == camera]
        share = len(own) / (len(own) + PRIOR)
        mean = share * own.mean(0) + (1 - share) * vectors.mean(0)
        square = share * ((own - mean) ** 2).mean(0) + (1 - share) * vectors.var(0)
        expected = (own - mean) / square**0.5
        expected /= np.linalg.norm(expected, axis=1, keepdims=True)
        np.testing.assert_allclose(found[cameras == camera], expected, atol=1e-5)


def test_junk_teaches_nothing_and_who_is_alone_in_a_camera_stays_who_it_is() -> None:
    rng = np.random.default_rng(0)
    query, gallery = filmed(rng, 50, np.zeros((2, 16))), filmed(rng, 150, np.zeros((2, 16)))
    junk = Features(100 * np.ones((9, 16)), np.full(9, JUNK), np.array([0] * 8 + [5]))
    mixed = Features(
        np.concatenate([gallery.vectors, junk.vectors]),
        np.concatenate([gallery.identities, junk.identities]),
        np.concatenate([gallery.cameras, junk.cameras]),
    )
    alone, among = without_camera_bias(query, gallery), without_camera_bias(query, mixed)
    np.testing.assert_array_equal(alone[0].vectors, among[0].vectors)
    np.testing.assert_array_equal(alone[1].vectors, among[1].vectors[:150])
    single = Features(query.vectors, query.identities, np.arange(50))  # a camera for each image
    vectors = without_camera_bias(single, gallery)[0].vectors
    assert np.linalg.matrix_rank(vectors) == 16
    junk_alone = without_camera_bias(junk, junk)
    np.testing.assert_array_equal(junk_alone[0].vectors, junk.vectors)


def test_vectors_that_are_all_the_same_stay_finite() -> None:
    same = Features(np.ones((4, 3)), np.arange(4), np.zeros(4, int))
    assert np.isfinite(without_camera_bias(same, same)[1].vectors).all()
