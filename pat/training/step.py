"""One training step, as a function of what it changes, a batch, and its place in the run.

The loop takes it, and so does whoever measures it: `phase` marks its parts by their names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pat.config import LossConfig, TrainConfig
from pat.data.augment import Augmentation
from pat.data.batches import Batch
from pat.losses import (
    MemoryBank,
    batch_hard_triplet,
    cross_id_similarity,
    distillation,
    identity_loss,
    soft_targets,
    supervised_contrastive,
)
from pat.model import PartAwareTransformer
from pat.training.distributed import Ranks
from pat.training.draws import Draws, draw, generator_of
from pat.training.regularisers import TERMS, Regularisers
from pat.training.state import TrainingState

Phase = Callable[[str], AbstractContextManager[Any]]
"""Entered with the name of a part of the step, one of PHASES, for as long as that part lasts."""

PHASES = ("data", "forward", "CSL", "backward", "optimiser")
"""`data` is drawing and augmenting, and reading where the caller marks it; `forward` the network, BNNeck, identity
and triplet loss; `CSL` the bank's update, the search in it and the soft targets."""


OWN_TERMS = ("identity", "triplet", "csl", "contrastive", "distill")
"""Of `LossConfig` weights and of `Losses` values, as TERMS are; the sums of both are added."""


@dataclass(frozen=True)
class Losses:
    """The terms of one step, each float32 []; `loss`, their weighted sum, carries the gradient."""

    loss: Tensor
    identity: Tensor
    triplet: Tensor
    csl: Tensor
    contrastive: Tensor
    distill: Tensor
    camera: Tensor
    alignment: Tensor
    uniformity: Tensor
    domain_uniformity: Tensor

    def row(self) -> Tensor:
        """The terms as one tensor without gradient, for `by_term`."""
        return torch.stack([getattr(self, term.name) for term in fields(self)]).detach().float()

    @classmethod
    def by_term(cls, row: Iterable[float]) -> dict[str, float]:
        """The numbers of a `row` of terms by their names."""
        return {term.name: float(value) for term, value in zip(fields(cls), row, strict=True)}


def training_losses(
    model: PartAwareTransformer,
    bank: MemoryBank | None,
    bank_labels: Tensor | None,
    images: Tensor,
    labels: Tensor,
    slots: Tensor,
    draws: Draws,
    config: LossConfig,
    amp: torch.dtype | None,
    ranks: Ranks,
    phase: Phase = nullcontext,
    *,
    scale: float,
    taught: Tensor | None = None,
    regularisers: Regularisers | None = None,
) -> Losses:
    """Forward pass and losses of a batch; the memory bank moves first, then the loss is computed, or as
    `config.bank_update` says.

    images float [b, 3, H, W] in [0, 1] and draws: of this rank's rows, with `config.alignment` of two views, one
    after the other; labels, slots int64 [B]: class, and number among the training images, of the global batch.
    `bank` is None without CSL and PSD, and this rank's shard otherwise; `scale` multiplies its distances. `taught`
    [M, D] are a teacher's embeddings of all training images, where there is one. `amp` is the autocast dtype of
    the network; losses are float32, those of the global batch on every rank.
    """
    with phase("forward"):
        with torch.autocast(images.device.type, dtype=amp, enabled=amp is not None):
            global_feature, part_features = model.features(images, draws.regions, draws.drop_path, draws.style)
        # Ranks meet here: all below sees the global batch, [B, D] and [B, P, D].
        global_feature, part_features = ranks.gather(global_feature.float(), part_features.float())
        changed = None
        if config.alignment:
            global_feature, changed = global_feature.chunk(2)
            part_features = part_features[: len(labels)]
        logits = model.classify(global_feature)
    terms = dict.fromkeys((*OWN_TERMS, *TERMS), global_feature.new_zeros(()))

    targets = None
    if bank is not None:
        assert bank_labels is not None
        with phase("CSL"):
            parts = part_features.transpose(0, 1)  # [P, B, D]
            if config.bank_update == "before":
                bank.update(slots, parts)
            slot_labels = bank.of_slots(bank_labels)
            terms["csl"], neighbours = cross_id_similarity(
                parts if config.csl else parts.detach(),
                bank,
                slots,
                k=config.k,
                scale=scale,
                identities=labels if config.other_identities else None,
                bank_identities=slot_labels if config.other_identities else None,
                impl=config.neighbours,  # type: ignore[arg-type]  # "auto" was resolved by the command line
                merge=ranks.merge,
            )
            if config.psd and logits is not None:
                targets = soft_targets(neighbours, slot_labels, labels, logits.shape[1], config.psd_mix)
            if config.bank_update == "after":
                bank.update(slots, parts)

    with phase("forward"):
        if logits is not None:
            terms["identity"] = identity_loss(
                logits, labels, targets, smoothing=config.label_smoothing, share=config.psd
            )
        if config.triplet:
            terms["triplet"] = batch_hard_triplet(global_feature, labels)
        if config.contrastive:
            terms["contrastive"] = supervised_contrastive(global_feature, labels, config.temperature)
        if taught is not None:
            terms["distill"] = distillation(global_feature, slots, taught, config.temperature)
        if regularisers is not None:
            terms |= regularisers(global_feature, changed, labels, slots)
        own, others = (sum(getattr(config, name) * terms[name] for name in names) for names in (OWN_TERMS, TERMS))
        return Losses(loss=own + others, **terms)


def training_step(
    config: TrainConfig,
    state: TrainingState,
    augmentation: Augmentation,
    batch: Batch,
    ranks: Ranks,
    *,
    epoch: int,
    step: int,
    phase: Phase = nullcontext,
) -> Tensor:
    """One optimiser step, number `step` of `epoch`; `state` moves, a row of Losses stays on the device.

    The model is in training mode and the learning rate is set.
    """
    with phase("data"):
        images_in_batch = len(batch.labels) * (2 if config.loss.alignment else 1)
        generator = generator_of(config.seed, epoch, step)
        one_region = config.augment.regions == "batch"
        draws = draw(state.model, augmentation, images_in_batch, generator, one_region=one_region)
        draws, pixels = draws.of(ranks.rows(images_in_batch)), batch.pixels
        if config.loss.alignment:
            draws, pixels = draws.two_views(), pixels.repeat(2, 1, 1, 1)
        draws = draws.to(ranks.device)  # not inside the network: a captured graph takes nothing from the host
        images = augmentation.apply(pixels, draws.augment)
        if state.model.image_size != images.shape[2:]:
            images = F.interpolate(images, state.model.image_size, mode="bilinear", antialias=True)
    losses = training_losses(
        state.model,
        state.bank if epoch >= config.loss.csl_start else None,
        state.bank_labels,
        images,
        batch.labels,
        batch.slots,
        draws,
        config.loss,
        state.amp,
        ranks,
        phase,
        scale=state.csl_scale,
        taught=None if state.taught is None else state.taught.embeddings,
        regularisers=state.regularisers,
    )
    with phase("backward"):
        state.optimiser.zero_grad(set_to_none=True)
        state.scaler.scale(losses.loss / ranks.count).backward()
        ranks.sum_gradients(state.model.parameters())
    with phase("optimiser"):
        if config.optim.clip_norm:
            state.scaler.unscale_(state.optimiser)
            nn.utils.clip_grad_norm_(state.model.parameters(), config.optim.clip_norm)
        state.scaler.step(state.optimiser)
        state.scaler.update()
        if state.ema is not None:
            state.ema.update_parameters(state.model)
    return losses.row()
