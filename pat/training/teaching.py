"""What a teacher says to the training images: embedded once, before the first step."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pat.base.progress import Progress
from pat.config import DataConfig, TrainConfig
from pat.data.pixels import read_images
from pat.evaluation.extract import Embed
from pat.evaluation.scoring import embed_images
from pat.training.data import TrainingData
from pat.training.distributed import Ranks


@dataclass(frozen=True)
class Teacher:
    """A frozen model to learn from."""

    embed: Embed
    image_size: tuple[int, int]


class Teachings(nn.Module):
    """What a teacher said, `embeddings` float32 [M, D]: a run that goes on learns from what it began with."""

    embeddings: Tensor

    def __init__(self, embeddings: Tensor) -> None:
        super().__init__()
        self.register_buffer("embeddings", embeddings)


def teachings(
    teacher: Teacher | None, data: TrainingData, config: TrainConfig, width: int, ranks: Ranks, progress: Progress
) -> Teachings:
    """Those of a run that starts, or room for those that the checkpoint of one that goes on holds."""
    if config.resume:
        return Teachings(torch.zeros(len(data.training.samples), width, device=ranks.device))
    if teacher is None:
        raise ValueError(f"the teacher {config.teacher} is named and not given")
    return Teachings(taught_embeddings(teacher, data, config.data, width, ranks, progress))


def taught_embeddings(
    teacher: Teacher, data: TrainingData, config: DataConfig, width: int, ranks: Ranks, progress: Progress
) -> Tensor:
    """The teacher's embeddings of the training images, float32 [M, width] of unit length.

    They are turned onto their `width` principal axes, uncentred, because that changes their cosines least; a
    teacher with fewer numbers than that gets zeros behind them.
    """
    images = read_images(data.training.samples, teacher.image_size, config, progress)
    (found,) = embed_images(ranks.sharing(teacher.embed), [images], progress, label="ask the teacher")
    vectors = torch.from_numpy(found.vectors)
    axes = torch.linalg.eigh(vectors.T @ vectors).eigenvectors.flip(1)[:, :width]  # [D, at most width]
    turned = vectors @ axes
    kept = float(turned.square().sum(1).mean())
    progress.say(f"teacher: {vectors.shape[1]} numbers, {kept:.2%} of their length along the student's {width}")
    return F.normalize(F.pad(turned, (0, width - turned.shape[1])), dim=1).to(ranks.device)
