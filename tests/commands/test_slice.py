"""`pat slice`: from a trained model to a narrower one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

import pat
from pat.config import ModelConfig
from pat.model import PartAwareTransformer
from pat.model.model_file import read_description
from pat.model.weights import save


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    shape = {"patch_size": 8, "width": 48, "heads": 2, "depth": 2}
    config = ModelConfig("vit_tiny_patch16_224", (32, 16), parts=2, identities=5, **shape)
    save(PartAwareTransformer(config), path, {"source": ["somewhere"], "seed": 3})
    return path


@pytest.fixture(scope="module")
def crops(tmp_path_factory):
    folder, rng = tmp_path_factory.mktemp("crops"), np.random.default_rng(0)
    for number in range(256):
        Image.fromarray(rng.integers(0, 256, (32, 16, 3), dtype=np.uint8)).save(folder / f"{number}.png")
    return folder


def test_half_as_wide_and_what_it_was_is_kept(model, crops, tmp_path, succeeds):
    out = tmp_path / "narrow.safetensors"
    said, _ = succeeds("slice", model, out, "--images", crops)
    assert "128 images: centred cosine worst" in said
    assert f"{out}: width 24 of 48" in said
    narrow = pat.load(out)
    assert (narrow.dim, narrow.parts, narrow.config.heads, narrow.classifier) == (24, 2, 2, None)
    described = read_description(out)
    assert described.training == {"source": ["somewhere"], "seed": 3, "sliced_from": "model.safetensors"}


def test_another_width(model, crops, tmp_path, succeeds):
    succeeds("slice", model, tmp_path / "out", "--images", crops, "--width", 32)
    assert pat.load(tmp_path / "out").dim == 32


def test_mistakes_are_one_line(model, crops, tmp_path, fails):
    out = tmp_path / "out.safetensors"
    too_wide = fails(2, "slice", model, out, "--images", crops, "--width", 64)
    assert "multiple of the 2 heads, from 2 to 46" in too_wide
    assert "no model file" in fails(2, "slice", tmp_path / "none", out, "--images", crops)
    assert "no folder" in fails(2, "slice", model, out, "--images", tmp_path / "none")
    before = model.read_bytes()
    assert "is the model itself" in fails(2, "slice", model.parent, model, "--images", crops)
    assert model.read_bytes() == before
    assert "is a folder; name the .safetensors file" in fails(2, "slice", model, tmp_path, "--images", crops)
    assert "cannot write to" in fails(2, "slice", model, model / "x.safetensors", "--images", crops)
    for name in ("0.png", "1.png"):
        (tmp_path / name).write_bytes((crops / name).read_bytes())
    assert "2 images; a slice needs 256" in fails(2, "slice", model, out, "--images", tmp_path)
    assert not out.exists()


def test_an_unreadable_crop_is_named(model, crops, tmp_path, fails):
    folder = tmp_path / "crops"
    folder.mkdir()
    for path in crops.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "7.png").write_bytes(b"no image")
    assert "7.png" in fails(2, "slice", model, tmp_path / "out", "--images", folder)
