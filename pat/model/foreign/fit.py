"""A checkpoint brought to the parts and the patch grid of the model that it is to fill."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import torch
from timm.layers import resample_abs_pos_embed
from torch import Tensor

from pat.base.errors import UserError
from pat.config import ModelConfig
from pat.model.foreign.architecture import model_settings
from pat.model.foreign.checkpoint import Checkpoint, Hints
from pat.model.foreign.recognise import recognise


def fitted(path: Path, like: ModelConfig) -> Checkpoint:
    """Any known checkpoint with the parts of `like`, position embeddings resized to its grid.

    Parts that the file does not know start as copies of its cls token. Raises UserError for an unknown format, or
    a CLIP tower whose activation the backbone does not have.
    """
    checkpoint = recognise(path, Hints(like=like))
    tensors, config, report, _ = checkpoint
    if "_clip_" in config.backbone and _clip_kind(config) != _clip_kind(like):
        raise UserError(
            f"{path} is a CLIP tower and model.backbone {like.backbone} computes another function of its weights; "
            f"give {settings_that_fit(checkpoint)}"
        )
    if config.parts != like.parts:
        tensors = with_parts(tensors, config, like.parts)
        report.append(f"  parts: {config.parts} in the file, {like.parts} here; part tokens copied from cls")
    special = 1 + like.parts + tensors["register_tokens"].shape[1]
    height, width = config.image_size
    # Pixels along a side of a patch, from how many make the image: stems differ in their tensors.
    patch = math.isqrt(height * width // (tensors["pos_embed"].shape[1] - special))
    old, new = ([side // patch for side in each.image_size] for each in (config, like))
    if old != new:
        tensors["pos_embed"] = resample_abs_pos_embed(
            tensors["pos_embed"], new_size=new, old_size=old, num_prefix_tokens=special
        )
        report.append(f"  position embeddings resized from {old[0]} x {old[1]} to {new[0]} x {new[1]}")
    return checkpoint._replace(tensors=tensors, config=dataclasses.replace(config, parts=like.parts))


def settings_that_fit(checkpoint: Checkpoint) -> str:
    """What to say to `pat train` so that it builds the file's architecture.

    Both kinds of CLIP where the file does not say which it is: the wrong one trains without an error.
    """
    if "activation" not in checkpoint.untold:
        return model_settings(checkpoint.config)
    plain = checkpoint.config.backbone.replace("_clip_quickgelu_", "_clip_")
    gelu, quick = (
        model_settings(dataclasses.replace(checkpoint.config, backbone=name))
        for name in (plain, plain.replace("_clip_", "_clip_quickgelu_"))
    )
    return (
        f"{quick} (weights of OpenAI, DFN, MetaCLIP, trained with quick_gelu) or {gelu} (LAION, DataComp, with "
        "gelu), whichever they are: the file does not say"
    )


def with_parts(tensors: dict[str, Tensor], config: ModelConfig, parts: int) -> dict[str, Tensor]:
    """The same tensors with `parts` part tokens, each a copy of cls and its position."""
    positions = tensors["pos_embed"]
    cls, rest = positions[:, :1], positions[:, 1 + config.parts :]
    return {
        **tensors,
        "part_tokens": tensors["cls_token"].expand(-1, parts, -1).clone(),
        "pos_embed": torch.cat([cls, cls.expand(-1, parts, -1), rest], dim=1),
    }


def _clip_kind(config: ModelConfig) -> str | None:
    """Which of the two kinds of CLIP tower the backbone is, or None for another."""
    if "_clip_" not in config.backbone:
        return None
    return "quick_gelu" if "quickgelu" in config.backbone else "gelu"
