import dataclasses
import json

import pytest
import safetensors.torch
import timm
import torch
from torch import nn
from torch.nn import functional as F

import pat
from disks import files_of_at_most
from pat.base.errors import Failure, UserError
from pat.model import ModelConfig, PartAwareTransformer, model_file, weights

SMALL = ModelConfig("vit_tiny_patch16_224", image_size=(64, 32), depth=2, identities=3)


class AuthorsViT(nn.Module):
    """The published forward pass on tensors in the published key format, bands in full, written independently."""

    def __init__(self, state, heads, scale):
        super().__init__()
        self.state, self.heads, self.scale = state, heads, scale

    def forward(self, images, same_token):
        s = {key.removeprefix("base."): value for key, value in self.state.items()}
        patches = F.conv2d((images - 0.5) / 0.5, s["patch_embed.proj.weight"], s["patch_embed.proj.bias"], 16)
        rows, columns = patches.shape[2:]
        parts = [s["part_token1"] if same_token else s[f"part_token{i}"] for i in (1, 2, 3)]
        x = torch.cat([s["cls_token"], *parts], 1).expand(len(images), -1, -1)
        x = torch.cat([x, patches.flatten(2).transpose(1, 2)], 1) + s["pos_embed"]
        hidden = torch.zeros(x.shape[1], x.shape[1], dtype=torch.bool)
        row_of = torch.arange(rows).repeat_interleave(columns)
        for part, (top, bottom) in enumerate([(0, rows // 2), (rows // 4, rows * 3 // 4), (rows // 2, rows)], 1):
            outside = torch.ones(x.shape[1], dtype=torch.bool)
            outside[[0, part]] = False
            outside[4:] = (row_of < top) | (row_of >= bottom)
            hidden[part] |= outside
            hidden[:, part] |= outside
        width = x.shape[2]
        for i in range(sum(key.endswith("norm1.weight") for key in s)):
            name = f"blocks.{i}."
            b = {key.removeprefix(name): value for key, value in s.items() if key.startswith(name)}
            y = F.layer_norm(x, (width,), b["norm1.weight"], b["norm1.bias"], 1e-6)
            qkv = F.linear(y, b["part_attn.qkv.weight"], b.get("part_attn.qkv.bias"))
            q, k, v = qkv.view(*x.shape[:2], 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
            attention = (q @ k.transpose(-2, -1) * self.scale).masked_fill(hidden, -torch.inf).softmax(-1)
            y = (attention @ v).transpose(1, 2).flatten(2)
            x = x + F.linear(y, b["part_attn.proj.weight"], b["part_attn.proj.bias"])
            y = F.layer_norm(x, (width,), b["norm2.weight"], b["norm2.bias"], 1e-6)
            y = F.gelu(F.linear(y, b["mlp.fc1.weight"], b["mlp.fc1.bias"]))
            x = x + F.linear(y, b["mlp.fc2.weight"], b["mlp.fc2.bias"])
        return F.layer_norm(x, (width,), s["norm.weight"], s["norm.bias"], 1e-6)


def authors_state(width=192, depth=2, ratio=4, bias=True, grid=(16, 8), own_tokens=True, classes=7):
    torch.manual_seed(0)

    def random(*shape):
        return torch.randn(*shape) * 0.05

    state = {"base.cls_token": random(1, 1, width), "base.pos_embed": random(1, 4 + grid[0] * grid[1], width)}
    tokens = [random(1, 1, width) for _ in range(3)]
    if not own_tokens:  # tokens 2 and 3 never trained: equal to each other
        tokens[2] = tokens[1].clone()
    state |= {f"base.part_token{i}": token for i, token in enumerate(tokens, 1)}
    state |= {"base.patch_embed.proj.weight": random(width, 3, 16, 16)}
    state |= {"base.patch_embed.proj.bias": random(width)}
    for i in range(depth):
        shapes = {
            "norm1.weight": (width,), "norm1.bias": (width,), "norm2.weight": (width,), "norm2.bias": (width,),
            "part_attn.qkv.weight": (3 * width, width), "part_attn.proj.weight": (width, width),
            "part_attn.proj.bias": (width,), "mlp.fc1.weight": (ratio * width, width),
            "mlp.fc1.bias": (ratio * width,), "mlp.fc2.weight": (width, ratio * width), "mlp.fc2.bias": (width,),
        }  # fmt: skip
        if bias:
            shapes["part_attn.qkv.bias"] = (3 * width,)
        state |= {f"base.blocks.{i}.{name}": random(*shape) + ("norm" in name) for name, shape in shapes.items()}
    state |= {"base.norm.weight": random(width) + 1, "base.norm.bias": random(width)}
    state |= {"base.fc.weight": random(1000, width), "base.fc.bias": random(1000)}
    state |= {"bottleneck.weight": random(width) + 1, "bottleneck.bias": torch.zeros(width)}
    state |= {"bottleneck.running_mean": random(width), "bottleneck.running_var": torch.ones(width)}
    state |= {"bottleneck.num_batches_tracked": torch.tensor(5), "classifier.weight": random(classes, width)}
    return state


def imported(tmp_path, state, **options):
    torch.save(state, tmp_path / "authors.pth")
    report = weights.import_weights(tmp_path / "authors.pth", tmp_path / "ours.safetensors", **options)
    return pat.load(tmp_path / "ours.safetensors"), report


@pytest.mark.parametrize("own_tokens", [True, False])
@pytest.mark.parametrize("wrapper", ["plain", "state_dict", "module."])
def test_authors_checkpoint_token_by_token(tmp_path, own_tokens, wrapper):
    state = authors_state(own_tokens=own_tokens)
    images = torch.rand(2, 3, 256, 128)
    expected = AuthorsViT(state, heads=3, scale=64**-0.5)(images, same_token=not own_tokens)
    if wrapper == "state_dict":
        wrapped = {"state_dict": state}
    else:
        wrapped = {("module." if wrapper == "module." else "") + key: value for key, value in state.items()}
    model, report = imported(tmp_path, wrapped)
    tokens = model._run(images, None, None, outputs=132)
    torch.testing.assert_close(tokens, expected, atol=1e-4, rtol=1e-4)
    assert model.classifier is not None
    torch.testing.assert_close(model.classifier.weight.data, state["classifier.weight"])
    torch.testing.assert_close(model.bottleneck.running_mean, state["bottleneck.running_mean"])
    assert any("base.fc.weight" in line for line in report)
    assert any("part_token1 used for every part" in line for line in report) is not own_tokens


def test_part_tokens_can_be_overridden(tmp_path):
    state = authors_state(own_tokens=False)
    own, _ = imported(tmp_path, state, part_tokens="own")
    torch.testing.assert_close(own.part_tokens[:, 1:2].data, state["base.part_token2"])
    first, _ = imported(tmp_path, authors_state(), part_tokens="first")
    torch.testing.assert_close(first.part_tokens[:, 2:].data, state["base.part_token1"])


def test_the_authors_own_small_vit(tmp_path):
    state = authors_state(width=768, depth=8, ratio=1, bias=False)
    model, _ = imported(tmp_path, state)
    images = torch.rand(1, 3, 256, 128)
    expected = AuthorsViT(state, heads=8, scale=768**-0.5)(images, same_token=False)
    torch.testing.assert_close(model._run(images, None, None, 132), expected, atol=1e-3, rtol=1e-3)


def test_another_image_size_is_asked_for_when_patches_do_not_tell(tmp_path):
    state = authors_state(grid=(24, 8))
    with pytest.raises(UserError, match="--image-size"):
        imported(tmp_path, state)
    with pytest.raises(UserError, match="192 patches"):
        imported(tmp_path, state, image_size=(256, 128))
    assert imported(tmp_path, state, image_size=(384, 128))[0].grid == (24, 8)


def test_every_key_that_does_not_fit_is_named(tmp_path):
    state = authors_state()
    del state["base.blocks.1.norm2.bias"]
    state["base.extra"] = torch.zeros(1)
    state["base.blocks.0.mlp.fc2.bias"] = torch.zeros(3)
    with pytest.raises(UserError) as caught:
        imported(tmp_path, state)
    message = str(caught.value)
    assert "missing: blocks.1.norm2.bias" in message
    assert "unexpected: extra" in message
    assert "blocks.0.mlp.fc2.bias [3], expected [192]" in message
    assert not (tmp_path / "ours.safetensors").exists()


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("vit_tiny_patch16_224", None),
        ("deit3_small_patch16_224", None),
        ("vit_small_patch14_reg4_dinov2", (56, 56)),
    ],
)
def test_timm_file_gives_timms_features(tmp_path, name, size):
    torch.manual_seed(0)
    extra = {"img_size": size} if size else {}
    vit = timm.create_model(name, depth=2, num_classes=10, **extra).eval()
    safetensors.torch.save_file(vit.state_dict(), tmp_path / "timm.safetensors")
    report = weights.import_weights(tmp_path / "timm.safetensors", tmp_path / "ours.safetensors")
    model = pat.load(tmp_path / "ours.safetensors")
    images = torch.rand(2, 3, *model.config.image_size)
    expected = vit.forward_features((images - model.mean) / model.std)[:, 0]
    torch.testing.assert_close(model(images).global_feature, expected, atol=1e-4, rtol=1e-4)
    assert any("head.weight" in line for line in report)


def test_starting_from_a_timm_file_resizes_positions_and_copies_cls(tmp_path):
    torch.manual_seed(0)
    vit = timm.create_model("vit_tiny_patch16_224", depth=2, num_classes=0)
    torch.save({"model": vit.state_dict()}, tmp_path / "vit.pth")
    model = PartAwareTransformer(SMALL)
    report = weights.initialise(model, str(tmp_path / "vit.pth"))
    torch.testing.assert_close(model.part_tokens.data, vit.cls_token.data.expand(1, 3, -1))
    torch.testing.assert_close(model.pos_embed[:, :4].data, vit.pos_embed[:, :1].data.expand(1, 4, -1))
    sized = timm.create_model("vit_tiny_patch16_224", depth=2, num_classes=0, img_size=(64, 32))
    sized.load_state_dict(timm.models.vision_transformer.checkpoint_filter_fn(vit.state_dict(), sized))
    torch.testing.assert_close(model.pos_embed[:, 4:].data, sized.pos_embed[:, 1:].data)
    assert any("14 x 14 to 4 x 2" in line for line in report)


def test_starting_from_an_authors_checkpoint_leaves_the_classifier_out(tmp_path):
    torch.save(authors_state(grid=(4, 2)), tmp_path / "authors.pth")
    model = PartAwareTransformer(SMALL)
    report = weights.initialise(model, str(tmp_path / "authors.pth"))
    assert any("classifier.weight" in line for line in report)
    assert model.classifier is not None
    assert model.classifier.weight.shape == (3, 192)


def test_starting_from_another_architecture_names_the_shapes(tmp_path):
    torch.save(authors_state(width=384), tmp_path / "wide.pth")
    with pytest.raises(UserError, match=r"cls_token \[1, 1, 384\], expected \[1, 1, 192\]"):
        weights.initialise(PartAwareTransformer(SMALL), str(tmp_path / "wide.pth"))


def test_a_model_file_brings_its_configuration(tmp_path):
    model = PartAwareTransformer(SMALL)
    weights.save(model, tmp_path / "m.safetensors", {"epoch": 3})
    again = pat.load(tmp_path / "m.safetensors")
    images = torch.rand(2, 3, 64, 32)
    torch.testing.assert_close(again.embed(images), model.embed(images))
    assert again.config == model.config
    assert model_file.read_description(tmp_path / "m.safetensors").training == {"epoch": 3}


def test_training_starts_from_a_folder_with_a_model_at_another_image_size(tmp_path):
    deep = dataclasses.replace(SMALL, stem="deep", image_size=(64, 32))
    torch.manual_seed(0)
    trained = PartAwareTransformer(deep)
    weights.save(trained, tmp_path / "model.safetensors")
    larger = PartAwareTransformer(dataclasses.replace(deep, image_size=(128, 64), identities=7))
    report = weights.initialise(larger, str(tmp_path))
    assert any("4 x 2 to 8 x 4" in line for line in report)
    torch.testing.assert_close(larger.patch_embed.proj.weight, trained.patch_embed.proj.weight)
    torch.testing.assert_close(larger.pos_embed[:, :4], trained.pos_embed[:, :4])
    with pytest.raises(UserError, match=r"holds no model\.safetensors"):
        weights.initialise(larger, str(tmp_path.parent))


class Trap:
    def __reduce__(self):
        return (print, ("code ran",))


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: None, "no weights file"),
        (lambda path: path.write_bytes(b""), "damaged or not a checkpoint"),
        (lambda path: path.write_bytes(b"hello, I am no checkpoint" * 9), "damaged or not a checkpoint|not read"),
        (lambda path: torch.save({"cls_token": Trap()}, path), "pickle can run code"),
        (lambda path: torch.save([1, 2], path), "no state dict"),
        (lambda path: torch.save({"conv1.weight": torch.zeros(3)}, path), "none of the formats known.*conv1"),
    ],
)
def test_files_that_are_no_weights(tmp_path, write, message, capsys):
    write(tmp_path / "x.pth")
    with pytest.raises(UserError, match=message):
        weights.import_weights(tmp_path / "x.pth", tmp_path / "out.safetensors")
    assert "code ran" not in capsys.readouterr().out


def test_truncated_foreign_or_edited_model_files(tmp_path):
    path = tmp_path / "m.safetensors"
    weights.save(PartAwareTransformer(SMALL), path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="damaged"):
        pat.load(path)
    with pytest.raises(UserError, match="there is no model file"):
        pat.load(tmp_path / "none.safetensors")
    safetensors.torch.save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(UserError, match="import-weights"):
        pat.load(path)
    with pytest.raises(UserError, match="import-weights"):
        pat.load(tmp_path / "authors.pth")
    metadata = {"format": model_file.FORMAT, "model": json.dumps({"backbon": "x"}), "training": "{}"}
    safetensors.torch.save_file({"a": torch.zeros(1)}, path, metadata)
    with pytest.raises(UserError, match="did you mean backbone"):
        pat.load(path)


@pytest.mark.parametrize(
    ("config", "training", "message"),
    [
        ({"depth": 10**9}, "{}", "depth = 1000000000 is not a whole number of at least 1 and at most 256"),
        ({"parts": 10**7}, "{}", "parts = 10000000 is not"),
        ({"image_size": [10**9, 128]}, "{}", "image_size = "),
        ({"std": [0, 0, 0]}, "{}", "std = .* above 0"),
        ({}, "7", "does not parse"),
    ],
)
def test_a_model_file_that_asks_for_what_no_model_is(tmp_path, config, training, message):
    path = tmp_path / "model.safetensors"
    metadata = {"format": model_file.FORMAT, "model": json.dumps(config), "training": training}
    safetensors.torch.save_file({"a": torch.zeros(1)}, path, metadata)
    with pytest.raises(UserError, match=message):
        pat.load(path)


def test_weights_with_nan_are_refused(tmp_path):
    state = authors_state()
    state["base.norm.weight"][3] = torch.nan
    with pytest.raises(UserError, match=r"NaN.*norm\.weight"):
        imported(tmp_path, state)


def test_weights_of_whole_numbers_are_refused(tmp_path):
    state = authors_state()
    state["base.blocks.0.mlp.fc1.weight"] = (127 * state["base.blocks.0.mlp.fc1.weight"]).to(torch.int8)
    with pytest.raises(UserError, match=r"whole numbers: blocks\.0\.mlp\.fc1\.weight int8"):
        imported(tmp_path, state)


def test_a_full_disk_leaves_the_old_file(tmp_path):
    path = tmp_path / "m.safetensors"
    path.write_bytes(b"the old model")
    model = PartAwareTransformer(SMALL)
    with files_of_at_most(100_000), pytest.raises(Failure, match="cannot write"):
        weights.save(model, path)
    assert path.read_bytes() == b"the old model"
    assert list(tmp_path.iterdir()) == [path]


def test_pretrained_weights_out_of_reach_say_what_to_do():
    """conftest.py keeps the tests from the network."""
    with pytest.raises(UserError, match=r"--weights FILE.*--weights none"):
        weights.initialise(PartAwareTransformer(ModelConfig("vit_tiny_patch16_224", depth=1)), "pretrained")
