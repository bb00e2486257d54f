"""The convolutional stem as part of a model: its numbers, freezing, and files."""

import json

import pytest
import safetensors.torch
import torch

import pat
from pat.base.errors import UserError
from pat.model import ModelConfig, PartAwareTransformer, weights

CONFIG = ModelConfig("vit_tiny_patch16_224", image_size=(64, 32), depth=2, identities=3, stem="convolution")


@pytest.fixture
def model() -> PartAwareTransformer:
    """Every parameter and statistic away from where it starts, so that each one matters."""
    torch.manual_seed(0)
    model = PartAwareTransformer(CONFIG)
    for name, tensor in model.patch_embed.state_dict().items():
        if tensor.is_floating_point():
            tensor.copy_(
                tensor + 0.1 * torch.rand_like(tensor) if "var" in name else torch.randn_like(tensor) * 0.1
            )
    return model.eval()


def test_patches_are_those_of_the_published_network(model, published_stem):
    images = torch.randn(2, 3, 64, 32)
    expected = published_stem(model.patch_embed.state_dict(), images).flatten(2).transpose(1, 2)
    assert expected.shape == (2, 8, 192)
    torch.testing.assert_close(model.patch_embed(images), expected, atol=1e-5, rtol=1e-5)


def test_a_model_file_brings_its_stem(model, tmp_path):
    weights.save(model, tmp_path / "m.safetensors")
    again = pat.load(tmp_path / "m.safetensors")
    images = torch.rand(2, 3, 64, 32)
    torch.testing.assert_close(again.embed(images), model.embed(images), rtol=0, atol=0)
    assert again.config.stem == "convolution"


def test_a_model_file_from_before_there_were_stems(tmp_path):
    plain = PartAwareTransformer(ModelConfig("vit_tiny_patch16_224", image_size=(64, 32), depth=2))
    weights.save(plain, tmp_path / "m.safetensors")
    with safetensors.safe_open(tmp_path / "m.safetensors", framework="pt") as file:
        metadata = file.metadata()
    config = json.loads(metadata["model"])
    del config["stem"]
    safetensors.torch.save_file(
        plain.state_dict(), tmp_path / "m.safetensors", {**metadata, "model": json.dumps(config)}
    )
    assert pat.load(tmp_path / "m.safetensors").config.stem == "projection"


def test_a_frozen_stem_neither_learns_nor_looks_at_the_batch(model):
    images = torch.rand(4, 3, 64, 32)
    before = {name: tensor.clone() for name, tensor in model.patch_embed.state_dict().items()}
    evaluated = model.patch_embed(images)
    model.freeze_patches()
    model.train()
    torch.testing.assert_close(model.patch_embed(images), evaluated, rtol=0, atol=0)
    model(images).global_feature.sum().backward()
    assert all(parameter.grad is None for parameter in model.patch_embed.parameters())
    assert model.blocks[0].mlp.fc1.weight.grad is not None
    for name, tensor in model.patch_embed.state_dict().items():
        torch.testing.assert_close(tensor, before[name], rtol=0, atol=0)


def test_a_stem_that_is_not_frozen_learns_every_tensor(model):
    before = {name: tensor.clone() for name, tensor in model.patch_embed.state_dict().items()}
    model.train()
    model(torch.rand(4, 3, 64, 32)).global_feature.square().sum().backward()
    assert all(parameter.grad is not None for parameter in model.patch_embed.parameters())
    statistics = [name for name in before if "running" in name]
    assert len(statistics) == 6
    assert all(not torch.equal(model.patch_embed.state_dict()[name], before[name]) for name in statistics)


def test_settings_that_a_stem_does_not_go_with():
    with pytest.raises(UserError, match="even patch size, not 7 x 7"):
        PartAwareTransformer(ModelConfig(image_size=(56, 28), patch_size=7, stem="convolution"))
    with pytest.raises(UserError, match="--weights FILE"):
        weights.initialise(PartAwareTransformer(CONFIG), "pretrained")
