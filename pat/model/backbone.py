"""A plain vision transformer from timm, or a clear word on why the named one does not fit."""

from __future__ import annotations

import difflib
from typing import Any

import timm
from timm.layers import PatchEmbed
from timm.models.vision_transformer import Block, VisionTransformer
from torch import nn

from pat.base.errors import UserError
from pat.config import ModelConfig
from pat.model.stem import STRIDE, ConvolutionalStem, DeepStem


def build_backbone(config: ModelConfig, pretrained: bool = False) -> VisionTransformer:
    """The timm model that `config` names, at its input size and with its overrides.

    With `pretrained`, timm loads its own weights, position embeddings resized. Raises UserError for an unknown
    name, a size that the patch does not divide, an architecture that does not fit, weights out of reach, and
    pretrained weights with a stem that timm has none for.
    """
    name = config.backbone
    if not timm.is_model(name):
        near = difflib.get_close_matches(name.split(".")[0], timm.list_models("*vit*") + timm.list_models("deit*"))
        hint = f"did you mean {', '.join(near)}?" if near else "timm.list_models() lists them"
        raise UserError(f"model.backbone: timm has no model {name!r}; {hint}")
    height, width = config.image_size
    overrides: dict[str, Any] = {
        "patch_size": config.patch_size,
        "embed_dim": config.width,
        "depth": config.depth,
        "num_heads": config.heads,
        "mlp_ratio": config.mlp_ratio,
        "qkv_bias": config.qkv_bias,
    }
    arguments = {key: value for key, value in overrides.items() if value is not None}
    try:
        model = timm.create_model(name, num_classes=0, img_size=(height, width), **arguments)
    except TypeError as error:  # an argument that every plain vision transformer takes
        raise UserError(f"{_unfit(name)}: it is not a plain vision transformer ({error})") from error
    except (AssertionError, RuntimeError, ValueError) as error:
        raise UserError(f"{_unfit(name)}: {error}") from error
    reason = why_unfit(model)
    if reason:
        raise UserError(f"{_unfit(name)}: {reason}")
    patch = model.patch_embed.patch_size
    if height % patch[0] or width % patch[1]:
        below = (height // patch[0] * patch[0], width // patch[1] * patch[1])
        raise UserError(
            f"model.image_size {height} x {width} is not a multiple of the patch of {name}, "
            f"{patch[0]} x {patch[1]} pixels; the nearest smaller size that is: {below[0]} x {below[1]}"
        )
    if config.stem != "projection":
        if pretrained:
            raise UserError("timm has no weights with a convolutional stem; give a file with --weights FILE")
        if config.stem == "deep":
            if patch[0] != patch[1] or patch[0] < 4 or patch[0].bit_count() != 1:
                given = f"{patch[0]} x {patch[1]}"
                raise UserError(f"model.stem deep needs square patches of 4, 8, 16 or 32 pixels, not {given}")
            model.patch_embed = DeepStem((height, width), patch, model.embed_dim)
        elif patch[0] % STRIDE or patch[1] % STRIDE:
            raise UserError(f"model.stem convolution needs an even patch size, not {patch[0]} x {patch[1]} pixels")
        else:
            model.patch_embed = ConvolutionalStem((height, width), patch, model.embed_dim)
    if pretrained:
        model = _with_pretrained_weights(name, (height, width), arguments)
    return model


def _with_pretrained_weights(name: str, size: tuple[int, int], arguments: dict[str, Any]) -> VisionTransformer:
    try:
        return timm.create_model(name, pretrained=True, num_classes=0, img_size=size, **arguments)
    except Exception as error:  # the hub client raises errors of several libraries
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(
            f"cannot load the pretrained weights of {name} ({reason[:200]}); "
            "give a file with --weights FILE, or train from scratch with --weights none"
        ) from error


def why_unfit(model: Any) -> str | None:
    """The first reason why part tokens cannot be added to `model`, or None when they can."""
    kind = type(model).__name__
    if hasattr(model, "rope") or getattr(model, "rope_embed", None) is not None:
        return f"it is a {kind} with rotary position embeddings, and part tokens have no place on its grid"
    if type(model) is not VisionTransformer:
        return f"it is a {kind}, not a plain vision transformer"
    if type(model.patch_embed) is not PatchEmbed or not isinstance(model.patch_embed.proj, nn.Conv2d):
        return "it is a hybrid: its patches come from a network, not from one projection"
    if model.cls_token is None:
        return "it has no cls token"
    if model.pos_embed is None:
        return "it has no table of position embeddings"
    if isinstance(model.norm, nn.Identity):
        return "it normalises after pooling, so its cls token has no final LayerNorm"
    for block in model.blocks:
        if type(block) is not Block:
            return f"its blocks are {type(block).__name__}"
        attention = block.attn
        extras = [attention.q_norm, attention.k_norm, getattr(attention, "norm", None)]
        if any(extra is not None and not isinstance(extra, nn.Identity) for extra in extras):
            return "its attention normalises queries and keys or its output"
        if getattr(attention, "gate", None) is not None:
            return "its attention is gated"
    return None


def _unfit(name: str) -> str:
    return f"model.backbone {name} does not fit the part-aware transformer"
