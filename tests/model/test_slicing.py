"""A slice of a model: what needs no more directions than it has is the same function, in other axes."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from pat.base.errors import UserError
from pat.config import ModelConfig
from pat.model import PartAwareTransformer
from pat.model.images import to_images
from pat.model.slicing import _observed, narrower, slice_into, turn_towards, why_not
from pat.model.stem import DeepStem

PIXELS = np.random.default_rng(5).integers(0, 256, (96, 64, 32, 3), dtype=np.uint8)
WIDE, RANK = 48, 6
WIDTH = 2 * RANK
"""In two heads: keys and values have as many numbers each as they vary along, and none for their means."""
TOKENS = ("cls_token", "part_tokens", "register_tokens", "pos_embed")


def network(**changes) -> PartAwareTransformer:
    """A model whose numbers are all drawn at random, LayerNorms and statistics of batches among them."""
    torch.manual_seed(0)
    config = {
        "backbone": "vit_tiny_patch16_224", "image_size": (64, 32), "patch_size": 16, "width": WIDE, "depth": 3,
        "heads": 2, "parts": 2, "drop_path": 0.0,
    }  # fmt: skip
    model = PartAwareTransformer(ModelConfig(**{**config, **changes})).eval()
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if tensor.is_floating_point() and name not in ("mean", "std"):
                tensor.add_(torch.randn_like(tensor), alpha=1.0 if name in TOKENS else 0.1)
                if name.endswith("running_var"):
                    tensor.abs_().add_(0.5)
    return model


@torch.no_grad()
def of_few_directions(model: PartAwareTransformer, rank: int = RANK) -> PartAwareTransformer:
    """The same with all that writes tokens held to `rank` directions."""
    span = torch.linalg.qr(torch.randn(model.dim, rank))[0]
    held = span @ span.T
    for name in TOKENS:
        getattr(model, name).copy_(getattr(model, name) @ held)
    if isinstance(model.patch_embed, DeepStem):
        convolution, norm, _ = model.patch_embed.conv[-3:]
        norm.weight[: model.dim // 2], norm.bias[: model.dim // 2] = 0, 1
        for tensor in (convolution.weight, norm.weight, norm.bias, norm.running_mean, norm.running_var):
            repeat_last(tensor, RANK)
    projection = model.patch_embed.proj
    projection.weight.copy_((held @ projection.weight.flatten(1)).view_as(projection.weight))
    projection.bias.copy_(held @ projection.bias)
    for block in model.blocks:
        block.mlp.fc1.weight[: 2 * model.dim] = 0
        for tensor in (block.mlp.fc1.weight, block.mlp.fc1.bias):
            repeat_last(tensor, 2 * WIDTH)
        for layer, scale in ((block.attn.proj, block.ls1), (block.mlp.fc2, block.ls2)):
            stretch = getattr(scale, "gamma", torch.ones(model.dim))[:, None]
            layer.weight.copy_(held @ layer.weight / stretch)
            layer.bias.copy_(held @ layer.bias / stretch[:, 0])
    return model


def repeat_last(tensor: torch.Tensor, count: int) -> None:
    """The last `count` numbers or rows in place of all of the second half."""
    for begin in range(len(tensor) // 2, len(tensor), count):
        tensor[begin : begin + count] = tensor[-count:]


def last_tokens(model: PartAwareTransformer) -> torch.Tensor:
    """What enters the last LayerNorm, normalised without its weights: [rows, D]."""
    seen = []
    hook = model.norm.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    model.eval().embed(to_images(PIXELS), parts=model.parts > 0)
    hook.remove()
    return F.layer_norm(seen[0], (model.dim,), eps=1e-6).flatten(0, 1)


VARIANTS = {
    "plain": {"parts": 0},
    "parts": {},
    "mean of the patches": {"pooling": "mean"},
    "no bias of queries": {"qkv_bias": False},
    "scores of its own": {"attention_scale": 0.4},
    "convolutional stem": {"stem": "convolution"},
    "deep stem": {"stem": "deep"},
    "registers and LayerScale": {
        "backbone": "vit_small_patch14_reg4_dinov2", "patch_size": None, "image_size": (56, 28),
    },
}  # fmt: skip


@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS.keys())
def test_few_directions_need_no_more_width(changes, monkeypatch):
    wide = of_few_directions(network(**changes))
    monkeypatch.setattr(f"{__name__}.PIXELS", PIXELS[:, : wide.image_size[0], : wide.image_size[1]])
    narrow = PartAwareTransformer(narrower(wide, WIDTH))
    for parameter in narrow.parameters():  # whatever it held
        nn.init.normal_(parameter)
    kept = slice_into(narrow, wide, PIXELS)
    assert kept == pytest.approx(1, abs=1e-5)
    own, others = last_tokens(wide), last_tokens(narrow)
    # Equal lengths: sqrt(D) and sqrt(d).
    turned = own @ turn_towards(own, others) * (WIDTH / wide.dim) ** 0.5
    torch.testing.assert_close(others, turned, rtol=0, atol=3e-2)


@pytest.mark.parametrize("stem", ["projection", "convolution", "deep"])
@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_a_slice_as_wide_as_the_model_says_nearly_the_same(stem, pooling):
    """All but one direction; the last LayerNorm's weights are met up to one part in the width."""
    wide = network(stem=stem, pooling=pooling)
    equal = PartAwareTransformer(dataclasses.replace(wide.config, qkv_bias=True))
    slice_into(equal, wide, PIXELS)
    images = to_images(PIXELS)
    own, others = wide.embed(images), equal.eval().embed(images)
    turned = own @ turn_towards(own, others)
    assert F.cosine_similarity(turned, others).min() > 0.99


def test_the_last_norm_stretches_what_its_numbers_stand_for():
    wide = network(parts=0)
    torch.manual_seed(1)
    nn.init.uniform_(wide.norm.weight, -2, 2)
    wide.norm.weight.data.exp_()
    nn.init.uniform_(wide.norm.bias, -2, 2)
    equal = PartAwareTransformer(wide.config)
    slice_into(equal, wide, PIXELS)
    images = to_images(PIXELS)
    own, others = wide.embed(images), equal.eval().embed(images)
    assert F.cosine_similarity(own @ turn_towards(own, others), others).min() > 0.998


def test_a_last_norm_that_stretches_all_alike_does_so_in_a_slice():
    wide = of_few_directions(network(parts=0), WIDTH - 1)
    nn.init.constant_(wide.norm.weight, 2)
    narrow = PartAwareTransformer(narrower(wide, WIDTH))
    slice_into(narrow, wide, PIXELS)
    expected = torch.full((WIDTH,), 2 * (WIDE / WIDTH) ** 0.5)  # a LayerNorm gives sqrt(width) in length
    torch.testing.assert_close(narrow.norm.weight.data, expected, rtol=0.01, atol=0)


def test_part_tokens_are_looked_at_where_they_leave_the_model():
    wide = network()
    (mean, _), expected = _observed(wide, PIXELS)[wide.norm], last_tokens(wide)
    assert len(expected) == 3 * len(PIXELS)
    torch.testing.assert_close(mean.float(), expected.mean(0), rtol=1e-4, atol=1e-4)


def test_the_mean_of_values_takes_no_place_in_a_head(monkeypatch):
    """Heads of two numbers and even attention; values vary along two directions about a mean along a third."""
    monkeypatch.setattr(f"{__name__}.PIXELS", PIXELS[:, :16, :16])  # one patch: not all is an average of many
    wide = of_few_directions(network(parts=0, image_size=(16, 16)), rank=3)
    with torch.no_grad():
        for block in wide.blocks:
            query, _, value = block.attn.qkv.weight.view(3, 2, WIDE // 2, WIDE)
            query.zero_()
            for head in value:
                u, lengths, v = torch.linalg.svd(head, full_matrices=False)
                head.copy_(u[:, :2] * lengths[:2] @ v[:2])
            block.attn.qkv.bias[:WIDE] = 0
            block.attn.qkv.bias[2 * WIDE :] += 5
    narrow = PartAwareTransformer(dataclasses.replace(narrower(wide, 4), mlp_ratio=WIDE))
    slice_into(narrow, wide, PIXELS)
    own, others = last_tokens(wide), last_tokens(narrow)
    turned = own @ turn_towards(own, others) * (4 / WIDE) ** 0.5
    torch.testing.assert_close(others, turned, rtol=0, atol=1e-2)


def test_the_wide_model_stays_as_it_is():
    wide = network()
    before = {name: tensor.clone() for name, tensor in wide.state_dict().items()}
    slice_into(PartAwareTransformer(narrower(wide)), wide, PIXELS)
    for name, tensor in wide.state_dict().items():
        torch.testing.assert_close(tensor, before[name], rtol=0, atol=0)
    assert not any(module._forward_pre_hooks for module in wide.modules())


def test_a_classifier_and_a_neck_are_the_slices_own():
    wide = network(identities=7)
    narrow = PartAwareTransformer(dataclasses.replace(narrower(wide), identities=5))
    before = narrow.classifier.weight.clone()
    slice_into(narrow, wide, PIXELS)
    torch.testing.assert_close(narrow.classifier.weight, before, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"depth": 2}, "its number of blocks is 3; a slice has the same, not 2"),
        ({"heads": 4}, "its number of heads is 2"),
        ({"parts": 0}, "its number of part tokens is 2"),
        ({"image_size": (32, 32)}, "its grid of patches is"),
        ({"stem": "deep"}, "its patches come from a PatchEmbed"),
        ({"pooling": "mean"}, "its pooling is cls"),
        ({"width": 64}, "a slice is no wider"),
        ({"qkv_bias": False}, "need a bias"),
        ({"patch_size": 8, "image_size": (32, 16)}, "its images are (64, 32)"),
        ({"mean": (0.1, 0.2, 0.3)}, "its pixels are normalised by"),
    ],
)
def test_what_cannot_be_a_slice_says_why(changes, said):
    wide = network()
    other = PartAwareTransformer(dataclasses.replace(wide.config, **{"width": 24, **changes}))
    assert said in why_not(other, wide)
    with pytest.raises(ValueError, match=r"slice|bias"):
        slice_into(other, wide, PIXELS)


@pytest.mark.parametrize("which", [0, 1])
def test_a_tower_that_normalises_first_cannot_be_sliced(which):
    """Nor can its student."""
    wide = network()
    models = PartAwareTransformer(narrower(wide)), wide
    models[which].norm_pre = nn.LayerNorm(models[which].dim)
    assert "before the first block" in why_not(*models)


@pytest.mark.parametrize("width", [0, -2, WIDE, WIDE + 2, 15])
def test_a_width_that_cannot_be_is_refused(width):
    with pytest.raises(UserError, match="expected a multiple of the 2 heads, from 2 to 46"):
        narrower(network(), width)


def test_layer_norm_needs_two_numbers():
    wide = network(heads=1)
    with pytest.raises(UserError, match="from 2 to 47"):
        narrower(wide, 1)
    assert "2 wide or more" in why_not(PartAwareTransformer(dataclasses.replace(wide.config, width=1)), wide)
    assert narrower(network(heads=1, width=3)).width == 2


@pytest.mark.parametrize(("width", "heads"), [(4, 4), (2, 1)])
def test_a_model_that_cannot_be_narrower_is_refused_whatever_the_width(width, heads):
    wide = network(width=width, heads=heads)
    for asked in (None, 1, 2):
        with pytest.raises(UserError, match=f"{width} wide with {heads} heads cannot be made narrower"):
            narrower(wide, asked)


@torch.no_grad()
def test_what_never_moves_breaks_nothing():
    """Blocks that write nothing, and the same image over and over."""
    wide = network()
    for layer in (wide.blocks[0].mlp.fc1, wide.blocks[1].attn.qkv, wide.blocks[2].mlp.fc1):
        layer.weight.zero_()
        layer.bias.zero_()
    narrow = PartAwareTransformer(narrower(wide))
    slice_into(narrow, wide, np.repeat(PIXELS[:1], 8, axis=0))
    assert all(torch.isfinite(tensor).all() for tensor in narrow.state_dict().values())
    assert torch.isfinite(narrow.eval().embed(to_images(PIXELS), parts=True)).all()


def test_half_the_width_keeps_what_is_neither_training_nor_width():
    wide = network(identities=3, cosine_scale=8.0, drop_path=0.1)
    config = narrower(wide)
    assert (config.width, config.heads, config.identities) == (24, 2, 0)
    assert (config.cosine_scale, config.drop_path) == (0, 0)
    assert (config.mean, config.image_size, config.parts) == (wide.config.mean, wide.config.image_size, 2)
