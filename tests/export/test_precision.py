"""Lower precisions: types, numbers, calibration, the search for layers to exclude, and what is refused."""

from __future__ import annotations

import collections
import dataclasses
import functools

import ml_dtypes
import numpy as np
import onnx
import pytest
import torch
from PIL import Image

from bundles import described, make_bundle
from export import precision as script
from export.check import check_graph, read_graph, runner
from export.check_set import compare
from export.judge import Images, Judge, Verdict
from export.lowering.calibration import Calibration, Settings, calibrate
from export.lowering.cast import cast_graph
from export.lowering.emulate import emulated
from export.lowering.methods import FORMS, EightBits, SixteenBits
from export.lowering.quantise import activations, layers, rounded, scale_of
from export.lowering.search import Found, find_graph
from export.lowering.share import share_in
from export.manifest import MANIFEST, MODEL, Manifest, fact
from export.precision import Request, lower_bundle
from export.precisions import Gate
from export.trace import to_graph
from pat.base.errors import Failure, UserError
from pat.base.progress import SILENT
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


@functools.cache
def case_of(opset: int) -> Case:
    torch.manual_seed(1)
    attention = "sdpa" if opset == 23 else "reference"
    config = ModelConfig("vit_tiny_patch16_224", image_size=(64, 32), depth=2, attention=attention)
    model = PartAwareTransformer(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.05)
    manifest = described((64, 32), 192, opset=opset)
    images = np.random.default_rng(0).integers(0, 256, (6, 64, 32, 3), dtype=np.uint8)
    return Case(to_graph(model, opset=opset), manifest, images, model.embed(to_images(images)).numpy())


@pytest.fixture(params=[18, 23])
def case(request) -> Case:
    """What is done to a graph is tested in both operator sets; what is done with the graph then, in one."""
    return case_of(request.param)


def in_opset(number: int) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", [number], indirect=True)


@pytest.fixture
def bundle(case, tmp_path):
    content = case.graph.SerializeToString()
    return make_bundle(tmp_path / "fp32", case.manifest, content, case.images, case.embeddings)


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """Resized images of labelled data sets are kept there."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


@pytest.fixture(scope="module")
def crops(tmp_path_factory):
    folder = tmp_path_factory.mktemp("crops")
    for number in range(5):
        pixels = np.random.default_rng(100 + number).integers(0, 256, (70, 30, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def ranges_of(crops):
    """The ranges of the case in an operator set."""

    @functools.cache
    def measured(opset: int) -> Calibration:
        return calibrate(case_of(opset).graph, case_of(opset).manifest, Settings(crops), SILENT)

    return measured


@pytest.fixture
def measured(case, ranges_of):
    return ranges_of(case.manifest.opset)


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


def spoiled(case: Case, layer: str) -> dict[str, float]:
    """Ranges that are right for all layers but one, whose input is clipped to almost nothing."""
    run = calibrate_max(case)
    return {name: value / (100 if name == activations(case.graph)[layer] else 1) for name, value in run.items()}


def calibrate_max(case: Case) -> dict[str, float]:
    from export.lowering.calibration import _with_onnxruntime

    return _with_onnxruntime(case.graph, case.manifest, case.images, Settings(None, "max"), SILENT)


@in_opset(23)
def test_the_layer_that_breaks_the_target_is_found_and_excluded(case):
    layer = "blocks.0.mlp.fc2"
    lowering = EightBits(case.graph, "int8", spoiled(case, layer), FORMS["tensorrt"])

    plain = case.score(lowering.build(())).telling.centred.min()
    without = case.score(lowering.build([layer])).telling.centred.min()
    assert plain < without
    limit = float(plain + without) / 2
    score = functools.partial(case.score, centred_worst=limit)
    found = find_graph(lowering, score, case.score, SILENT, always_rank=True)
    assert found.sensitivity[0].layer == layer
    assert [each.centred for each in found.sensitivity] == sorted(each.centred for each in found.sensitivity)
    assert {each.layer for each in found.sensitivity} == set(LAYERS)
    assert found.excluded == (layer,)
    assert found.verdict.telling.centred.min() >= limit
    readers = {node.name: node.input[0] for node in found.graph.graph.node}
    made = {output: node.op_type for node in found.graph.graph.node for output in node.output}
    assert made.get(readers[layer]) != "DequantizeLinear"
    assert made[readers["blocks.1.mlp.fc2"]] == "DequantizeLinear"


@in_opset(23)
def test_a_gate_out_of_reach_is_a_failure(case):
    lowering = SixteenBits(case.graph, "bf16")
    other = dataclasses.replace(case, embeddings=np.roll(case.embeddings, 1, 0))
    score = functools.partial(other.score, centred_worst=0.9)
    with pytest.raises(Failure, match="excluded the gate is missed still: check set: worst cent"):
        find_graph(lowering, score, score, SILENT, always_rank=False)


@in_opset(18)
def test_blocks_are_excluded_from_16_bits_until_the_gate_is_passed(case):
    lowering = SixteenBits(case.graph, "bf16")
    assert list(lowering.units) == ["patch_embed", "blocks.0", "blocks.1"]

    everything, none = (
        float(case.score(lowering.build(excluded)).telling.centred.min()) for excluded in ((), lowering.units)
    )
    assert none > everything
    limit = (everything + none) / 2
    found = find_graph(
        lowering, functools.partial(case.score, centred_worst=limit), case.score, SILENT, always_rank=False
    )
    assert 1 <= len(found.excluded) <= 3
    assert found.verdict.telling.centred.min() >= limit


@pytest.mark.parametrize(
    ("case", "kind"), [(18, "fp16"), (23, "bf16"), (23, "int8"), (18, "fp8")], indirect=["case"]
)
def test_a_bundle_is_converted_and_says_how(case, bundle, crops, kind, tmp_path):
    settings = Settings(crops, "max", tool="onnxruntime") if kind in ("int8", "fp8") else None
    gate = WIDE if settings else ()
    out = tmp_path / kind
    manifest = lower_bundle(bundle, out, Request(kind, calibration=settings, gate=gate))
    assert Manifest.load(out) == manifest
    assert manifest.precision.name == kind
    measured = manifest.precision.measured["check set"]
    assert measured["centred_worst"] >= manifest.precision.gate.centred_worst == (0.2 if settings else 0.99)
    assert measured["images"] == 6
    assert set(measured) >= {"centred_worst", "centred_p1", "same_first", "decisions"}
    assert 0.75 <= manifest.precision.share <= 1
    assert "judged on 6 images" in " ".join(manifest.checks)
    assert bool(manifest.precision.tool) == bool(settings)
    assert len(manifest.precision.sensitivity) == (len(LAYERS) if settings else 0)
    assert manifest.backends == (("tensorrt",) if kind == "fp8" else ("tensorrt", "openvino"))
    graph = read_graph(str(manifest.file(MODEL)))
    check_graph(graph, manifest)
    said = " ".join(manifest.checks)
    if kind == "bf16":  # this ONNX Runtime has no bf16 on a CPU: the manifest must not claim a run
        assert "as it stands: not run" in said
    else:
        assert "as it stands in ONNX Runtime: 6 images" in said
    with pytest.raises(UserError, match=f"is in {kind}; convert the fp32 bundle"):
        lower_bundle(out, tmp_path / "again", Request("fp16"))


@in_opset(18)
def test_a_graph_that_keeps_most_of_its_work_in_16_bits_is_not_called_int8(case, bundle, crops, tmp_path):
    """A gate that only fp16 passes leaves out layer after layer."""
    settings = Settings(crops, "max", tool="onnxruntime")
    ranges = calibrate(case.graph, case.manifest, settings, SILENT).ranges
    lowering = EightBits(case.graph, "int8", ranges, FORMS["tensorrt"])
    limit = float(case.score(lowering.build(LAYERS)).telling.centred.min()) - 1e-7
    gate = (f"centred_worst={limit}", "centred_p1=-1", "same_first=0")
    with pytest.raises(Failure, match=r"only \d+% of the multiply-adds would be in int8, 75% must be"):
        lower_bundle(bundle, tmp_path / "out", Request("int8", calibration=settings, gate=gate))
    assert not (tmp_path / "out").exists()


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


@in_opset(23)
def test_the_old_bundle_stays_when_the_gate_is_missed(case, bundle, tmp_path):
    out = tmp_path / "out"
    lower_bundle(bundle, out, Request("fp16"))
    before = (out / MANIFEST).read_bytes()
    # With the answers of another model no precision agrees.
    other = np.roll(case.embeddings, 1, 0)
    make_bundle(bundle, case.manifest, case.graph.SerializeToString(), case.images, other)
    with pytest.raises(Failure, match=r"with every layer excluded the gate is missed still"):
        lower_bundle(bundle, out, Request("bf16"))
    assert (out / MANIFEST).read_bytes() == before


@in_opset(18)
def test_a_graph_that_misses_the_gate_where_it_runs_is_said(case):
    """The judged figures are the declared numbers; a CPU that saturates computes others."""
    agreement = compare(case.embeddings, case.embeddings)
    for misses, ending in (("", "neighbour 100.0%"), ("crops: much", "it misses the gate on this machine: crops: much")):
        found = Found(case.graph, Verdict({"crops": agreement}, None, ""), (), ())
        (said,) = script._as_it_stands(
            lambda run, misses=misses: Verdict({"crops": agreement}, None, misses), found, case.manifest
        )
        assert said.endswith(ending)


def run(*arguments: object) -> int:
    return script.main([str(argument) for argument in arguments])


@in_opset(18)
def test_the_script_prints_what_it_found(bundle, crops, tmp_path, capsys):
    assert run(bundle, tmp_path / "o", "--precision", "int8", "--calibration", crops, "--gate", *WIDE) == 0
    said = capsys.readouterr().out
    for words in (
        "most sensitive (mean centred cosine alone): ",
        "check set, 6 images: centred cosine worst ",
        "of the multiply-adds in int8",
        "for tensorrt, openvino",
        "so few images say little",
        "int8, opset",
    ):
        assert words in said


@in_opset(18)
def test_mistakes_are_one_line_with_exit_code_2(case, bundle, crops, tmp_path, capsys):
    empty = tmp_path / "empty"
    empty.mkdir()
    broken = tmp_path / "broken"
    broken.mkdir()
    whole = (crops / "0.png").read_bytes()
    (broken / "half.png").write_bytes(whole[: len(whole) // 2])
    out = tmp_path / "out"
    int8 = (bundle, out, "--precision", "int8", "--calibration")
    for arguments, message in (
        ((tmp_path / "nowhere", out, "--precision", "fp16"), "does not exist"),
        ((empty, out, "--precision", "fp16"), "is no bundle"),
        ((bundle, crops, "--precision", "fp16"), "holds files and is no bundle"),
        ((bundle, out, "--precision", "int8"), "int8 needs --calibration"),
        ((bundle, out, "--precision", "bf16", "--calibration", crops), "bf16 takes no --calibration"),
        ((*int8, empty), f"the folder {empty} holds no images"),
        ((*int8, tmp_path / "nowhere"), "there is no folder"),
        ((*int8, broken), f"cannot read the image {broken / 'half.png'}"),
        ((*int8, crops, "--percentile", 3), "must lie between 50 and 100"),
        ((*int8, crops, "--most", 0), "must be at least 1"),
        ((*int8, crops, "--tool", "modelopt"), "modelopt knows no percentiles"),
        ((bundle, out, "--precision", "fp16", "--gate", "same_first=2"), "at least 0 and at most 1"),
        ((bundle, out, "--precision", "fp16", "--for", "onnxruntime"), "fp16 is not for onnxruntime"),
        ((bundle, out, "--precision", "fp16", "--gate-images", empty), "holds no images"),
        ((*int8, crops, "--gate-images", crops), "was calibrated on; give others"),
        ((bundle, out, "--precision", "fp16", "--decision", empty, "--false-match-rate", 0.9), "0 and 0.5"),
        ((bundle, out, "--precision", "fp16", "--data", empty), "empty"),
    ):
        assert run(*arguments) == 2, arguments
        said = capsys.readouterr().err.strip().splitlines()[-1]
        assert said.startswith("precision.py: ")
        assert message in said
        assert not out.exists()


@in_opset(18)
@pytest.mark.parametrize("content", ["empty", "truncated", "text", "no graph"])
def test_an_onnx_file_that_is_none_is_one_line(case, bundle, tmp_path, content):
    """Files whose hash is right, because the manifest was made for them."""
    path = bundle / MODEL
    whole = path.read_bytes()
    nothing = onnx.ModelProto(ir_version=10, producer_name="someone").SerializeToString()
    contents = {"empty": b"", "truncated": whole[: len(whole) // 2], "text": b"hello", "no graph": nothing}
    path.write_bytes(contents[content])
    files = {**case.manifest.files, **Manifest.load(bundle).files, MODEL: fact(path)}
    (bundle / MANIFEST).write_text(dataclasses.replace(case.manifest, files=files).to_json())
    with pytest.raises(UserError, match=r"model\.onnx (is empty|is no complete ONNX model)") as caught:
        lower_bundle(bundle, tmp_path / "out", Request("fp16"))
    assert "\n" not in str(caught.value)
