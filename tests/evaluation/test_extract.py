"""Extraction with any embedder."""

from __future__ import annotations

import numpy as np
import pytest

from pat.base.errors import Failure, UserError
from pat.evaluation.extract import extract


def corner_means(pixels: np.ndarray) -> np.ndarray:
    """A small embedder that tells left from right, at unit length."""
    half = pixels.shape[2] // 2
    sides = [pixels[:, :, :half].mean((1, 2)), pixels[:, :, half:].mean((1, 2))]
    vectors = np.concatenate(sides, axis=1).astype(np.float32)  # [n, 6]
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (10, 8, 4, 3), dtype=np.uint8)


LABELS = (np.arange(10), np.arange(10) % 3)


@pytest.mark.parametrize("batch_size", [1, 3, 10, 64])
def test_batches_do_not_matter(pixels: np.ndarray, batch_size: int) -> None:
    features = extract(corner_means, pixels, *LABELS, batch_size=batch_size)
    np.testing.assert_allclose(features.vectors, corner_means(pixels), rtol=1e-6)
    assert features.vectors.dtype == np.float32
    np.testing.assert_array_equal(features.cameras, LABELS[1])


def test_flip_is_the_average_with_the_mirror_image(pixels: np.ndarray) -> None:
    features = extract(corner_means, pixels, *LABELS, batch_size=4, flip=True)
    average = corner_means(pixels) + corner_means(pixels[:, :, ::-1])
    np.testing.assert_allclose(features.vectors, average / np.linalg.norm(average, axis=1)[:, None], rtol=1e-5)
    mirrored = extract(corner_means, pixels[:, :, ::-1], *LABELS, flip=True)
    np.testing.assert_allclose(mirrored.vectors, features.vectors, rtol=1e-5)


def test_reads_a_memory_map_batch_by_batch(tmp_path, pixels: np.ndarray) -> None:
    np.save(tmp_path / "pixels.npy", pixels)
    mapped = np.load(tmp_path / "pixels.npy", mmap_mode="r")
    seen, done = [], []

    def embedder(batch: np.ndarray) -> np.ndarray:
        seen.append(batch.shape)
        assert batch.flags.c_contiguous
        return corner_means(batch)

    extract(embedder, mapped, *LABELS, batch_size=4, progress=done.append)
    assert [shape[0] for shape in seen] == done == [4, 4, 2]


def test_bad_embedders_and_images(pixels: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"returned float64 \[10\] for 10 images; expected floats \[10, D\]"):
        extract(lambda batch: batch.mean((1, 2, 3)), pixels, *LABELS)
    with pytest.raises(Failure, match="10 of 10 embeddings are NaN"):
        extract(lambda batch: np.full((len(batch), 2), np.nan), pixels, *LABELS)
    with pytest.raises(UserError, match="no images"):
        extract(corner_means, pixels[:0], *(labels[:0] for labels in LABELS))
