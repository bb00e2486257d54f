"""A bundle in the forms of other programs says what it says itself."""

from __future__ import annotations

import re

import numpy as np
import onnx
import onnxruntime
import pytest

from bundles import make_bundle
from export import integrate
from export.check_set import read_check_set
from export.integrations.deepstream import SECONDARY, TRACKER
from export.integrations.float_input import Scaling
from export.manifest import MODEL, Manifest


def run(*arguments: object) -> int:
    return integrate.main([str(argument) for argument in arguments])


def answers(path, values: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: values})[0]


def test_deepstream_gets_a_bundle_with_planes_and_both_settings(colour_bundle, tmp_path, capsys):
    out = tmp_path / "deepstream"
    assert run(colour_bundle, "deepstream", out) == 0
    assert "centred cosine worst 1.0000" in capsys.readouterr().out
    manifest = Manifest.load(out)
    assert (manifest.input.dtype, manifest.input.layout) == ("float32", "NCHW")
    images, expected = read_check_set(manifest)
    tracker, secondary = ((manifest.file(name)).read_text() for name in (TRACKER, SECONDARY))
    # What the settings say a pixel becomes, done in NumPy: scale * (pixel - offset), planes, RGB.
    scale = float(re.search(r"netScaleFactor: (\S+)", tracker)[1])
    offsets = np.float32(re.search(r"offsets: \[(.*)\]", tracker)[1].split(","))
    assert re.search(r"inferDims: \[3, 256, 128\]", tracker)
    assert re.search(r"reidFeatureSize: 48\n", tracker)
    planes = (scale * (images.astype(np.float32) - offsets)).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(answers(manifest.file(MODEL), planes), expected, atol=1e-5)
    for line in ("network-type=100", "output-tensor-meta=1", "infer-dims=3;256;128", "net-scale-factor=1.0"):
        assert line in secondary.splitlines()


@pytest.mark.parametrize(
    ("tracker", "scaling"),
    [
        ("boxmot", lambda x: (x / 255 - (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225)),
        ("ultralytics", lambda x: x / 255),
    ],
)
def test_a_tracker_gets_what_its_own_scaling_wants(colour_bundle, tmp_path, tracker, scaling):
    out = tmp_path / "reid.onnx"
    assert run(colour_bundle, tracker, out) == 0
    images, expected = read_check_set(Manifest.load(colour_bundle))
    given = scaling(images.astype(np.float64)).astype(np.float32).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(answers(out, given), expected, atol=1e-4)
    graph = onnx.load(out).graph
    dims = [each.dim_value or each.dim_param for each in graph.input[0].type.tensor_type.shape.dim]
    assert dims == ["batch", 3, 256, 128]


def test_scaling_is_what_it_says():
    pixels = np.random.default_rng(0).integers(0, 256, (2, 3, 4, 3), dtype=np.uint8)
    planes = Scaling(0.5, (1, 2, 3), (2, 4, 8)).planes(pixels)
    assert planes.dtype == np.float32
    assert planes[1, 2, 0, 3] == pytest.approx((0.5 * pixels[1, 0, 3, 2] - 3) / 8)


def test_triton_gets_a_repository(colour_bundle, tmp_path):
    out = tmp_path / "models"
    assert run(colour_bundle, "triton", out) == 0
    assert [path.name for path in out.iterdir()] == ["reid_onnx"]  # no engine beside the bundle
    text = (out / "reid_onnx" / "config.pbtxt").read_text()
    assert 'platform: "onnxruntime_onnx"' in text
    assert "dims: [256, 128, 3]" in text
    assert (out / "reid_onnx" / "1" / MODEL).read_bytes() == (colour_bundle / MODEL).read_bytes()
    assert (out / "reid_onnx" / "warmup" / "crop").stat().st_size == 256 * 128 * 3
    proto = pytest.importorskip("tritonclient.grpc.model_config_pb2", reason="tritonclient is not installed")
    from google.protobuf import text_format

    config = text_format.Parse(text, proto.ModelConfig())
    assert config.input[0].data_type == proto.TYPE_UINT8
    assert list(config.output[0].dims) == [48]
    assert config.model_warmup[0].inputs["crops"].input_data_file == "crop"


def test_openvino_gets_its_own_format(colour_bundle, tmp_path):
    openvino = pytest.importorskip("openvino", reason="OpenVINO is not installed")
    out = tmp_path / "ir"
    assert run(colour_bundle, "openvino", out) == 0
    assert sorted(path.name for path in out.iterdir()) == ["model.bin", "model.xml"]
    images, expected = read_check_set(Manifest.load(colour_bundle))
    found = openvino.Core().compile_model(out / "model.xml", "CPU")(images)[0]
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_a_bundle_with_another_check_set_is_not_written(colour_bundle, tmp_path, capsys):
    manifest = Manifest.load(colour_bundle)
    images, vectors = read_check_set(manifest)
    content = manifest.file(MODEL).read_bytes()
    make_bundle(tmp_path / "other", manifest, content, images, np.roll(vectors, 1, 0))
    for form, out in (("deepstream", "d"), ("boxmot", "reid.onnx"), ("triton", "t")):
        assert run(tmp_path / "other", form, tmp_path / out) == 1
        assert "nothing was written" in capsys.readouterr().err
        assert not (tmp_path / out).exists()


def test_mistakes_are_one_line_with_exit_code_2(colour_bundle, tmp_path, capsys):
    for arguments, message in (
        ((tmp_path / "none", "triton", tmp_path / "t"), "does not exist"),
        ((colour_bundle, "triton", colour_bundle), "exists; name a new folder"),
        ((colour_bundle, "boxmot", tmp_path / "reid"), "ending in .onnx"),
        ((colour_bundle, "deepstream", colour_bundle / MODEL), "is a file"),
    ):
        assert run(*arguments) == 2, arguments
        said = capsys.readouterr().err.strip().splitlines()
        assert len(said) == 1
        assert said[0].startswith("integrate.py: ")
        assert message in said[0]
