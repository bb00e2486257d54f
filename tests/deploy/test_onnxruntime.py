"""deploy.runtime with ONNX Runtime, on a small graph whose answers can be worked out by hand."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from PIL import Image

from deploy import runtime
from deploy.runtime.crops import prepared
from export.bundle import write_bundle
from export.manifest import MODEL, ExportError, Input, Manifest, Output

ROOT = Path(__file__).resolve().parents[2]
HEIGHT, WIDTH = 8, 4


def mean_colour(dtype: str = "uint8", output: str = "embeddings") -> tuple[Manifest, bytes]:
    """A graph that gives the mean colour of a crop, at unit length."""
    nhwc = dtype == "uint8"
    shape = ["batch", HEIGHT, WIDTH, 3] if nhwc else ["batch", 3, HEIGHT, WIDTH]
    kind = TensorProto.UINT8 if nhwc else TensorProto.FLOAT
    axes = helper.make_tensor("axes", TensorProto.INT64, [2], [1, 2] if nhwc else [2, 3])
    last = helper.make_tensor("last", TensorProto.INT64, [1], [1])
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["crops"], ["wide"], to=TensorProto.FLOAT),
            helper.make_node("ReduceMean", ["wide", "axes"], ["mean"], keepdims=0),
            helper.make_node("ReduceL2", ["mean", "last"], ["length"]),
            helper.make_node("Div", ["mean", "length"], [output]),
        ],
        "mean_colour",
        [helper.make_tensor_value_info("crops", kind, shape)],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["batch", 3])],
        [axes, last],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    manifest = Manifest(
        input=Input("crops", dtype, "NHWC" if nhwc else "NCHW", HEIGHT, WIDTH),
        output=Output("embeddings", 3, "cls"),
        opset=18,
        files={},
        model={},
        training={},
        weights={},
        tools={},
    )
    return manifest, model.SerializeToString()


@pytest.fixture(params=["uint8", "float32"])
def bundle(tmp_path, request):
    manifest, model = mean_colour(request.param)
    crops = np.full((2, HEIGHT, WIDTH, 3), 9, dtype=np.uint8)
    write_bundle(tmp_path / "bundle", manifest, model, crops, np.full((2, 3), 3**-0.5, dtype=np.float32))
    return tmp_path / "bundle"


def noise(count: int, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 256, (count, height, width, 3), dtype=np.uint8)


def by_hand(crops: np.ndarray) -> np.ndarray:
    mean = crops.mean((1, 2))
    return mean / np.linalg.norm(mean, axis=1, keepdims=True)


def test_crops_are_embedded_in_batches_and_in_order(bundle):
    crops = noise(7)
    with runtime.open(bundle, batch_size=3, threads=1) as session:
        vectors = session.embed(crops)
        alone = session.embed(crops[4:5])
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, by_hand(crops), atol=1e-6)
    np.testing.assert_allclose(alone, vectors[4:5], atol=1e-6)


@pytest.mark.parametrize("size", [(32, 16), (5, 3), (1, 1), (7, 40)])
def test_crops_of_any_size_are_resized_by_the_rule_of_the_manifest(bundle, size):
    crops = noise(2, *size)
    with runtime.open(bundle, threads=1) as session:
        vectors = session.embed(crops)
    expected = [
        np.asarray(Image.fromarray(crop).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)) for crop in crops
    ]
    np.testing.assert_allclose(vectors, by_hand(np.stack(expected)), atol=1e-6)


def test_no_crops_give_no_vectors(bundle):
    with runtime.open(bundle, threads=1) as session:
        assert session.embed(np.empty((0, 5, 5, 3), np.uint8)).shape == (0, 3)


def test_the_layout_of_the_input_follows_the_manifest():
    crops = noise(2)
    as_bytes, as_floats = (prepared(crops, mean_colour(dtype)[0]) for dtype in ("uint8", "float32"))
    assert as_bytes.dtype == np.uint8
    assert as_floats.dtype == np.float32
    np.testing.assert_array_equal(as_bytes, crops)
    np.testing.assert_array_equal(as_floats, crops.transpose(0, 3, 1, 2))  # 0 to 255: the graph divides


@pytest.mark.parametrize(
    "crops", [np.zeros((2, 8, 4, 3)), np.zeros((8, 4, 3), np.uint8), np.zeros((2, 0, 4, 3), np.uint8)]
)
def test_what_is_no_batch_of_crops_is_refused(bundle, crops):
    with (
        runtime.open(bundle, threads=1) as session,
        pytest.raises(ValueError, match=r"crops must be uint8 \[N, h, w, 3\]"),
    ):
        session.embed(crops)


def test_a_closed_session_says_so(bundle):
    with runtime.open(bundle, threads=1) as session:
        pass
    with pytest.raises(ValueError, match="closed"):
        session.embed(noise(1))


def test_a_changed_model_is_not_run(bundle):
    model = bundle / MODEL
    content = bytearray(model.read_bytes())
    content[len(content) // 2] ^= 1
    model.write_bytes(content)
    with pytest.raises(ExportError, match="SHA-256 differs"):
        runtime.open(bundle)


@pytest.mark.parametrize("content", [b"", b"this is not a model", None])
def test_a_model_that_does_not_load_is_one_line(tmp_path, content):
    manifest, model = mean_colour()
    content = model[: len(model) // 2] if content is None else content
    write_bundle(tmp_path / "b", manifest, content, noise(1), np.eye(1, 3, dtype=np.float32))
    with pytest.raises(ExportError, match="ONNX Runtime cannot load") as caught:
        runtime.open(tmp_path / "b")
    assert "\n" not in str(caught.value)


def test_a_model_with_other_names_is_refused(tmp_path):
    manifest, model = mean_colour(output="features")
    write_bundle(tmp_path / "b", manifest, model, noise(1), np.eye(1, 3, dtype=np.float32))
    with pytest.raises(ExportError, match=r"gives \['features'\], the manifest says"):
        runtime.open(tmp_path / "b")


def test_a_provider_that_is_not_there_is_an_error(bundle):
    with pytest.raises(ExportError, match="this onnxruntime has no MadeUpExecutionProvider"):
        runtime.open(bundle, providers=["MadeUpExecutionProvider"])


def test_a_provider_that_did_not_start_is_an_error(bundle, monkeypatch):
    import onnxruntime

    # What a CUDA wheel without a driver does: the provider is listed, and the session quietly uses the CPU.
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    monkeypatch.setattr(onnxruntime.InferenceSession, "get_providers", lambda self: ["CPUExecutionProvider"])
    with pytest.raises(ExportError, match=r"CUDAExecutionProvider did not start, .* fell back to CPU"):
        runtime.open(bundle, providers=["CUDAExecutionProvider"])


def test_unknown_backends_and_folders_are_refused(bundle, tmp_path):
    with pytest.raises(ExportError, match="there is no backend 'openvino'; choose one of onnxruntime, tensorrt"):
        runtime.open(bundle, backend="openvino")
    with pytest.raises(ExportError, match="is no bundle"):
        runtime.open(tmp_path / "bundle" / "..")
    with pytest.raises(ExportError, match="batch_size is 0"):
        runtime.open(bundle, batch_size=0)


def test_the_runtime_loads_no_torch_and_nothing_of_the_training_side():
    program = (
        "import sys\n"
        "class Refuse:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in ('torch', 'timm', 'triton', 'pat', 'kernels'):\n"
        "            raise ImportError(name)\n"
        "sys.meta_path.insert(0, Refuse())\n"
        "import deploy.runtime, deploy.runtime.onnxruntime, export.precision, export.verify\n"
        "print('fine')"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "fine", done.stderr
