"""Samples together with their pixels, as training and evaluation read them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pat.base.progress import Progress, totals
from pat.config import TargetConfig
from pat.data.cache import cached_images
from pat.data.sample import Sample


@dataclass(frozen=True)
class Images:
    """The readable images of a list of samples."""

    samples: tuple[Sample, ...]
    pixels: np.ndarray
    """uint8 [N, H, W, 3], RGB, memory-mapped; row i belongs to sample i"""
    kept: np.ndarray
    """int64 [N]: places of the readable samples in the list asked for"""

    @property
    def identities(self) -> np.ndarray:
        """int64 [N]"""
        return np.array([sample.identity for sample in self.samples], dtype=np.int64)

    @property
    def cameras(self) -> np.ndarray:
        """int64 [N]"""
        return np.array([sample.camera for sample in self.samples], dtype=np.int64)


def read_images(
    samples: Sequence[Sample], size: tuple[int, int], config: TargetConfig, progress: Progress
) -> Images:
    """The images at `size` (height, width) from the cache, decoded into it where they are missing.

    Raises UserError for an unreadable one, unless `config.on_error` says to skip: then each is named.
    """
    paths = [sample.path for sample in samples]
    with progress.bar("decode", len(paths)) as advance:
        images = cached_images(paths, size, config.cache, on_error=config.on_error, progress=totals(advance))
    for path, reason in images.broken:
        progress.say(f"skipped {path}: {reason}")
    return Images(tuple(samples[index] for index in images.kept), images.pixels, images.kept)


def samples_of(paths: Sequence[Path]) -> list[Sample]:
    """Samples of images whose identity and camera nobody knows."""
    return [Sample(path, identity=0, camera=0, domain="") for path in paths]
