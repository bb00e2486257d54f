"""Re-ranking against the paper's equations written out over dense matrices."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from pat.base.errors import UserError
from pat.evaluation.ranking import Features, evaluate_ranking
from pat.evaluation.rerank import reranked


def people(rng, size: int, identities: int, dim: int = 12, noise: float = 0.5):
    centres = np.random.default_rng(99).standard_normal((identities, dim))
    labels = rng.integers(0, identities, size)
    vectors = centres[labels] + noise * rng.standard_normal((size, dim))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return Features(vectors.astype(np.float32), labels, rng.integers(0, 3, size))


def by_definition(query: np.ndarray, gallery: np.ndarray, k1: int, k2: int, weight: float) -> np.ndarray:
    """Sets, loops and float64: equations 2 to 4, 7, 10, 11 and 12 of the paper."""
    vectors = np.concatenate([query, gallery]).astype(np.float64)
    squared = ((vectors[:, None] - vectors) ** 2).sum(-1)
    distance = squared / squared.max(axis=1, keepdims=True)
    np.fill_diagonal(squared, -1)  # itself first
    order = np.argsort(squared, axis=1, kind="stable").tolist()

    def reciprocal(i: int, k: int) -> set[int]:
        return {j for j in order[i][: k + 1] if i in order[j][: k + 1]}

    encoded = np.zeros_like(squared)
    for i in range(len(vectors)):
        first = reciprocal(i, k1)
        members = set(first)
        for j in first:
            other = reciprocal(j, k1 // 2)
            if len(first & other) >= 2 / 3 * len(other) - 1e-9:
                members |= other
        for j in members:
            encoded[i, j] = np.exp(-distance[i, j])
        encoded[i] /= encoded[i].sum()
    encoded = np.array([encoded[order[i][:k2]].mean(axis=0) for i in range(len(vectors))])
    count = len(query)
    least = np.minimum(encoded[:count, None], encoded[count:]).sum(-1)
    most = np.maximum(encoded[:count, None], encoded[count:]).sum(-1)
    return (1 - weight) * (1 - least / most) + weight * distance[:count, count:]


@pytest.mark.parametrize(("k1", "k2", "weight"), [(20, 6, 0.3), (7, 1, 0.0), (4, 3, 1.0), (1, 2, 0.5)])
@pytest.mark.parametrize("size", [1, 7, 1000])
def test_equals_the_definition(k1: int, k2: int, weight: float, size: int) -> None:
    rng = np.random.default_rng(0)
    query, gallery = people(rng, 25, 8).vectors, people(rng, 90, 8).vectors
    expected = by_definition(query, gallery, k1, k2, weight)
    seen = 0
    for begin, scores in reranked(k1, k2, weight)(query, gallery, size):
        np.testing.assert_allclose(scores, expected[begin : begin + len(scores)], atol=2e-5)
        seen += len(scores)
    assert seen == len(query)


def test_blocks_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    query, gallery = people(rng, 20, 6).vectors, people(rng, 70, 6).vectors
    whole = next(iter(reranked()(query, gallery, 20)))[1].copy()
    monkeypatch.setattr("pat.evaluation.rerank._ROWS", 13)
    monkeypatch.setattr("pat.evaluation.rerank._SLAB_BYTES", 5000)
    np.testing.assert_allclose(next(iter(reranked()(query, gallery, 20)))[1], whole, atol=1e-6)


def test_ranks_better_and_leaves_out_junk() -> None:
    rng = np.random.default_rng(1)
    query, gallery = people(rng, 60, 10, noise=0.8), people(rng, 400, 10, noise=0.8)
    plain = evaluate_ranking(query, gallery)
    better = evaluate_ranking(query, gallery, slabs=reranked())
    assert plain.mAP + 0.02 < better.mAP <= 1
    junk = Features(query.vectors, np.full(len(query), -1), query.cameras)
    both = Features(
        np.concatenate([gallery.vectors, junk.vectors]),
        np.concatenate([gallery.identities, junk.identities]),
        np.concatenate([gallery.cameras, junk.cameras]),
    )
    assert evaluate_ranking(query, both, slabs=reranked()).mAP == better.mAP


def test_memory_grows_with_the_images_and_not_their_square(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pat.evaluation.rerank._SLAB_BYTES", 1 << 20)
    peaks = []
    for count in (800, 3200):
        rng = np.random.default_rng(2)
        query, gallery = people(rng, count // 8, count // 20), people(rng, count, count // 20)
        tracemalloc.start()
        evaluate_ranking(query, gallery, slabs=reranked(), slab_bytes=1 << 20)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 6 * peaks[0]  # four times the images; the square would be sixteen
    assert peaks[1] < 3600**2 * 4 / 2  # half of one float32 matrix of all distances


def test_too_few_images() -> None:
    few = people(np.random.default_rng(0), 8, 2)
    with pytest.raises(UserError, match="20 neighbours and there are 16 images; rank as few without it"):
        evaluate_ranking(few, few, slabs=reranked())
