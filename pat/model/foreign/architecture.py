"""The architecture behind a foreign file's tensors, read from their names and shapes."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

import torch
from torch import Tensor

from pat.base.errors import UserError
from pat.config import ModelConfig
from pat.model.foreign.checkpoint import Hints
from pat.model.stem import STRIDE

_THREE_SIZES = {384: "small", 768: "base", 1024: "large"}
_PLAIN = {192: "tiny", 384: "small", 768: "base", 1024: "large", 1280: "huge"}
_SIXTEEN_HEADS = (1280, 1408, 1664)
"""Widths of ViT-H, g and G; heads are 64 wide everywhere else."""

_TOKENS = r"cls_token|cls_pos|pos_embed|register_tokens|part_token\d+|part\d+_pos"
_MATRICES = ("blocks.0.mlp.fc1.weight", "classifier.weight")


def infer(
    tensors: Mapping[str, Tensor],
    where: str,
    prefix: int,
    parts: int,
    hints: Hints,
    *,
    clip_activation: str | None = None,
) -> ModelConfig:
    """The architecture behind tensors under our names, whose position embeddings begin with `prefix` tokens.

    `clip_activation` is said of CLIP towers, whose two kinds differ in it alone. Raises UserError where shapes
    do not tell the rest.
    """
    try:
        width = tensors["cls_token"].shape[-1]
        patch = patch_of(tensors)
        mlp_ratio = tensors["blocks.0.mlp.fc1.weight"].shape[0] / width
        patches = tensors["pos_embed"].shape[1] - prefix
    except KeyError as error:
        raise UserError(f"{where} lacks {error.args[0]}, so its architecture cannot be determined") from error
    blocks = {int(match[1]) for key in tensors if (match := re.match(r"blocks\.(\d{1,9})\.", key))}
    depth = 1 + max(blocks)
    if depth != len(blocks):
        raise UserError(f"{where} has {len(blocks)} blocks, and the last is number {depth - 1}: some are missing")
    qkv_bias = "blocks.0.attn.qkv.bias" in tensors
    # The authors' own ViT-small: 768 wide, 8 blocks of 8 heads, no bias, logits scaled by the whole width.
    authors_small = not qkv_bias and (width, depth) == (768, 8)
    if not authors_small and width not in _SIXTEEN_HEADS and width % 64:
        raise UserError(f"{where}: a width of {width} is not a multiple of 64; how many heads is unknown")
    config = ModelConfig(
        backbone=_backbone(tensors, width, patch, clip_activation),
        stem="convolution" if "patch_embed.conv.0.weight" in tensors else "projection",
        image_size=hints.image_size or _image_size(patches, patch, parts, where, hints.like),
        parts=parts,
        identities=tensors["classifier.weight"].shape[0] if "classifier.weight" in tensors else 0,
        patch_size=patch,
        width=width,
        depth=depth,
        heads=8 if authors_small else 16 if width in _SIXTEEN_HEADS else width // 64,
        mlp_ratio=mlp_ratio,
        qkv_bias=qkv_bias,
        attention_scale=768**-0.5 if authors_small else None,
    )
    rows, columns = (side // patch for side in config.image_size)
    if rows * columns != patches:
        raise UserError(
            f"{where} has {patches} patches, but {config.image_size[0]} x {config.image_size[1]} pixels make "
            f"{rows} x {columns}; give the right --image-size"
        )
    return config


def patch_of(tensors: Mapping[str, Tensor]) -> int:
    """Pixels along a side of a patch."""
    projection = tensors["patch_embed.proj.weight"].shape[-1]
    return projection * STRIDE if "patch_embed.conv.0.weight" in tensors else projection


def check_shapes(tensors: Mapping[str, Tensor], where: str) -> None:
    """Raise UserError unless every tensor that `infer` reads has as many dimensions as it should.

    Tokens and positions are [1, n, D] of one width, cls a single token, patches square, weights matrices.
    """

    def expect(name: str, fits: bool, expected: str) -> None:
        if not fits:
            raise UserError(f"{where}: {name} has the shape {list(tensors[name].shape)}, expected {expected}")

    cls = tensors["cls_token"]
    expect("cls_token", cls.ndim == 3 and cls.shape[:2] == (1, 1) and cls.shape[2] > 0, "[1, 1, D]")
    width = cls.shape[2]
    for name, tensor in tensors.items():
        shape = tensor.shape
        if re.fullmatch(_TOKENS, name):
            expect(name, len(shape) == 3 and (shape[0], shape[2]) == (1, width), f"[1, n, {width}]")
        elif name == "patch_embed.proj.weight":
            square = len(shape) == 4 and shape[2] == shape[3] > 0
            expect(name, square, "square patches [D, channels, p, p]")
        elif name in _MATRICES:
            expect(name, len(shape) == 2, "[outputs, inputs]")


def model_settings(config: ModelConfig) -> str:
    """What to say to `pat train` so that it builds the inferred architecture: the backbone, and what differs."""
    assert config.width is not None
    usual = {
        "stem": "projection",
        "pooling": "cls",
        "cosine_scale": 0.0,
        "patch_size": 14 if "patch14" in config.backbone else 16,
        "width": next((width for width, size in _PLAIN.items() if f"_{size}_" in config.backbone), None),
        "depth": {1024: 24, 1280: 32}.get(config.width, 12),
        "heads": 16 if config.width in _SIXTEEN_HEADS else config.width // 64,
        "mlp_ratio": 4,
        "qkv_bias": True,
        "attention_scale": None,
    }
    given = {name: getattr(config, name) for name in usual}
    differing = {name: value for name, value in given.items() if value not in (usual[name], None)}
    settings = {"backbone": config.backbone, **differing}
    return " ".join(f"--model.{name.replace('_', '-')} {value}" for name, value in settings.items())


def without_parts(tensors: dict[str, Tensor], where: str, hints: Hints) -> int:
    """Complete a plain ViT's tensors: no part tokens, registers named, a position for each prefix token.

    Returns the number of prefix tokens. Raises UserError where it is unknown for which of them the positions are.
    """
    width = tensors["cls_token"].shape[-1]
    tensors["part_tokens"] = tensors["cls_token"].new_zeros(1, 0, width)
    tensors.setdefault("register_tokens", tensors["cls_token"].new_zeros(1, 0, width))
    prefix = 1 + tensors["register_tokens"].shape[1]
    covered = _covered(tensors, prefix, where, hints)
    positions = tensors["pos_embed"]
    zeros = positions.new_zeros(1, prefix - covered, width)
    tensors["pos_embed"] = torch.cat([positions[:, :covered], zeros, positions[:, covered:]], dim=1)
    return prefix


def is_upright(patches: int) -> bool:
    """Whether the patches can be those of an image twice as high as wide, as crops of people are."""
    return patches % 2 == 0 and _is_square(patches // 2)


def _backbone(tensors: Mapping[str, Tensor], width: int, patch: int, clip_activation: str | None) -> str:
    """The timm model with the same kind of blocks; its sizes are overridden."""
    if "blocks.0.ls1.gamma" in tensors and patch == 14:
        registers = "reg4_" if tensors["register_tokens"].shape[1] else ""
        return f"vit_{_THREE_SIZES.get(width, 'base')}_patch14_{registers}dinov2"
    if "norm_pre.weight" in tensors:
        size = "huge_patch14" if width >= 1280 else "large_patch14" if width >= 1024 else "base_patch16"
        return f"vit_{size}_clip_{'quickgelu_' if clip_activation == 'quick_gelu' else ''}224"
    if "blocks.0.ls1.gamma" in tensors:
        return f"deit3_{_THREE_SIZES.get(width, 'base')}_patch16_224"
    return "vit_huge_patch14_224" if width == 1280 else f"vit_{_PLAIN.get(width, 'base')}_patch16_224"


def _covered(tensors: Mapping[str, Tensor], prefix: int, where: str, hints: Hints) -> int:
    """For how many of the prefix tokens a file has a position.

    For each (ViT, DeiT), for cls alone (DINOv2 as published) or for none (timm's DINOv2 with registers, DeiT III,
    FlexiViT): the number of patches that remains tells which. Raises UserError where a plain ViT may be either:
    49 positions are those of 7 x 7 patches, or of cls and 8 x 6.
    """
    count = tensors["pos_embed"].shape[1]
    patches = {covered: count - covered for covered in (prefix, 1, 0)}
    told: set[int] = set()
    if "patch_embed.proj.weight" in tensors:
        sizes = (hints.image_size, hints.like and hints.like.image_size)
        told = {math.prod(side // patch_of(tensors) for side in size) for size in sizes if size}
    known = [covered for covered, number in patches.items() if number in told]
    usual = [covered for covered, number in patches.items() if _is_square(number) or is_upright(number)]
    covered = [*known, *usual, prefix][0]  # an odd grid: infer() compares it with --image-size
    plain = prefix == 1 and "blocks.0.ls1.gamma" not in tensors
    if plain and not covered and not hints.image_size:
        side = math.isqrt(count)
        raise UserError(
            f"{where} has {count} position embeddings, of {side} x {side} patches alone or of cls and {count - 1} "
            "patches; say which with pat import-weights --image-size HEIGHT WIDTH"
        )
    return covered


def _image_size(patches: int, patch: int, parts: int, where: str, like: ModelConfig | None) -> tuple[int, int]:
    """That of the model to be filled if it fits. Person crops are twice as high as wide, ImageNet's are square;
    nothing else is guessed."""
    if like is not None and math.prod(side // patch for side in like.image_size) == patches:
        return like.image_size
    if _is_square(patches) and not parts:
        side = math.isqrt(patches) * patch
        return side, side
    if is_upright(patches):
        columns = math.isqrt(patches // 2)
        return 2 * columns * patch, columns * patch
    raise UserError(
        f"{where} has {patches} patches, neither 2:1 nor square; give --image-size HEIGHT WIDTH "
        "(patches that overlap, of a stride below the patch size, do not fit)"
    )


def _is_square(number: int) -> bool:
    return number > 0 and math.isqrt(number) ** 2 == number
