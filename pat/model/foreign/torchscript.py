"""The tensors of a TorchScript archive, read without loading the program in it: OpenAI publishes CLIP as one.

The archive is a zip file: data.pkl is a pickle of nested modules, whose numbers lie beside it under data/, and
code/ is the program. Here the pickle may name modules, which become plain dictionaries, and tensors; nothing else.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

_STORAGES = {
    "FloatStorage": torch.float32, "DoubleStorage": torch.float64, "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16, "LongStorage": torch.int64, "IntStorage": torch.int32,
    "BoolStorage": torch.bool,
}  # fmt: skip


def is_torchscript(path: Path) -> bool:
    """Whether the file is a zip archive that carries a program."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def read_torchscript(path: Path) -> dict[str, Tensor]:
    """Parameters, buffers and tensor attributes by their dotted names, in the types that they were saved in.

    Raises pickle.UnpicklingError for a pickle that names anything but modules and tensors, and KeyError,
    ValueError or RuntimeError for a damaged archive.
    """
    with zipfile.ZipFile(path) as archive:
        root = next(name for name in archive.namelist() if name.endswith("/constants.pkl")).split("/")[0]
        return dict(_tensors(_ModulesAlone(archive, root).load(), ""))


class _Module:
    """Stands for any class of the program."""

    def __setstate__(self, state: object) -> None:
        self.attributes = state if isinstance(state, dict) else {}


def _tensors(value: object, prefix: str) -> Iterator[tuple[str, Tensor]]:
    if isinstance(value, _Module):
        for name, attribute in value.attributes.items():
            if isinstance(attribute, Tensor):
                yield f"{prefix}{name}", attribute
            else:
                yield from _tensors(attribute, f"{prefix}{name}.")


class _ModulesAlone(pickle.Unpickler):
    """Restricted to what a saved module consists of (Python documentation, "Restricting Globals")."""

    def __init__(self, archive: zipfile.ZipFile, root: str) -> None:
        super().__init__(io.BytesIO(archive.read(f"{root}/data.pkl")))
        self.archive, self.root = archive, root

    def find_class(self, module: str, name: str) -> Any:
        if module.split(".")[0] == "__torch__":
            return _Module
        if module == "torch" and name in _STORAGES:
            return _STORAGES[name]
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _tensor
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if module == "torch.jit._pickle":  # lists with a type, which is of no interest here
            return lambda value, *_: value
        raise pickle.UnpicklingError(f"Unsupported global: {module}.{name}")

    def persistent_load(self, pid: Any) -> Tensor:
        """The numbers of a storage, [n]; `pid` begins ("storage", type, key)."""
        _, dtype, key, *_ = pid
        content = self.archive.read(f"{self.root}/data/{key}")
        return torch.frombuffer(bytearray(content), dtype=dtype) if content else torch.empty(0, dtype=dtype)


def _tensor(storage: Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: object) -> Tensor:
    return storage.as_strided(size, stride, offset).clone()  # as_strided checks the bounds
