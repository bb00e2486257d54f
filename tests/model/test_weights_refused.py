"""Files of architectures and formats that do not fit: what each is told."""

import os
import pickle

import pytest
import torch

from pat.base.errors import UserError
from pat.model.weights import import_weights

ONE = torch.zeros(1)


SWIN = "attn.w_msa.relative_position_bias_table"
VIT = ["cls_token", "pos_embed", "patch_embed.proj.weight"]
HUGGING_FACE = [f"embeddings.{each}" for each in ("cls_token", "position_embeddings")]


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
        ([*HUGGING_FACE, "embeddings.distillation_token"], "distilled"),
        ([*VIT, "rope_embed.periods"], "rotary"),
        (["embeddings.cls_token", "embeddings.register_tokens", "layer.0.norm1.weight"], "DINOv3"),
        (["pos_embed", "patch_embed.proj.weight", "blocks.0.norm1.weight"], "without a cls token"),
        (["cls_token", "reg_token", "patch_embed.proj.weight", "blocks.0.gamma_1"], "DINOv3"),
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
        ("", {}, "cls_token", (1, 1, 0)),
        ("", {}, "patch_embed.proj.weight", (64, 3, 0, 0)),
        ("", {}, "blocks.0.mlp.fc1.weight", ()),
        ("base.", {"part_token1": (1, 1, 64)}, "blocks.0.mlp.fc1.weight", (64,)),
    ],
)
def test_tokens_of_other_shapes(imported, prefix, extra, name, shape):
    shapes = {**VIT_SHAPES, **extra, name: shape}
    with pytest.raises(UserError, match=f"(cls_token|{name}) has the shape .*, expected"):
        imported({prefix + key: torch.zeros(each) for key, each in shapes.items()})


def test_a_classifier_of_another_shape(imported):
    tuned = {f"base.{key}": torch.zeros(shape) for key, shape in VIT_SHAPES.items()}
    with pytest.raises(UserError, match=r"classifier\.weight has the shape \[\], expected \[outputs, inputs\]"):
        imported(tuned | {"classifier.weight": torch.tensor(1.0)})


@pytest.mark.filterwarnings("ignore")  # what PyTorch says of its less usual tensors
@pytest.mark.parametrize(
    ("tensor", "what"),
    [
        (lambda: torch.eye(3).to_sparse(), "sparse_coo"),
        (lambda: torch.eye(3).to_sparse_csr(), "sparse_csr"),
        (lambda: torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8), "qint8"),
        (lambda: torch.ones(3, device="meta"), "on the device meta"),
        (lambda: torch.ones(3, dtype=torch.complex64), "complex64"),
        (lambda: torch.ones(3).to(torch.float8_e4m3fn), "float8_e4m3fn"),
    ],
)
def test_tensors_that_are_not_dense_and_real(imported, tensor, what):
    with pytest.raises(UserError, match=rf"norm\.weight is {what}.*; only dense real tensors") as caught:
        imported({"cls_token": ONE, "norm.weight": tensor()})
    assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("ignore")
def test_a_nested_tensor(imported):
    """torch up to 2.14 reads it, and it is refused by its layout; 2.15 counts it among what is no tensor."""
    nested = torch.nested.nested_tensor([torch.ones(2), torch.ones(3)])
    with pytest.raises(UserError, match=r"norm\.weight is nested; |holds more than tensors") as caught:
        imported({"cls_token": ONE, "norm.weight": nested})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"parts": -1}, "--parts -1: expected 0 or more"),
        ({"image_size": (-256, -128)}, "expected pixels, 1 or more"),
    ],
)
def test_numbers_that_no_model_has(imported, options, message):
    with pytest.raises(UserError, match=message):
        imported({"cls_token": ONE}, **options)


def test_a_vit_without_blocks(imported):
    with pytest.raises(UserError, match=r"lacks blocks\.0\.mlp\.fc1\.weight"):
        imported({key: torch.zeros(shape) for key, shape in VIT_SHAPES.items()})


def test_a_block_far_behind_the_others(imported):
    blocks = {f"blocks.{number}.mlp.fc1.weight": torch.zeros(256, 64) for number in (0, 99_999_999)}
    with pytest.raises(UserError, match="has 2 blocks, and the last is number 99999999"):
        imported({key: torch.zeros(shape) for key, shape in VIT_SHAPES.items()} | blocks)


def test_a_wrapper_that_holds_itself(imported):
    endless: dict[str, object] = {}
    endless["model"] = endless
    with pytest.raises(UserError, match=r"holds no state dict.*found model"):
        imported(endless)


def test_a_tower_with_positions_of_another_width(imported):
    tower = {"visual.class_embedding": (64,), "visual.positional_embedding": (9, 32)}
    with pytest.raises(UserError, match=r"pos_embed has the shape \[1, 9, 32\], expected \[1, n, 64\]"):
        imported({key: torch.zeros(shape) for key, shape in tower.items()})


def test_attention_of_hugging_face_that_does_not_go_together(imported):
    name = "vision_model.encoder.layers.0.self_attn"
    attention = {
        f"{name}.{each}_proj.weight": torch.zeros(shape) for each, shape in zip("qkv", [(), 2, 2], strict=True)
    }
    with pytest.raises(UserError, match=rf"keys that do not fit: {name}\.q_proj\.weight"):
        imported({"vision_model.embeddings.class_embedding": torch.zeros(64), **attention})


def test_unknown_keys_are_counted_and_the_first_listed(imported):
    with pytest.raises(UserError, match=r"its 40 keys do not fit: layer00, .*, layer07 and 32 more$"):
        imported({f"layer{number:02d}": ONE for number in range(40)})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"ema": {"cls_token": ONE}, "epoch": 3}, "under one of .*teacher, student; found ema, epoch"),
        ({"model": {}}, "no state dict"),
        ({"teacher": {"a": {"b": ONE}}}, "no state dict.*found a"),
        ({"cls_token": ONE, "epoch": 3}, "entries that are not tensors: epoch"),
        ([ONE], "no state dict, but a list"),
    ],
)
def test_unknown_wrappers(imported, content, message):
    with pytest.raises(UserError, match=message):
        imported(content)


class Program:
    """What a pickle can carry: a call of the system."""

    def __init__(self, trace: str) -> None:
        self.trace = trace

    def __reduce__(self):
        return os.system, (f"touch {self.trace}",)


def test_a_program_in_a_pickle_is_named_as_one_and_does_not_run(imported, tmp_path):
    with pytest.raises(UserError, match="holds more than tensors"):
        imported({"state_dict": {"cls_token": torch.zeros(1, 1, 4)}, "extra": Program(str(tmp_path / "ran"))})
    assert not (tmp_path / "ran").exists()


@pytest.mark.filterwarnings("error")
def test_a_pickle_of_another_kind_is_refused_without_warnings(tmp_path):
    (tmp_path / "file.pth").write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(UserError, match="damaged or not a checkpoint"):
        import_weights(tmp_path / "file.pth", tmp_path / "ours.safetensors")
