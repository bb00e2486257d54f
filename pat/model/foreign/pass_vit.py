"""PASS (arXiv 2203.03931): ViTs pretrained on crops of people, with a token for each local area."""

from __future__ import annotations

import dataclasses
import re

import torch

from pat.base.errors import UserError
from pat.model.foreign.architecture import check_shapes, infer
from pat.model.foreign.authors import numbered_tokens
from pat.model.foreign.checkpoint import HALF, IMAGENET, Checkpoint, Hints, LeftOut, StateDict, rename
from pat.model.foreign.timm_vit import outside

_BACKBONE = ("cls_token", "cls_pos", "pos_embed", "patch_embed.", "blocks.", "norm.")


def from_pass(state: StateDict, where: str, prefix: str, hints: Hints) -> Checkpoint:
    """Rename a PASS checkpoint; its area tokens become the part tokens.

    PASS crops the areas of its three tokens from the upper, middle and lower half of an image, which are the
    bands of our parts. On a whole image its tokens see everything; here a part token sees its band alone.
    """

    def name_of(key: str) -> str | LeftOut | None:
        name = key.removeprefix(prefix)
        of_backbone = name.startswith(_BACKBONE) or re.fullmatch(r"part_token\d+|part\d+_pos", name)
        if key.startswith(prefix) and of_backbone:
            return name
        if prefix == "base." and re.match(r"(classifier|bottleneck)(_\d+)?\.|fcneck\.", key):
            return LeftOut("a BNNeck or classifier of cls and area tokens together")
        return outside(name)

    tensors, left_out = rename(state.tensors, name_of, where)
    check_shapes(tensors, where)
    parts = numbered_tokens(tensors, where, f"{prefix}part_token")
    numbers = range(1, len(parts) + 1)
    try:
        positions = [tensors.pop(name) for name in ("cls_pos", *(f"part{number}_pos" for number in numbers))]
    except KeyError as error:
        raise UserError(f"{where} lacks {prefix}{error.args[0]}, the position of a token") from error
    tensors["part_tokens"] = torch.cat(parts, dim=1)
    tensors["register_tokens"] = tensors["cls_token"].new_zeros(1, 0, tensors["cls_token"].shape[-1])
    tensors["pos_embed"] = torch.cat([*positions, tensors["pos_embed"]], dim=1)
    config = infer(tensors, where, prefix=1 + len(parts), parts=len(parts), hints=hints)
    tuned = prefix == "base."  # TransReID's recipe, and so ours, normalises with 0.5
    report = [
        f"weights: {where}, a {'fine-tuned' if tuned else 'self-supervised'} ViT of PASS",
        *left_out,
        f"  part tokens: the {len(parts)} area tokens, trained on crops of the same bands and on whole images",
    ]
    mean, std = HALF if tuned else IMAGENET
    return Checkpoint(tensors, dataclasses.replace(config, mean=mean, std=std), report)
