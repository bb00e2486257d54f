"""Files of architectures and formats that do not fit: what each is told."""

import pytest
import torch

from pat.errors import UserError

ONE = torch.zeros(1)


SWIN = "attn.w_msa.relative_position_bias_table"
VIT = ["cls_token", "pos_embed", "patch_embed.proj.weight"]


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        ([f"backbone.stages.0.blocks.0.{SWIN}", "backbone.norm3.weight"], "Swin.*SOLIDER"),
        (["layers.0.blocks.0.attn.relative_position_bias_table", "patch_embed.proj.weight"], "Swin"),
        ([*VIT, "blocks.0.attn.relative_position_bias_table"], "BEiT"),
        (["visual.conv1.weight", "visual.layer1.0.conv1.weight"], "ResNet image tower"),
        (["image_encoder.layer1.0.conv1.weight"], "ResNet image tower"),
        (["module.encoder_q.layer1.0.conv1.weight"], "a ResNet"),
        (["token_embedding.weight", "transformer.resblocks.0.ln_1.weight"], "a text tower"),
        (["text_model.embeddings.token_embedding.weight", "text_projection.weight"], "a text tower"),
        (["vision_model.head.attention.in_proj_weight"], "SigLIP"),
        ([*VIT, "dist_token"], "distilled"),
        ([*VIT, "rope_embed.periods"], "rotary"),
        (["cls_token", "pos_embed", "patch_embed.backbone.stem.conv.weight"], "hybrid"),
        ([*(f"base.{key}" for key in VIT), "b1.0.norm1.weight"], "jigsaw"),
    ],
)
@pytest.mark.parametrize("wrapper", [None, "teacher"])
def test_architectures_are_named(imported, tmp_path, keys, reason, wrapper):
    state = dict.fromkeys(keys, ONE)
    with pytest.raises(UserError, match=f"file.pth does not fit: it is .*{reason}") as caught:
        imported({wrapper: state} if wrapper else state)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "ours.safetensors").exists()


VIT_SHAPES = {"cls_token": (1, 1, 64), "pos_embed": (1, 9, 64), "patch_embed.proj.weight": (64, 3, 16, 16)}
PASS_SHAPES = {"cls_pos": (1, 1, 64), "part_token1": (1, 1, 64), "part1_pos": (1, 1, 64)}


@pytest.mark.parametrize(
    ("prefix", "extra", "name", "shape"),
    [
        ("", {}, "cls_token", ()),
        ("", {}, "pos_embed", (9, 64)),
        ("backbone.", {}, "pos_embed", (1, 9, 128)),
        ("", {}, "patch_embed.proj.weight", (64, 768)),
        ("base.", {}, "patch_embed.proj.weight", (64, 3, 16, 8)),
        ("base.", {"part_token1": (1, 1, 64)}, "part_token1", (1, 1, 32)),
        ("", PASS_SHAPES, "part1_pos", (64,)),
    ],
)
def test_tokens_of_other_shapes(imported, prefix, extra, name, shape):
    shapes = {**VIT_SHAPES, **extra, name: shape}
    with pytest.raises(UserError, match=f"(cls_token|{name}) has the shape .*, expected"):
        imported({prefix + key: torch.zeros(each) for key, each in shapes.items()})


def test_a_vit_without_blocks(imported):
    with pytest.raises(UserError, match=r"lacks blocks\.0\.mlp\.fc1\.weight"):
        imported({key: torch.zeros(shape) for key, shape in VIT_SHAPES.items()})


def test_a_tower_with_positions_of_another_width(imported):
    tower = {"visual.class_embedding": (64,), "visual.positional_embedding": (9, 32)}
    with pytest.raises(UserError, match=r"pos_embed has the shape \[1, 9, 32\], expected \[1, n, 64\]"):
        imported({key: torch.zeros(shape) for key, shape in tower.items()})


def test_unknown_keys_are_counted_and_the_first_listed(imported):
    with pytest.raises(UserError, match=r"its 40 keys do not fit: layer00, .*, layer07 and 32 more$"):
        imported({f"layer{number:02d}": ONE for number in range(40)})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"ema": {"cls_token": ONE}, "epoch": 3}, "under one of .*teacher, student; found ema, epoch"),
        ({"model": {}}, "no state dict"),
        ({"teacher": {"a": {"b": ONE}}}, "no state dict.*found a"),
        ({"cls_token": ONE, "epoch": 3}, "entries that are no tensors: epoch"),
        ([ONE], "no state dict, but a list"),
    ],
)
def test_unknown_wrappers(imported, content, message):
    with pytest.raises(UserError, match=message):
        imported(content)
