"""ViTs as Hugging Face and torchvision name them, and names wrapped by what trained or compiled a model."""

import re

import pytest
import timm
import torch
import torchvision
from torch import nn

IMAGENET = (0.485, 0.456, 0.406)
LAYER = ((r"norm1", "layernorm_before"), (r"norm2", "layernorm_after"), (r"mlp\.fc1", "intermediate.dense"),
         (r"mlp\.fc2", "output.dense"))  # fmt: skip
SHARED = (
    (r"^(cls_token|mask_token)", r"embeddings.\1"), (r"^reg_token", "embeddings.register_tokens"),
    (r"^pos_embed", "embeddings.position_embeddings"),
    (r"^patch_embed\.proj", "embeddings.patch_embeddings.projection"), (r"^norm\.", "layernorm."),
    (r"ls([12])\.gamma", r"layer_scale\1.lambda1"), (r"attn\.proj", "attention.output.dense"),
    (r"^blocks\.", "encoder.layer."),
)  # fmt: skip


def drawn(vit):
    """The model with numbers in every tensor."""
    torch.manual_seed(0)
    for parameter in vit.parameters():
        nn.init.normal_(parameter, mean=float(parameter.ndim == 1), std=0.05)
    return vit.eval()


def as_hugging_face(state, table=()):
    """A timm state dict under the names of transformers, query, key and value apart."""
    renamed = {}
    for key, tensor in state.items():
        name = key
        for pattern, replacement in (*table, *SHARED):
            name = re.sub(pattern, replacement, name)
        if ".attn.qkv." in name:
            for each, part in zip(("query", "key", "value"), tensor.chunk(3), strict=True):
                renamed[name.replace("attn.qkv", f"attention.attention.{each}")] = part
        else:
            renamed[name] = tensor
    return renamed


def assert_features(model, vit, size):
    images = torch.rand(2, 3, *size)
    expected = vit.forward_features((images - model.mean) / model.std)[:, 0]
    torch.testing.assert_close(model(images).global_feature, expected, atol=1e-4, rtol=1e-4)


OF_TRANSFORMERS_5 = (
    ("encoder.layer.", "layers."), ("attention.attention.query", "attention.q_proj"),
    ("attention.attention.key", "attention.k_proj"), ("attention.attention.value", "attention.v_proj"),
    ("attention.output.dense", "attention.o_proj"), ("intermediate.dense", "mlp.fc1"), ("output.dense", "mlp.fc2"),
)  # fmt: skip
"""What its models call what its files, on the hub or written by save_pretrained, have by the older names."""


@pytest.mark.parametrize("newer", [(), OF_TRANSFORMERS_5], ids=["files", "models"])
@pytest.mark.parametrize("prefix", ["", "vit."])
def test_a_vit_of_hugging_face(imported, prefix, newer):
    vit = drawn(timm.create_model("vit_tiny_patch16_224", depth=2, img_size=64, num_classes=0))
    state = {prefix + key: tensor for key, tensor in as_hugging_face(vit.state_dict(), LAYER).items()}
    for older, name in newer:
        state = {key.replace(older, name): tensor for key, tensor in state.items()}
    beside = ("classifier.weight", f"{prefix}pooler.dense.weight", "decoder.decoder_norm.weight")
    model, report = imported(state | dict.fromkeys(beside, torch.zeros(192)))
    assert_features(model, vit, (64, 64))
    assert "a ViT of Hugging Face's transformers" in report
    assert "the file does not say" in report


def test_dinov2_of_hugging_face_has_a_position_for_cls_and_none_for_registers(imported):
    vit = drawn(timm.create_model("vit_small_patch14_reg4_dinov2", depth=2, img_size=56, num_classes=0))
    state = as_hugging_face(vit.state_dict() | {"mask_token": torch.zeros(1, 384)})
    cls_position = torch.full((1, 1, 384), 0.1)
    state["embeddings.cls_token"] = state["embeddings.cls_token"] - cls_position
    positions = [cls_position, state["embeddings.position_embeddings"]]
    state["embeddings.position_embeddings"] = torch.cat(positions, dim=1)
    model, _ = imported(state)
    assert_features(model, vit, (56, 56))
    assert model.config.mean == IMAGENET


@pytest.mark.parametrize("names", [("mlp.0", "mlp.3"), ("mlp.linear_1", "mlp.linear_2")])
def test_a_vit_of_torchvision(imported, names):
    """The files on offer have the older names of the MLP's layers."""
    vit = drawn(torchvision.models.VisionTransformer(64, 16, 2, 3, hidden_dim=192, mlp_dim=768))
    state = {
        key.replace("mlp.0", names[0]).replace("mlp.3", names[1]): tensor
        for key, tensor in vit.state_dict().items()
    }
    model, report = imported(state)
    assert model.config.mean == IMAGENET
    assert "heads.head.weight" in report
    images = torch.rand(2, 3, 64, 64)
    vit.heads = nn.Identity()
    expected = vit((images - model.mean) / model.std)
    torch.testing.assert_close(model(images).global_feature, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod.", "model.", "model._orig_mod."])
def test_what_wraps_a_model_is_taken_off_its_names(imported, prefix):
    vit = drawn(timm.create_model("vit_tiny_patch16_224", depth=1, img_size=64, num_classes=0))
    model, _ = imported({"state_dict": {prefix + key: tensor for key, tensor in vit.state_dict().items()}})
    assert_features(model, vit, (64, 64))


def test_weights_beside_those_that_are_read_are_named(imported):
    vit = timm.create_model("vit_tiny_patch16_224", depth=1, img_size=64, num_classes=0).state_dict()
    centre = {"center": torch.zeros(3)}
    for wrapper, average in (("state_dict", "state_dict_ema"), ("model", "model_ema")):
        _, report = imported({wrapper: vit, average: vit, "optimizer": {"state": {}}, "dino_loss": centre})
        assert f"read: {wrapper}; not read: {average}, weights too" in report
    assert "not read" not in imported({"model": vit, "model_ema": None, "dino_loss": centre})[1]
