"""What `pat export` writes, in the forms of other programs: its graph has names of its own."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from export import integrate
from export.to_onnx import export_bundle
from pat.config import ModelConfig
from pat.model import PartAwareTransformer
from pat.model.weights import save


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("forms")
    config = ModelConfig("vit_tiny_patch16_224", image_size=(32, 16), patch_size=8, width=32, depth=1, heads=1)
    save(PartAwareTransformer(config), folder / "model.safetensors")
    export_bundle(folder / "model.safetensors", folder / "bundle")
    return folder / "bundle"


@pytest.mark.parametrize("form", ["deepstream", "boxmot", "ultralytics"])
def test_a_float_input_goes_before_what_the_exporter_has_named(form: str, bundle: Path, tmp_path: Path) -> None:
    assert integrate.main([str(bundle), form, str(tmp_path / "reid.onnx")]) == 0
