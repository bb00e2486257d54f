"""Embeddings of a data set, by whatever embeds: torch, ONNX Runtime, TensorRT or a colour histogram."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from pat.base.errors import UserError
from pat.evaluation.ranking import Features, Floats, Indices

Pixels = NDArray[np.uint8]
Embed = Callable[[Pixels], Floats]
"""From uint8 RGB images [n, H, W, 3] to float32 vectors [n, D]."""


def extract(
    embedder: Embed,
    pixels: Pixels,
    identities: Indices,
    cameras: Indices,
    *,
    batch_size: int = 64,
    flip: bool = False,
    progress: Callable[[int], object] | None = None,
) -> Features:
    """Embed N images, `batch_size` at a time; only a batch of the pixels is in memory.

    `pixels` uint8 [N, H, W, 3], a memory map for example. With `flip` a vector is the average of the image's
    and its mirror image's, at unit length. `progress` is called with the number of images just done.

    Raises UserError when there are no images, ValueError when the embedder returns anything but floats [n, D],
    Failure when vectors are not finite.
    """
    if not len(pixels):
        raise UserError("there are no images to embed; check the folder and the split of the data set")
    vectors: Floats | None = None
    for begin in range(0, len(pixels), batch_size):
        batch = np.ascontiguousarray(pixels[begin : begin + batch_size])
        embedded = _checked(embedder(batch), len(batch))
        if flip:
            mirrored = np.ascontiguousarray(batch[:, :, ::-1])
            embedded = unit_length(embedded + _checked(embedder(mirrored), len(batch)))
        if vectors is None:
            vectors = np.empty((len(pixels), embedded.shape[1]), dtype=np.float32)
        vectors[begin : begin + len(batch)] = embedded
        if progress is not None:
            progress(len(batch))
    assert vectors is not None
    return Features(vectors, identities, cameras)


def unit_length(vectors: Floats) -> Floats:
    """Rows [n, D] divided by their Euclidean length; a row of zeros stays as it is."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors / np.where(lengths > 0, lengths, 1)).astype(np.float32)


def _checked(vectors: Floats, count: int) -> Floats:
    vectors = np.asarray(vectors)
    if vectors.ndim != 2 or len(vectors) != count or not np.issubdtype(vectors.dtype, np.floating):
        raise ValueError(
            f"the embedder returned {vectors.dtype} {list(vectors.shape)} for {count} images; "
            f"expected floats [{count}, D]"
        )
    return vectors
