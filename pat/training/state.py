"""Everything that a training step changes, built from the configuration."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from timm.scheduler import CosineLRScheduler
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from pat.base.errors import UserError
from pat.base.progress import Progress
from pat.config import TrainConfig
from pat.data.sources import TrainingSet
from pat.device import describe, multiplies_bfloat16
from pat.losses import MemoryBank
from pat.losses.small_bank import SmallBank, images_of_quota
from pat.model import PartAwareTransformer
from pat.model import weights as model_weights
from pat.training.distributed import Ranks
from pat.training.optimiser import build_optimiser, build_schedule
from pat.training.regularisers import TERMS, Regularisers
from pat.training.teaching import Teachings, start_as_slice


@dataclass
class TrainingState:
    """Model, memory bank, optimiser and their companions on the training device."""

    model: PartAwareTransformer
    bank: MemoryBank | None
    """This rank's shard; None where neither CSL nor PSD asks for a bank."""
    bank_labels: Tensor | None
    """int64 [N]: the class of each training image."""
    optimiser: torch.optim.Optimizer
    schedule: CosineLRScheduler
    csl_scale: float
    """What multiplies the squared distances of CSL; 0 until it is measured."""
    scaler: torch.amp.GradScaler
    ema: AveragedModel | None
    amp: torch.dtype | None
    regularisers: Regularisers | None = None
    """None where no other method's loss is asked for."""
    taught: Teachings | None = None
    """Where there is a teacher."""

    @property
    def evaluated(self) -> PartAwareTransformer:
        """The weights that are scored and saved: the average where one is kept."""
        return self.model if self.ema is None else cast(PartAwareTransformer, self.ema.module)

    def weights_digest(self) -> str:
        """A hash of the model's parameters and buffers."""
        digest = hashlib.sha256()
        for tensor in self.model.state_dict().values():
            digest.update(tensor.flatten().cpu().view(torch.uint8).numpy().data)
        return digest.hexdigest()

    def saved_parts(self, ranks: Ranks) -> dict[str, Any]:
        """The objects whose state a checkpoint keeps, by name; the bank with all its slots."""
        return {
            "model": self.model,
            "optimiser": self.optimiser,
            "scaler": self.scaler if self.scaler.is_enabled() else None,
            "bank": None if self.bank is None else ranks.whole(self.bank),
            "ema": self.ema,
            "regularisers": self.regularisers,
            "taught": self.taught,
        }


def build_state(
    config: TrainConfig, training: TrainingSet, ranks: Ranks, progress: Progress, pixels: np.ndarray | None = None
) -> TrainingState:
    """Model with its starting weights, and what trains it. Raises UserError when the weights do not fit.

    pixels uint8 [M, H, W, 3] of the training images, for a slice of the teacher.
    """
    device, slots = ranks.device, len(training.samples)
    model = _starting_model(config, training, ranks, progress, pixels).to(device)

    bank = bank_labels = None
    if config.model.parts and (config.loss.csl or config.loss.psd):
        if slots < ranks.count:
            raise UserError(f"{slots} training images are too few for {ranks.count} ranks, which share their bank")
        labels = torch.from_numpy(training.labels)
        bank, bank_labels = _memory_bank(config, labels, model.dim, ranks).to(device), labels.to(device)

        if (config.loss.bank_quota or config.loss.bank_queue) and bank.size == slots:
            progress.say(f"note: the bank has a slot for each of the {slots} images, as without quota or queue")
        if config.loss.k >= bank.size:
            all_slots = f"takes all {bank.size} slots for neighbours"
            progress.say(f"note: --loss.k {config.loss.k} {all_slots}: CSL says nothing then")

    amp = amp_dtype(config.amp, device)
    scaler = torch.amp.GradScaler(device.type, enabled=amp == torch.float16)
    optimiser = build_optimiser(model, config.optim, scaled=scaler.is_enabled())
    regularisers = None
    if any(getattr(config.loss, term) for term in TERMS):
        regularisers = Regularisers(config.loss, training, model.dim).to(device)
        if learned := list(regularisers.parameters()):
            optimiser.add_param_group({"params": learned, "lr": config.optim.lr, "weight_decay": 0.0})
    ema = None
    if config.ema:
        ema = AveragedModel(model, multi_avg_fn=exponential_average(config.ema), use_buffers=True)
    if config.compile != "off":
        model.features = torch.compile(model.features, mode=config.compile)  # type: ignore[method-assign]
    places = describe(device) + (f" and {ranks.count - 1} more ranks" if ranks.count > 1 else "")
    precision = str(amp or torch.float32).removeprefix("torch.")
    search = f"{config.loss.neighbours}, bank read in {config.loss.bank_read}" if bank is not None else "none"
    progress.say(
        f"device: {places}; precision: {precision}; attention: {config.model.attention}; neighbours: {search}"
    )
    return TrainingState(
        model, bank, bank_labels, optimiser, build_schedule(optimiser, config.optim),
        config.loss.scale * 768 / model.dim, scaler, ema, amp, regularisers,
    )  # fmt: skip


def _starting_model(
    config: TrainConfig, training: TrainingSet, ranks: Ranks, progress: Progress, pixels: np.ndarray | None
) -> PartAwareTransformer:
    """The model on the CPU with its starting weights, and fixed what is not to learn; see `build_state`."""
    if config.model.identities not in (0, training.identities):
        raise UserError(
            f"model.identities is {config.model.identities}, but the source has {training.identities} identities; "
            "leave it at 0 and it follows the source"
        )
    torch.manual_seed(config.seed)
    identities = training.identities if config.loss.identity else 0
    model = PartAwareTransformer(dataclasses.replace(config.model, identities=identities))
    if not config.resume:
        if config.weights == "teacher":
            assert pixels is not None
            done = start_as_slice(model, config, pixels)
        else:
            done = model_weights.initialise(model, config.weights)
        for line in done:
            progress.say(line)
    if config.weights != "none" and config.optim.freeze_patch_projection:
        model.freeze_patches()
    elif config.model.stem != "projection" and ranks.count > 1:
        raise UserError(
            f"model.stem {config.model.stem} is trained on one process alone: its batch normalisation would "
            "see each rank's images apart; on several it must be pretrained and stay frozen"
        )
    if not 0 <= config.optim.freeze_blocks < len(model.blocks):
        asked = config.optim.freeze_blocks
        raise UserError(f"optim.freeze_blocks is {asked}; some of the {len(model.blocks)} blocks must learn")
    model.freeze_blocks(config.optim.freeze_blocks)
    return model


def _memory_bank(config: TrainConfig, labels: Tensor, dim: int, ranks: Ranks) -> MemoryBank:
    """With a slot for each image, or with those that `bank_quota` or `bank_queue` leave."""
    loss, parts, images = config.loss, config.model.parts, len(labels)
    how: dict[str, Any] = {"momentum": loss.momentum, "read_dtype": getattr(torch, loss.bank_read)}
    generator = torch.Generator().manual_seed(config.seed)
    if loss.bank_quota:
        return SmallBank(parts, images_of_quota(labels, loss.bank_quota, generator), images, dim, **how)
    if loss.bank_queue:
        kept = torch.randperm(images, generator=generator)[: loss.bank_queue]
        return SmallBank(parts, kept, images, dim, queue=True, **how)
    return MemoryBank(parts, images, dim, shard=ranks.shard(images), **how)


def exponential_average(decay: float) -> Callable[[Any, Any, Any], None]:
    """What AveragedModel calls for tensors of one type: averages of numbers, copies of what counts or places."""
    average = get_ema_multi_avg_fn(decay)

    def update(averages: Any, values: Any, count: Any) -> None:
        if averages[0].is_floating_point():
            average(averages, values, count)
        else:  # an average of whole numbers is cut off, and a band would end a row early
            torch._foreach_copy_(averages, values)

    return update


def amp_dtype(asked: str, device: torch.device) -> torch.dtype | None:
    """The autocast dtype: "auto" is bfloat16 where the device has it; else float16 on a GPU, none on a CPU."""
    if asked == "off" or (asked == "auto" and device.type != "cuda" and not multiplies_bfloat16()):
        return None
    if asked == "auto" and device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if native else torch.float16
    return torch.float16 if asked == "float16" else torch.bfloat16
