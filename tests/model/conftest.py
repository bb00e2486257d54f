"""References written independently of the project, and how the tests bring files in."""

import pytest
import torch
from torch.nn import functional as F

import pat
from pat.model import weights


@pytest.fixture
def published_stem():
    """The stem of TransReID-SSL in plain functions: tensors in the published names, images -> [B, D, R, C]."""

    def batch_norm(state, name, x):
        mean, var, weight, bias = (
            state[f"{name}.{each}"] for each in ("running_mean", "running_var", "weight", "bias")
        )
        return F.batch_norm(x, mean, var, weight, bias)

    def stem(state, images):
        x = F.conv2d(images, state["conv.0.weight"], stride=2, padding=3)
        for norm, following in ((1, 3), (4, 6)):
            weight, bias = state[f"conv.{norm}.IN.weight"], state[f"conv.{norm}.IN.bias"]
            first = F.instance_norm(x[:, :32], weight=weight, bias=bias)
            x = torch.cat([first, batch_norm(state, f"conv.{norm}.BN", x[:, 32:])], dim=1).relu()
            x = F.conv2d(x, state[f"conv.{following}.weight"], padding=1)
        x = batch_norm(state, "conv.7", x).relu()
        return F.conv2d(x, state["proj.weight"], state["proj.bias"], stride=8)

    return stem


@pytest.fixture
def imported(tmp_path):
    """Write a checkpoint, import it, load what came out: the model and the report as one text."""

    def run(content, name="file.pth", **options):
        torch.save(content, tmp_path / name)
        report = weights.import_weights(tmp_path / name, tmp_path / "ours.safetensors", **options)
        return pat.load(tmp_path / "ours.safetensors"), "\n".join(report)

    return run
