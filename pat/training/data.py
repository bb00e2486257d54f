"""The training images of a run: opened, merged, some identities held out, decoded once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pat.base.errors import UserError
from pat.base.progress import Progress
from pat.config import DataConfig, TrainConfig
from pat.data.layouts import open_data_set
from pat.data.pixels import read_images
from pat.data.sampler import batches_of_epoch
from pat.data.sources import TrainingSet, merge_sources, split_holdout, subset
from pat.evaluation.scoring import EvaluationSet, decoded


@dataclass(frozen=True)
class TrainingData:
    """What a run learns from, and the held-out part of the source that it may be chosen on."""

    training: TrainingSet
    pixels: np.ndarray
    """uint8 [M, H, W, 3], memory-mapped, row i for sample i"""
    heldout: EvaluationSet | None


def batches(
    config: TrainConfig, training: TrainingSet, epoch: int, alike: np.ndarray | None = None
) -> np.ndarray:
    """Indices of the images of every step of an epoch, i64 [steps, batch]; errors as in `batches_of_epoch`."""
    return batches_of_epoch(
        training.labels, training.cameras, identities=config.identities_per_batch,
        images=config.images_per_identity, spread_cameras=config.spread_cameras, seed=config.seed, epoch=epoch,
        alike=alike,
    )  # fmt: skip


def open_training_data(
    config: DataConfig, image_size: tuple[int, int], seed: int, progress: Progress
) -> TrainingData:
    """Open and decode the sources. Raises UserError when there is nothing to train on or an image is broken."""
    if not config.source:
        raise UserError("name what to train on with --data.source (a layout such as market1501, or a folder)")
    sets = [open_data_set(spec, config.root, config.on_error) for spec in config.source]
    for data_set in sets:
        for note in data_set.notes:
            progress.say(f"note: {note}")
    training = merge_sources(sets)
    heldout = None
    if config.holdout:
        training, query, gallery = split_holdout(training, config.holdout, seed)
        heldout = decoded("the held-out source", query, gallery, image_size, config, progress)
    images = read_images(training.samples, image_size, config, progress)
    if len(images.kept) < len(training.samples):
        training = subset(training, images.kept)
    for note in training.notes:
        progress.say(f"note: {note}")
    progress.say(
        f"training on {len(training.samples)} images of {training.identities} identities, "
        f"{len(np.unique(training.cameras))} cameras"
    )
    return TrainingData(training, images.pixels, heldout)
