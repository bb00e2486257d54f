"""The pass that fills the memory bank, and what is measured on a full one."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from pat.base.errors import Failure
from pat.base.progress import Progress
from pat.config import TrainConfig
from pat.data.augment import Augmentation
from pat.data.batches import Batch, read_batches
from pat.losses import MemoryBank
from pat.model.images import to_images
from pat.training.data import TrainingData
from pat.training.distributed import Ranks
from pat.training.draws import Draws, draw
from pat.training.state import TrainingState


@torch.no_grad()
def fill_bank(
    config: TrainConfig,
    data: TrainingData,
    state: TrainingState,
    augmentation: Augmentation,
    ranks: Ranks,
    progress: Progress,
    stop: Callable[[], bool],
    *,
    epoch: int = 1,
) -> bool:
    """Before `epoch`, set every slot to its image's part features; False when `stop` asked to leave off.

    In evaluation mode: plain images, full bands. In training mode, as the authors do: augmented images, random
    regions for each (also where training draws one for all), stochastic depth, MixStyle.

    Each rank embeds the images whose slots it holds, so nothing is exchanged. Random numbers are drawn for
    whole batches, which gives an image the same ones whatever the number of ranks.
    """
    bank, model = state.bank, state.model
    assert bank is not None
    as_trained = config.loss.bank_fill == "train"
    model.train(as_trained)
    generator = torch.Generator().manual_seed(config.seed + epoch - 1)
    size, count = config.identities_per_batch * config.images_per_identity, len(data.training.samples)
    with progress.bar("fill bank", len(bank.images)) as advance:
        for start in range(0, count, size):
            indices = np.arange(start, min(start + size, count))
            rows = slice(*np.searchsorted(indices, (bank.images.start, bank.images.stop)).tolist())
            draws = draw(model, augmentation, len(indices), generator) if as_trained else None
            if rows.start == rows.stop:
                continue
            (batch,) = read_batches(data.pixels, data.training.labels, indices[None, rows], ranks.device)
            bank.fill(batch.slots, _part_features(state, augmentation, batch, draws and draws.of(rows)))
            advance(len(batch.slots))
            if stop():
                return False
    return True


UNRELATED = 0.02 * 2 * 768
"""s times squared distance of unrelated features, in the paper: two outputs of a LayerNorm are 2 D apart."""


@torch.no_grad()
def measured_scale(bank: MemoryBank, ranks: Ranks) -> float:
    """The scale at which the mean squared distance of two slots of one part counts as that of unrelated features.

    Raises Failure where all slots of a part are the same.
    """
    features = bank.features.double()  # [P, M, D]
    first, second = ranks.sum(features.sum(1)), ranks.sum(features.square().sum((1, 2)))  # [P, D], [P]
    pairs = bank.size * (bank.size - 1) / 2
    distance = (bank.size * second - first.square().sum(1)) / pairs  # [P], means over pairs of different slots
    mean = float(distance.mean())
    if not mean > 1e-12:
        raise Failure(f"--loss.scale 0 cannot be measured: the part features of all images are {mean:.1g} apart")
    return UNRELATED / mean


def _part_features(state: TrainingState, augmentation: Augmentation, batch: Batch, draws: Draws | None) -> Tensor:
    """[P, B, D]"""
    device = batch.pixels.device
    if draws is None:
        images, regions, drop_path, style = to_images(batch.pixels, device), None, None, None
    else:
        draws = draws.to(device)
        images = augmentation.apply(batch.pixels, draws.augment)
        regions, drop_path, style = draws.regions, draws.drop_path, draws.style
    with torch.autocast(device.type, dtype=state.amp, enabled=state.amp is not None):
        _, parts = state.model.features(images, regions, drop_path, style)
    return parts.transpose(0, 1)
