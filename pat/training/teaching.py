"""What a teacher says to the training images: embedded once, before the first step."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from pat.base.progress import Progress
from pat.config import DataConfig
from pat.data.pixels import read_images
from pat.evaluation.extract import Embedder, extract
from pat.training.data import TrainingData
from pat.training.distributed import Ranks


@dataclass(frozen=True)
class Teacher:
    """A frozen model to learn from."""

    embed: Embedder
    image_size: tuple[int, int]


def taught_embeddings(
    teacher: Teacher, data: TrainingData, config: DataConfig, width: int, ranks: Ranks, progress: Progress
) -> Tensor:
    """The teacher's embeddings of the training images, float32 [M, width] of unit length.

    They are turned onto their `width` principal axes, uncentred, because that changes their cosines least; a
    teacher with fewer numbers than that gets zeros behind them.
    """
    training = data.training
    pixels = read_images(training.samples, teacher.image_size, config, progress).pixels
    with progress.bar("ask the teacher", len(pixels)) as advance:
        embedder = ranks.sharing(teacher.embed)
        identities, cameras = training.labels, training.cameras
        found = extract(embedder, pixels, identities, cameras, progress=lambda done: advance(done, ""))
    vectors = torch.from_numpy(found.vectors)
    axes = torch.linalg.eigh(vectors.T @ vectors).eigenvectors.flip(1)[:, :width]  # [D, at most width]
    turned = vectors @ axes
    kept = float(turned.square().sum(1).mean())
    progress.say(f"teacher: {vectors.shape[1]} numbers, {kept:.2%} of their length along the student's {width}")
    return F.normalize(F.pad(turned, (0, width - turned.shape[1])), dim=1).to(ranks.device)
