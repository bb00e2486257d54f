"""8 bits: what is quantised and how, in the form of each backend, and the ranges that it takes."""

from __future__ import annotations

import collections

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from export.check import check_graph
from export.lowering.calibration import Settings, calibrate
from export.lowering.emulate import emulated
from export.lowering.methods import FORMS, EightBits
from export.lowering.quantise import activations, layers, quantise_graph, rounded, scale_of
from export.lowering.share import share_in
from lowering import HALF, LAYERS, in_opset
from pat.base.progress import SILENT


@pytest.mark.parametrize("kind", ["int8", "fp8"])
def test_layers_with_weights_are_quantised_and_nothing_else(case, measured, kind):
    assert layers(case.graph) == LAYERS
    graph = EightBits(case.graph, kind, measured.ranges, FORMS["tensorrt"]).build(())
    check_graph(graph, case.manifest)
    assert graph.opset_import[0].version == max(case.manifest.opset, 19)
    made = {output: node for node in graph.graph.node for output in node.output}
    for node in graph.graph.node:
        sources = [made[name].op_type for name in node.input[:2] if name in made]
        if node.name in LAYERS:
            assert sources == ["DequantizeLinear", "DequantizeLinear"], node.name
        elif node.op_type in ("MatMul", "Attention", "Add"):  # attention's products and the biases
            assert "DequantizeLinear" not in sources, node.name
    stored = collections.Counter(each.data_type for each in graph.graph.initializer if len(each.dims) >= 2)
    eight_bit = {"int8": onnx.TensorProto.INT8, "fp8": onnx.TensorProto.FLOAT8E4M3FN}[kind]
    assert stored[eight_bit] == len(LAYERS)
    scales = {each.name: each for each in graph.graph.initializer if each.name.endswith("weight_scale_fp16")}
    columns = {tuple(each.dims) for each in scales.values()}
    assert columns == ({(192,), (576,), (384,), (768,)} if kind == "int8" else {()})
    zeros = [onnx.numpy_helper.to_array(each) for each in graph.graph.initializer if each.name.startswith("zero")]
    assert zeros
    assert not any(zero.astype(np.float32).any() for zero in zeros)
    assert len(graph.SerializeToString()) < 0.4 * len(case.graph.SerializeToString())


@pytest.mark.parametrize("kind", ["int8", "fp8"])
def test_8_bits_reach_the_target_and_cost_more_than_16(case, measured, kind):
    graph = EightBits(case.graph, kind, measured.ranges, FORMS["tensorrt"]).build(())
    assert 0.98 <= case.declared(graph) < 0.99999
    assert abs(case.cosine(graph) - case.declared(graph)) < 0.002  # as it stands, too


@pytest.mark.parametrize(("backend", "unsigned"), [("onnxruntime", True), ("openvino", True), ("tensorrt", False)])
def test_int8_is_written_for_what_runs_it(case, measured, backend, unsigned):
    lowering = EightBits(case.graph, "int8", measured.ranges, FORMS[backend])
    graph = lowering.build(())
    check_graph(graph, case.manifest)
    assert ("patch_embed.proj" in lowering.units) == (backend != "onnxruntime")
    stored = {each.data_type for each in graph.graph.initializer}
    assert (onnx.TensorProto.UINT8 in stored) == unsigned
    assert (HALF in stored) != unsigned  # what is not in 8 bits
    assert len(graph.SerializeToString()) < 0.5 * len(case.graph.SerializeToString())  # fp32's are not kept
    assert emulated(graph) is graph or not unsigned
    # The same steps in another form: the numbers differ by what fp16 rounds, and by the convolution.
    for_tensorrt = EightBits(case.graph, "int8", measured.ranges, FORMS["tensorrt"]).build(())
    assert abs(case.declared(graph) - case.declared(for_tensorrt)) < 0.005
    # A CPU without VNNI adds pairs of products in 16 bits, which now and then saturate.
    assert abs(case.cosine(graph) - case.declared(graph)) < 0.01
    assert share_in(graph, "int8") > 0.75


@pytest.mark.parametrize("kind", ["int8", "fp8"])
def test_stored_weights_are_the_nearest_representable(kind):
    weight = np.random.default_rng(0).normal(0, 0.1, (40, 6)).astype(np.float32)
    weight[:, 0] = 0  # a dead channel
    scale = scale_of(np.abs(weight).max(0), kind)
    assert (scale > 0).all()
    assert np.array_equal(scale, scale.astype(np.float16).astype(np.float32))
    restored = rounded(weight / scale, kind).astype(np.float32) * scale
    relative = 2.0**-4 * np.abs(weight) if kind == "fp8" else 0  # half a step of three mantissa bits
    least = scale / 2 if kind == "int8" else scale * 2.0**-10
    # An end may lie half a step outside, because scales are rounded to fp16.
    assert (np.abs(restored - weight) <= np.maximum(relative, least) * 1.01 + 127 * scale * 2.0**-11).all()


@pytest.mark.parametrize("kind", ["int8", "fp8"])
def test_the_largest_weight_of_a_channel_may_be_negative(kind):
    weight = -np.random.default_rng(0).uniform(0.1, 1.0, (8, 4)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("Identity", ["crops"], ["x"]), helper.make_node("MatMul", ["x", "w"], ["y"], "layer")],
        "one",
        [helper.make_tensor_value_info("crops", onnx.TensorProto.FLOAT, ["batch", 8])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["batch", 4])],
        [numpy_helper.from_array(weight, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
    quantised = quantise_graph(model, kind, {"x": 1.0}, ["layer"])
    stored = {each.name: numpy_helper.to_array(each) for each in quantised.graph.initializer}
    restored = stored[f"w_{kind}"].astype(np.float32) * stored["w_scale"]
    np.testing.assert_allclose(restored, weight, rtol=2.0**-4 if kind == "fp8" else 0, atol=1 / 127 / 2 * 1.01)


@in_opset(23)
def test_ranges_follow_the_images_and_the_method(case, crops):
    names = set(activations(case.graph).values())
    found = {
        method: calibrate(case.graph, case.manifest, Settings(crops, method, tool="onnxruntime"), SILENT)
        for method in ("max", "percentile", "entropy")
    }
    for method, each in found.items():
        assert set(each.ranges) == names
        assert each.tool.startswith("ranges: onnxruntime ")
        assert each.facts["images"] == 5
        assert each.facts["method"] == method
        assert all(0 < each.ranges[name] <= found["max"].ranges[name] * 1.001 for name in names)
    loose = Settings(crops, "percentile", percentile=90, tool="onnxruntime")
    clipped = calibrate(case.graph, case.manifest, loose, SILENT).ranges
    assert all(clipped[name] < found["percentile"].ranges[name] for name in names)
    # The largest value that enters the first layer is known: a white or a black pixel.
    entering = activations(case.graph)["patch_embed.proj"]
    assert found["max"].ranges[entering] == pytest.approx(1.0)
    few = calibrate(case.graph, case.manifest, Settings(crops, most=2, tool="onnxruntime"), SILENT)
    assert few.facts["images"] == 2
    assert few.facts["sha256"] != found["max"].facts["sha256"]


def test_modelopt_measures_ranges_where_it_is_installed(case, crops):
    pytest.importorskip("modelopt.onnx.quantization", reason="nvidia-modelopt is not installed")
    found = calibrate(case.graph, case.manifest, Settings(crops, "max"), SILENT)
    plain = calibrate(case.graph, case.manifest, Settings(crops, "max", tool="onnxruntime"), SILENT)
    assert found.tool.startswith("ranges: modelopt ")
    assert found.ranges == pytest.approx(dict(plain.ranges), rel=0.02)
