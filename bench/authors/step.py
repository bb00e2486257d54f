"""The training step the authors' way; losses, optimiser and learning rates are those of our step."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext

import torch
from torch import Tensor

from bench.authors import network
from bench.authors.memory import ListMemory, cross_id_similarity, soft_targets
from pat.config import LossConfig, TrainConfig
from pat.losses import batch_hard_triplet, identity_loss
from pat.model import PartAwareTransformer
from pat.model.regions import random_regions
from pat.training.regularisers import TERMS
from pat.training.state import TrainingState
from pat.training.step import Losses, Phase


def training_losses(
    model: PartAwareTransformer, memory: ListMemory, memory_labels: Tensor, images: Tensor, labels: Tensor,
    paths: Sequence[str], regions: Tensor, drop_path: Tensor | None, config: LossConfig,
    amp: torch.dtype | None, phase: Phase = nullcontext,
) -> Losses:  # fmt: skip
    """images [B, 3, H, W], labels int64 [B], drop_path [depth, 2, B].

    On the host: memory_labels int64 [M], regions int32 [P, 4].
    """
    with phase("forward"):
        with torch.autocast(images.device.type, dtype=amp, enabled=amp is not None):
            global_feature, part_features = network.features(model, images, regions, drop_path)
        global_feature, part_features = global_feature.float(), part_features.float()
        logits = model.classify(global_feature)
        assert logits is not None, "training needs a classifier"
    with phase("CSL"):
        parts = part_features.transpose(0, 1)  # [P, B, D]
        memory.update(paths, parts)
        scale = config.scale * 768 / parts.shape[-1]
        csl, neighbours = cross_id_similarity(parts, memory, paths, k=config.k, scale=scale)
        targets = soft_targets(neighbours, memory_labels, labels.cpu(), logits.shape[1], config.psd_mix)
        targets = targets.to(images.device)
    with phase("forward"):
        identity = identity_loss(logits, labels, targets, smoothing=config.label_smoothing, share=config.psd)
        triplet = batch_hard_triplet(global_feature, labels)
        loss = identity + config.triplet * triplet + config.csl * csl
    nothing = torch.zeros_like(loss)
    others = dict.fromkeys(("contrastive", "distill", *TERMS), nothing)
    return Losses(loss=loss, identity=identity, triplet=triplet, csl=csl, **others)


def training_step(
    config: TrainConfig, state: TrainingState, memory: ListMemory, memory_labels: Tensor,
    batch: tuple[Tensor, Tensor, Sequence[str]], phase: Phase = nullcontext,
) -> Tensor:  # fmt: skip
    """One step on a batch as the workers give it: `state` moves. Returns the losses, a row of Losses."""
    images, labels, paths = batch
    with phase("data"):
        device = next(state.model.parameters()).device
        images, labels = images.to(device, non_blocking=True), labels.to(device, non_blocking=True)
        (regions,) = random_regions(state.model.host_bands, 1)  # one draw for all images of the batch
        drop_path = state.model.draw_drop_path(len(labels))
    losses = training_losses(
        state.model, memory, memory_labels, images, labels, paths, regions, drop_path, config.loss, state.amp,
        phase,
    )  # fmt: skip
    with phase("backward"):
        state.optimiser.zero_grad(set_to_none=True)
        state.scaler.scale(losses.loss).backward()
    with phase("optimiser"):
        state.scaler.step(state.optimiser)
        state.scaler.update()
    return losses.row()
