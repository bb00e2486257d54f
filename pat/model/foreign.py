"""Checkpoints of others: the paper's authors' and timm's, renamed to ours, their architecture read from shapes."""

from __future__ import annotations

import dataclasses
import math
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import safetensors
import safetensors.torch
import torch
from timm.layers import resample_abs_pos_embed
from torch import Tensor, nn

from pat.config import ModelConfig
from pat.errors import UserError

PartTokens = Literal["auto", "first", "own"]
"""Which token each part of an authors' checkpoint reads; see `from_authors`."""

_DINO_V2 = {384: "small", 768: "base", 1024: "large"}
_PLAIN = {192: "tiny", 384: "small", 768: "base", 1024: "large"}


def read_state(path: Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors or pickled checkpoint, wrappers and "module." prefixes removed.

    Pickles are read with weights_only=True. Raises UserError when there is no state dict to be had.
    """
    if not path.is_file():
        raise UserError(f"there is no weights file {path}")
    try:
        if path.suffix == ".safetensors":
            state: object = safetensors.torch.load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "Unsupported global" not in str(error) and "Unsupported class" not in str(error):
            raise UserError(f"{path} is damaged or no checkpoint") from error
        raise UserError(
            f"{path} holds more than tensors and is not read, because a pickle can run code; "
            "save its state_dict alone"
        ) from error
    except (OSError, RuntimeError, EOFError, KeyError, ValueError, safetensors.SafetensorError) as error:
        raise UserError(f"{path} is damaged or no checkpoint: {_first_line(error)}") from error
    while isinstance(state, Mapping) and not any(isinstance(value, Tensor) for value in state.values()):
        inner = [state[key] for key in ("state_dict", "model", "model_state_dict") if key in state]
        if not inner:
            break
        state = inner[0]
    if not isinstance(state, Mapping) or not any(isinstance(value, Tensor) for value in state.values()):
        raise UserError(
            f"{path} holds no state dict: expected names and tensors, at the top or under 'state_dict'"
        )
    odd = [key for key, value in state.items() if not isinstance(value, Tensor)]
    if odd:
        raise UserError(f"{path} holds entries that are no tensors: {', '.join(map(str, odd[:5]))}")
    return {str(key).removeprefix("module."): value for key, value in state.items()}


def read_as_ours(path: Path, like: ModelConfig) -> tuple[dict[str, Tensor], list[str]]:
    """Tensors of any known checkpoint under our names, position embeddings resized to `like`'s grid.

    Returns them with the lines that say what was done. Parts and registers that the file does not know start
    as copies of its cls token. Raises UserError for an unknown format.
    """
    tensors, config, report = recognise(path)
    if config.parts != like.parts:
        tensors = with_parts(tensors, config, like.parts)
        report.append(f"  parts: {config.parts} in the file, {like.parts} here; part tokens copied from cls")
    old, new = grid_of(config, tensors), grid_of(like, tensors)
    if old != new:
        special = tensors["pos_embed"].shape[1] - old[0] * old[1]
        tensors["pos_embed"] = resample_abs_pos_embed(
            tensors["pos_embed"], new_size=list(new), old_size=list(old), num_prefix_tokens=special
        )
        report.append(f"  position embeddings resized from {old[0]} x {old[1]} to {new[0]} x {new[1]}")
    return tensors, report


def recognise(
    path: Path, image_size: tuple[int, int] | None = None, part_tokens: PartTokens = "auto"
) -> tuple[dict[str, Tensor], ModelConfig, list[str]]:
    """Tensors under our names, the architecture they belong to, and a report, from one of our own models, an
    authors' checkpoint or a timm state dict. Raises UserError with the keys found when it is none of them.
    """
    from pat.model import weights  # imported late: weights builds on this module

    state = read_state(path)
    if "part_tokens" in state and path.suffix == ".safetensors":
        tensors, file = weights.read(path)
        return tensors, file.config, [f"weights: {path}, a model of this project"]
    if "base.cls_token" in state:
        return from_authors(state, str(path), image_size, part_tokens)
    if {"cls_token", "pos_embed", "patch_embed.proj.weight"} <= set(state):
        return from_timm(state, str(path), image_size)
    found = ", ".join(sorted(state)[:6])
    raise UserError(
        f"{path} is no format known here (this project's, the authors' with 'base.cls_token', timm's with "
        f"'cls_token'); its {len(state)} keys begin: {found}"
    )


def from_authors(
    state: Mapping[str, Tensor],
    where: str,
    image_size: tuple[int, int] | None = None,
    part_tokens: PartTokens = "auto",
) -> tuple[dict[str, Tensor], ModelConfig, list[str]]:
    """Rename a checkpoint of the paper's authors.

    Their code before November 2024 trained all three parts with `part_token1`; `part_token2` and `part_token3`
    then still equal each other. `part_tokens` "auto" uses token 1 for all in that case, "first" always,
    "own" never.
    """
    report = [f"weights: {where}, a checkpoint of the paper's authors"]
    tensors: dict[str, Tensor] = {}
    tokens: dict[int, Tensor] = {}
    for key, tensor in state.items():
        name = key.removeprefix("base.").replace(".part_attn.", ".attn.")
        numbered = re.fullmatch(r"part_token(\d+)", name)
        if numbered:
            tokens[int(numbered[1])] = tensor
        elif name.startswith("fc."):
            report.append(f"  left out: {key} (the unused ImageNet head)")
        else:
            tensors[name] = tensor
    if sorted(tokens) != list(range(1, len(tokens) + 1)) or not tokens:
        raise UserError(f"{where}: expected base.part_token1, 2, ..., found numbers {sorted(tokens)}")
    parts = [tokens[number] for number in sorted(tokens)]
    shared = len(parts) > 2 and all(torch.equal(parts[1], other) for other in parts[2:])
    if part_tokens == "first" or (part_tokens == "auto" and shared):
        parts = [parts[0]] * len(parts)
        why = "asked for" if part_tokens == "first" else "tokens 2 and 3 are equal: trained before November 2024"
        report.append(f"  part_token1 used for every part ({why}; --part-tokens own overrides)")
    tensors["part_tokens"] = torch.cat(parts, dim=1)
    tensors["register_tokens"] = tensors["cls_token"].new_zeros(1, 0, tensors["cls_token"].shape[-1])
    config = infer(tensors, where, prefix=1 + len(parts), parts=len(parts), image_size=image_size)
    return tensors, dataclasses.replace(config, mean=(0.5,) * 3, std=(0.5,) * 3), report


def from_timm(
    state: Mapping[str, Tensor], where: str, image_size: tuple[int, int] | None = None
) -> tuple[dict[str, Tensor], ModelConfig, list[str]]:
    """Rename a timm ViT, DeiT or DINOv2 state dict; the result has no part tokens (`parts=0`)."""
    report = [f"weights: {where}, a timm state dict"]
    known = (
        "cls_token",
        "pos_embed",
        "reg_token",
        "register_tokens",
        "patch_embed.",
        "norm_pre.",
        "blocks.",
        "norm.",
    )
    refused = [
        key for key in state if ".rope" in key or key.startswith(("rope", "dist_token", "patch_embed.backbone"))
    ]
    if refused:
        raise UserError(f"{where} has {refused[0]}: rotary, distilled and hybrid transformers do not fit")
    tensors: dict[str, Tensor] = {}
    for key, tensor in state.items():
        if key.startswith(known):
            tensors["register_tokens" if key == "reg_token" else key] = tensor
        else:
            report.append(f"  left out: {key} (no part of the backbone)")
    width = tensors["cls_token"].shape[-1]
    tensors["part_tokens"] = tensors["cls_token"].new_zeros(1, 0, width)
    tensors.setdefault("register_tokens", tensors["cls_token"].new_zeros(1, 0, width))
    prefix = 1 + tensors["register_tokens"].shape[1]
    tensors["pos_embed"] = _with_prefix_positions(tensors["pos_embed"], prefix)
    return tensors, infer(tensors, where, prefix, parts=0, image_size=image_size), report


def infer(
    tensors: Mapping[str, Tensor], where: str, prefix: int, parts: int, image_size: tuple[int, int] | None
) -> ModelConfig:
    """The architecture behind tensors under our names. Raises UserError where shapes do not tell it."""
    try:
        width = tensors["cls_token"].shape[-1]
        patch = tensors["patch_embed.proj.weight"].shape[-1]
        mlp_ratio = tensors["blocks.0.mlp.fc1.weight"].shape[0] / width
        patches = tensors["pos_embed"].shape[1] - prefix
    except KeyError as error:
        raise UserError(f"{where} lacks {error.args[0]}, so its architecture cannot be told") from error
    depth = 1 + max(int(match[1]) for key in tensors if (match := re.match(r"blocks\.(\d+)\.", key)))
    qkv_bias = "blocks.0.attn.qkv.bias" in tensors
    registers = tensors["register_tokens"].shape[1]
    dino = "blocks.0.ls1.gamma" in tensors and patch == 14
    if dino:
        backbone = f"vit_{_DINO_V2.get(width, 'base')}_patch14_{'reg4_' if registers else ''}dinov2"
    elif "norm_pre.weight" in tensors:
        backbone = f"vit_{'large' if width >= 1024 else 'base'}_patch{patch}_clip_224"
    elif "blocks.0.ls1.gamma" in tensors:
        backbone = f"deit3_{_PLAIN.get(width, 'base')}_patch16_224"
    else:
        backbone = f"vit_{_PLAIN.get(width, 'base')}_patch16_224"
    # The authors' own ViT-small: 768 wide, 8 blocks of 8 heads, no bias, logits scaled by the whole width.
    authors_small = not qkv_bias and (width, depth) == (768, 8)
    if not authors_small and width % 64:
        raise UserError(f"{where}: a width of {width} is no multiple of 64, so the number of heads cannot be told")
    config = ModelConfig(
        backbone=backbone,
        image_size=image_size or _image_size(patches, patch, parts, where),
        parts=parts,
        identities=tensors["classifier.weight"].shape[0] if "classifier.weight" in tensors else 0,
        patch_size=patch,
        width=width,
        depth=depth,
        heads=8 if authors_small else width // 64,
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


def grid_of(config: ModelConfig, tensors: Mapping[str, Tensor]) -> tuple[int, int]:
    """Rows and columns of patches that `config`'s image has under the file's patch size."""
    patch = tensors["patch_embed.proj.weight"].shape[-1]
    return config.image_size[0] // patch, config.image_size[1] // patch


def assign(model: nn.Module, tensors: Mapping[str, Tensor], where: str) -> None:
    """Copy tensors into the model; every name and shape must agree. Raises UserError naming each that does not."""
    own = model.state_dict()
    # Older checkpoints do not count batches; the count has no effect at a fixed BatchNorm momentum.
    missing = sorted(name for name in own.keys() - tensors.keys() if not name.endswith("num_batches_tracked"))
    unexpected = sorted(tensors.keys() - own.keys())
    misshaped = [
        f"{name} {list(tensors[name].shape)}, expected {list(own[name].shape)}"
        for name in sorted(own.keys() & tensors.keys())
        if own[name].shape != tensors[name].shape
    ]
    problems = [
        f"{kind}: {', '.join(names)}"
        for kind, names in (("missing", missing), ("unexpected", unexpected), ("other shape", misshaped))
        if names
    ]
    if problems:
        raise UserError(f"{where} does not fit the model; {'; '.join(problems)}")
    not_finite = [
        name for name, tensor in tensors.items() if tensor.is_floating_point() and not tensor.isfinite().all()
    ]
    if not_finite:
        raise UserError(f"{where} holds NaN or infinite numbers in {', '.join(not_finite[:5])}")
    model.load_state_dict(dict(tensors), strict=False)


def with_parts(tensors: dict[str, Tensor], config: ModelConfig, parts: int) -> dict[str, Tensor]:
    """The same tensors with `parts` part tokens, each a copy of cls and its position."""
    positions = tensors["pos_embed"]
    cls, rest = positions[:, :1], positions[:, 1 + config.parts :]
    return {
        **tensors,
        "part_tokens": tensors["cls_token"].expand(-1, parts, -1).clone(),
        "pos_embed": torch.cat([cls, cls.expand(-1, parts, -1), rest], dim=1),
    }


def _with_prefix_positions(positions: Tensor, prefix: int) -> Tensor:
    """Positions [1, prefix + patches, D], zeros where the file embeds none for cls or register tokens.

    Files embed a position for every prefix token (ViT, DeiT), for cls alone (DINOv2 as published) or for none
    (timm's DINOv2 with registers, DeiT III); the number of patches that remains tells which.
    """
    count, width = positions.shape[1:]
    for covered in (prefix, 1, 0):
        patches = count - covered
        if _is_square(patches) or (patches % 2 == 0 and _is_square(patches // 2)):
            zeros = positions.new_zeros(1, prefix - covered, width)
            return torch.cat([positions[:, :covered], zeros, positions[:, covered:]], dim=1)
    return positions  # an odd grid: infer() compares it with --image-size


def _image_size(patches: int, patch: int, parts: int, where: str) -> tuple[int, int]:
    """Person crops are twice as high as wide, ImageNet's are square; nothing else is guessed."""
    if _is_square(patches) and not parts:
        side = math.isqrt(patches) * patch
        return side, side
    if patches % 2 == 0 and _is_square(patches // 2):
        columns = math.isqrt(patches // 2)
        return 2 * columns * patch, columns * patch
    raise UserError(f"{where} has {patches} patches, neither 2:1 nor square; say --image-size HEIGHT WIDTH")


def _is_square(number: int) -> bool:
    return number > 0 and math.isqrt(number) ** 2 == number


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
