"""Batches read from the memory-mapped cache on one core, as training reads them, without a step in between.

    python -m pytest bench/test_cache.py

The images were written just before, so they lie in the system's memory, as they do after the first epoch where
there is room for them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from kernels.timing import DEVICE, ON_GPU
from pat.config import ModelConfig
from pat.data.batches import read_batches
from pat.data.cache import cached_images
from pat.synthetic.flat import generate

IMAGES, BATCH, STEPS = 4096, 64, 256  # 400 MB: beyond any core's cache


@pytest.fixture(scope="module")
def pixels(tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    """uint8 [4096, 256, 128, 3] from the cache; drawn people, each file named several times."""
    folder = tmp_path_factory.mktemp("cache")
    people = {"identities_train": 16, "identities_test": 0, "cameras": 4, "images_per_camera": 2}
    generate(folder / "people", style="source", workers=1, **people)  # type: ignore[arg-type]
    paths = sorted((folder / "people").rglob("*.jpg"))
    repeated: list[Path] = (paths * -(-IMAGES // len(paths)))[:IMAGES]
    return cached_images(repeated, ModelConfig().image_size, folder / "cache").pixels


@pytest.fixture
def one_core() -> Iterator[None]:
    cores, threads = os.sched_getaffinity(0), torch.get_num_threads()
    os.sched_setaffinity(0, {min(cores)})
    torch.set_num_threads(1)
    yield
    os.sched_setaffinity(0, cores)
    torch.set_num_threads(threads)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system cannot keep a process on one core")
@pytest.mark.usefixtures("one_core")
def test_reading_batches(pixels, measure_images):
    """The bytes of every image arrive on the device: on a GPU through pinned memory."""
    labels = np.zeros(IMAGES, dtype=np.int64)
    steps = np.random.default_rng(0).integers(0, IMAGES, (STEPS, BATCH))

    def read() -> int:
        found = sum(len(batch.pixels) for batch in read_batches(pixels, labels, steps, DEVICE))
        if ON_GPU:
            torch.cuda.synchronize()
        return found

    assert read() == STEPS * BATCH
    facts = {"shape": f"{STEPS} x B={BATCH} 256x128, one core", "dtype": "uint8", "implementation": "ours"}
    measure_images(read, STEPS * BATCH, rounds=5, operation="cache to batches", **facts)
