"""Deep stem, mean of the patches beside cls, and a classifier of cosines: one embedding everywhere."""

import dataclasses

import pytest
import torch
from torch.nn import functional as F

import pat
from pat.base.errors import UserError
from pat.config import ModelConfig
from pat.model import PartAwareTransformer, weights

SMALL = ModelConfig(
    backbone="vit_tiny_patch16_224", image_size=(32, 16), patch_size=8, width=64, depth=2, heads=2, identities=5,
    stem="deep", pooling="mean", cosine_scale=16.0, drop_path=0.0,
)  # fmt: skip


def model(**changes):
    torch.manual_seed(0)
    made = PartAwareTransformer(dataclasses.replace(SMALL, **changes))
    made.train().features(torch.rand(8, 3, 32, 16))  # batch statistics that are not those of the start
    return made.eval()


@pytest.mark.parametrize("parts", [0, 3])
def test_the_global_feature_is_cls_plus_the_mean_of_the_patches(parts):
    tested, images = model(parts=parts), torch.rand(4, 3, 32, 16)
    tokens = tested.tokens(images)
    for block in tested.blocks:
        tokens = block(tokens, tested.bands, tokens.shape[1], None)
    tokens = tested.norm(tokens)
    expected = tokens[:, 0] + tokens[:, 1 + parts :].mean(1)
    global_feature, part_features = tested.features(images)
    torch.testing.assert_close(global_feature, expected)
    torch.testing.assert_close(part_features, tokens[:, 1 : 1 + parts])
    torch.testing.assert_close(tested.embed(images), F.normalize(expected, dim=1))
    if parts:
        both = tested.embed(images, parts=True)
        torch.testing.assert_close(both[:, :64], F.normalize(expected, dim=1) / 2)


def test_logits_are_scaled_cosines():
    tested, images = model(), torch.rand(4, 3, 32, 16)
    feature, _, logits = tested(images)
    cosine = F.cosine_similarity(feature[:, None], tested.classifier.weight[None], dim=-1)
    torch.testing.assert_close(logits, 16 * cosine)


def test_saved_and_loaded_it_embeds_the_same(tmp_path):
    tested, images = model(), torch.rand(4, 3, 32, 16)
    weights.save(tested, tmp_path / "m.safetensors")
    torch.testing.assert_close(pat.load(tmp_path / "m.safetensors").embed(images), tested.embed(images))


def test_a_frozen_deep_stem_sees_each_image_alone():
    tested, images = model(), torch.rand(4, 3, 32, 16)
    tested.freeze_patches()
    tested.train()
    torch.testing.assert_close(tested.tokens(images)[:1], tested.tokens(images[:1]))
    assert not any(parameter.requires_grad for parameter in tested.patch_embed.parameters())


def test_frozen_blocks_and_what_precedes_them_get_no_gradient():
    tested = model()
    tested.freeze_blocks(1)
    fixed = {name for name, parameter in tested.named_parameters() if not parameter.requires_grad}
    assert "cls_token" in fixed
    assert {name for name in fixed if name.startswith("blocks.")} == {
        name for name, _ in tested.named_parameters() if name.startswith("blocks.0.")
    }


def test_a_patch_that_no_halving_reaches_is_refused():
    with pytest.raises(UserError, match="4, 8, 16 or 32"):
        model(image_size=(36, 12), patch_size=12)
