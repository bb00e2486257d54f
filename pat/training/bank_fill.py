"""The pass that fills the memory bank before the first step."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from pat.base.progress import Progress
from pat.config import TrainConfig
from pat.data.augment import Augmentation
from pat.model import PartAwareTransformer
from pat.model.images import to_images
from pat.model.regions import random_regions
from pat.training.batches import Batch, read_batches
from pat.training.data import TrainingData
from pat.training.distributed import Ranks
from pat.training.state import TrainingState
from pat.training.step import Draws


@torch.no_grad()
def fill_bank(
    config: TrainConfig,
    data: TrainingData,
    state: TrainingState,
    augmentation: Augmentation,
    ranks: Ranks,
    progress: Progress,
    stop: Callable[[], bool],
) -> bool:
    """Set every slot to its image's part features; False when `stop` asked to leave off.

    In evaluation mode: plain images, full bands. In training mode, as the authors do: augmented images, random
    regions, stochastic depth.

    Each rank embeds the images whose slots it holds, so nothing is exchanged. Random numbers are drawn for
    whole batches, which gives an image the same ones whatever the number of ranks.
    """
    bank, model = state.bank, state.model
    assert bank is not None
    as_trained = config.loss.bank_fill == "train"
    model.train(as_trained)
    generator = torch.Generator().manual_seed(config.seed)
    size, count = config.identities_per_batch * config.images_per_identity, len(data.training.samples)
    with progress.bar("fill bank", len(bank.shard)) as advance:
        for start in range(0, count, size):
            indices = np.arange(start, min(start + size, count))
            rows = slice(*np.searchsorted(indices, (bank.shard.start, bank.shard.stop)).tolist())
            draws = _draw(model, augmentation, len(indices), generator) if as_trained else None
            if rows.start == rows.stop:
                continue
            (batch,) = read_batches(data.pixels, data.training.labels, indices[None, rows], ranks.device)
            bank.fill(batch.slots, _part_features(state, augmentation, batch, draws and draws.of(rows)))
            advance(len(batch.slots), "")
            if stop():
                return False
    return True


def _draw(
    model: PartAwareTransformer, augmentation: Augmentation, images: int, generator: torch.Generator
) -> Draws:
    """The random numbers of a batch; regions for each image, also where training draws one for all."""
    return Draws(
        augmentation.draw(images, generator),
        random_regions(model.host_bands, images, generator),
        model.draw_drop_path(images, generator),
    )


def _part_features(state: TrainingState, augmentation: Augmentation, batch: Batch, draws: Draws | None) -> Tensor:
    """[P, B, D]"""
    device = batch.pixels.device
    if draws is None:
        images, regions, drop_path = to_images(batch.pixels, device), None, None
    else:
        images = augmentation.apply(batch.pixels, draws.augment.to(device))
        regions, drop_path = draws.regions, draws.drop_path
    with torch.autocast(device.type, dtype=state.amp, enabled=state.amp is not None):
        _, parts = state.model.features(images, regions, drop_path)
    return parts.transpose(0, 1)
