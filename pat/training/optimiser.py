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

    Under AdamW nothing one-dimensional (norms, biases) and no token decays, as is usual from scratch; under SGD
    everything does, as in the authors' recipe.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        rate = config.lr * (config.bias_lr_factor if name.endswith("bias") else 1.0)
        exempt = config.name == "adamw" and (parameter.ndim < 2 or name.endswith(("tokens", "token", "pos_embed")))
        groups.setdefault((rate, 0.0 if exempt else config.weight_decay), []).append(parameter)
    fused = None if scaled else True
    settings = [{"params": ps, "lr": rate, "weight_decay": decay} for (rate, decay), ps in groups.items()]
    if config.name == "sgd":
        return torch.optim.SGD(settings, lr=config.lr, momentum=config.momentum, fused=fused)
    return torch.optim.AdamW(settings, lr=config.lr, fused=fused)


def build_schedule(optimiser: torch.optim.Optimizer, config: OptimConfig) -> CosineLRScheduler:
    """The rate of epoch e, counted from 1, is set by `.step(e)`: linear warm-up, then a cosine without offset.

    The warm-up starts at `warmup_lr` and the cosine ends at `min_lr_ratio * lr` in every group, whatever its own
    rate.
    """
    return CosineLRScheduler(
        optimiser,
        t_initial=config.cosine_epochs,
        lr_min=config.min_lr_ratio * config.lr,
        warmup_t=config.warmup_epochs,
        warmup_lr_init=config.warmup_lr,
        cycle_limit=1,
        t_in_epochs=True,
    )
