"""The tables that `python -m kernels.tune` measures, and how a kernel's launcher looks its tiles up there."""

from __future__ import annotations

import functools
import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch

TABLES = Path(__file__).parent / "tuned"
"""One file for each architecture, `sm_90.json`: {operation: {key: {"tiles": {...}, figures}}}."""

Table = dict[str, dict[str, dict[str, Any]]]
T = TypeVar("T")


@functools.cache
def architecture(device: torch.device) -> str:
    """For example "sm_90"; "cpu" stands for Triton's interpreter."""
    if device.type != "cuda":
        return "cpu"
    major, minor = torch.cuda.get_device_capability(device)
    return f"sm_{major}{minor}"


def tiles_for(operation: str, arch: str | None, key: str, candidates: Sequence[T]) -> T:
    """The tiles measured fastest for `key` on `arch`; the first of `candidates` where nothing was measured.

    Args:
        operation: for example "part_attention_forward".
        arch: as from `architecture`; None for the first candidate whatever was measured.
        key: what the choice depends on besides, for example "16-bit d64 tile128".
        candidates: dataclasses. Only one of them is ever returned, so that a damaged table, or one from
            before a change of the kernel, cannot launch tiles that would compute something else.
    """
    entry = load(TABLES / f"{arch}.json").get(operation, {}).get(key) if arch else None
    if entry is None:
        return candidates[0]
    for tiles in candidates:
        if vars(tiles) == entry["tiles"]:
            return tiles
    _warn(f"kernels/tuned/{arch}.json: {operation}, {key}: {entry['tiles']} are no tiles of this version")
    return candidates[0]


@functools.cache
def load(path: Path) -> Table:
    """A table, read once; empty where there is none. One that is damaged is ignored, with one warning."""
    try:
        table = json.loads(path.read_bytes())
        sound = all(isinstance(entry["tiles"], dict) for part in table.values() for entry in part.values())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        sound = False
    if not sound:
        _warn(f"{path}: damaged")
    return table if sound else {}


def _warn(what: str) -> None:
    warnings.warn(f"{what}; using the default tiles (`python -m kernels.tune` writes a new table)", stacklevel=3)
