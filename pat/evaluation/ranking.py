"""CMC, mAP and mINP of a person search, exact, without sorting the gallery.

The protocol is that of Market-1501: for each query, gallery images of its identity from its camera are left
out, junk is left out altogether, and distractors stay in as wrong answers. The rank of a match is a count of
the gallery images before it, so nothing is sorted, and only a slab of the score matrix exists at a time.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pat.base.errors import Failure, UserError
from pat.data.sample import JUNK
from pat.evaluation.arrays import Floats, Indices, squared_norms

_SLAB_BYTES = 64 << 20
"""Size of the slab of scores held at a time."""

_COUNTING_LIMIT = 256
"""Matches of one query above which one sort is cheaper than a count for each."""


@dataclass(frozen=True)
class Features:
    """Embeddings of N images, and who is where.

    `vectors` float32 [N, D] (other floats are converted), `identities` and `cameras` int64 [N]. Raises
    ValueError for other shapes or kinds of array, Failure for vectors that are not finite.
    """

    vectors: Floats
    identities: Indices
    cameras: Indices

    def __post_init__(self) -> None:
        vectors = np.asarray(self.vectors)
        if vectors.ndim != 2 or not np.issubdtype(vectors.dtype, np.floating):
            raise ValueError(f"vectors must be floats [N, D], not {vectors.dtype} {list(vectors.shape)}")
        object.__setattr__(self, "vectors", np.ascontiguousarray(vectors, dtype=np.float32))
        for name in ("identities", "cameras"):
            labels = np.asarray(getattr(self, name))
            whole = np.issubdtype(labels.dtype, np.integer) or not labels.size
            if labels.shape != (len(vectors),) or not whole:
                raise ValueError(
                    f"{name} must be whole numbers [{len(vectors)}], one a vector, "
                    f"not {labels.dtype} {list(labels.shape)}"
                )
            object.__setattr__(self, name, np.ascontiguousarray(labels, dtype=np.int64))
        broken = np.flatnonzero(~np.isfinite(squared_norms(self.vectors)))
        if broken.size:
            raise Failure(
                f"{broken.size} of {len(vectors)} embeddings are NaN or infinite, the first at index "
                f"{broken[0]}: the model that made them diverged, or overflows in its precision"
            )

    def __len__(self) -> int:
        return len(self.vectors)

    def __getitem__(self, rows: slice | NDArray[Any]) -> Features:
        """The features of some images: a slice, indices, or a mask."""
        return Features(self.vectors[rows], self.identities[rows], self.cameras[rows])


@dataclass(frozen=True)
class RankingResult:
    """How well the queries found their identity in the gallery.

    `cmc` float64 [max_rank]: share of valid queries with a match among the first 1, 2, ... answers.
    `mAP`: mean average precision. `mINP`: mean of (matches) / (rank of the hardest match).
    `valid_queries`: queries that have a match at all; the means are over these.
    `average_precision` float64 [Q]: one value a query, NaN where it is not valid.
    """

    cmc: NDArray[np.float64]
    mAP: float
    mINP: float
    valid_queries: int
    average_precision: NDArray[np.float64]

    def figures(self) -> dict[str, float | int]:
        """The columns of a table; ranks only as far as the curve reaches."""
        ranks = {f"rank-{n}": float(self.cmc[n - 1]) for n in (1, 5, 10) if n <= len(self.cmc)}
        return {"mAP": self.mAP, **ranks, "mINP": self.mINP, "queries": self.valid_queries}

    def to_mapping(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        shares = {name.replace("-", ""): value for name, value in self.figures().items() if name != "queries"}
        return {**shares, "valid_queries": self.valid_queries, "cmc": self.cmc.tolist()}


def evaluate_ranking(
    query: Features,
    gallery: Features,
    *,
    max_rank: int = 50,
    device: str = "cpu",
    slab_bytes: int = _SLAB_BYTES,
    slabs: Callable[[Floats, Floats, int], Iterable[tuple[int, Floats]]] | None = None,
) -> RankingResult:
    """Rank the gallery for every query by squared Euclidean distance (for unit vectors: by cosine).

    Left out for each query: gallery images of its identity from its camera, and all of identity -1 (junk).
    Queries of identity -1 and queries left without a match are not counted. Identity 0 needs no rule:
    where it means a distractor no query carries it, so it matches nothing and stays in the ranking; where a
    query does carry it, it is a person like any other. Equal distances, as computed in float32, are ranked in the
    gallery's order; copies of an image need not be equally far, as a BLAS may round the last columns of a product
    differently. A gallery smaller than `max_rank` leaves the CMC at its last value.

    `device` "cpu" uses numpy alone; "cuda" or "cuda:1" computes with torch on that GPU. Beside the features,
    `slab_bytes` of scores are held (several times that on a GPU), and a copy of a gallery with junk in it.
    `slabs` gives another distance, on the CPU: called as `score_slabs` is, with a gallery without junk.

    Raises UserError when no query is valid or when the two sides' vectors differ in length.
    """
    _check_comparable(query, gallery)
    if (gallery.identities == JUNK).any():
        gallery = gallery[gallery.identities != JUNK]

    size = max(1, slab_bytes // (4 * max(1, len(gallery))))
    by_identity = np.argsort(gallery.identities, kind="stable")
    first = np.full(len(query), np.nan)
    average_precision = np.full(len(query), np.nan)
    inverse_penalty = np.full(len(query), np.nan)
    of_device, ranks_of = _on(device if slabs is None else "cpu")
    for begin, scores in (slabs or of_device)(query.vectors, gallery.vectors, size):
        part = slice(begin, begin + len(scores))
        rows, columns, is_match = _same_identity(query, gallery, by_identity, part)
        ranks = ranks_of(scores, rows, columns, is_match)
        per_query = _per_query(rows[is_match], ranks, len(scores))
        first[part], average_precision[part], inverse_penalty[part] = per_query

    valid = np.isfinite(first)
    count = int(valid.sum())
    if count == 0:
        raise UserError(_why_no_query_is_valid(query, gallery))
    hits = np.bincount(np.minimum(first[valid], max_rank + 1).astype(np.int64), minlength=max_rank + 2)
    return RankingResult(
        cmc=np.cumsum(hits[1 : max_rank + 1]) / count,
        mAP=float(average_precision[valid].mean()),
        mINP=float(inverse_penalty[valid].mean()),
        valid_queries=count,
        average_precision=average_precision,
    )


def rank_list(
    query: Features, gallery: Features, k: int = 10, *, leave_out: bool = True
) -> tuple[Indices, Floats]:
    """The first k answers to each query, in the order of `evaluate_ranking`.

    Returns gallery indices int64 [Q, k] and Euclidean distances float32 [Q, k]; where fewer than k images
    are allowed, -1 and inf. `leave_out=False` keeps images of the query's own identity and camera, and
    junk, in the list. Meant for a few queries: each orders the whole gallery.
    """
    _check_comparable(query, gallery)
    indices = np.full((len(query), k), -1, dtype=np.int64)
    distances = np.full((len(query), k), np.inf, dtype=np.float32)
    norms = squared_norms(query.vectors)
    size = max(1, _SLAB_BYTES // (4 * max(1, len(gallery))))
    for begin, scores in score_slabs(query.vectors, gallery.vectors, size):
        for i, row in enumerate(scores, start=begin):
            if leave_out:
                own = gallery.identities == query.identities[i]
                own &= gallery.cameras == query.cameras[i]
                row[own | (gallery.identities == JUNK)] = np.inf
            best = np.argsort(row, kind="stable")[:k]
            best = best[np.isfinite(row[best])]
            indices[i, : len(best)] = best
            distances[i, : len(best)] = np.sqrt(np.maximum(row[best] + norms[i], 0))
    return indices, distances


def _same_identity(
    query: Features, gallery: Features, by_identity: Indices, part: slice
) -> tuple[Indices, Indices, NDArray[np.bool_]]:
    """Pairs of one identity: rows within `part` of the queries, ascending; gallery columns; is it a match?

    Those that are none share the camera too. There is no junk in the gallery, so junk queries have no pairs.
    """
    wanted = query.identities[part]
    grouped = gallery.identities[by_identity]
    starts = np.searchsorted(grouped, wanted, side="left")
    counts = np.searchsorted(grouped, wanted, side="right") - starts
    rows = np.repeat(np.arange(len(wanted)), counts)
    within = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
    columns = by_identity[starts[rows] + within]
    return rows, columns, gallery.cameras[columns] != query.cameras[part][rows]


def _per_query(rows: Indices, ranks: Indices, size: int) -> tuple[NDArray[np.float64], ...]:
    """First rank, average precision and (matches / hardest rank) of `size` queries; NaN without a match.

    `ranks` count from 1; `rows` says, ascending, which query each belongs to.
    """
    ranks = ranks[np.lexsort((ranks, rows))]
    matches = np.bincount(rows, minlength=size)
    ends = np.cumsum(matches)
    found = np.arange(1, len(rows) + 1) - (ends - matches)[rows]  # 1, 2, ... within each query
    precision = np.bincount(rows, weights=found / ranks, minlength=size)
    some = matches > 0
    result = np.full((3, size), np.nan)
    result[0, some] = ranks[(ends - matches)[some]]
    result[1, some] = precision[some] / matches[some]
    result[2, some] = matches[some] / ranks[ends[some] - 1]
    return tuple(result)


def _on(device: str) -> tuple[Callable[..., Iterable[tuple[int, Any]]], Callable[..., Indices]]:
    """How a device computes scores, slab by slab, and the ranks within them."""
    if device == "cpu":
        return score_slabs, match_ranks
    from pat.evaluation import ranking_torch

    return functools.partial(ranking_torch.score_slabs, device=device), ranking_torch.match_ranks


def score_slabs(query: Floats, gallery: Floats, size: int) -> Iterator[tuple[int, Floats]]:
    """`size` queries at a time: the first one's index, and scores |g|^2 - 2 q.g [size, G] in a reused buffer.

    The squared distance without |q|^2: the same order for each query, and one rounding less.
    """
    norms = squared_norms(gallery)
    buffer = np.empty((min(size, len(query)), len(gallery)), dtype=np.float32)
    for begin in range(0, len(query), size):
        part = query[begin : begin + size]
        scores = buffer[: len(part)]
        np.matmul(part * np.float32(-2), gallery.T, out=scores)
        scores += norms
        yield begin, scores


def match_ranks(scores: Floats, rows: Indices, columns: Indices, is_match: NDArray[np.bool_]) -> Indices:
    """Ranks, from 1, of the matches among the pairs; the other pairs are moved behind everything.

    Overwrites `scores`.
    """
    scores[rows[~is_match], columns[~is_match]] = np.inf
    rows, columns = rows[is_match], columns[is_match]
    ranks = np.empty(len(rows), dtype=np.int64)
    ends = np.cumsum(np.bincount(rows, minlength=len(scores)))
    for row, begin, end in zip(scores, [0, *ends[:-1]], ends, strict=True):
        own = columns[begin:end]
        if end - begin > _COUNTING_LIMIT:
            position = np.empty(len(row), dtype=np.int64)
            position[np.argsort(row, kind="stable")] = np.arange(1, len(row) + 1)
            ranks[begin:end] = position[own]
        else:  # everything nearer, and everything as near that comes earlier: itself included
            ranks[begin:end] = [
                np.count_nonzero(row[: c + 1] <= row[c]) + np.count_nonzero(row[c + 1 :] < row[c]) for c in own
            ]
    return ranks


def _check_comparable(query: Features, gallery: Features) -> None:
    if query.vectors.shape[1] != gallery.vectors.shape[1]:
        raise UserError(
            f"the query's vectors have {query.vectors.shape[1]} numbers and the gallery's "
            f"{gallery.vectors.shape[1]}: embed both with the same model"
        )


def _why_no_query_is_valid(query: Features, gallery: Features) -> str:
    """One line for the user; `gallery` without junk."""
    nothing = "nothing can be scored: "
    if not (query.identities != JUNK).any():
        return nothing + f"there are {len(query)} query images, and none has an identity (-1 is junk)"
    if not len(gallery):
        return nothing + "the gallery is empty (images of identity -1 are junk and do not count)"
    if not np.isin(query.identities, gallery.identities).any():
        return nothing + f"none of the {len(np.unique(query.identities))} query identities is in the gallery"
    return nothing + (
        "query and gallery show every identity from the same camera, and a match must come from another one; "
        "check the camera numbers of the data set"
    )
