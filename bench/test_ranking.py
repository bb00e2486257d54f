"""Ranking on a CPU at the sizes of Market-1501 and MSMT17: time, its floor, and memory beyond the features.

    python -m pytest bench/test_ranking.py                       # Market-1501
    python -m pytest bench/test_ranking.py -m 'slow or not slow' # and MSMT17

The floor is what no exact ranking avoids: the product of all queries with the gallery, and one pass over it.
"""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from pat.evaluation.ranking import Features, evaluate_ranking

SIZES = {"market1501": (3368, 15913, 751, 6), "msmt17": (11659, 82161, 3060, 15)}
PARAMETERS = ["market1501", pytest.param("msmt17", marks=pytest.mark.slow)]


def unit_vectors(size: int, identities: int, cameras: int, seed: int) -> Features:
    """Random directions [size, 768], identities and cameras."""
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((size, 768), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return Features(vectors, rng.integers(1, identities + 1, size), rng.integers(0, cameras, size))


@pytest.fixture(scope="module", params=PARAMETERS)
def sides(request: pytest.FixtureRequest) -> tuple[Features, Features]:
    queries, images, identities, cameras = SIZES[request.param]
    query = unit_vectors(queries, identities, cameras, seed=0)
    return query, unit_vectors(images, identities, cameras, seed=1)


@pytest.mark.benchmark(group="ranking")
def test_ranking(benchmark, sides) -> None:
    tracemalloc.start()
    evaluate_ranking(*sides)
    beyond = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    benchmark.extra_info["peak MiB beyond the features"] = round(beyond / 2**20)
    assert beyond < 1 << 30

    result = benchmark.pedantic(evaluate_ranking, args=sides, rounds=3)
    assert result.valid_queries > 0.99 * len(sides[0])


@pytest.mark.benchmark(group="ranking")
def test_floor(benchmark, sides) -> None:
    query, gallery = sides
    buffer = np.empty((1024, len(gallery)), np.float32)

    def multiply_and_read() -> None:
        for begin in range(0, len(query), len(buffer)):
            part = query.vectors[begin : begin + len(buffer)]
            np.matmul(part, gallery.vectors.T, out=buffer[: len(part)])
            buffer[: len(part)].min(axis=1)

    benchmark.pedantic(multiply_and_read, rounds=3)
