"""Merging patch tokens: what is kept, and that nothing changes where the merged were equal."""

from __future__ import annotations

import pytest
import torch

from pat.config import ModelConfig
from pat.model import PartAwareTransformer
from pat.model.merging import Merging, mean_of_patches, merge, patch_counts, run_block

REGIONS = torch.tensor([[[0, 2, 0, 4], [1, 4, 0, 4]]], dtype=torch.int32)
GRID = (4, 4)


def network(**changes) -> PartAwareTransformer:
    torch.manual_seed(0)
    config = {
        "backbone": "vit_tiny_patch16_224", "image_size": (64, 64), "width": 24, "depth": 3, "heads": 2,
        "parts": 2, "attention": "reference",
    }  # fmt: skip
    return PartAwareTransformer(ModelConfig(**{**config, **changes})).eval()


def test_tokens_left_are_static_and_never_fewer_than_half():
    assert Merging(5).left(32, 4, pooled=True) == [27, 22, 17, 12]
    assert Merging(5, first=3).left(32, 4, pooled=True) == [32, 32, 27, 22]
    assert Merging(100).left(33, 3, pooled=True) == [17, 9, 5]
    assert Merging(5).left(32, 4, pooled=False) == [27, 22, 17, 17]


@pytest.mark.parametrize("pooling", ["cls", "mean"])
@pytest.mark.parametrize("parts", [0, 2])
@pytest.mark.parametrize("attention", ["reference", "sdpa"])
@torch.no_grad()
def test_merging_none_is_the_plain_model(parts, pooling, attention):
    model, images = network(parts=parts, pooling=pooling, attention=attention), torch.rand(3, 3, 64, 64)
    plain = model.embed(images, parts=parts > 0)
    model.merging = Merging(0)
    torch.testing.assert_close(model.embed(images, parts=parts > 0), plain, rtol=0, atol=1e-6)
    model.merging = Merging(3)
    assert (model.embed(images, parts=parts > 0) - plain).abs().max() > 1e-4


@torch.no_grad()
def test_merging_none_is_the_plain_model_with_registers_too():
    model = network(backbone="vit_small_patch14_reg4_dinov2", image_size=(56, 56))
    images = torch.rand(2, 3, 56, 56)
    assert model.registers == 4
    plain = model.embed(images, parts=True)
    model.merging = Merging(0)
    torch.testing.assert_close(model.embed(images, parts=True), plain, rtol=0, atol=1e-6)


@pytest.mark.parametrize("registers", [0, 4])
@torch.no_grad()
def test_equal_tokens_merge_without_a_trace(registers):
    """Neighbours in a row are equal and in the same regions: merged, they count as the two that they are.

    Registers, though equal, are left alone.
    """
    model, special = network(), 3 + registers
    pairs = torch.randn(2, 8, 1, 24).expand(-1, -1, 2, -1).flatten(1, 2)  # [B, 16, D]
    tokens = torch.cat([torch.randn(2, 3, 24), torch.randn(2, 1, 24).expand(-1, registers, -1), pairs], 1)
    whole, fewer = tokens, tokens
    counts, counts_fewer = patch_counts(REGIONS, GRID), patch_counts(REGIONS, GRID)
    for block, left in zip(model.blocks, (8, 8, 8), strict=True):
        whole, counts = run_block(block, whole, counts, whole.shape[1], 16, None)
        fewer, counts_fewer = run_block(block, fewer, counts_fewer, fewer.shape[1], left, None)
    assert fewer.shape == (2, special + 8, 24)
    torch.testing.assert_close(fewer[:, :special], whole[:, :special], rtol=1e-5, atol=1e-5)
    mean = mean_of_patches(whole[:, special:], counts)
    torch.testing.assert_close(mean_of_patches(fewer[:, special:], counts_fewer), mean, rtol=1e-5, atol=1e-5)


def test_a_part_counts_the_patches_of_its_region_alone():
    tokens = torch.randn(1, 16, 5)
    keys = torch.eye(8).repeat_interleave(2, 0)[None].clone()
    keys[0, 12] = keys[0, 1]  # a patch of the last row, the second part's alone, is like one of the first row
    left, counts = merge(tokens, patch_counts(REGIONS, GRID), keys, 8)
    assert left.shape == (1, 8, 5)
    assert counts[0].sum(0).tolist() == [16, 8, 12]  # every patch, in all and in each region
    three = counts[0, :, 0] == 3  # 0, 1 and 12 became one
    assert counts[0, three].tolist() == [[3, 2, 1]]
    torch.testing.assert_close(left[0, three][0], tokens[0, [0, 1, 12]].mean(0))
    torch.testing.assert_close(mean_of_patches(left, counts)[0, 0], tokens[0].mean(0))


def test_the_most_alike_are_merged_first():
    angles = torch.tensor([0.0, 0.3, 1.5, 1.6, 3.0, 3.9])  # pairs 0.3, 0.1 and 0.9 apart
    keys = torch.stack([angles.cos(), angles.sin()], 1)[None]
    tokens = angles[None, :, None]
    left, counts = merge(tokens, torch.ones(1, 6, 1), keys, 2)
    assert sorted(left.flatten().tolist()) == pytest.approx([0.15, 1.55, 3.0, 3.9])
    assert sorted(counts.flatten().tolist()) == [1, 1, 2, 2]
