"""k-reciprocal re-ranking: two images are alike where the images near both are the same.

Zhong et al., "Re-ranking Person Re-identification with k-reciprocal Encoding", CVPR 2017. It looks at all queries
together, which a camera cannot do, so its score is reported apart from the plain one.

Memory, for N = Q + G images of D numbers: two copies of the vectors (8 N D bytes), the k1 + 1 nearest of each
and sparse matrices. A row of the encoding holds at most (k1 + 1)(k1 / 2 + 2) entries of 8 bytes, k2 times that
after the expansion, and far fewer in practice. MSMT17 (N = 93,820, D = 768) needs 0.6 GB for the vectors, at most
0.2 GB for the encoding and 1.1 GB, with its transposed copy 2.2 GB, for the expanded one: below 8 GB. Distances
exist a slab at a time. scipy is imported when it runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pat.base.errors import UserError
from pat.evaluation.ranking import Floats, score_slabs, squared_norms

K1, K2, WEIGHT = 20, 6, 0.3
"""The paper's: neighbours that may be reciprocal, neighbours averaged over, share of the original distance."""

_SLAB_BYTES = 64 << 20
_ROWS = 4096
"""Rows of a sparse product made at a time."""

Numbers = NDArray[np.int32]
Slabs = Callable[[Floats, Floats, int], Iterator[tuple[int, Floats]]]
Encode = Callable[[Floats], tuple[Any, Floats]]
"""Vectors [N, D] -> each image as weights over its neighbours, CSR [N, N]; its largest squared distance [N]."""


def reranked(
    k1: int = K1, k2: int = K2, weight: float = WEIGHT, progress: Callable[[int], object] | None = None
) -> Slabs:
    """What `evaluate_ranking` takes as `slabs` to rank by the re-ranked distance.

    `progress` is called with the number of images whose neighbours were just found, N in all.
    """
    def encode(vectors: Floats) -> tuple[Any, Floats]:
        check_number(len(vectors), max(k1, k2))
        nearest, farthest = neighbours(vectors, lambda _, scores: least(scores, max(k1 + 1, k2)), progress)
        encoded = _encoded(vectors, nearest[:, : k1 + 1], nearest[:, : k1 // 2 + 1], farthest)
        return averaged(encoded, nearest[:, :k2]), farthest

    return lambda query, gallery, size: jaccard_slabs(query, gallery, size, encode, weight)


def check_number(images: int, neighbours: int) -> None:
    """Raises UserError where there are not more images than neighbours to look at."""
    if images <= neighbours:
        few = f"re-ranking looks at {neighbours} neighbours and there are {images} images"
        raise UserError(f"{few}; rank as few without it")


def jaccard_slabs(
    query: Floats, gallery: Floats, size: int, encode: Encode, weight: float
) -> Iterator[tuple[int, Floats]]:
    """`size` queries at a time: the first one's index, and re-ranked distances float32 [size, G]."""
    encoded, farthest = encode(np.concatenate([query, gallery]))
    asking = encoded[: len(query)]
    answering = encoded[len(query) :].tocsc()
    norms = squared_norms(query)
    for begin, scores in score_slabs(query, gallery, size):
        for row, number in zip(scores, range(begin, begin + len(scores)), strict=True):
            row += norms[number]
            np.maximum(row, 0, out=row)
            row *= np.float32(weight) / farthest[number]
            shared = _shared(asking, answering, number)
            row += (1 - weight) * (1 - shared / (2 - shared))  # the rows sum to 1, so maxima sum to 2 - minima
        yield begin, scores


def neighbours(
    vectors: Floats,
    select: Callable[[int, Floats], Numbers],
    progress: Callable[[int], object] | None,
) -> tuple[Numbers, Floats]:
    """What `select` finds for each image, [N, n], and its largest squared distance [N].

    It is given the number of a slab's first image and scores [b, N], least for the nearest: an image is its own,
    also beside a copy of it.
    """
    found, farthest = [], []
    norms = squared_norms(vectors)
    size = max(1, _SLAB_BYTES // (8 * len(vectors)))  # argpartition makes int64 of the same shape
    for begin, scores in score_slabs(vectors, vectors, size):
        rows = np.arange(len(scores))
        farthest.append(scores.max(axis=1) + norms[begin : begin + len(scores)])
        scores[rows, begin + rows] = -np.inf
        found.append(select(begin, scores))
        if progress is not None:
            progress(len(scores))
    return np.concatenate(found), np.maximum(np.concatenate(farthest), np.float32(1e-12))


def least(scores: Floats, count: int) -> Numbers:
    """The places of the `count` least of each row in ascending order, equal ones by place: [rows, count]."""
    some = np.sort(np.argpartition(scores, count - 1, axis=1)[:, :count], axis=1)
    order = np.argsort(np.take_along_axis(scores, some, axis=1), axis=1, kind="stable")
    return np.take_along_axis(some, order, axis=1).astype(np.int32)


def _encoded(vectors: Floats, nearest: Numbers, half: Numbers, farthest: Floats) -> Any:
    """Each image as weights over its expanded reciprocal neighbours, summing to 1: CSR [N, N] (equation 7)."""
    from scipy import sparse

    mutual, mutual_half = reciprocal(nearest), reciprocal(half)
    sizes = np.diff(mutual_half.indptr)
    blocks = []
    for begin in range(0, len(vectors), _ROWS):
        own = mutual[begin : begin + _ROWS]
        # R(q, k1) takes in R(c, k1 / 2) of its members c that share two thirds with it (equation 4).
        common = (own @ mutual_half).multiply(own).tocoo()
        joins = 3 * common.data >= 2 * sizes[common.col]
        joining = sparse.csr_matrix(
            (np.ones(joins.sum(), np.int32), (common.row[joins], common.col[joins])), shape=own.shape
        )
        blocks.append(weighted(vectors, own + joining @ mutual_half, begin, farthest))
    return sparse.vstack(blocks, format="csr")


def weighted(vectors: Floats, members: Any, begin: int, farthest: Floats) -> Any:
    """CSR like `members`, the neighbours of images from `begin` on: weights that fall with distance, of sum 1."""
    from scipy import sparse

    shape, members, norms = members.shape, members.tocoo(), squared_norms(vectors)
    rows, columns = members.row + begin, members.col
    squared = norms[rows] + norms[columns] - 2 * _products(vectors, rows, columns)
    weights = np.exp(-np.maximum(squared, 0) / farthest[rows])
    weights /= np.bincount(members.row, weights=weights, minlength=shape[0])[members.row]
    return sparse.csr_matrix((weights.astype(np.float32), (members.row, columns)), shape=shape)


def reciprocal(nearest: Numbers) -> Any:
    """Which images are among the nearest of each other: symmetric CSR [N, N] of ones."""
    forward = _of_each(nearest, np.ones(len(nearest), np.int32))
    return forward.multiply(forward.T).tocsr()


def averaged(encoded: Any, nearest: Numbers) -> Any:
    """The mean of the rows of each image's nearest, itself among them (equation 11); -1 is none."""
    from scipy import sparse

    mean = _of_each(nearest, 1 / (nearest >= 0).sum(1, dtype=np.float32))
    blocks = [mean[begin : begin + _ROWS] @ encoded for begin in range(0, len(nearest), _ROWS)]
    return sparse.vstack(blocks, format="csr")


def _of_each(nearest: Numbers, values: NDArray[Any]) -> Any:
    """CSR [N, N] with an image's value at each of its nearest; -1 is none."""
    from scipy import sparse

    there = nearest >= 0
    starts = np.concatenate([[0], np.cumsum(there.sum(1))])
    count = len(nearest)
    return sparse.csr_matrix((np.repeat(values, np.diff(starts)), nearest[there], starts), shape=(count, count))


def _products(vectors: Floats, rows: Numbers, columns: Numbers) -> Floats:
    """Inner products of pairs of rows, a bounded number of pairs at a time."""
    result = np.empty(len(rows), dtype=np.float32)
    size = max(1, _SLAB_BYTES // (8 * vectors.shape[1]))
    for begin in range(0, len(rows), size):
        part = slice(begin, begin + size)
        result[part] = np.einsum("nd,nd->n", vectors[rows[part]], vectors[columns[part]])
    return result


def _shared(asking: Any, answering: Any, number: int) -> Floats:
    """Sum of the minima of one row of `asking` (CSR) and every row of `answering` (CSC), float32 [G]."""
    own = slice(asking.indptr[number], asking.indptr[number + 1])
    columns, weights = asking.indices[own], asking.data[own]
    starts = answering.indptr[columns].astype(np.int64)
    counts = answering.indptr[columns + 1] - starts
    places = np.repeat(starts - np.cumsum(counts) + counts, counts) + np.arange(counts.sum())
    least = np.minimum(answering.data[places], np.repeat(weights, counts))
    sums = np.bincount(answering.indices[places], weights=least, minlength=answering.shape[0])
    return sums.astype(np.float32)
