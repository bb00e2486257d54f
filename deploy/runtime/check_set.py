"""The check set of a bundle: images and what the PyTorch model says to them. Any backend must agree."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from export.manifest import Manifest
from pat.base.errors import UserError

TARGETS = {"fp32": 0.9999, "fp16": 0.999, "bf16": 0.999, "int8": 0.99, "fp8": 0.99}
"""Smallest cosine to the PyTorch model that every check image must reach, where the manifest names none."""


def read_check_set(manifest: Manifest) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Images uint8 [n, H, W, 3] and the PyTorch model's embeddings float32 [n, D], hash-checked.

    Raises UserError when they are missing, changed, or not what the manifest describes.
    """
    path = manifest.file(manifest.check_set)
    try:
        with np.load(path, allow_pickle=False) as arrays:
            inputs, embeddings = arrays["inputs"], arrays["embeddings"]
    except (OSError, KeyError, ValueError) as error:
        raise UserError(f"{path} cannot be read as a check set ({error}); export the bundle again") from error
    shape = (len(inputs), manifest.input.height, manifest.input.width, 3)
    if inputs.shape != shape or embeddings.shape != (len(inputs), manifest.output.size):
        raise UserError(
            f"{path} holds inputs {list(inputs.shape)} and embeddings {list(embeddings.shape)}, which the "
            "manifest does not describe; export the bundle again"
        )
    return inputs, embeddings


def target(manifest: Manifest) -> float:
    """The cosine that every image must reach in the precision of this bundle."""
    return manifest.precision.target or TARGETS[manifest.precision.name]
