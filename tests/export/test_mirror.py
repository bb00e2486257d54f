"""A bundle that embeds the mirror image of every crop, too."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from bundles import noise
from deploy import runtime
from export import verify
from export.precision import Request, lower_bundle
from pat.base.progress import Progress
from pat.commands.embedders import opened_model
from pat.commands.export import main as export
from pat.config import ModelConfig
from pat.model import PartAwareTransformer
from pat.model.images import to_images
from pat.model.weights import save


@pytest.fixture(scope="module")
def model() -> PartAwareTransformer:
    """One that tells left from right."""
    torch.manual_seed(0)
    config = ModelConfig(
        "vit_tiny_patch16_224", image_size=(32, 16), patch_size=8, width=32, depth=2, heads=1, parts=2
    )
    model = PartAwareTransformer(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return model


@pytest.fixture(scope="module")
def folder(model: PartAwareTransformer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mirror")
    save(model, folder / "model.safetensors")
    model_file, bundle = str(folder / "model.safetensors"), str(folder / "fp32")
    export([model_file, bundle, "--parts", "--mirror", "--kernels", "none"])
    return folder


@pytest.mark.parametrize("count", [1, 3])
def test_the_embedding_is_the_mean_of_both_at_unit_length(model, folder: Path, count: int) -> None:
    pixels = noise(count, 32, 16, 3)
    one, other = (model.embed(to_images(each), parts=True) for each in (pixels, pixels[:, :, ::-1].copy()))
    expected = torch.nn.functional.normalize(one + other, dim=1)
    with runtime.open(folder / "fp32") as session:
        assert session.manifest.output.mirrored
        found, turned = session.embed(pixels), session.embed(pixels[:, :, ::-1].copy())
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_allclose(found, turned, atol=1e-5)
    assert float((one * other).sum(1).max()) < 0.99
    assert not model.mirrored


def test_a_model_file_is_compared_as_the_bundle_embeds(folder: Path, tmp_path: Path, capsys) -> None:
    for number, pixels in enumerate(noise(8, 32, 16, 3)):
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    assert verify.main([str(folder / "model.safetensors"), str(folder / "fp32"), "--images", str(tmp_path)]) == 0
    assert capsys.readouterr().out.endswith("they agree\n")


def test_a_lower_precision_is_mirrored_too(folder: Path) -> None:
    manifest = lower_bundle(folder / "fp32", folder / "fp16", Request("fp16"))
    assert manifest.output.mirrored
    assert manifest.precision.share == 1


def test_a_table_says_that_it_is_mirrored(folder: Path) -> None:
    with opened_model(folder / "fp32", "auto", "auto", Progress()) as opened:
        assert opened.kind == "cls+parts, mirrored"
