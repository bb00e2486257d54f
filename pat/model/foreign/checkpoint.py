"""What reading a checkpoint gives, and how its keys are sorted: each is renamed, or left out for a reason."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor

from pat.base.errors import UserError
from pat.config import ModelConfig

Activation = Literal["auto", "gelu", "quick_gelu"]
PartTokens = Literal["auto", "first", "own"]
"""Which token each part of an authors' checkpoint reads; see `from_authors`."""
Normalisation = Literal["auto", "half", "imagenet"]
Untold = Literal["activation", "normalisation"]

MeanAndStd = tuple[tuple[float, float, float], tuple[float, float, float]]
HALF: MeanAndStd = ((0.5,) * 3, (0.5,) * 3)
IMAGENET: MeanAndStd = (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD)


class StateDict(NamedTuple):
    """A file's tensors under its own names."""

    tensors: dict[str, Tensor]
    wrapper: str
    """Where they lay: "teacher" or "student" of a self-distillation, "TorchScript", a key, or "" at the top."""
    beside: tuple[str, ...] = ()
    """Keys beside it with weights too, not read: averages of a training, a student."""


class Checkpoint(NamedTuple):
    """A file in the terms of this project."""

    tensors: dict[str, Tensor]
    """Under our names."""
    config: ModelConfig
    """The architecture that they belong to."""
    report: list[str]
    """What was done, for the user to read."""
    untold: frozenset[Untold] = frozenset()
    """What neither the file nor the user told, so that it was supposed."""


@dataclass(frozen=True)
class Hints:
    """What the user knows of a file beyond its tensors."""

    image_size: tuple[int, int] | None = None
    part_tokens: PartTokens = "auto"
    activation: Activation = "auto"
    normalisation: Normalisation = "auto"
    """Mean and standard deviation of the inputs, instead of those that the file suggests."""
    like: ModelConfig | None = None
    """The model that the weights are for. It decides what neither the file nor the rest of this tells."""


class LeftOut(NamedTuple):
    """Why a key has no place in the model."""

    reason: str


def rename(
    state: Mapping[str, Tensor], name_of: Callable[[str], str | LeftOut | None], where: str
) -> tuple[dict[str, Tensor], list[str]]:
    """The tensors under the names that `name_of` gives, and a report line for each reason to leave keys out.

    Raises UserError with the keys for which `name_of` knows neither.
    """
    tensors: dict[str, Tensor] = {}
    left_out: dict[str, list[str]] = {}
    unfit = []
    for key, tensor in state.items():
        name = name_of(key)
        if isinstance(name, LeftOut):
            left_out.setdefault(name.reason, []).append(key)
        elif name is None:
            unfit.append(key)
        else:
            tensors[name] = tensor
    if unfit:
        raise UserError(f"{where} has keys that do not fit: {listed(unfit)}")
    return tensors, [f"  left out: {_gathered(keys)} ({reason})" for reason, keys in left_out.items()]


def translated(name: str, table: Iterable[tuple[str, str]]) -> str | None:
    """`name` with its beginning replaced as the first fitting row of (pattern, replacement) says, or None."""
    for pattern, replacement in table:
        match = re.match(pattern + r"(?=\.|$)", name)
        if match:
            return match.expand(replacement) + name[match.end() :]
    return None


def packed_attention(
    state: Mapping[str, Tensor], before: str, projections: tuple[str, str, str], packed: str
) -> dict[str, Tensor]:
    """The tensors with each query, key and value projection in one tensor `packed`, as timm and OpenAI keep them.

    `before` is a pattern of what precedes the names `projections`; three that do not go together stay as they are.
    """
    whole = dict(state)
    for key in state:
        match = re.fullmatch(rf"({before}){projections[0]}\.(weight|bias)", key)
        triple = [f"{match[1]}{each}.{match[2]}" for each in projections] if match else []
        shapes = {state[each].shape for each in triple if each in state}
        if match and all(each in state for each in triple) and len(shapes) == 1 and () not in shapes:
            whole[f"{match[1]}{packed}.{match[2]}"] = torch.cat([whole.pop(each) for each in triple])
    return whole


def _gathered(keys: Iterable[str]) -> str:
    """All keys, those of a larger module by its name."""
    modules: dict[str, list[str]] = {}
    for key in keys:
        modules.setdefault(key.split(".")[0], []).append(key)
    return ", ".join(
        ", ".join(inside) if len(inside) <= 4 else f"{module}.* ({len(inside)} keys)"
        for module, inside in modules.items()
    )


def listed(names: Iterable[str], limit: int = 8) -> str:
    """The first few names, and how many more there are."""
    names = list(names)
    shown = ", ".join(names[:limit])
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit} more"
