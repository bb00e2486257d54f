"""A bundle made of the model file that travels in another bundle."""

from __future__ import annotations

from pathlib import Path

import torch

from deploy.gallery.fingerprint import fingerprint
from export.manifest import Manifest
from export.to_onnx import export_bundle
from pat.config import ModelConfig
from pat.model import PartAwareTransformer
from pat.model.weights import save


def test_its_vectors_go_into_the_same_gallery(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = ModelConfig("vit_tiny_patch16_224", image_size=(32, 16), patch_size=8, width=32, depth=1, heads=1)
    save(PartAwareTransformer(config), tmp_path / "model.safetensors")
    first = export_bundle(tmp_path / "model.safetensors", tmp_path / "first", half_weights=True, trainable=True)
    again = export_bundle(tmp_path / "first" / "model.safetensors", tmp_path / "again", mirror=True)
    assert fingerprint(again) == fingerprint(first) == fingerprint(Manifest.load(tmp_path / "again"))

    (tmp_path / "first" / "model.safetensors").unlink()
    save(
        PartAwareTransformer(config), tmp_path / "first" / "model.safetensors"
    )  # another model, put there by hand
    other = export_bundle(tmp_path / "first" / "model.safetensors", tmp_path / "other")
    assert fingerprint(other) != fingerprint(first)
