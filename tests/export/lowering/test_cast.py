"""16 bits: which node computes in what, that the numbers hold, and emulation against numpy."""

from __future__ import annotations

import dataclasses

import ml_dtypes
import numpy as np
import onnx
import pytest
import torch

from bundles import described
from export.check import check_graph
from export.lowering.cast import cast_graph
from export.lowering.emulate import emulated
from export.trace import to_graph
from lowering import BFLOAT, FLOAT, HALF, Case, in_opset, types
from pat.base.errors import UserError
from pat.config import ModelConfig
from pat.model import PartAwareTransformer
from pat.model.images import to_images


def tokens_added(graph: onnx.ModelProto) -> list[str]:
    """The names of the sums that a LayerNormalization reads: the tokens from block to block."""
    made_by = {output: node for node in graph.graph.node for output in node.output}
    norms = [node for node in graph.graph.node if node.op_type == "LayerNormalization"]
    sources = [made_by[node.input[0]] for node in norms]
    return [node.name for node in sources if node.op_type == "Add"]


@pytest.mark.parametrize("low", ["fp16", "bf16"])
def test_every_node_has_one_type_and_the_delicate_ones_are_fp32(case, low):
    graph = cast_graph(case.graph, low)
    check_graph(graph, case.manifest)
    short = HALF if low == "fp16" else BFLOAT
    kinds = types(graph)
    for name, (operator, entering, leaving) in kinds.items():
        if operator == "Cast":
            continue
        assert len(entering | leaving) <= 1, (name, operator)
        place = name.split(".")[0]
        if operator in ("LayerNormalization", "Softmax") or place in ("output", "norm", "mean", "std"):
            assert entering | leaving <= {FLOAT}, name
        elif operator in ("MatMul", "Attention", "Erf", "Gelu"):
            assert entering | leaving == {short}, name
    # ONNX has no bf16 Conv before 22.
    convolution = {FLOAT} if low == "bf16" and case.manifest.opset < 22 else {short}
    assert kinds["patch_embed.proj"][1] == convolution
    weights = {each.name: each.data_type for each in graph.graph.initializer if len(each.dims) > 1}
    in_fp32 = {name.removeprefix("model.") for name, kind in weights.items() if kind == FLOAT}
    assert len(in_fp32) <= 6, in_fp32  # mean, std, mask, tokens, positions; and for bf16 the projection
    sums = tokens_added(graph)
    assert len(sums) == 1 + 2 * 2  # positions, and both branches of both blocks
    assert all(kinds[name][1] == {FLOAT} for name in sums)
    if case.manifest.opset == 18:  # the mask is added where the softmax is
        assert next(t for t in graph.graph.initializer if "mask" in t.name).data_type == FLOAT


def test_instance_norms_of_a_stem_stay_in_fp32():
    torch.manual_seed(1)
    config = ModelConfig(
        "vit_tiny_patch16_224", image_size=(64, 32), depth=1, stem="convolution", attention="sdpa"
    )
    model = PartAwareTransformer(config).eval()
    images = np.random.default_rng(0).integers(0, 256, (6, 64, 32, 3), dtype=np.uint8)
    manifest = described((64, 32), 192, opset=23)
    case = Case(to_graph(model, opset=23), manifest, images, model.embed(to_images(images)).numpy())
    for low in ("fp16", "bf16"):
        graph = cast_graph(case.graph, low)
        check_graph(graph, manifest)
        norms = [kind for kind in types(graph).values() if kind[0] == "InstanceNormalization"]
        assert len(norms) == 2
        assert all(entering | leaving == {FLOAT} for _, entering, leaving in norms)
        assert case.declared(graph) >= 0.999


@pytest.mark.parametrize("low", ["fp16", "bf16"])
def test_16_bits_reach_the_target_and_are_really_16_bits(case, low):
    graph = cast_graph(case.graph, low)
    cosine = case.declared(graph)
    assert 0.999 <= cosine < 0.99999995  # rounding shows, and bf16 shows more
    assert (low == "bf16") == (cosine < 0.99999)
    assert len(graph.SerializeToString()) < 0.62 * len(case.graph.SerializeToString())


def test_fp16_as_it_stands_runs_in_onnx_runtime(case):
    assert case.cosine(cast_graph(case.graph, "fp16")) >= 0.999


def test_a_kept_block_computes_in_fp32(case):
    graph = cast_graph(case.graph, "fp16", keep=["blocks.1"])
    kinds, always = types(graph), tokens_added(graph)
    for name, (operator, entering, leaving) in kinds.items():
        if operator in ("MatMul", "Attention", "Add", "Mul") and name not in always:
            assert entering | leaving == ({FLOAT} if name.startswith("blocks.1.") else {HALF}) or name.startswith(
                ("output", "blocks.0.add")
            ), name
    assert kinds["blocks.1.mlp.fc2"][1] == {FLOAT}
    assert kinds["blocks.0.mlp.fc2"][1] == {HALF}


@in_opset(18)
def test_a_weight_beyond_fp16_is_named_and_bf16_takes_it(case):
    graph = onnx.ModelProto()
    graph.CopyFrom(case.graph)
    weight = next(each for each in graph.graph.initializer if each.name == "blocks.0.mlp.fc1.weight")
    array = onnx.numpy_helper.to_array(weight).copy()
    array[0, 0] = 1e5
    weight.CopyFrom(onnx.numpy_helper.from_array(array, weight.name))
    with pytest.raises(UserError, match=r"blocks\.0\.mlp\.fc1\.weight holds 1e\+05, which fp16 cannot"):
        cast_graph(graph, "fp16")
    assert cast_graph(graph, "bf16").graph.node


@in_opset(18)
def test_emulation_rounds_exactly_where_the_graph_says(case):
    """A graph with one 16-bit product, against numpy."""
    helper = onnx.helper
    weight = np.random.default_rng(0).normal(size=(3, 2)).astype(ml_dtypes.bfloat16)
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["x"], ["low"], to=BFLOAT),
            helper.make_node("MatMul", ["low", "w"], ["y"]),
            helper.make_node("Cast", ["y"], ["z"], to=FLOAT),
        ],
        "product",
        [helper.make_tensor_value_info("x", FLOAT, ["batch", 3])],
        [helper.make_tensor_value_info("z", FLOAT, ["batch", 2])],
        [helper.make_tensor("w", BFLOAT, [3, 2], weight.tobytes(), raw=True)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    manifest = dataclasses.replace(case.manifest, input=dataclasses.replace(case.manifest.input, name="x"))
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(emulated(model).SerializeToString(), options)
    x = np.random.default_rng(1).normal(size=(5, 3)).astype(np.float32)
    wide = x.astype(ml_dtypes.bfloat16).astype(np.float32) @ weight.astype(np.float32)
    expected = wide.astype(ml_dtypes.bfloat16)
    np.testing.assert_array_equal(session.run(None, {manifest.input.name: x})[0], expected.astype(np.float32))
