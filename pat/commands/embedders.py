"""From a path on the command line to something that embeds pictures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

import pat
from pat.config import ModelConfig
from pat.device import choose_device, describe, resolve_model
from pat.errors import UserError
from pat.evaluation.extract import Embedder
from pat.model import PartAwareTransformer
from pat.model.images import to_images
from pat.progress import Progress


@dataclass(frozen=True)
class OpenedModel:
    """A trained model, ready to embed uint8 pictures of its own size."""

    path: Path
    model: PartAwareTransformer
    device: torch.device

    @property
    def image_size(self) -> tuple[int, int]:
        return self.model.config.image_size

    def embedder(self, parts: bool = False) -> Embedder:
        """uint8 [n, H, W, 3] -> float32 [n, D], unit length; with `parts` cls and part tokens together."""
        if parts and not self.model.parts:
            raise UserError(f"{self.path} is a plain ViT without part tokens; leave out --parts")

        def embed(pixels: np.ndarray) -> np.ndarray:
            return self.model.embed(to_images(pixels, self.device), parts).cpu().numpy()

        return embed


def open_model(path: Path, device: str, attention: str, progress: Progress) -> OpenedModel:
    """The model file at `path`, or the one in a run folder. Raises UserError when there is none."""
    chosen = choose_device(device)
    implementation = resolve_model(ModelConfig(attention=attention), chosen).attention  # type: ignore[arg-type]
    file = path / "model.safetensors" if path.is_dir() else path
    if path.is_dir() and not file.exists():
        raise UserError(
            f"the folder {path} holds no model.safetensors; give a model file or a finished run's folder"
        )
    model = pat.load(file, implementation).to(chosen)
    words = f"{model.config.backbone}, {model.parts} parts; {describe(chosen)}; attention: {implementation}"
    progress.say(f"{file}: {words}")
    return OpenedModel(file, model, chosen)
