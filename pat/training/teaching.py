"""What a student has of its teacher: the weights that it starts from, and what it is told about every image."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pat.base.errors import UserError
from pat.base.progress import Progress
from pat.config import DataConfig, TrainConfig
from pat.data.pixels import read_images
from pat.evaluation.extract import Embed
from pat.evaluation.scoring import embed_images, spread_rows
from pat.model import PartAwareTransformer
from pat.model import weights as model_weights
from pat.model.images import embedder
from pat.model.model_file import file_at, read_description
from pat.model.slicing import BATCH, slice_into, turn_towards, why_not
from pat.training.data import TrainingData
from pat.training.distributed import Ranks


@dataclass(frozen=True)
class Teacher:
    """A frozen model to learn from."""

    embed: Embed
    image_size: tuple[int, int]


SAMPLE = 1024
"""Training images that tell which directions of a teacher matter, and where its student begins."""


def start_as_slice(student: PartAwareTransformer, config: TrainConfig, pixels: np.ndarray) -> list[str]:
    """Fill a student on the CPU with a slice of the teacher that `config` names; the lines that say what was done.

    pixels uint8 [M, H, W, 3] of the training images. Raises UserError for a teacher that is not there as a model
    file, and a student that cannot be a slice of it.
    """
    assert config.teacher is not None
    architecture = read_description(file_at(config.teacher)).config
    wide = PartAwareTransformer(
        dataclasses.replace(
            architecture, image_size=config.model.image_size, parts=config.model.parts, identities=0
        )
    )
    model_weights.initialise(wide, str(config.teacher))
    if reason := why_not(student, wide):
        raise UserError(f"--weights teacher: {reason}; --weights none starts the student at random")
    kept = slice_into(student, wide, pixels[spread_rows(len(pixels), SAMPLE)])
    return [f"weights: a slice of {config.teacher}, {kept:.2%} of the variance of its tokens"]


class Teachings(nn.Module):
    """What a teacher said, `embeddings` float32 [M, D]: a run that goes on learns from what it began with."""

    embeddings: Tensor

    def __init__(self, embeddings: Tensor) -> None:
        super().__init__()
        self.register_buffer("embeddings", embeddings)


def teachings(
    teacher: Teacher | None,
    data: TrainingData,
    config: TrainConfig,
    student: PartAwareTransformer,
    ranks: Ranks,
    progress: Progress,
) -> Teachings:
    """Those of a run that starts, or room for those that the checkpoint of one that goes on holds."""
    if config.resume:
        return Teachings(torch.zeros(len(data.training.samples), student.dim, device=ranks.device))
    if teacher is None:
        raise ValueError(f"the teacher {config.teacher} is named and not given")
    taught = taught_embeddings(teacher, data, config.data, student.dim, ranks, progress)
    if config.weights != "none":
        rows = spread_rows(len(data.pixels), SAMPLE)
        ask = ranks.sharing(embedder(student.eval(), ranks.device))  # the same bits on every rank
        said = np.concatenate([ask(data.pixels[rows[at : at + BATCH]]) for at in range(0, len(rows), BATCH)])
        taught = taught @ turn_towards(taught[rows], torch.from_numpy(said))  # axes of its own: no cosine changes
    return Teachings(taught.to(ranks.device))


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
    return F.normalize(F.pad(turned, (0, width - turned.shape[1])), dim=1)
