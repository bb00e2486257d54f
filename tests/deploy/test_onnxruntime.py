"""deploy.runtime with ONNX Runtime, on a small graph whose answers can be worked out by hand."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from onnx import TensorProto, helper
from PIL import Image

from bundles import described, graph, make_bundle
from deploy import runtime
from deploy.runtime.crops import cut, prepared
from export.manifest import MODEL
from fresh import python
from pat.base.errors import Failure, UserError

HEIGHT, WIDTH = 8, 4


def mean_colour(dtype: str = "uint8", output: str = "embeddings") -> bytes:
    """A graph that gives the mean colour of a crop, at unit length."""
    axes = np.array([1, 2] if dtype == "uint8" else [2, 3])
    nodes = [
        helper.make_node("Cast", ["crops"], ["wide"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["wide", "axes"], ["mean"], keepdims=0),
        helper.make_node("ReduceL2", ["mean", "last"], ["length"]),
        helper.make_node("Div", ["mean", "length"], [output]),
    ]
    return graph(nodes, {"axes": axes, "last": np.array([1])}, (HEIGHT, WIDTH), 3, dtype, output)


@pytest.fixture(params=["uint8", "float32"])
def bundle(tmp_path, request):
    manifest = described((HEIGHT, WIDTH), 3, request.param)
    return make_bundle(tmp_path / "bundle", manifest, mean_colour(request.param))


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
    as_bytes, as_floats = (prepared(crops, described((HEIGHT, WIDTH), 3, dtype)) for dtype in ("uint8", "float32"))
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
    with pytest.raises(UserError, match="SHA-256 differs"):
        runtime.open(bundle)


@pytest.mark.parametrize("content", [b"", b"this is not a model", None])
def test_a_model_that_does_not_load_is_one_line(tmp_path, content):
    model = mean_colour()
    content = model[: len(model) // 2] if content is None else content
    make_bundle(tmp_path / "b", described((HEIGHT, WIDTH), 3), content, noise(1), np.eye(1, 3, dtype=np.float32))
    with pytest.raises(UserError, match="ONNX Runtime cannot load") as caught:
        runtime.open(tmp_path / "b")
    assert "\n" not in str(caught.value)


def test_a_model_with_other_names_is_refused(tmp_path):
    model, manifest = mean_colour(output="features"), described((HEIGHT, WIDTH), 3)
    make_bundle(tmp_path / "b", manifest, model, noise(1), np.eye(1, 3, dtype=np.float32))
    with pytest.raises(UserError, match=r"gives \['features'\], the manifest says"):
        runtime.open(tmp_path / "b")


def test_a_provider_that_is_not_there_is_an_error(bundle):
    with pytest.raises(UserError, match="this onnxruntime has no MadeUpExecutionProvider"):
        runtime.open(bundle, providers=["MadeUpExecutionProvider"])


def test_a_provider_that_did_not_start_is_an_error(bundle, monkeypatch):
    import onnxruntime

    # What a CUDA wheel without a driver does: the provider is listed, and the session quietly uses the CPU.
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    monkeypatch.setattr(onnxruntime.InferenceSession, "get_providers", lambda self: ["CPUExecutionProvider"])
    with pytest.raises(UserError, match=r"CUDAExecutionProvider did not start, .* fell back to CPU"):
        runtime.open(bundle, providers=["CUDAExecutionProvider"])


def test_unknown_backends_and_folders_are_refused(bundle, tmp_path):
    with pytest.raises(UserError, match="there is no backend 'tflite'; choose one of onnxruntime, openvino"):
        runtime.open(bundle, backend="tflite")
    with pytest.raises(UserError, match="is no bundle"):
        runtime.open(tmp_path / "bundle" / "..")
    with pytest.raises(UserError, match="batch_size is 0"):
        runtime.open(bundle, batch_size=0)


def test_the_runtime_loads_no_torch_and_nothing_of_the_training_side():
    program = (
        "import sys\n"
        "class Refuse:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        parts = name.split('.')\n"
        "        floor = parts[0] == 'pat' and (parts + ['base'])[1] == 'base'\n"
        "        if parts[0] in ('torch', 'timm', 'triton', 'pat', 'kernels') and not floor:\n"
        "            raise ImportError(name)\n"
        "sys.meta_path.insert(0, Refuse())\n"
        "import deploy.runtime, deploy.runtime.onnxruntime, export.precision, export.verify\n"
        "print('fine')"
    )
    done = python("-c", program)
    assert done.stdout.strip() == "fine", done.stderr


FRAME = np.random.default_rng(5).integers(1, 256, (60, 80, 3), dtype=np.uint8)
BOXES = np.array(
    [[3.5, 4, 20, 55.5], [0, 0, 80, 60], [70, 50, 80, 60], [10, 10, 14, 18], [1, 2, 3, 4]], np.float32
)


def test_boxes_of_several_frames_share_batches_and_keep_their_order(bundle):
    frames, boxes = [FRAME, FRAME[::2, ::2], FRAME], [BOXES, BOXES[:0], BOXES[3:]]
    cuts = [cut(frame, box, WIDTH, HEIGHT) for frame, some in zip(frames, boxes, strict=True) for box in some]
    with runtime.open(bundle, batch_size=3, threads=1) as session:
        vectors = session.embed_boxes(frames, boxes)
        np.testing.assert_allclose(vectors, by_hand(np.stack(cuts)), atol=1e-6)
        assert session.embed_boxes([], []).shape == (0, 3)
        with pytest.raises(ValueError, match=r"box 0 of frame 0 .* some area inside the 80 x 60 frame"):
            session.embed_boxes([FRAME], [BOXES[:1] + 100])


def test_the_session_tells_what_it_is_and_tests_itself(bundle):
    with runtime.open(bundle, threads=1) as session:
        assert session.name.startswith("ONNX Runtime ")
        assert session.name.endswith(", CPU")
        assert session.self_test() == pytest.approx(1, abs=1e-6)


def test_a_model_that_disagrees_with_its_check_set_fails_the_self_test(tmp_path):
    crops = noise(2)
    wrong = by_hand(crops)[:, [1, 2, 0]].astype(np.float32)
    wrong[1] = -wrong[1]
    make_bundle(tmp_path / "b", described((HEIGHT, WIDTH), 3), mean_colour(), crops, wrong)
    with (
        runtime.open(tmp_path / "b", threads=1) as session,
        pytest.raises(Failure, match=r"fails the self test on the .* images that .* brings: worst centred cosine"),
    ):
        session.self_test()


def test_numbers_that_are_not_finite_are_a_failure(bundle):
    crops = noise(5)
    crops[3] = 0  # no length to divide by
    with (
        runtime.open(bundle, threads=1, batch_size=2) as session,
        pytest.raises(Failure, match="the embedding of crop 3 of 5 is not finite"),
    ):
        session.embed(crops)


def test_a_model_that_breaks_while_it_runs_is_a_failure(bundle):
    with runtime.open(bundle, threads=1) as session:
        session._rows = session._rows[..., :1]  # as if the graph wanted something else
        with pytest.raises(Failure, match="cannot run the model: "):
            session._run(1)


def test_a_session_belongs_to_the_thread_that_opened_it(bundle):
    with runtime.open(bundle, threads=1) as session, ThreadPoolExecutor(1) as pool:
        with pytest.raises(ValueError, match="belongs to the thread that opened it"):
            pool.submit(session.embed, noise(1)).result()
        assert session.embed(noise(1)).shape == (1, 3)
