"""What `pat train` makes of its words: the architecture of the weights it starts from."""

import dataclasses

import torch

from pat.commands.train import read_arguments
from pat.config import ModelConfig
from pat.model import PartAwareTransformer, weights

SMALL = ModelConfig(
    "vit_tiny_patch16_224", image_size=(64, 32), width=64, depth=2, heads=2, parts=1, stem="deep", pooling="mean",
    identities=5,
)  # fmt: skip


def test_a_model_of_this_project_brings_its_architecture(tmp_path):
    torch.manual_seed(0)
    model = PartAwareTransformer(SMALL)
    weights.save(model, tmp_path / "model.safetensors")
    for given in (tmp_path, tmp_path / "model.safetensors"):
        config = read_arguments(["--data.source", "x", "--weights", str(given)]).model
        expected = dataclasses.replace(model.config, identities=0, attention="auto")
        assert config == expected
    settings = tmp_path / "own.toml"
    settings.write_text("[model]\nimage_size = [128, 64]\n")
    words = ["--config", str(settings), "--data.source", "x", f"--weights={tmp_path}", "--model.parts", "3"]
    config = read_arguments(words).model
    assert (config.image_size, config.parts, config.width) == ((128, 64), 3, 64)


def test_weights_of_others_leave_the_paper_s_architecture(tmp_path):
    (tmp_path / "foreign.safetensors").write_bytes(b"nothing")
    for given in ("none", "pretrained", str(tmp_path / "foreign.safetensors"), str(tmp_path / "nowhere.pth")):
        config = read_arguments(["--data.source", "x", "--weights", given]).model
        assert config == ModelConfig(attention="auto")
