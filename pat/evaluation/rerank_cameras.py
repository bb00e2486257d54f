"""Camera-aware re-ranking: neighbours are sought in an image's own camera and in the others apart.

Chen et al., "CA-Jaccard: Camera-aware Jaccard Distance for Person Re-identification", CVPR 2024, arXiv 2311.10605.
Without that, images of one's own camera, which share its light, crowd the lists. Memory is that of
`pat.evaluation.rerank`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from pat.evaluation.ranking import Floats, Indices, score_slabs, squared_norms
from pat.evaluation.rerank import (
    WEIGHT,
    Numbers,
    Slabs,
    averaged,
    check_number,
    jaccard_slabs,
    least,
    reciprocal,
    slab_rows,
    weighted,
)

K1_OWN, K1_OTHER, K2_OWN, K2_OTHER = 5, 20, 3, 3
"""What the authors re-rank with: neighbours that may be reciprocal, in an image's own camera and in the others,
and neighbours averaged over."""


def camera_reranked(
    query_cameras: Indices, gallery_cameras: Indices, progress: Callable[[int], object] | None = None
) -> Slabs:
    """What `evaluate_ranking` takes as `slabs`, for queries and a gallery of these cameras, i64 [Q] and [G].

    The gallery is the one that is ranked: without junk. `progress` as in `reranked`.
    """
    cameras = np.concatenate([query_cameras, gallery_cameras])

    def encode(vectors: Floats) -> tuple[Any, Floats]:
        check_number(len(vectors), K1_OTHER)
        own, other, farthest = _neighbours(vectors, cameras, progress)
        encoded = weighted(vectors, reciprocal(own) + reciprocal(other), 0, farthest)
        return averaged(encoded, np.hstack([own[:, :K2_OWN], other[:, :K2_OTHER]])), farthest

    return lambda query, gallery, size: jaccard_slabs(query, gallery, size, encode, WEIGHT)


def _neighbours(
    vectors: Floats, cameras: Indices, progress: Callable[[int], object] | None
) -> tuple[Numbers, Numbers, Floats]:
    """The nearest of each image in its camera, itself first, and in the others, -1 where there are fewer; and its
    largest squared distance [N]."""
    own, other, farthest = [], [], []
    norms = squared_norms(vectors)
    for begin, scores in score_slabs(vectors, vectors, slab_rows(len(vectors))):
        rows = np.arange(len(scores))
        farthest.append(scores.max(axis=1) + norms[begin : begin + len(scores)])
        scores[rows, begin + rows] = -np.inf
        same = cameras[begin : begin + len(scores), None] == cameras
        own.append(_among(scores, same, K1_OWN + 1))
        other.append(_among(scores, ~same, K1_OTHER + 1))
        if progress is not None:
            progress(len(scores))
    return np.concatenate(own), np.concatenate(other), np.maximum(np.concatenate(farthest), np.float32(1e-12))


def _among(scores: Floats, allowed: np.ndarray, count: int) -> Numbers:
    """The `count` least of each row that are allowed, -1 where there are fewer."""
    found = np.where(allowed, scores, np.float32(np.inf))
    places = least(found, count)
    return np.where(np.take_along_axis(allowed, places, axis=1), places, np.int32(-1))
