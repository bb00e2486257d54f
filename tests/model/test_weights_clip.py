"""CLIP image towers as OpenAI, open_clip, Hugging Face and CLIP-ReID name them, against timm's own."""

import pickle
import warnings
import zipfile

import pytest
import timm
import torch
from timm.models.vision_transformer import checkpoint_filter_fn
from torch import nn

import pat
from pat.base.errors import UserError
from pat.model import ModelConfig, PartAwareTransformer, weights
from pat.model.foreign.checkpoint import Hints
from pat.model.foreign.recognise import recognise

WIDTH, SPACE = 128, 32
MARKS = {"input_resolution": torch.tensor(64), "context_length": torch.tensor(7), "vocab_size": torch.tensor(9)}


def blocks(prefix, width, depth):
    shapes = {}
    for i in range(depth):
        shapes |= {
            f"{prefix}{i}.ln_1.weight": (width,), f"{prefix}{i}.ln_1.bias": (width,),
            f"{prefix}{i}.attn.in_proj_weight": (3 * width, width), f"{prefix}{i}.attn.in_proj_bias": (3 * width,),
            f"{prefix}{i}.attn.out_proj.weight": (width, width), f"{prefix}{i}.attn.out_proj.bias": (width,),
            f"{prefix}{i}.ln_2.weight": (width,), f"{prefix}{i}.ln_2.bias": (width,),
            f"{prefix}{i}.mlp.c_fc.weight": (4 * width, width), f"{prefix}{i}.mlp.c_fc.bias": (4 * width,),
            f"{prefix}{i}.mlp.c_proj.weight": (width, 4 * width), f"{prefix}{i}.mlp.c_proj.bias": (width,),
        }  # fmt: skip
    return shapes


def tensors(shapes):
    torch.manual_seed(0)
    return {
        name: torch.randn(shape) * (0.1 if len(shape) < 2 else shape[-1] ** -0.5)
        + ("ln_" in name and "weight" in name)
        for name, shape in shapes.items()
    }


def tower(patches=16, width=WIDTH, depth=2, patch=16):
    """The image tower under OpenAI's names."""
    shapes = {
        "visual.class_embedding": (width,), "visual.positional_embedding": (1 + patches, width),
        "visual.proj": (width, SPACE), "visual.conv1.weight": (width, 3, patch, patch),
        "visual.ln_pre.weight": (width,), "visual.ln_pre.bias": (width,), "visual.ln_post.weight": (width,),
        "visual.ln_post.bias": (width,), **blocks("visual.transformer.resblocks.", width, depth),
    }  # fmt: skip
    return tensors(shapes)


def texts():
    shapes = {
        "positional_embedding": (7, 64), "text_projection": (64, SPACE), "logit_scale": (),
        "token_embedding.weight": (9, 64), "ln_final.weight": (64,), "ln_final.bias": (64,),
        **blocks("transformer.resblocks.", 64, 1),
    }  # fmt: skip
    return tensors(shapes)


def timms_features(state, images, activation, image_size=64):
    """The cls token of timm's tower, filled by timm's own conversion."""
    name = "vit_base_patch16_clip_quickgelu_224" if activation == "quick_gelu" else "vit_base_patch16_clip_224"
    vit = timm.create_model(
        name, embed_dim=WIDTH, depth=2, num_heads=2, img_size=image_size, num_classes=SPACE
    ).eval()
    vit.load_state_dict(checkpoint_filter_fn({key: value.float() for key, value in state.items()}, vit))
    mean, std = (torch.tensor(vit.pretrained_cfg[each]).view(3, 1, 1) for each in ("mean", "std"))
    return vit.forward_features((images - mean) / std)[:, 0]


def hugging_face(state):
    """The same tower under the names of transformers."""
    swaps = {
        "visual.class_embedding": "embeddings.class_embedding", "visual.conv1": "embeddings.patch_embedding",
        "visual.positional_embedding": "embeddings.position_embedding.weight", "visual.ln_pre": "pre_layrnorm",
        "visual.ln_post": "post_layernorm", "visual.transformer.resblocks.": "encoder.layers.",
        ".ln_": ".layer_norm", ".attn.": ".self_attn.", ".c_fc.": ".fc1.", ".c_proj.": ".fc2.",
    }  # fmt: skip
    named = {"vision_model.embeddings.position_ids": torch.arange(17)[None]}
    for key, tensor in state.items():
        if key == "visual.proj":
            named["visual_projection.weight"] = tensor.T.contiguous()
            continue
        for old, new in swaps.items():
            key = key.replace(old, new)
        if ".in_proj_" in key:
            for each, part in zip("qkv", tensor.chunk(3), strict=True):
                named["vision_model." + key.replace("in_proj_", f"{each}_proj.")] = part.clone()
        else:
            named["vision_model." + key] = tensor
    return named


def clip_reid(state):
    named = {key.replace("visual.", "image_encoder."): value for key, value in state.items()}
    named |= {f"text_encoder.{key}": value for key, value in texts().items() if key.startswith(("transf", "ln_"))}
    named |= {
        "prompt_learner.cls_ctx": torch.zeros(5, 4, 64),
        "prompt_learner.token_prefix": torch.zeros(1, 5, 64),
    }
    for name, size in (("bottleneck", WIDTH), ("bottleneck_proj", SPACE)):
        named |= {f"{name}.{each}": torch.rand(size) for each in ("weight", "bias", "running_mean", "running_var")}
    return named | {"classifier.weight": torch.rand(5, WIDTH), "classifier_proj.weight": torch.rand(5, SPACE)}


def as_torchscript(state, path):
    """An archive as OpenAI's: modules nested as the names say, parameters in half precision."""
    root = Root()
    for key, tensor in state.items():
        *places, name = key.split(".")
        module = root
        for place in places:
            if place not in module._modules:
                module.add_module(place, nn.Module())
            module = module._modules[place]
        if tensor.is_floating_point():
            module.register_parameter(name, nn.Parameter(tensor.half()))
        else:
            module.register_buffer(name, tensor)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated; published files stay
        torch.jit.script(root).save(str(path))


class Root(nn.Module):
    def forward(self, images):
        return images


def test_openais_archive_is_read_without_running_it(tmp_path):
    state = tower()
    as_torchscript(state | texts() | MARKS, tmp_path / "ViT.pt")
    report = "\n".join(weights.import_weights(tmp_path / "ViT.pt", tmp_path / "ours.safetensors"))
    model = pat.load(tmp_path / "ours.safetensors")
    images = torch.rand(2, 3, 64, 64)
    expected = timms_features({key: value.half() for key, value in state.items()}, images, "quick_gelu")
    torch.testing.assert_close(model(images).global_feature, expected, atol=1e-4, rtol=1e-4)
    assert "activation: quick_gelu, because the file is OpenAI's own" in report
    assert "visual.proj (the projection into the space of texts)" in report
    assert "token_embedding.weight" in report
    assert "(the text tower)" in report
    as_torchscript(state | texts(), tmp_path / "another's.pt")
    with pytest.raises(UserError, match="does not state its activation"):
        recognise(tmp_path / "another's.pt")


@pytest.mark.parametrize("activation", ["gelu", "quick_gelu"])
@pytest.mark.parametrize(
    "kind", ["openai", "tower alone", "open_clip", "hugging face", "vision model", "timm trunk"]
)
def test_image_towers_give_timms_features(imported, kind, activation):
    state = tower()
    content = {
        "openai": lambda: state | texts(),
        "tower alone": lambda: {key.removeprefix("visual."): value for key, value in state.items()},
        "open_clip": lambda: {"epoch": 3, "state_dict": {f"module.{k}": v for k, v in (state | texts()).items()}},
        "hugging face": lambda: hugging_face(state) | {"text_model.final_layer_norm.bias": torch.zeros(64)},
        "vision model": lambda: {k.removeprefix("vision_model."): v for k, v in hugging_face(state).items()},
        "timm trunk": lambda: timm_trunk(state),
    }[kind]()
    with pytest.raises(UserError, match="--activation quick_gelu"):
        imported(content)
    model, report = imported(content, activation=activation)
    images = torch.rand(2, 3, 64, 64)
    expected = timms_features(state, images, activation)
    torch.testing.assert_close(model(images).global_feature, expected, atol=1e-4, rtol=1e-4)
    assert f"activation: {activation}, as asked for" in report


def timm_trunk(state):
    vit = timm.create_model("vit_base_patch16_clip_224", embed_dim=WIDTH, depth=2, num_heads=2, img_size=64)
    converted = checkpoint_filter_fn(state, vit)
    return {f"visual.trunk.{k}": v for k, v in converted.items() if not k.startswith("head.")} | texts()


def test_a_saved_state_dict_of_openais_model_tells_its_activation(imported):
    _, report = imported(tower() | texts() | MARKS)
    assert "activation: quick_gelu, because the file is OpenAI's own" in report
    assert "input_resolution, context_length, vocab_size" in report


def test_clip_reid_brings_its_neck_and_classifier(imported):
    state = tower(patches=32)
    content = clip_reid(state)
    model, report = imported(content)
    assert model.config.image_size == (128, 64)
    images = torch.rand(2, 3, 128, 64)
    unnormalised = (images - 0.5) / 0.5
    mean, std = (
        torch.tensor(timm.data.constants.__dict__[f"OPENAI_CLIP_{each}"]).view(3, 1, 1) for each in ("MEAN", "STD")
    )
    expected = timms_features(state, unnormalised * std + mean, "quick_gelu", image_size=(128, 64))
    torch.testing.assert_close(model(images).global_feature, expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(model.bottleneck.running_mean, content["bottleneck.running_mean"])
    torch.testing.assert_close(model.classifier.weight.data, content["classifier.weight"])
    assert "activation: quick_gelu, as CLIP-ReID has it" in report
    assert "bottleneck_proj.weight" in report
    assert "prompt_learner.cls_ctx" in report


@pytest.fixture
def clip_model():
    def made(backbone):
        return PartAwareTransformer(ModelConfig(backbone, (64, 32), width=WIDTH, depth=2, heads=2, identities=3))

    return made


def test_training_starts_from_a_tower_with_the_activation_of_its_backbone(clip_model, tmp_path):
    state = tower()
    torch.save(state, tmp_path / "tower.pth")
    for activation, backbone in (
        ("gelu", "vit_base_patch16_clip_224"),
        ("quick_gelu", "vit_base_patch16_clip_quickgelu_224"),
    ):
        model = clip_model(backbone)
        report = "\n".join(weights.initialise(model, str(tmp_path / "tower.pth")))
        torch.testing.assert_close(model.norm_pre.weight.data, state["visual.ln_pre.weight"])
        torch.testing.assert_close(model.part_tokens[0, 2].data, state["visual.class_embedding"])
        assert f"activation: {activation}, as the backbone has it" in report
        assert "resized from 4 x 4 to 4 x 2" in report
        assert "training, mean" not in report


@pytest.mark.parametrize("backbone", ["vit_base_patch16_clip_224", "vit_base_patch16_224"])
def test_training_with_another_function_than_openais_is_refused(clip_model, tmp_path, backbone):
    torch.save(tower() | MARKS, tmp_path / "openai.pth")
    with pytest.raises(
        UserError, match=r"give --model\.backbone vit_base_patch16_clip_quickgelu_224 --model\.width 128"
    ):
        weights.initialise(clip_model(backbone), str(tmp_path / "openai.pth"))


@pytest.mark.parametrize("names", [hugging_face, timm_trunk, dict])
def test_training_another_backbone_on_an_untold_tower_names_both_kinds(clip_model, tmp_path, names):
    torch.save(names(tower()), tmp_path / "tower.pth")
    kinds = r"base_patch16_clip_quickgelu_224 .*OpenAI.* or --model\.backbone vit_base_patch16_clip_224 .*LAION"
    with pytest.raises(UserError, match=rf"{kinds}.*the file does not say"):
        weights.initialise(clip_model("vit_base_patch16_224"), str(tmp_path / "tower.pth"))


@pytest.mark.parametrize(
    ("width", "patch", "backbone", "heads"),
    [(768, 16, "base_patch16", 12), (1024, 14, "large_patch14", 16), (1280, 14, "huge_patch14", 16)],
)
def test_sizes_as_published(tmp_path, width, patch, backbone, heads):
    torch.save({key: value.half() for key, value in tower(4, width, 1, patch).items()}, tmp_path / "tower.pth")
    config = recognise(tmp_path / "tower.pth", Hints(activation="quick_gelu")).config
    assert config.backbone == f"vit_{backbone}_clip_quickgelu_224"
    assert (config.heads, config.patch_size, config.image_size) == (heads, patch, (2 * patch, 2 * patch))


class Trap:
    def __reduce__(self):
        return (print, ("code ran",))


@pytest.mark.parametrize("damage", ["code", "no numbers", "cut pickle", "numbers too few"])
def test_an_archive_that_is_more_or_less_than_modules_and_tensors(tmp_path, damage, capsys):
    as_torchscript(tower(), tmp_path / "whole.pt")
    with zipfile.ZipFile(tmp_path / "whole.pt") as old, zipfile.ZipFile(tmp_path / "bad.pt", "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if damage == "code" and name.endswith("/data.pkl"):
                content = pickle.dumps(Trap())
            if damage == "no numbers" and name.endswith("/data/0"):
                continue
            if damage == "cut pickle" and name.endswith("/data.pkl"):
                content = content[: len(content) // 2]
            if damage == "numbers too few" and name.endswith("/data/0"):
                content = content[:2]
            new.writestr(name, content)
    message = "a pickle can run code" if damage == "code" else "damaged or not a checkpoint"
    with pytest.raises(UserError, match=message):
        weights.import_weights(tmp_path / "bad.pt", tmp_path / "out.safetensors")
    assert "code ran" not in capsys.readouterr().out
    assert not (tmp_path / "out.safetensors").exists()


def test_keys_of_a_tower_that_do_not_fit_are_listed(imported):
    pooled = {f"visual.attn_pool.{number}": torch.zeros(2) for number in range(20)}
    with pytest.raises(UserError, match=r"do not fit: visual.attn_pool.0, .*visual.attn_pool.7 and 12 more$"):
        imported(tower() | pooled)
    incomplete = tower()
    del incomplete["visual.transformer.resblocks.1.mlp.c_fc.bias"], incomplete["visual.ln_post.weight"]
    with pytest.raises(UserError, match=r"missing: blocks.1.mlp.fc1.bias, norm.weight"):
        imported(incomplete, activation="gelu")
    broken = tower()
    broken["visual.transformer.resblocks.0.ln_1.bias"][3] = torch.nan
    with pytest.raises(UserError, match=r"NaN.*blocks.0.norm1.bias"):
        imported(broken, activation="gelu")
    bare = tower()
    del bare["visual.positional_embedding"]
    with pytest.raises(UserError, match="without position embeddings"):
        imported(bare, activation="gelu")
