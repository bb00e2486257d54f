"""deploy.detect with ONNX models: from a frame to boxes, with whom it shares a session."""

from __future__ import annotations

import math
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from deploy.detect import open_detector
from deploy.detect.describe import describe
from deploy.detect.manifest import DetectorInput
from deploy.detect.onnx import prepared
from deploy.detect.together import Together
from detectors import ANCHORS, CELLS, CLASSES, constant, save, seeing_rf_detr, seeing_yolox
from pat.base.errors import Failure


def lit(height: int, width: int, box: tuple[int, int, int, int], channel: int) -> np.ndarray:
    """A black frame with one channel bright in a box."""
    pixels = np.zeros((height, width, 3), dtype=np.uint8)
    left, top, right, bottom = box
    pixels[top:bottom, left:right, channel] = 255
    return pixels


@pytest.mark.parametrize("decoded", [False, True])
def test_a_yolox_box_comes_back_in_pixels_of_the_frame(tmp_path, decoded):
    """A frame of 128 x 96 is halved into the upper left corner: a cell of 8 pixels is 16 of the frame."""
    manifest = describe(seeing_yolox(tmp_path / "yolox.onnx", channel=0, decoded=decoded), "yolox")
    assert manifest.boxes == ("decoded" if decoded else "raw")
    detector = open_detector(str(tmp_path / "yolox.onnx"), threshold=0.5)
    found = detector.detect(lit(96, 128, (48, 32, 64, 48), channel=2))  # blue: the first channel of BGR
    assert found.boxes.tolist() == [[48, 32, 64, 48]]
    assert found.scores.tolist() == pytest.approx([0.9])
    assert len(detector.detect(lit(96, 128, (48, 32, 64, 48), channel=0))) == 0  # red
    assert len(detector.detect(np.zeros((96, 128, 3), np.uint8))) == 0  # the grey border is not a person


def test_frames_may_change_their_size(tmp_path):
    describe(seeing_yolox(tmp_path / "yolox.onnx", channel=0), "yolox")
    detector = open_detector(str(tmp_path / "yolox.onnx"), threshold=0.5)
    assert detector.detect(lit(256, 256, (128, 96, 160, 128), 2)).boxes.tolist() == [[128, 96, 160, 128]]
    assert detector.detect(lit(32, 32, (16, 12, 20, 16), 2)).boxes.tolist() == [[16, 12, 20, 16]]
    for shape in [(1, 1), (1, 500), (500, 1), (0, 0), (0, 7)]:
        assert len(detector.detect(np.zeros((*shape, 3), np.uint8))) == 0


def test_an_rf_detr_box_comes_back_in_pixels_of_the_frame(tmp_path):
    """Both sides are stretched to the input; red is (1 - 0.485) / 0.229 after normalisation."""
    describe(seeing_rf_detr(tmp_path / "model.onnx"), "rf-detr", out=tmp_path / "detector.json")
    detector = open_detector(str(tmp_path), threshold=0.8)
    found = detector.detect(lit(64, 256, (128, 16, 192, 32), channel=0))
    assert found.boxes.tolist() == [[128, 16, 192, 32]]
    assert found.scores.tolist() == pytest.approx([1 / (1 + math.exp(-0.515 / 0.229))], rel=1e-4)
    assert len(detector.detect(lit(64, 256, (128, 16, 192, 32), channel=2))) == 0


def slow_yolox(rows: np.ndarray, person: int, ratio: float, threshold: float) -> list[tuple[float, ...]]:
    """Raw YOLOX rows decoded one by one, in double precision; no suppression."""
    found, anchor = [], 0
    for height, width, side in CELLS:
        for row in range(height):
            for column in range(width):
                x, y, w, h, objectness, *classes = map(float, rows[anchor])
                x, y, w, h = (x + column) * side, (y + row) * side, math.exp(w) * side, math.exp(h) * side
                score = objectness * classes[person]
                if score >= threshold:
                    corners = (x - w / 2) / ratio, (y - h / 2) / ratio, (x + w / 2) / ratio, (y + h / 2) / ratio
                    found.append((*corners, score))
                anchor += 1
    return found


def clipped(found, height, width):
    kept = [
        (max(x0, 0.0), max(y0, 0.0), min(x1, width), min(y1, height), score) for x0, y0, x1, y1, score in found
    ]
    return sorted((row for row in kept if row[2] - row[0] >= 1 and row[3] - row[1] >= 1), key=lambda row: -row[4])


def test_yolox_rows_are_decoded_as_the_slow_way_does(tmp_path):
    generator = np.random.default_rng(0)
    rows = generator.normal(0, 1, (ANCHORS, 5 + CLASSES)).astype(np.float32)
    rows[:, 4:] = generator.random((ANCHORS, 1 + CLASSES))
    describe(constant(tmp_path / "m.onnx", output=rows[None]), "yolox", person=1)
    manifest = tmp_path / "m.json"
    manifest.write_text(manifest.read_text().replace('"overlap": 0.45', '"overlap": 1.0'))
    detector = open_detector(str(tmp_path / "m.onnx"), threshold=0.3)
    found = detector.detect(np.zeros((100, 160, 3), np.uint8))
    expected = clipped(slow_yolox(rows, 1, 64 / 160, 0.3), 100, 160)
    assert len(expected) > 10
    np.testing.assert_allclose(found.boxes, [row[:4] for row in expected], rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(found.scores, [row[4] for row in expected], rtol=1e-5)


def test_yolox_boxes_that_overlap_are_suppressed(tmp_path):
    """Two neighbouring cells claim the same person."""
    rows = np.zeros((ANCHORS, 5 + CLASSES), np.float32)
    rows[20] = [0.5, 0.5, 1, 1, 0.9, 0.9, 0, 0]
    rows[21] = [-0.4, 0.5, 1, 1, 0.8, 0.9, 0, 0]
    rows[60] = [0.5, 0.5, 0, 0, 0.7, 0.9, 0, 0]
    describe(constant(tmp_path / "m.onnx", output=rows[None]), "yolox")
    found = open_detector(str(tmp_path / "m.onnx")).detect(np.zeros((64, 64, 3), np.uint8))
    assert found.scores.tolist() == pytest.approx([0.81, 0.63])


def test_rf_detr_queries_are_decoded_as_the_slow_way_does(tmp_path):
    generator = np.random.default_rng(1)
    boxes = generator.uniform(0.1, 0.9, (1, 30, 4)).astype(np.float32)
    logits = generator.normal(0, 2, (1, 30, 5)).astype(np.float32)
    describe(constant(tmp_path / "m.onnx", dets=boxes, labels=logits), "rf-detr", person=2)
    found = open_detector(str(tmp_path / "m.onnx"), threshold=0.4).detect(np.zeros((90, 300, 3), np.uint8))
    expected = []
    for (x, y, w, h), row in zip(boxes[0].tolist(), logits[0].tolist(), strict=True):
        score = 1 / (1 + math.exp(-row[2]))
        if score >= 0.4:
            expected.append((300 * (x - w / 2), 90 * (y - h / 2), 300 * (x + w / 2), 90 * (y + h / 2), score))
    expected = clipped(expected, 90, 300)
    assert len(expected) > 5
    np.testing.assert_allclose(found.boxes, [row[:4] for row in expected], rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(found.scores, [row[4] for row in expected], rtol=1e-5)


def test_rf_detr_outputs_are_told_apart_by_name_not_by_shape(tmp_path):
    """With three classes and a background both outputs have four columns."""
    boxes = np.array([[[0.5, 0.5, 0.25, 0.5]]])
    logits = np.array([[[-9.0, 4.0, -9.0, -9.0]]])
    describe(constant(tmp_path / "m.onnx", labels=logits, dets=boxes), "rf-detr")
    found = open_detector(str(tmp_path / "m.onnx")).detect(np.zeros((64, 64, 3), np.uint8))
    np.testing.assert_allclose(found.boxes, [[24, 16, 40, 48]], atol=1e-4)


@pytest.mark.parametrize("family", ["yolox", "rf-detr"])
def test_what_is_not_finite_is_left_out_and_counted(tmp_path, family, caplog):
    bad = [math.nan, math.inf, -math.inf]
    if family == "yolox":
        rows = np.zeros((ANCHORS, 5 + CLASSES), np.float32)
        rows[0] = [0.5, 0.5, 1, 1, 0.9, 0.9, 0, 0]
        rows[1:4, 4:6] = 0.9
        rows[1:4, 0] = bad
        rows[4] = [0, 0, 500, 0, 0.9, 0.9, 0, 0]  # exp(500)
        rows[5, 4] = math.nan  # a score
        rows[6] = [0, 0, 500, 0, 0, 0, 0, 0]  # nobody there: nothing is lost
        outputs = {"output": rows[None]}
        lost = 5
    else:
        boxes = np.full((1, 6, 4), 0.5, np.float32)
        logits = np.full((1, 6, 2), 3.0, np.float32)
        boxes[0, 1:4, 2] = bad
        logits[0, 4, 1] = math.nan
        logits[0, 5, 1] = -math.inf  # a score of 0
        outputs = {"dets": boxes, "labels": logits}
        lost = 4
    describe(constant(tmp_path / "m.onnx", **outputs), family)
    detector = open_detector(str(tmp_path / "m.onnx"))
    assert [len(detector.detect(np.zeros((64, 64, 3), np.uint8))) for _ in range(3)] == [1, 1, 1]
    assert detector.dropped == 3 * lost
    assert len(caplog.records) == 1


def test_the_image_is_normalised_channel_by_channel():
    wanted = DetectorInput("images", 5, 7, "BGR", "squash", 255.0, (0.1, 0.2, 0.3), (0.5, 0.25, 2.0))
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    image, scale = prepared(pixels, wanted)
    assert image.shape == (1, 3, 5, 7)
    assert image.dtype == np.float32
    assert scale.tolist() == [1, 1, 1, 1]
    for channel, (mean, std) in enumerate([(0.1, 0.5), (0.2, 0.25), (0.3, 2.0)]):
        expected = (pixels[..., 2 - channel] / 255 - mean) / std
        np.testing.assert_allclose(image[0, channel], expected, rtol=1e-5, atol=1e-6)


def test_a_letterbox_keeps_the_shape_and_ends_in_grey():
    wanted = DetectorInput("images", 64, 64, "RGB", "letterbox", 1.0, (0, 0, 0), (1, 1, 1))
    image, scale = prepared(np.full((30, 120, 3), 200, np.uint8), wanted)
    assert scale.tolist() == pytest.approx([64 / 120] * 4)
    assert (image[0, :, :16] == 200).all()
    assert (image[0, :, 16:] == 114).all()


def test_a_model_that_breaks_while_it_runs_is_a_failure(tmp_path):
    """The graph takes the mean of the image as an index, which a bright one puts out of range."""
    nodes = [
        helper.make_node("ReduceMean", ["images"], ["mean"], keepdims=0),
        helper.make_node("Cast", ["mean"], ["index"], to=TensorProto.INT64),
        helper.make_node("Gather", ["many", "index"], ["output"], axis=0),
    ]
    file = save(tmp_path / "m.onnx", nodes, ["output"], {"many": np.zeros((150, 1, ANCHORS, 8), np.float32)})
    describe(file, "yolox")
    detector = open_detector(str(file))
    assert len(detector.detect(np.full((64, 64, 3), 100, np.uint8))) == 0
    with pytest.raises(Failure, match=r"m\.onnx failed"):
        detector.detect(np.full((64, 64, 3), 255, np.uint8))
    assert len(detector.detect(np.full((64, 64, 3), 100, np.uint8))) == 0


def brightness(path: Path) -> Path:
    """A YOLOX that takes any number of images, and in each finds one person where the image is bright."""
    rows = np.zeros((1, ANCHORS, 8), np.float32)
    rows[0, 0] = [32, 32, 20, 40, 0, 1, 0, 0]
    share = np.zeros((1, ANCHORS, 8), np.float32)
    share[0, 0, 4] = 1 / 255
    nodes = [
        helper.make_node("ReduceMean", ["images", "axes"], ["mean"], keepdims=0),
        helper.make_node("Reshape", ["mean", "each"], ["light"]),
        helper.make_node("Mul", ["light", "share"], ["scores"]),
        helper.make_node("Add", ["scores", "rows"], ["output"]),
    ]
    constants = {"axes": np.array([1, 2, 3]), "each": np.array([-1, 1, 1]), "share": share, "rows": rows}
    return save(path, nodes, ["output"], constants, batch="batch")


def test_cameras_share_a_session_and_its_batches(tmp_path):
    """Each gets its own answer, however many ask at once."""
    describe(brightness(tmp_path / "m.onnx"), "yolox", threshold=0.1)
    detector = open_detector(str(tmp_path / "m.onnx"))
    sizes = []
    whole = detector._run
    detector._outputs._run = lambda images: (sizes.append(len(images)), time.sleep(0.02), whole(images))[2]

    def look(value: int) -> list[float]:
        return [float(detector.detect(np.full((64, 64, 3), value, np.uint8)).scores[0]) for _ in range(5)]

    values = list(range(60, 220, 20))
    with ThreadPoolExecutor(len(values)) as pool:
        answers = list(pool.map(look, values))
    for value, scores in zip(values, answers, strict=True):
        assert scores == pytest.approx([value / 255] * 5, abs=1e-3)
    assert max(sizes) > 1
    assert sum(sizes) == 5 * len(values)


def test_one_image_that_breaks_a_batch_spoils_no_other():
    def run(images):
        if (images > 200).any():
            raise Failure("too bright")
        return {"mean": images.mean(axis=(1, 2, 3), keepdims=True)}

    together = Together(run, 4)

    def ask(value: float):
        try:
            return float(together(np.full((1, 3, 2, 2), value, np.float32))["mean"][0, 0, 0, 0])
        except Failure as error:
            return str(error)

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, [10, 250, 30, 40, 255, 60, 70, 80] * 10))
    assert answers == [10, "too bright", 30, 40, "too bright", 60, 70, 80] * 10


def test_no_region_no_look(tmp_path):
    describe(brightness(tmp_path / "m.onnx"), "yolox", threshold=0.1)
    detector = open_detector(str(tmp_path / "m.onnx"))
    bright = np.full((64, 64, 3), 200, np.uint8)
    assert len(detector.detect(bright, np.empty((0, 4), np.float32))) == 0
    assert len(detector.detect(bright, np.array([[0, 0, 9, 9]], np.float32))) == 1
