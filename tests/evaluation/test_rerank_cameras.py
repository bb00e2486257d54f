"""Camera-aware re-ranking against its definition in sets, loops and float64."""

import numpy as np
import pytest

from pat.evaluation.ranking import Features, evaluate_ranking
from pat.evaluation.rerank import reranked
from pat.evaluation.rerank_cameras import K1_OTHER, K1_OWN, K2_OTHER, K2_OWN, camera_reranked


def people(rng, size, identities, cameras, noise=0.3, tint=0.0):
    """Vectors around their identity, drawn towards their camera by `tint`."""
    fixed = np.random.default_rng(7)
    centres, tints = fixed.standard_normal((identities, 12)), fixed.standard_normal((cameras, 12))
    labels, seen = rng.integers(0, identities, size), rng.integers(0, cameras, size)
    vectors = centres[labels] + tint * tints[seen] + noise * rng.standard_normal((size, 12))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return Features(vectors.astype(np.float32), labels, seen)


def by_definition(query, gallery):
    vectors = np.concatenate([query.vectors, gallery.vectors]).astype(np.float64)
    cameras = np.concatenate([query.cameras, gallery.cameras])
    squared = ((vectors[:, None] - vectors) ** 2).sum(-1)
    distance = squared / squared.max(axis=1, keepdims=True)
    np.fill_diagonal(squared, -1)
    everybody = range(len(vectors))

    def nearest(i, own, count):
        some = [j for j in everybody if (cameras[j] == cameras[i]) == own]
        return sorted(some, key=lambda j: squared[i, j])[:count]

    own = [nearest(i, True, K1_OWN + 1) for i in everybody]
    other = [nearest(i, False, K1_OTHER + 1) for i in everybody]
    encoded = np.zeros_like(squared)
    for i in everybody:
        members = {j for lists in (own, other) for j in lists[i] if i in lists[j]}
        for j in members:
            encoded[i, j] = np.exp(-distance[i, j])
        encoded[i] /= encoded[i].sum()
    encoded = np.array([encoded[own[i][:K2_OWN] + other[i][:K2_OTHER]].mean(axis=0) for i in everybody])
    count = len(query)
    least = np.minimum(encoded[:count, None], encoded[count:]).sum(-1)
    most = np.maximum(encoded[:count, None], encoded[count:]).sum(-1)
    return 0.7 * (1 - least / most) + 0.3 * distance[:count, count:]


@pytest.mark.parametrize("cameras", [1, 3, 40])  # nobody in another one; a few; fewer in a camera than neighbours
def test_equals_the_definition(cameras):
    rng = np.random.default_rng(0)
    query, gallery = people(rng, 25, 8, cameras), people(rng, 90, 8, cameras)
    expected = by_definition(query, gallery)
    slabs = camera_reranked(query.cameras, gallery.cameras)(query.vectors, gallery.vectors, 10)
    found = np.concatenate([scores.copy() for _, scores in slabs])
    np.testing.assert_allclose(found, expected, atol=2e-5)


def test_helps_where_a_camera_draws_its_images_together():
    rng = np.random.default_rng(1)
    query, gallery = (people(rng, size, 20, 4, noise=0.5, tint=0.8) for size in (80, 500))
    plain = evaluate_ranking(query, gallery)
    of_all = evaluate_ranking(query, gallery, slabs=reranked())
    apart = evaluate_ranking(query, gallery, slabs=camera_reranked(query.cameras, gallery.cameras))
    assert plain.mAP < of_all.mAP + 0.02 < apart.mAP
