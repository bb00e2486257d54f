"""The gallery in a folder: 50,000 identities of 768 numbers, as the camera process uses it.

    python -m pytest bench/test_gallery.py

p50 and p99 of a search, with and without conditions, alone and while four threads add; adding, beside one fsync;
forgetting, and how long others wait for it; opening; what it costs to import; and whether it finds what a
comparison with every vector finds. PAT_BENCH_ENTRIES=500000 takes another size.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deploy.gallery import Gallery

ENTRIES, DIMENSION, CAMERAS = int(os.environ.get("PAT_BENCH_ENTRIES", "50000")), 768, 8
SEARCHES = 300
ROOT = Path(__file__).resolve().parents[1]

LIMITS: dict[str, dict[str, Any]] = {
    "everything": {},
    "other cameras": {"exclude_camera": "camera 3"},
    "one camera": {"camera": "camera 3"},
    "last hour of 24": {"since": -3600.0},
    "last 12 hours of 24": {"since": -43_200.0},
    "without 12 people": {"exclude_identities": [f"person {row}" for row in range(12)]},
}


def people(seed: int = 0) -> np.ndarray:
    """Unit vectors [ENTRIES, DIMENSION] f32, in no order: 5,000 people seen ten times each, who share a direction.

    Embeddings of a real model are so: any two lie within a cosine of about 0.6, two of one person of about 0.9.
    """
    rng = np.random.default_rng(seed)
    person = rng.standard_normal((ENTRIES // 10, DIMENSION), dtype=np.float32)
    view = rng.standard_normal((ENTRIES, DIMENSION), dtype=np.float32)
    vectors = np.repeat(person, 10, axis=0) + 0.4 * view + 1.3 * rng.standard_normal(DIMENSION, dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors[rng.permutation(ENTRIES)]


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    return people()


@pytest.fixture(scope="module")
def gallery(tmp_path_factory: pytest.TempPathFactory, vectors: np.ndarray) -> Iterator[Gallery]:
    """A gallery of a day, which has just been filled."""
    path = tmp_path_factory.mktemp("bench") / "gallery"
    with Gallery.open(path, dimension=DIMENSION, model="bench", retention=2 * 86_400.0) as opened:
        begin = time.perf_counter()
        fill(opened, vectors)
        opened.filled_in = time.perf_counter() - begin  # type: ignore[attr-defined]
        yield opened


def fill(gallery: Gallery, vectors: np.ndarray) -> None:
    now = time.time()
    for begin in range(0, len(vectors), 500):
        rows = range(begin, min(begin + 500, len(vectors)))
        gallery.add(
            vectors[begin : begin + 500],
            identity=[f"person {row}" for row in rows],
            camera=[f"camera {row % CAMERAS}" for row in rows],
            time=[now - 86_400 * (row % 997) / 997 for row in rows],
        )


def record_quantiles(benchmark: Any) -> None:
    if benchmark.stats is None:  # --benchmark-disable
        return
    times = np.array(benchmark.stats.stats.data) * 1e3
    for quantile in (50, 99):
        benchmark.extra_info[f"p{quantile} ms"] = round(float(np.percentile(times, quantile)), 3)


def queries(vectors: np.ndarray) -> Callable[[], tuple[tuple[np.ndarray], dict[str, Any]]]:
    """Arguments of one search after the other: a new view of somebody in the gallery."""
    rng = np.random.default_rng(1)

    def one() -> tuple[tuple[np.ndarray], dict[str, Any]]:
        query = vectors[rng.integers(len(vectors))] + 0.01 * rng.standard_normal(DIMENSION, dtype=np.float32)
        return (query / np.linalg.norm(query),), {}

    return one


@pytest.mark.benchmark(group=f"gallery search, {ENTRIES:,} x {DIMENSION}")
@pytest.mark.parametrize("writers", [0, 4])
@pytest.mark.parametrize("limits", LIMITS)
def test_search(benchmark, gallery, vectors, limits, writers) -> None:
    asked = dict(LIMITS[limits])
    if "since" in asked:
        asked["since"] += time.time()
    with writing(gallery, vectors, writers):
        found = benchmark.pedantic(
            lambda query: gallery.search(query, 10, **asked),
            setup=queries(vectors), rounds=SEARCHES, warmup_rounds=5,
        )  # fmt: skip
    record_quantiles(benchmark)
    assert len(found) == 10


@contextlib.contextmanager
def writing(gallery: Gallery, vectors: np.ndarray, writers: int) -> Iterator[list[float]]:
    """Threads that add an entry every 20 ms, and what each took."""
    stop, took = threading.Event(), []

    def write(number: int) -> None:
        row = number
        while not stop.wait(0.02):
            begin = time.perf_counter()
            gallery.add(vectors[row : row + 1], identity=f"writer {number}", camera="camera 1", time=time.time())
            took.append(time.perf_counter() - begin)
            row = (row + writers) % len(vectors)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(writers)]
    for thread in threads:
        thread.start()
    try:
        yield took
    finally:
        stop.set()
        for thread in threads:
            thread.join()


@pytest.mark.benchmark(group=f"gallery search, {ENTRIES:,} x {DIMENSION}")
def test_search_by_numpy(benchmark, vectors) -> None:
    """The floor: one product with all vectors, and the ten best."""

    def nearest(query: np.ndarray) -> np.ndarray:
        cosines = vectors @ query
        best = np.argpartition(cosines, -10)[-10:]
        return best[np.argsort(-cosines[best])]

    benchmark.pedantic(nearest, setup=queries(vectors), rounds=SEARCHES, warmup_rounds=5)
    record_quantiles(benchmark)


@pytest.mark.parametrize("kind", ["people", "without any likeness"])
def test_recall(gallery, vectors, record_property, kind) -> None:
    """The ten nearest are those of a comparison with every vector, in fp32."""
    one = queries(vectors)
    asked = np.concatenate([one()[0] for _ in range(200)]).reshape(200, DIMENSION)
    if kind != "people":
        asked = np.random.default_rng(2).standard_normal((200, DIMENSION)).astype(np.float32)
        asked /= np.linalg.norm(asked, axis=1, keepdims=True)
    exact = np.sort(asked @ vectors.T, axis=1)[:, :-11:-1]  # [200, 10]
    found = np.array([[match.score for match in gallery.search(query, 10)] for query in asked])
    recall = float((found >= exact[:, 9:] - 1e-6).mean())
    record_property("recall@10", recall)
    print(f"recall@10 of {kind}: {recall:.4f}; largest error of a cosine: {np.abs(found - exact).max():.1e}")
    assert recall >= 0.99


@pytest.mark.benchmark(group="gallery add")
def test_add_one(benchmark, gallery, vectors) -> None:
    rows = iter(range(len(vectors)))

    def add() -> None:
        row = next(rows)
        gallery.add(vectors[row : row + 1], identity="somebody", camera="camera 1", time=time.time())

    benchmark.pedantic(add, rounds=200, warmup_rounds=5)
    record_quantiles(benchmark)
    benchmark.extra_info["entries/s, 500 at once"] = round(ENTRIES / gallery.filled_in)


@pytest.mark.benchmark(group="gallery, other work")
def test_count(benchmark, gallery) -> None:
    benchmark.pedantic(gallery.count, rounds=50, warmup_rounds=1)
    record_quantiles(benchmark)


@pytest.mark.benchmark(group="gallery add")
def test_fsync(benchmark, tmp_path) -> None:
    """What the disk itself takes for the bytes of one entry."""
    with open(tmp_path / "file", "wb", buffering=0) as file:

        def write() -> None:
            file.write(b"x" * 4 * DIMENSION)
            os.fsync(file)

        benchmark.pedantic(write, rounds=200, warmup_rounds=5)
    record_quantiles(benchmark)


@pytest.mark.benchmark(group="gallery, other work")
def test_forget(benchmark, gallery, vectors) -> None:
    """One person of ten entries, while others search and add."""
    for row in range(20):
        gallery.add(vectors[row : row + 10], identity=f"to forget {row}", camera="camera 1", time=time.time())
    rows, searches, stop = iter(range(20)), [], threading.Event()

    def search() -> None:
        while not stop.wait(0.002):
            begin = time.perf_counter()
            gallery.search(vectors[0], 10)
            searches.append(time.perf_counter() - begin)

    searcher = threading.Thread(target=search)
    searcher.start()
    with writing(gallery, vectors, 4) as adds:
        benchmark.pedantic(lambda: gallery.forget(f"to forget {next(rows)}"), rounds=20)
        stop.set()
        searcher.join()
    record_quantiles(benchmark)
    benchmark.extra_info["longest search meanwhile, ms"] = round(1e3 * max(searches), 1)
    benchmark.extra_info["longest add meanwhile, ms"] = round(1e3 * max(adds, default=0.0), 1)


@pytest.mark.benchmark(group="gallery, other work")
def test_open(benchmark, tmp_path, vectors) -> None:
    """Reading everything into memory, every entry's checksum compared."""
    facts: dict[str, Any] = {"dimension": DIMENSION, "model": "bench", "retention": 2 * 86_400.0}
    with Gallery.open(tmp_path / "gallery", **facts) as gallery:
        fill(gallery, vectors)
    opened: list[Gallery] = []

    def again() -> None:
        opened.append(Gallery.open(tmp_path / "gallery", **facts))

    def close() -> None:
        while opened:
            opened.pop().close()

    benchmark.pedantic(again, setup=close, rounds=5)
    close()
    record_quantiles(benchmark)


@pytest.mark.benchmark(group="gallery, other work")
def test_import(benchmark) -> None:
    """A fresh process that imports the store; the memory it takes beyond numpy."""
    used = "psutil.Process().memory_info().rss"
    program = f"import numpy, psutil; before = {used}; import deploy.gallery; print(({used} - before) / 2**20)"
    command = [sys.executable, "-c", program]

    def run() -> float:
        return float(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout)

    megabytes = benchmark.pedantic(run, rounds=3)
    benchmark.extra_info["MB beyond numpy"] = round(megabytes, 1)
