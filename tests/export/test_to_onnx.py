"""From a model file to a bundle: the graph's shape, its numbers, and what is refused."""

from __future__ import annotations

import collections
import dataclasses
import os
import shutil

import numpy as np
import onnx
import pytest
import torch
from PIL import Image

import export.to_onnx
import export.trace
import pat
import pat.cli
from deploy import runtime
from export.check import check_graph, check_numbers
from export.check_set import compare, read_check_set
from export.manifest import MODEL, Manifest
from export.precision import Request
from export.to_onnx import export_bundle
from export.trace import select_instead_of_unbind
from lowering import drawn_model
from pat.base.errors import Failure, UserError
from pat.config import ModelConfig
from pat.model import PartAwareTransformer
from pat.model.images import to_images
from pat.model.weights import save

from .conftest import retraced

CONFIG = ModelConfig(
    "vit_tiny_patch16_224", image_size=(128, 64), depth=3, identities=5, mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
)  # fmt: skip
ROWS, COLUMNS = 8, 4
TOKENS = 1 + 3 + ROWS * COLUMNS


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    save(drawn_model(CONFIG), path, {"source": ["market1501"], "started_from": "pretrained"})
    return path


@pytest.fixture(scope="module", params=[(18, "uint8", False), (23, "float32", True)], ids=["18", "23-parts"])
def exported(request, checkpoint, tmp_path_factory):
    """A bundle with its operator set, kind of input, and whether it has parts."""
    opset, kind, parts = request.param
    folder = tmp_path_factory.mktemp("bundle") / "bundle"
    export_bundle(checkpoint, folder, opset=opset, input_type=kind, parts=parts)
    return folder, opset, kind, parts


def graph_of(folder) -> onnx.GraphProto:
    model = onnx.load(folder / MODEL)
    onnx.checker.check_model(model, full_check=True)
    return onnx.shape_inference.infer_shapes(model).graph


def shapes(graph: onnx.GraphProto) -> dict[str, list]:
    values = [*graph.input, *graph.output, *graph.value_info]
    known = {v.name: [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim] for v in values}
    return known | {each.name: list(each.dims) for each in graph.initializer}


def test_the_bundle_gives_what_the_model_gives(exported, checkpoint):
    folder, _, _, parts = exported
    model = pat.load(checkpoint)
    pixels = np.random.default_rng(0).integers(0, 256, (5, 128, 64, 3), dtype=np.uint8)
    expected = model.embed(to_images(pixels), parts).numpy()
    with runtime.open(folder, threads=1, batch_size=2) as session:
        found = session.embed(pixels)
    np.testing.assert_allclose(found, expected, atol=2e-6)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)
    # Other images are far apart, so the agreement above is about more than a constant.
    assert compare(expected, np.roll(expected, 1, 0)).worst < 0.99


def test_input_and_output_are_those_of_the_manifest(exported):
    folder, opset, kind, parts = exported
    manifest, graph = Manifest.load(folder), graph_of(folder)
    size = [128, 64, 3] if kind == "uint8" else [3, 128, 64]
    known = shapes(graph)
    assert [value.name for value in graph.input] == [manifest.input.name]
    assert known[manifest.input.name] == ["batch", *size]
    assert known[manifest.output.name] == ["batch", manifest.output.size]
    assert manifest.output.size == 192 * (4 if parts else 1)
    assert graph.output[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    assert manifest.input.dtype == kind
    assert manifest.input.layout == ("NHWC" if kind == "uint8" else "NCHW")
    assert onnx.load(folder / MODEL).opset_import[0].version == manifest.opset == opset


def test_only_the_batch_is_dynamic(exported):
    for name, shape in shapes(graph_of(exported[0])).items():
        assert all(size == "batch" or isinstance(size, int) for size in shape), (name, shape)
        assert shape.count("batch") <= 1


def test_uint8_goes_into_a_cast_first(exported):
    """TensorRT takes uint8 nowhere else; the other reader of the input only asks for its shape."""
    graph = graph_of(exported[0])
    readers = {node.op_type for node in graph.node if graph.input[0].name in node.input}
    allowed = {"Cast", "Shape"} if exported[2] == "uint8" else {"Sub", "Shape"}
    assert readers == allowed


def test_the_mask_is_one_constant_without_clutter(exported, checkpoint):
    folder, opset, _, parts = exported
    graph = graph_of(folder)
    kinds = collections.Counter(node.op_type for node in graph.node)
    assert not set(kinds) & {"Identity", "Dropout"}
    assert not set(kinds) & {"IsNaN", "Where", "And", "Or", "Not", "Less", "Greater", "Equal", "Range", "Trilu"}
    assert kinds["Attention"] == (3 if opset == 23 else 0)
    assert kinds["Softmax"] == (0 if opset == 23 else 3)
    masks = {each.name: onnx.numpy_helper.to_array(each) for each in graph.initializer if "mask" in each.name}
    # A network that gives cls alone needs no mask in the last block: cls sees everything.
    assert set(masks) == ({"part_mask", "part_mask.last"} if parts else {"part_mask"})
    mask = masks["part_mask"]
    assert mask.shape == (1, 1, TOKENS, TOKENS)
    assert set(np.unique(mask)) == {-np.inf, 0}
    assert not np.isinf(mask[..., 0, :]).any()
    assert (mask == mask.swapaxes(2, 3)).all()
    rows = [(mask[0, 0, part, 4:].reshape(ROWS, COLUMNS) == 0).all(1).nonzero()[0] for part in (1, 2, 3)]
    assert [(top[0], top[-1] + 1) for top in rows] == [(0, 4), (2, 6), (4, 8)]  # DESIGN: [0, R/2), [R/4, 3R/4) ..
    assert [len(each) for each in rows] == [4, 4, 4]
    if parts:
        np.testing.assert_array_equal(masks["part_mask.last"], mask[:, :, :4])


def test_the_last_block_computes_what_leaves_the_network(exported):
    graph, parts = graph_of(exported[0]), exported[3]
    known = shapes(graph)
    asking = 4 if parts else 1
    rows = {
        node.name: known[node.output[0]][1]
        for node in graph.node
        if node.op_type == "MatMul" and node.name.startswith("blocks.2.") and len(known[node.output[0]]) == 3
    }
    assert rows == {
        "blocks.2.attn.qkv": asking,  # queries
        "blocks.2.attn.qkv.2": TOKENS,  # keys and values
        "blocks.2.attn.proj": asking,
        "blocks.2.mlp.fc1": asking,
        "blocks.2.mlp.fc2": asking,
    }
    first = [n for n in graph.node if n.op_type == "MatMul" and n.name.startswith("blocks.0.mlp")]
    assert [known[node.output[0]][1] for node in first] == [TOKENS, TOKENS]


def test_nothing_is_stored_twice_and_nothing_tells_tales(exported, checkpoint):
    folder = exported[0]
    graph = onnx.load(folder / MODEL, load_external_data=False).graph
    contents = [each.raw_data for each in graph.initializer if len(each.raw_data) > 64]
    assert len(contents) == len(set(contents))
    assert all(each.data_location == onnx.TensorProto.DEFAULT for each in graph.initializer)
    used = {name for node in graph.node for name in node.input}
    assert {each.name for each in graph.initializer} <= used
    # everything but the classifier and the BNNeck, which retrieval does not use, and the folded mean and masks
    model = pat.load(checkpoint)
    needed = sum(p.numel() for n, p in model.named_parameters() if not n.startswith(("classifier", "bottleneck")))
    stored = sum(np.prod(each.dims, dtype=int) for each in graph.initializer)
    assert needed <= stored <= needed + 2 * TOKENS**2 + 500
    content = (folder / MODEL).read_bytes()
    assert b".py" not in content  # stack traces of the exporter
    assert b"site-packages" not in content


@pytest.mark.usefixtures("traced_once")
@pytest.mark.parametrize("opset", [18, pytest.param(23, marks=pytest.mark.slow)])
def test_a_convolutional_stem_goes_along(tmp_path, opset):
    config = dataclasses.replace(CONFIG, stem="convolution", depth=1)
    save(drawn_model(config), tmp_path / "model.safetensors")
    export_bundle(tmp_path / "model.safetensors", tmp_path / "bundle", opset=opset)  # compares both
    graph = graph_of(tmp_path / "bundle")
    kinds = collections.Counter(node.op_type for node in graph.node)
    assert kinds["Conv"] == 4
    assert kinds["InstanceNormalization"] == 2
    assert {"patch_embed.conv.0", "patch_embed.conv.1.IN", "patch_embed.proj"} <= {
        node.name for node in graph.node
    }


@pytest.mark.usefixtures("traced_once")
def test_a_deep_stem_and_the_mean_of_the_patches_go_along(tmp_path):
    config = dataclasses.replace(CONFIG, stem="deep", pooling="mean", cosine_scale=16.0, depth=1)
    save(drawn_model(config), tmp_path / "model.safetensors")
    export_bundle(tmp_path / "model.safetensors", tmp_path / "bundle", parts=True)  # compares both
    kinds = collections.Counter(node.op_type for node in graph_of(tmp_path / "bundle").node)
    assert kinds["Conv"] == 9
    assert kinds["InstanceNormalization"] == 5


@pytest.mark.usefixtures("traced_once")
def test_registers_go_along_and_no_block_traces_the_mask_anew(tmp_path, monkeypatch):
    """Thirty nodes a block were two fifths of a trace of twelve blocks."""
    config = ModelConfig("vit_small_patch14_reg4_dinov2", image_size=(56, 28), width=64, depth=2, heads=2)
    save(drawn_model(config), tmp_path / "model.safetensors")
    traced = []
    monkeypatch.setattr(export.trace, "select_instead_of_unbind", traced.append)
    export_bundle(tmp_path / "model.safetensors", tmp_path / "bundle", parts=True)  # compares both
    assert torch.ops.aten.scaled_dot_product_attention.default in {node.target for node in traced[0].graph.nodes}
    assert torch.ops.aten.masked_fill.Scalar not in {node.target for node in traced[0].graph.nodes}
    masks = [each for each in graph_of(tmp_path / "bundle").initializer if "mask" in each.name]
    assert sorted(tuple(each.dims) for each in masks) == [(1, 1, 4, 16), (1, 1, 16, 16)]


def test_a_model_with_an_operator_that_has_no_translation_is_traced_twice(tmp_path, monkeypatch):
    found = retraced(monkeypatch)
    monkeypatch.setattr(export.trace, "translations", lambda opset: {})
    save(drawn_model(dataclasses.replace(CONFIG, depth=1)), tmp_path / "model.safetensors")
    export_bundle(tmp_path / "model.safetensors", tmp_path / "bundle", parts=True)  # compares both
    assert len(found) == 1


def test_nodes_carry_the_names_of_the_model(exported):
    names = [node.name for node in graph_of(exported[0]).node]
    assert len(names) == len(set(names))
    assert {"patch_embed.proj", "pos_embed", "blocks.0.norm1", "blocks.2.mlp.fc2", "norm"} <= set(names)
    known = {"input", "output", "blocks", "patch_embed", "pos_embed", "norm", "mean", "std"}
    assert {name.split(".")[0] for name in names} <= known


def test_the_manifest_tells_what_the_model_file_tells(exported, checkpoint):
    manifest = Manifest.load(exported[0])
    assert manifest.model["backbone"] == CONFIG.backbone
    assert manifest.model["mean"] == [0.485, 0.456, 0.406]
    assert manifest.training["source"] == ["market1501"]
    assert manifest.weights["trained_on"] == ["market1501"]
    assert manifest.weights["pretrained_licence"] == "apache-2.0"
    assert len(manifest.weights["sha256"]) == 64
    assert manifest.tools["torch"] == torch.__version__.split("+")[0]
    assert any("noise, batch 1, 3:" in line for line in manifest.checks)
    assert any("images, batch 1, 3, 8, 20:" in line for line in manifest.checks)


def test_the_check_set_holds_the_models_own_answers(exported, checkpoint):
    images, vectors = read_check_set(Manifest.load(exported[0]))
    assert images.shape == (32, 128, 64, 3)
    assert len({image.tobytes() for image in images}) == 32
    model = pat.load(checkpoint)
    np.testing.assert_allclose(model.embed(to_images(images), exported[3]).numpy(), vectors, atol=1e-6)


def test_a_graph_that_is_not_the_model_is_caught(exported, checkpoint):
    folder, _, _, parts = exported
    manifest = Manifest.load(folder)
    model, graph = pat.load(checkpoint), onnx.load(folder / MODEL)

    def embed(pixels):
        return model.embed(to_images(pixels), parts).numpy()

    images, _ = read_check_set(manifest)
    weight = next(each for each in graph.graph.initializer if each.name == "blocks.2.mlp.fc2.weight")
    changed = 1.05 * onnx.numpy_helper.to_array(weight)
    weight.CopyFrom(onnx.numpy_helper.from_array(changed.astype(np.float32), weight.name))
    with pytest.raises(Failure, match="the graph is not the model"):
        check_numbers(graph, manifest, embed, images)
    with pytest.raises(Failure, match="expected"):
        check_graph(graph, dataclasses.replace(manifest, output=dataclasses.replace(manifest.output, size=7)))


def test_a_failed_check_writes_nothing(exported, checkpoint, tmp_path, monkeypatch):
    folder, opset, kind, parts = exported
    graph = onnx.load(folder / MODEL)
    weight = next(each for each in graph.graph.initializer if each.name == "blocks.0.attn.proj.weight")
    halved = onnx.numpy_helper.to_array(weight) / 2
    weight.CopyFrom(onnx.numpy_helper.from_array(halved, weight.name))
    monkeypatch.setattr(export.to_onnx, "to_graph", lambda *args, **kwargs: graph)
    with pytest.raises(Failure, match="the graph is not the model"):
        export_bundle(checkpoint, tmp_path / "bundle", opset=opset, input_type=kind, parts=parts)
    assert not list(tmp_path.iterdir())


def test_more_weights_than_one_file_holds_are_refused(checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr(export.trace, "LARGEST_FILE", 1_000_000)
    with pytest.raises(UserError, match="of weights; a single ONNX file holds less than 2 GB"):
        export_bundle(checkpoint, tmp_path / "b")
    assert not list(tmp_path.iterdir())


def command(*arguments: object) -> int:
    return pat.cli.run("export", [str(argument) for argument in arguments])


def test_mistakes_are_one_line_with_exit_code_2(checkpoint, tmp_path, capsys):
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(checkpoint.read_bytes()[:1000])
    empty = tmp_path / "empty"
    empty.mkdir()
    crops = tmp_path / "crops"
    crops.mkdir()
    (crops / "a.jpg").write_bytes(b"no image")
    (crops / "b.jpg").write_bytes(b"no image")
    one = tmp_path / "one"
    one.mkdir()
    (one / "a.jpg").write_bytes(b"no image")
    pipes = tmp_path / "pipes"
    pipes.mkdir()
    os.mkfifo(pipes / "a.jpg")
    os.mkfifo(pipes / "b.jpg")
    plain = tmp_path / "plain.safetensors"
    save(PartAwareTransformer(dataclasses.replace(CONFIG, parts=0)), plain)
    letters = tmp_path / "letters"
    letters.mkdir()
    shutil.copy(checkpoint, letters)
    out = tmp_path / "out"
    for arguments, message in (
        ((tmp_path / "nowhere.safetensors", out), "there is no model file"),
        ((broken, out), "is damaged"),
        ((empty, out), "holds no model.safetensors"),
        ((plain, out, "--parts"), "without part tokens"),
        ((checkpoint, letters), "holds files and is no bundle"),
        ((checkpoint, out, "--check-images", empty), "holds no images"),
        ((checkpoint, out, "--check-images", one), "holds one image, by which no model is told from another"),
        ((checkpoint, out, "--check-images", crops), f"cannot read the image {crops / 'a.jpg'}"),
        ((checkpoint, out, "--check-images", pipes), f"cannot read the image {pipes / 'a.jpg'}"),
        ((checkpoint, out, "--precision", "int8"), "int8 needs --calibration"),
        ((checkpoint, out, "--precision", "fp16", "--calibration", crops), "fp16 takes no --calibration"),
        ((checkpoint, out, "--precision", "int8", "--calibration", empty), "holds no images"),
        ((checkpoint, out, "--precision", "int8", "--calibration", tmp_path / "none"), "there is no folder"),
        ((checkpoint, out, "--precision", "int8", "--calibration", crops), f"read the image {crops / 'a.jpg'}"),
        ((checkpoint, out, "--precision", "fp16", "--gate-images", crops), f"read the image {crops / 'a.jpg'}"),
        ((checkpoint, out, "--merge", "2", "--gate-images", crops), f"read the image {crops / 'a.jpg'}"),
        ((checkpoint, out, "--precision", "fp16", "--gate", "centred_worst=1.5"), "at least -1 and at most 1"),
        ((checkpoint, out, "--gate", "centred_worst=0.9"), "fp32 takes no --gate"),
        ((checkpoint, out, "--method", "entropy"), "give --calibration CROPS, too"),
        ((checkpoint, out, "--precision", "fp16", "--method", "max"), "give --calibration CROPS, too"),
        ((checkpoint, out, "--false-match-rate", "5"), "give --decision DATA, too"),
        ((checkpoint, out, "--for", "openvino"), "fp32 takes no --for"),
    ):
        assert command(*arguments) == 2, arguments
        *before, said = capsys.readouterr().err.strip().splitlines()
        assert not any("tracing" in line for line in before)  # which takes long
        assert said.startswith("pat export: ")
        assert message in said
        assert not out.exists()


def test_an_unknown_opset_is_refused(checkpoint, tmp_path):
    with pytest.raises(UserError, match="opset 11 is not supported; choose one of 18, 23"):
        export_bundle(checkpoint, tmp_path / "b", opset=11)


def test_the_command_exports_a_run_folder_with_real_crops_in_its_check_set(checkpoint, tmp_path, capsys):
    shutil.copytree(checkpoint.parent, tmp_path / "run")
    crops = tmp_path / "crops"
    crops.mkdir()
    for number in range(3):
        pixels = np.random.default_rng(number).integers(0, 256, (50, 20, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(crops / f"{number}.png")
    run, out = tmp_path / "run", tmp_path / "bundle"
    assert command(run, out, "--precision", "fp16", "--check-images", crops) == 0
    assert "fp16, opset 18" in capsys.readouterr().out
    manifest = Manifest.load(out)
    assert manifest.precision.name == "fp16"
    assert manifest.precision.measured["check set"]["centred_worst"] >= 0.99
    images, _ = read_check_set(manifest)
    expected = Image.open(crops / "1.png").resize((64, 128), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(images[1], np.asarray(expected))
    assert len(images) == 3


@pytest.mark.slow
def test_vit_base_in_fp16_has_twelve_attentions_and_fits_in_175_megabytes(tmp_path):
    torch.manual_seed(0)
    save(PartAwareTransformer(ModelConfig()), tmp_path / "base.safetensors")
    manifest = export_bundle(tmp_path / "base.safetensors", tmp_path / "bundle", opset=23, lower=Request("fp16"))
    assert manifest.file(MODEL).stat().st_size <= 175e6
    graph = onnx.load(tmp_path / "bundle" / MODEL).graph
    assert sum(node.op_type == "Attention" for node in graph.node) == 12
    assert manifest.precision.measured["check set"]["centred_worst"] >= 0.99


def test_what_is_unpacked_is_taken_by_index():
    """One Gather each in ONNX, where unbinding makes Slice and Squeeze."""

    class Sum(torch.nn.Module):
        def forward(self, pair):
            first, second = pair
            return first + 2 * second

    pair = torch.arange(6.0).view(2, 3)
    program = torch.export.export(Sum(), (pair,), strict=False)
    select_instead_of_unbind(program.graph_module)
    called = [node.target for node in program.graph.nodes if node.op == "call_function"]
    assert called.count(torch.ops.aten.select.int) == 2
    assert torch.ops.aten.unbind.int not in called
    assert torch.equal(program.graph_module(pair)[0], Sum()(pair))
