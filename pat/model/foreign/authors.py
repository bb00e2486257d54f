"""Checkpoints of the paper's authors."""

from __future__ import annotations

import dataclasses
import re

import torch
from torch import Tensor

from pat.base.errors import UserError
from pat.model.foreign.architecture import check_shapes, infer
from pat.model.foreign.checkpoint import HALF, Checkpoint, Hints, LeftOut, StateDict, rename


def from_authors(state: StateDict, where: str, hints: Hints) -> Checkpoint:
    """Rename a checkpoint of the paper's authors.

    Their code before November 2024 trained all three parts with `part_token1`; `part_token2` and `part_token3`
    then still equal each other. `part_tokens` "auto" uses token 1 for all in that case, "first" always,
    "own" never.
    """
    tensors, left_out = rename(state.tensors, _name, where)
    check_shapes(tensors, where)
    report = [f"weights: {where}, a checkpoint of the paper's authors", *left_out]
    parts = numbered_tokens(tensors, where, "base.part_token")
    shared = len(parts) > 2 and all(torch.equal(parts[1], other) for other in parts[2:])
    if hints.part_tokens == "first" or (hints.part_tokens == "auto" and shared):
        parts = [parts[0]] * len(parts)
        asked = hints.part_tokens == "first"
        why = "asked for" if asked else "tokens 2 and 3 are equal: trained before November 2024"
        report.append(f"  part_token1 used for every part ({why}; --part-tokens own overrides)")
    tensors["part_tokens"] = torch.cat(parts, dim=1)
    tensors["register_tokens"] = tensors["cls_token"].new_zeros(1, 0, tensors["cls_token"].shape[-1])
    config = infer(tensors, where, prefix=1 + len(parts), parts=len(parts), hints=hints)
    return Checkpoint(tensors, dataclasses.replace(config, mean=HALF[0], std=HALF[1]), report)


def numbered_tokens(tensors: dict[str, Tensor], where: str, shown: str) -> list[Tensor]:
    """Take part_token1, 2, ... out of `tensors`, in order. Raises UserError when a number is missing."""
    tokens = {int(name.removeprefix("part_token")): name for name in tensors if re.match(r"part_token\d", name)}
    if sorted(tokens) != list(range(1, len(tokens) + 1)) or not tokens:
        raise UserError(f"{where}: expected {shown}1, 2, ..., found numbers {sorted(tokens)}")
    return [tensors.pop(tokens[number]) for number in sorted(tokens)]


def _name(key: str) -> str | LeftOut:
    name = key.removeprefix("base.").replace(".part_attn.", ".attn.")
    return LeftOut("the unused ImageNet head") if name.startswith("fc.") else name
