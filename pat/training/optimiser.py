"""Optimiser, parameter groups and the learning rate of each epoch (DESIGN: recipe)."""

from __future__ import annotations

import torch
from timm.scheduler import CosineLRScheduler
from torch import nn

from pat.config import OptimConfig


def build_optimiser(model: nn.Module, config: OptimConfig, *, scaled: bool = False) -> torch.optim.Optimizer:
    """SGD or AdamW over the parameters that take a gradient; bias vectors get their own learning rate.

    Fused into one pass over the parameters, unless gradients are `scaled` (float16): where the scaler skips the
    first step, which is what it does to find its scale, PyTorch's fused SGD keeps an uninitialised momentum. Then
    PyTorch chooses: many tensors at a time on a GPU.

    The rate falls by `layer_decay` from block to block towards the patches; the classifier may have its own.

    Under AdamW nothing one-dimensional (norms, biases) and no token decays, as is usual from scratch; under SGD
    everything does, as in the authors' recipe.
    """
    depth = len(getattr(model, "blocks", ()))
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        rate = config.lr * (config.bias_lr_factor if name.endswith("bias") else 1.0)
        rate *= config.layer_decay ** (depth - _layer(name, depth))
        exempt = config.name == "adamw" and (parameter.ndim < 2 or name.endswith(("tokens", "token", "pos_embed")))
        if config.classifier_lr and name.startswith("classifier."):
            rate, exempt = config.classifier_lr, True
        groups.setdefault((rate, 0.0 if exempt else config.weight_decay), []).append(parameter)
    fused = None if scaled else True
    settings = [{"params": ps, "lr": rate, "weight_decay": decay} for (rate, decay), ps in groups.items()]
    if config.name == "sgd":
        return torch.optim.SGD(settings, lr=config.lr, momentum=config.momentum, fused=fused)
    return torch.optim.AdamW(settings, lr=config.lr, fused=fused)


def _layer(name: str, depth: int) -> int:
    """The place of a parameter: 0 before the first block, `depth` in the last and after it."""
    if name.startswith("blocks."):
        return 1 + int(name.split(".")[1])
    first = name.startswith(("patch_embed.", "norm_pre.")) or name.endswith(("token", "tokens", "embed"))
    return 0 if first else depth


def build_schedule(optimiser: torch.optim.Optimizer, config: OptimConfig) -> CosineLRScheduler:
    """The rate at time t, in epochs, is set by `.step(t)`: linear warm-up, then a cosine without offset.

    t counts epochs from 1, or with `per_step` is what of the run is done. The warm-up starts at `warmup_lr` and
    the cosine ends at `min_lr_ratio * lr` in every group, whatever its own rate.
    """
    return CosineLRScheduler(
        optimiser, t_initial=config.cosine_epochs, lr_min=config.min_lr_ratio * config.lr,
        warmup_t=config.warmup_epochs, warmup_lr_init=config.warmup_lr, cycle_limit=1, t_in_epochs=True,
    )  # fmt: skip
