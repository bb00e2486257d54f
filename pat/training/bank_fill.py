"""The pass that fills the memory bank before the first step."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from pat.config import TrainConfig
from pat.data.augment import Augmentation
from pat.model.images import to_images
from pat.model.regions import random_regions
from pat.progress import Progress
from pat.training.batches import read_batches
from pat.training.data import TrainingData
from pat.training.state import TrainingState


@torch.no_grad()
def fill_bank(
    config: TrainConfig,
    data: TrainingData,
    state: TrainingState,
    augmentation: Augmentation,
    device: torch.device,
    progress: Progress,
    stop: Callable[[], bool],
) -> bool:
    """Set every slot to its picture's part features; False when `stop` asked to leave off.

    In evaluation mode: plain pictures, full bands. In training mode, as the authors do: augmented pictures, random
    regions, stochastic depth.
    """
    bank, model = state.bank, state.model
    assert bank is not None
    as_trained = config.loss.bank_fill == "train"
    model.train(as_trained)
    generator = torch.Generator().manual_seed(config.seed)
    size, count = config.identities_per_batch * config.images_per_identity, len(data.training.samples)
    with progress.bar("fill bank", count) as advance:
        for start in range(0, count, size):
            indices = np.arange(start, min(start + size, count))
            (batch,) = read_batches(data.pixels, data.training.labels, indices[None], device)
            regions = drop_path = None
            if as_trained:
                draws = augmentation.draw(len(indices), generator)
                images = augmentation.apply(batch.pixels, draws.to(device))
                regions = random_regions(model.bands.cpu(), len(indices), generator)
                drop_path = model.draw_drop_path(len(indices), generator)
            else:
                images = to_images(batch.pixels, device)
            with torch.autocast(device.type, dtype=state.amp, enabled=state.amp is not None):
                _, parts = model.features(images, regions, drop_path)
            bank.fill(batch.slots, parts.transpose(0, 1))
            advance(len(indices), "")
            if stop():
                return False
    return True
