"""Model files: one .safetensors file with the configuration inside."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor

from pat.base.errors import UserError
from pat.base.files import written_whole
from pat.base.mapping import from_mapping, to_mapping
from pat.config import ModelConfig

FORMAT = "pat-reid/1"
NAME = "model.safetensors"
"""Of the model in the folder of a run or a bundle."""


@dataclass(frozen=True)
class ModelFile:
    """What a model file holds beside the tensors."""

    config: ModelConfig
    training: Mapping[str, Any]
    """Facts of the training or import, as written: data sets, epochs, where the weights came from."""


def save_tensors(
    tensors: Mapping[str, Tensor],
    config: ModelConfig,
    path: str | Path,
    training: Mapping[str, Any] | None = None,
) -> None:
    """Write tensors under the model's own names together with the configuration they belong to."""
    config = dataclasses.replace(config, attention="sdpa")  # how it runs is the reader's choice
    metadata = {
        "format": FORMAT,
        "model": json.dumps(to_mapping(config)),
        "training": json.dumps(dict(training or {})),
    }
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with written_whole(path) as temporary:
        temporary.write_bytes(safetensors.torch.save(plain, metadata))


def file_at(path: Path) -> Path:
    """The model file that `path` is, or that its folder holds. Raises UserError for a folder that holds none."""
    if not path.is_dir():
        return path
    if not (path / NAME).is_file():
        raise UserError(f"the folder {path} holds no {NAME}; give a model file, or a run or bundle that holds one")
    return path / NAME


def read(path: str | Path) -> tuple[dict[str, Tensor], ModelFile]:
    """Tensors and configuration of a model file; raises UserError.

    For a file that is missing, damaged, foreign, or whose configuration does not parse.
    """
    path = Path(path)
    if path.suffix in (".pth", ".pt", ".bin", ".tar"):
        raise UserError(f"{path} is not a model of this project; convert it with `pat import-weights {path} OUT`")
    file = read_description(path)
    try:
        tensors = safetensors.torch.load_file(path)
    except (OSError, safetensors.SafetensorError) as error:
        raise UserError(f"cannot read the model file {path}: {error}") from error
    return tensors, file


def read_description(path: Path) -> ModelFile:
    """The configuration in a model file, without its tensors; errors as in `read`."""
    if not path.is_file():
        raise UserError(f"there is no model file {path}")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    except (OSError, safetensors.SafetensorError) as error:
        raise UserError(f"{path} is damaged or not a .safetensors file: {error}") from error
    if metadata.get("format") != FORMAT:
        found = metadata.get("format", "none")
        raise UserError(
            f"{path} is not a model of this project (format {found}, expected {FORMAT}); "
            f"convert foreign weights with `pat import-weights {path} OUT`"
        )
    try:
        values, training = json.loads(metadata["model"]), json.loads(metadata["training"])
        training = dict(training)
    except (KeyError, ValueError, TypeError, RecursionError) as error:
        raise UserError(f"the configuration inside {path} does not parse: {error}") from error
    return ModelFile(from_mapping(ModelConfig, values, str(path)), training)
