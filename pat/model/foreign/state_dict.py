"""From a file to names and tensors. No code in a file ever runs."""

from __future__ import annotations

import argparse
import pickle
import re
import warnings
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import Tensor

from pat.base.errors import UserError
from pat.model.foreign.checkpoint import StateDict, listed
from pat.model.foreign.torchscript import is_torchscript, read_torchscript

WRAPPERS = ("state_dict", "model", "model_state_dict", "teacher", "student")
"""Keys under which files keep their tensors; of teacher and student the teacher, as DINO's authors do."""

DEEPEST = 8
"""Wrappers around one another that a file may have."""

# Numbers and strings that training scripts leave beside the tensors: DINO's arguments, rates made by NumPy. The
# names are those of NumPy 1 and 2.
_HARMLESS: list[Any] = [
    argparse.Namespace,
    np.dtype,
    *{type(np.dtype(kind)) for kind in ("f4", "f8", "i8")},
    *((np.float64(0).__reduce__()[0], f"{module}.multiarray.scalar") for module in ("numpy.core", "numpy._core")),
]

_NUMBERS = {
    torch.float16, torch.bfloat16, torch.float32, torch.float64,
    torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64,
}  # fmt: skip
"""What weights come in. No quantised, complex or 8-bit floating point numbers: those do not convert by copying."""

_DAMAGE = (
    OSError, RuntimeError, EOFError, LookupError, ValueError, TypeError, AttributeError,
    safetensors.SafetensorError, zipfile.BadZipFile,
)  # fmt: skip
"""What the readers raise for a file that is cut off, mixed up or of another kind."""


def read_state(path: Path) -> StateDict:
    """The tensors of a .safetensors file, a pickled checkpoint or a TorchScript archive, without wrappers.

    Pickles are read with weights_only=True, archives by `read_torchscript`; what DistributedDataParallel,
    torch.compile and Lightning put before names is removed. Raises UserError when there is no state dict to be
    had, or a tensor of it is sparse, quantised, complex or has no numbers.
    """
    if not path.is_file():
        raise UserError(f"there is no weights file {path}")
    state, wrapper = _load(path), ""
    beside: dict[str, object] = {}
    if is_torchscript(path):
        wrapper = "TorchScript"
    for _ in range(DEEPEST):  # a pickle may hold itself
        if not isinstance(state, Mapping) or any(isinstance(value, Tensor) for value in state.values()):
            break
        inner = [key for key in WRAPPERS if isinstance(state.get(key), Mapping)]
        if not inner:
            break
        wrapper = inner[0]
        beside = {str(key): value for key, value in state.items() if key != wrapper}
        state = state[wrapper]
    if not isinstance(state, Mapping):
        raise UserError(f"{path} holds no state dict, but a {type(state).__name__}")
    if not any(isinstance(value, Tensor) for value in state.values()):
        raise UserError(
            f"{path} holds no state dict: expected names and tensors, at the top or under one of "
            f"{', '.join(WRAPPERS)}; found {listed(map(str, state)) or 'nothing'}"
        )
    odd = [str(key) for key, value in state.items() if not isinstance(value, Tensor)]
    if odd:
        raise UserError(f"{path} holds entries that are not tensors: {listed(odd)}")
    for key, value in state.items():
        what = _oddity(value)
        if what:
            raise UserError(f"{path}: {key} is {what}; only dense real tensors can be read")
    weights = tuple(key for key, value in beside.items() if 2 * _tensors_in(value) > len(state))
    return StateDict(dict(zip(_plain(map(str, state)), state.values(), strict=True)), wrapper, weights)


def _plain(keys: Iterable[str]) -> list[str]:
    """Names without what wraps a model: torch.compile anywhere, DistributedDataParallel, Lightning before all."""
    names = [key.replace("_orig_mod.", "").removeprefix("module.") for key in keys]
    lightning = all(name.startswith("model.") for name in names)
    return [name.removeprefix("model.") for name in names] if lightning else names


def _tensors_in(value: object) -> int:
    return sum(isinstance(each, Tensor) for each in value.values()) if isinstance(value, Mapping) else 0


def _oddity(tensor: Tensor) -> str | None:
    """What keeps a tensor from being copied into a model, or None."""
    if tensor.device.type != "cpu":
        return f"on the device {tensor.device.type}, without its numbers"
    if tensor.is_nested or tensor.layout != torch.strided:
        return "nested" if tensor.is_nested else str(tensor.layout).removeprefix("torch.")
    return None if tensor.dtype in _NUMBERS else str(tensor.dtype).removeprefix("torch.")


def _load(path: Path) -> Any:
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        if is_torchscript(path):
            return read_torchscript(path)
        with torch.serialization.safe_globals(_HARMLESS), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PyTorch doubts the protocol of what it then refuses in an error
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if not re.search("unsupported (global|class)", str(error), re.IGNORECASE):
            raise UserError(f"{path} is damaged or not a checkpoint") from error
        raise UserError(
            f"{path} holds more than tensors and is not read, because a pickle can run code; "
            "save its state_dict alone"
        ) from error
    except _DAMAGE as error:
        said = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise UserError(f"{path} is damaged or not a checkpoint: {said}") from error
