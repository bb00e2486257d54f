"""A small graph in both operator sets, and how lower precisions of it are judged in the tests."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
import onnx
import pytest
import torch

from bundles import described
from export.check import runner
from export.check_set import compare
from export.judge import Images, Judge, Verdict
from export.lowering.emulate import emulated
from export.manifest import Manifest
from export.precisions import Gate
from export.trace import to_graph
from pat.config import ModelConfig
from pat.model import PartAwareTransformer
from pat.model.images import to_images

FLOAT, HALF, BFLOAT = onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16
ANYTHING = Gate(centred_worst=-1, centred_p1=-1, same_first=0, decisions=1)
WIDE = ("centred_worst=0.2", "centred_p1=0.2", "same_first=0")
"""For noise and few images: the mechanics, not the accuracy."""
LAYERS = [
    "patch_embed.proj", "blocks.0.attn.qkv", "blocks.0.attn.proj", "blocks.0.mlp.fc1", "blocks.0.mlp.fc2",
    "blocks.1.attn.qkv", "blocks.1.attn.qkv.2", "blocks.1.attn.proj", "blocks.1.mlp.fc1", "blocks.1.mlp.fc2",
]  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Case:
    """An fp32 graph, its manifest, and what the model says to some images."""

    graph: onnx.ModelProto
    manifest: Manifest
    images: np.ndarray
    embeddings: np.ndarray

    def cosine(self, graph: onnx.ModelProto, **options) -> float:
        run = runner(graph, self.manifest, threads=1, **options)
        return compare(self.embeddings, run(self.images)).worst

    def score(self, graph: onnx.ModelProto, **limits: float) -> Verdict:
        """Judged on the images, by limits that let all else pass."""
        run = runner(emulated(graph), self.manifest, threads=1, optimise=False)
        gate = dataclasses.replace(ANYTHING, **limits)
        return Judge([Images("check set", self.images, self.embeddings)], gate)(run)

    def declared(self, graph: onnx.ModelProto) -> float:
        return self.score(graph).telling.worst


def drawn_model(config: ModelConfig, alpha: float = 0.05) -> PartAwareTransformer:
    """Weights large enough, and different enough from token to token, for every part of the graph to matter."""
    torch.manual_seed(1)
    model = PartAwareTransformer(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=alpha)
    return model


@functools.cache
def case_of(opset: int) -> Case:
    model = drawn_model(ModelConfig("vit_tiny_patch16_224", image_size=(64, 32), depth=2))
    manifest = described((64, 32), 192, opset=opset)
    images = np.random.default_rng(0).integers(0, 256, (6, 64, 32, 3), dtype=np.uint8)
    return Case(to_graph(model, opset=opset), manifest, images, model.embed(to_images(images)).numpy())


def in_opset(number: int) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", [number], indirect=True)


def types(graph: onnx.ModelProto) -> dict[str, tuple[str, set[int], set[int]]]:
    """Node name -> operator, types of its floating inputs, and of its outputs."""
    whole = onnx.shape_inference.infer_shapes(graph, check_type=True, strict_mode=True).graph
    known = {v.name: v.type.tensor_type.elem_type for v in (*whole.input, *whole.output, *whole.value_info)}
    known |= {each.name: each.data_type for each in whole.initializer}
    floating = {FLOAT, HALF, BFLOAT}
    return {
        node.name: (
            node.op_type,
            {known[name] for name in node.input if name} & floating,
            {known[name] for name in node.output} & floating,
        )
        for node in whole.node
    }
