"""A model takes smaller images for a while: the same network with its positions interpolated."""

import dataclasses

import pytest
import torch

from pat.model import ModelConfig, PartAwareTransformer

CONFIG = ModelConfig("vit_tiny_patch16_224", image_size=(128, 64), width=64, depth=2, heads=2, parts=3)


@pytest.mark.parametrize("stem", ["projection", "deep"])
def test_small_images_are_those_of_a_model_made_for_them(stem):
    torch.manual_seed(0)
    model = PartAwareTransformer(dataclasses.replace(CONFIG, stem=stem)).eval()
    small = PartAwareTransformer(dataclasses.replace(CONFIG, stem=stem, image_size=(64, 32))).eval()
    state = {name: tensor for name, tensor in model.state_dict().items() if name != "pos_embed"}
    small.load_state_dict(state, strict=False)
    positions = model.pos_embed[:, 4:].reshape(1, 8, 4, 64).permute(0, 3, 1, 2)
    resized = torch.nn.functional.interpolate(positions, (4, 2), mode="bicubic", antialias=True)
    resized = resized.permute(0, 2, 3, 1).reshape(1, 8, 64)
    small.pos_embed.data = torch.cat([model.pos_embed[:, :4], resized], dim=1).detach()
    whole, images = torch.rand(2, 3, 128, 64), torch.rand(2, 3, 64, 32)
    before = model(whole)

    model.take_images_of((64, 32))
    torch.testing.assert_close(model.host_bands, small.host_bands)
    found, expected = model(images), small(images)
    torch.testing.assert_close(found.global_feature, expected.global_feature)
    torch.testing.assert_close(found.part_features, expected.part_features)
    with pytest.raises(ValueError, match=r"\[B, 3, 64, 32\]"):
        model(whole)

    model.take_images_of((128, 64))
    torch.testing.assert_close(model(whole).part_features, before.part_features, rtol=0, atol=0)


def test_sizes_that_patches_do_not_divide_are_refused():
    with pytest.raises(ValueError, match="do not divide"):
        PartAwareTransformer(CONFIG).take_images_of((72, 32))
