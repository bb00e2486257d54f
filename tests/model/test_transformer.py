import dataclasses

import pytest
import timm
import torch
from torch.nn import functional as F

from kernels.part_attention.reference import visibility
from pat.base.errors import UserError
from pat.model import ModelConfig, PartAwareTransformer
from pat.model.transformer import ReidOutput
from pat.model.weights import _take_backbone

SMALL = ModelConfig("vit_tiny_patch16_224", image_size=(64, 32), depth=3, identities=5)


def model(config: ModelConfig = SMALL, seed: int = 0) -> PartAwareTransformer:
    torch.manual_seed(seed)
    made = PartAwareTransformer(config)
    for parameter in made.parameters():  # so that tokens and biases are not zero, as they start
        parameter.data.add_(0.02 * torch.randn_like(parameter))
    return made


def images(count: int = 3, size: tuple[int, int] = (64, 32)) -> torch.Tensor:
    return torch.rand(count, 3, *size, generator=torch.Generator().manual_seed(1))


def test_one_output_type_in_training_and_evaluation():
    for mode in (True, False):
        output = model().train(mode)(images())
        assert isinstance(output, ReidOutput)
        assert output.global_feature.shape == (3, 192)
        assert output.part_features.shape == (3, 3, 192)
        assert output.logits is not None
        assert output.logits.shape == (3, 5)
    assert model(dataclasses.replace(SMALL, identities=0)).eval()(images()).logits is None


def test_without_parts_it_is_timms_vit():
    torch.manual_seed(0)
    vit = timm.create_model("vit_tiny_patch16_224", img_size=(64, 32), depth=3, num_classes=0)
    ours = PartAwareTransformer(dataclasses.replace(SMALL, parts=0, identities=0))
    _take_backbone(ours, vit)
    expected = vit.eval().forward_features((images() - 0.5) / 0.5)[:, 0]
    torch.testing.assert_close(ours.eval()(images()).global_feature, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["vit_small_patch14_dinov2", "vit_small_patch14_reg4_dinov2"])
def test_dinov2_with_and_without_registers_is_timms(name):
    torch.manual_seed(0)
    vit = timm.create_model(name, img_size=(56, 28), depth=2, num_classes=0)
    torch.nn.init.normal_(vit.pos_embed, std=0.1)
    ours = PartAwareTransformer(ModelConfig(name, (56, 28), parts=0, depth=2))
    _take_backbone(ours, vit)
    pixels = images(2, (56, 28))
    expected = vit.eval().forward_features((pixels - ours.mean) / ours.std)[:, 0]
    torch.testing.assert_close(ours.eval()(pixels).global_feature, expected, atol=1e-5, rtol=1e-5)
    assert ours.registers == vit.num_reg_tokens


def test_whole_network_against_plain_masked_attention():
    ours = model().eval()
    regions = torch.tensor([[[0, 1, 0, 2], [1, 3, 1, 2], [2, 4, 0, 1]]], dtype=torch.int32).expand(3, -1, -1)
    tokens = ours.tokens(images())
    visible = visibility(regions, ours.grid, tokens.shape[1])
    for block in ours.blocks:
        inside = block.norm1(tokens)
        q, k, v = block.attn.qkv(inside).view(3, -1, 3, 3, 64).permute(2, 0, 3, 1, 4)
        logits = (q @ k.transpose(-1, -2)) / 8
        weights = logits.masked_fill(~visible[:, None], -torch.inf).softmax(-1)
        tokens = tokens + block.attn.proj((weights @ v).transpose(1, 2).flatten(2))
        tokens = tokens + block.mlp(block.norm2(tokens))
    tokens = ours.norm(tokens)
    output = ours(images(), regions)
    torch.testing.assert_close(output.global_feature, tokens[:, 0], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(output.part_features, tokens[:, 1:4], atol=1e-5, rtol=1e-4)


def test_last_block_computes_only_what_leaves_the_network():
    ours = model().eval()
    rows = []
    ours.blocks[-1].mlp.register_forward_hook(lambda module, inputs, output: rows.append(output.shape[1]))
    ours.blocks[-1].attn.proj.register_forward_hook(lambda module, inputs, output: rows.append(output.shape[1]))
    embedding = ours.embed(images())
    assert rows == [1, 1]
    whole = ours._run(images(), None, None, ours.pos_embed.shape[1])
    torch.testing.assert_close(embedding, F.normalize(whole[:, 0], dim=-1), atol=1e-5, rtol=1e-4)


def test_embedding_is_deterministic_and_of_unit_length():
    ours = model().train()  # even in training mode nothing is drawn
    first = ours.embed(images())
    torch.testing.assert_close(ours.embed(images()), first, rtol=0, atol=0)
    torch.testing.assert_close(first.norm(dim=1), torch.ones(3))
    parts = ours.embed(images(), parts=True)
    assert parts.shape == (3, 4 * 192)
    torch.testing.assert_close(parts.norm(dim=1), torch.ones(3))
    torch.testing.assert_close(parts[:, :192] * 2, first, atol=1e-6, rtol=1e-5)
    assert not first.requires_grad


def test_training_draws_regions_and_depth():
    ours = model().train()
    assert not torch.equal(ours(images()).part_features, ours(images()).part_features)
    still = model(dataclasses.replace(SMALL, drop_path=0.0)).train()
    regions = torch.tensor([[[0, 1, 0, 2], [1, 3, 0, 2], [2, 4, 0, 2]]], dtype=torch.int32)
    torch.testing.assert_close(still(images(), regions).part_features, still(images(), regions).part_features)


def test_a_part_does_not_change_with_pixels_outside_its_region_in_one_block():
    ours = model(dataclasses.replace(SMALL, depth=1)).eval()
    changed = images()
    changed[:, :, 32:] = 0  # below the band of part 1
    before, after = ours(images()).part_features, ours(changed).part_features
    torch.testing.assert_close(after[:, 0], before[:, 0], atol=1e-6, rtol=1e-5)
    assert (after[:, 2] - before[:, 2]).abs().max() > 1e-3


def test_drop_path_factors_keep_the_mean():
    factors = model(dataclasses.replace(SMALL, drop_path=0.5)).draw_drop_path(
        20_000, torch.Generator().manual_seed(0)
    )
    assert factors is not None
    assert factors.shape == (3, 2, 20_000)
    assert (factors[0] == 1).all()
    assert set(factors[2].unique().tolist()) == {0.0, 2.0}
    torch.testing.assert_close(factors.mean(-1), torch.ones(3, 2), atol=0.03, rtol=0)


def test_classifier_starts_small_behind_a_frozen_bias():
    ours = PartAwareTransformer(dataclasses.replace(SMALL, identities=400))
    assert ours.classifier is not None
    assert ours.classifier.bias is None
    assert 0.0008 < ours.classifier.weight.std() < 0.0012
    assert not ours.bottleneck.bias.requires_grad
    assert ours.bottleneck.weight.requires_grad


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("eva02_tiny_patch14_224", "rotary"),
        ("vit_tiny_r_s16_p8_224", "hybrid"),
        ("vit_pwee_patch16_reg1_gap_256", "no cls token"),
        ("deit_tiny_distilled_patch16_224", "VisionTransformerDistilled"),
        ("resnet50", "not a plain vision transformer"),
        ("vit_bas_patch16_224", "did you mean vit_base_patch16_224"),
    ],
)
def test_backbones_that_do_not_fit_are_refused_by_name(name, reason):
    with pytest.raises(UserError, match=reason) as caught:
        PartAwareTransformer(ModelConfig(name))
    assert name in str(caught.value)


def test_sizes_that_the_patch_does_not_divide():
    with pytest.raises(UserError, match="252 x 126"):
        PartAwareTransformer(ModelConfig("vit_small_patch14_dinov2", depth=1))


@pytest.mark.parametrize("wrong", [torch.rand(2, 3, 32, 64), torch.zeros(2, 3, 64, 32, dtype=torch.uint8)])
def test_images_of_another_size_or_type(wrong):
    with pytest.raises(ValueError, match=r"\[B, 3, 64, 32\]"):
        model()(wrong)


def test_auto_belongs_to_the_command_line():
    with pytest.raises(ValueError, match="command line"):
        PartAwareTransformer(dataclasses.replace(SMALL, attention="auto"))
