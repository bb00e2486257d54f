"""Self-supervised ViTs of people: TransReID-SSL with either stem, PASS, SOLIDER's training; and TransReID."""

import argparse
import shlex

import numpy as np
import pytest
import timm
import torch
from torch import nn

from pat.base.errors import UserError
from pat.model import ModelConfig, PartAwareTransformer, weights

WIDTH = 384
IMAGENET = (0.485, 0.456, 0.406)
STEM = {
    "conv.0.weight": (64, 3, 7, 7), "conv.3.weight": (64, 64, 3, 3), "conv.6.weight": (64, 64, 3, 3),
    "proj.weight": (WIDTH, 64, 8, 8), "proj.bias": (WIDTH,),
}  # fmt: skip
for _name, _size in {"conv.1.IN": 32, "conv.1.BN": 32, "conv.4.IN": 32, "conv.4.BN": 32, "conv.7": 64}.items():
    STEM |= {f"{_name}.{each}": (_size,) for each in ("weight", "bias")}
    if not _name.endswith("IN"):
        STEM |= {f"{_name}.running_mean": (_size,), f"{_name}.running_var": (_size,)}
        STEM |= {f"{_name}.num_batches_tracked": ()}


def random_stem():
    """Tensors of the convolutional stem under the published names."""
    state = {}
    for name, shape in STEM.items():
        if name.endswith("tracked"):
            state[name] = torch.tensor(7)
        else:
            scale = 0.1 if len(shape) == 1 else (shape[1] * shape[2] * shape[3]) ** -0.5
            state[name] = torch.randn(shape) * scale + (
                len(shape) == 1 and "bias" not in name and "mean" not in name
            )
    return state


class Published(nn.Module):
    """The stem as the patch embedding of a timm ViT."""

    def __init__(self, stem, state):
        super().__init__()
        self.stem, self.state = stem, state

    def forward(self, images):
        return self.stem(self.state, images).flatten(2).transpose(1, 2)


@pytest.fixture(params=["projection", "convolution"])
def person_vit(request, published_stem):
    """A timm ViT-S of two blocks at 256 x 128, and its tensors under the names of TransReID-SSL."""
    torch.manual_seed(0)
    vit = timm.create_model("vit_small_patch16_224", img_size=(256, 128), depth=2, num_classes=0).eval()
    nn.init.normal_(vit.pos_embed, std=0.1)
    nn.init.normal_(vit.cls_token, std=0.1)
    state = vit.state_dict()
    if request.param == "convolution":
        stem = random_stem()
        vit.patch_embed = Published(published_stem, stem)
        state = {key: tensor for key, tensor in state.items() if not key.startswith("patch_embed.")}
        state |= {f"patch_embed.{name}": tensor for name, tensor in stem.items()}
    return vit, state


def dino_head(prefix="head."):
    shapes = {"mlp.0.weight": (8, WIDTH), "mlp.0.bias": (8,), "mlp.2.weight": (8, 8), "mlp.2.bias": (8,)}
    shapes |= {
        "mlp.4.weight": (4, 8),
        "mlp.4.bias": (4,),
        "last_layer.weight_g": (9, 1),
        "last_layer.weight_v": (9, 4),
    }
    return {prefix + name: torch.randn(shape) for name, shape in shapes.items()}


def whole_checkpoint(state, head, prefix=""):
    """What the pre-training script leaves: student, teacher, optimiser, arguments."""
    teacher = {f"{prefix}backbone.{key}": value for key, value in state.items()}
    teacher |= {prefix + key: value for key, value in head.items()}
    student = {f"module.{key.removeprefix('module.')}": torch.zeros_like(value) for key, value in teacher.items()}
    return {
        "student": student,
        "teacher": teacher,
        "optimizer": {"state": {0: {"step": 3}}, "param_groups": [{"lr": np.float64(0.1), "params": [0]}]},
        "epoch": 100,
        "args": argparse.Namespace(arch="ours_vit_small", height=256, global_crops_scale=(0.4, 1.0)),
        "dino_loss": {"center": torch.zeros(1, 9)},
        "fp16_scaler": {"scale": 65536.0, "growth_tracker": 1},
    }


@pytest.mark.parametrize(
    ("person_vit", "kind"),
    [
        ("projection", "converted"), ("projection", "module.teacher"), ("projection", "student alone"),
        ("projection", "solider"), ("convolution", "converted"), ("convolution", "teacher"),
    ],
    indirect=["person_vit"],
)  # fmt: skip
def test_transreid_ssl_gives_timms_features(person_vit, imported, kind):
    vit, state = person_vit
    head = dino_head()
    content = {
        "converted": lambda: state,
        "teacher": lambda: whole_checkpoint(state, head),
        "module.teacher": lambda: whole_checkpoint(state, head, "module."),
        "student alone": lambda: {"student": whole_checkpoint(state, head, "module.")["teacher"]},
        "solider": lambda: {f"backbone.{key}": value for key, value in state.items()} | head,
    }[kind]()
    model, report = imported(content)
    images = torch.rand(2, 3, 256, 128)
    expected = vit.forward_features((images - torch.tensor(IMAGENET).view(3, 1, 1)) / model.std)[:, 0]
    torch.testing.assert_close(model(images).global_feature, expected, atol=1e-4, rtol=1e-4)
    assert model.config.stem == ("projection" if "patch_embed.conv.0.weight" not in state else "convolution")
    assert ("head.* (8 keys) (the head of the self-supervised" in report) is (kind != "converted")
    assert model.config.mean == IMAGENET
    assert {"converted": "SSL", "teacher": "the teacher", "module.teacher": "the teacher"}.get(kind, "a") in report


def test_training_starts_from_either_stem_when_the_model_is_told_so(person_vit, tmp_path):
    _, state = person_vit
    path = tmp_path / "lup.pth"
    torch.save(whole_checkpoint(state, dino_head()), path)
    with pytest.raises(UserError, match="the file fits") as caught:
        weights.initialise(
            PartAwareTransformer(ModelConfig("vit_tiny_patch16_224", image_size=(64, 32))), str(path)
        )
    words = shlex.split(str(caught.value).split("the file fits ")[1].split(";")[0])
    assert words[:2] == ["--model.backbone", "vit_small_patch16_224"]
    settings = dict(zip([word.removeprefix("--model.") for word in words[::2]], words[1::2], strict=True))
    settings["depth"] = int(settings["depth"])
    model = PartAwareTransformer(ModelConfig(image_size=(64, 32), identities=4, **settings))
    report = "\n".join(weights.initialise(model, str(path)))
    torch.testing.assert_close(model.blocks[1].mlp.fc1.weight.data, state["blocks.1.mlp.fc1.weight"])
    torch.testing.assert_close(model.patch_embed.proj.weight.data, state["patch_embed.proj.weight"])
    torch.testing.assert_close(model.part_tokens.data, state["cls_token"].expand(1, 3, -1))
    assert "resized from 16 x 8 to 4 x 2" in report
    assert "mean 0.485 0.456 0.406, std 0.229 0.224 0.225 in the file's training, mean 0.5 0.5 0.5" in report


def pass_state(state):
    """The same tensors under PASS's names, with tokens and positions for three areas."""
    named = {key: value for key, value in state.items() if key != "pos_embed"}
    named |= {"cls_pos": state["pos_embed"][:, :1], "pos_embed": state["pos_embed"][:, 1:]}
    for number in (1, 2, 3):
        named |= {f"part_token{number}": torch.randn(1, 1, WIDTH), f"part{number}_pos": torch.randn(1, 1, WIDTH)}
    return named


def pass_tokens(vit, state, images):
    """timm's blocks on PASS's sequence, each area token masked to its half of the image."""
    tokens = torch.cat([state["cls_token"], *(state[f"part_token{n}"] for n in (1, 2, 3))], dim=1)
    positions = torch.cat(
        [state["cls_pos"], *(state[f"part{n}_pos"] for n in (1, 2, 3)), state["pos_embed"]], dim=1
    )
    x = torch.cat([tokens.expand(len(images), -1, -1), vit.patch_embed(images)], dim=1) + positions
    seen = torch.zeros(132, 132, dtype=torch.bool)
    seen[0, :] = seen[:, 0] = True
    seen[4:, 4:] = True
    for part, (top, bottom) in enumerate([(0, 8), (4, 12), (8, 16)], 1):
        seen[part, part] = True
        seen[part, 4 + 8 * top : 4 + 8 * bottom] = seen[4 + 8 * top : 4 + 8 * bottom, part] = True
    for block in vit.blocks:
        x = block(x, attn_mask=torch.zeros(132, 132).masked_fill(~seen, -torch.inf))
    return vit.norm(x)


@pytest.mark.parametrize("kind", ["converted", "teacher", "fine-tuned"])
def test_pass_brings_its_area_tokens_as_part_tokens(person_vit, imported, kind):
    vit, state = person_vit
    named = pass_state(state)
    if kind == "converted":
        content = named
    elif kind == "teacher":
        heads = {}
        for token in ("cls", "pt1", "pt2", "pt3"):
            for key, value in dino_head().items():
                heads[key.replace("mlp.", f"mlp_{token}.").replace("_layer.", f"_layer_{token}.")] = value
        content = whole_checkpoint(named, heads)
    else:
        content = {f"base.{key}": value for key, value in named.items()} | {"base.fc.bias": torch.zeros(9)}
        content |= {"bottleneck.weight": torch.ones(2 * WIDTH), "classifier.weight": torch.ones(5, 2 * WIDTH)}
    model, report = imported(content)
    mean = (0.5, 0.5, 0.5) if kind == "fine-tuned" else IMAGENET
    assert model.config.mean == mean
    images = torch.rand(2, 3, 256, 128)
    expected = pass_tokens(vit, named, (images - model.mean) / model.std)
    torch.testing.assert_close(model._run(images, None, None, 132), expected, atol=1e-4, rtol=1e-4)
    assert "the 3 area tokens" in report
    assert ("head.* (32 keys) (the head of the self-supervised training)" in report) is (kind == "teacher")
    assert ("bottleneck.weight, classifier.weight" in report) is (kind == "fine-tuned")


def test_pass_without_its_parts_is_a_plain_vit(person_vit, imported):
    vit, state = person_vit
    model, _ = imported(pass_state(state), parts=0)
    images = torch.rand(1, 3, 256, 128)
    expected = vit.forward_features((images - model.mean) / model.std)[:, 0]
    torch.testing.assert_close(model(images).global_feature, expected, atol=1e-4, rtol=1e-4)


def test_training_takes_pass_tokens_where_the_count_agrees(person_vit, tmp_path):
    _, state = person_vit
    named = pass_state(state)
    torch.save(named, tmp_path / "pass.pth")
    stem = "convolution" if "patch_embed.conv.0.weight" in named else "projection"
    three, two = (
        PartAwareTransformer(ModelConfig("vit_small_patch16_224", (64, 32), parts=parts, depth=2, stem=stem))
        for parts in (3, 2)
    )
    weights.initialise(three, str(tmp_path / "pass.pth"))
    torch.testing.assert_close(three.part_tokens[:, 1:2].data, named["part_token2"])
    torch.testing.assert_close(three.pos_embed[:, 3:4].data, named["part3_pos"])
    report = "\n".join(weights.initialise(two, str(tmp_path / "pass.pth")))
    torch.testing.assert_close(two.part_tokens.data, named["cls_token"].expand(1, 2, -1))
    assert "3 in the file, 2 here" in report


def test_transreid_keeps_a_neck_and_classifier_that_stand_on_cls(person_vit, imported):
    vit, state = person_vit
    tuned = {f"module.base.{key}": value for key, value in state.items()}
    tuned |= {"module.base.sie_embed": torch.ones(6, 1, WIDTH), "module.base.fc.weight": torch.ones(9, WIDTH)}
    neck = {
        f"module.bottleneck.{name}": torch.rand(WIDTH)
        for name in ("weight", "bias", "running_mean", "running_var")
    }
    model, report = imported(tuned | neck | {"module.classifier.weight": torch.rand(5, WIDTH)})
    images = torch.rand(1, 3, 256, 128)
    feature = vit.forward_features((images - 0.5) / 0.5)[:, 0]
    torch.testing.assert_close(model(images).global_feature, feature, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(model.bottleneck.running_mean, neck["module.bottleneck.running_mean"])
    assert model.config.identities == 5
    assert "base.sie_embed (embeddings of the training cameras" in report
    assert "base.fc.weight" in report
    wider = {"module.bottleneck.weight": torch.rand(512), "module.classifier.weight": torch.rand(5, 512)}
    model, report = imported(tuned | wider)
    assert model.classifier is None
    assert "another width" in report


def test_a_token_of_pass_without_its_position(person_vit, imported):
    named = pass_state(person_vit[1])
    del named["part2_pos"]
    with pytest.raises(UserError, match="lacks part2_pos"):
        imported(named)
    with pytest.raises(UserError, match=r"keys that do not fit: adapter\.down\.weight$"):
        imported(named | {"adapter.down.weight": torch.zeros(1)})
    del named["part_token2"]
    with pytest.raises(UserError, match=r"found numbers \[1, 3\]"):
        imported(named)


def test_a_stem_with_a_missing_or_misshapen_tensor(imported):
    vit = timm.create_model("vit_small_patch16_224", img_size=(256, 128), depth=1, num_classes=0)
    state = {key: value for key, value in vit.state_dict().items() if not key.startswith("patch_embed.")}
    stem = {f"patch_embed.{name}": tensor for name, tensor in random_stem().items()}
    del stem["patch_embed.conv.4.BN.running_var"], stem["patch_embed.conv.7.num_batches_tracked"]
    stem["patch_embed.conv.1.IN.weight"] = torch.ones(64)
    with pytest.raises(UserError) as caught:
        imported(state | stem)
    assert "missing: patch_embed.conv.4.BN.running_var;" in str(caught.value)
    assert "patch_embed.conv.1.IN.weight [64], expected [32]" in str(caught.value)
