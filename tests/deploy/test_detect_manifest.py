"""The manifest of a detector: what it must say, and the command that writes it."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from deploy.detect import open_detector
from deploy.detect.__main__ import main
from deploy.detect.describe import describe
from detectors import ANCHORS, CLASSES, constant, save, seeing_rf_detr, seeing_yolox
from export.manifest import sha256
from pat.base.errors import UserError


@pytest.fixture
def model(tmp_path) -> Path:
    """A YOLOX with its manifest."""
    file = constant(tmp_path / "m.onnx", output=np.zeros((1, ANCHORS, 5 + CLASSES)))
    describe(file, "yolox", licence="Apache-2.0")
    return file


def changed(file: Path, /, **values) -> None:
    manifest = file.with_suffix(".json")
    fields = json.loads(manifest.read_text())
    for name, value in values.items():
        *outer, last = name.split("__")
        inner = fields
        for each in outer:
            inner = inner[each]
        if value is None:
            del inner[last]
        else:
            inner[last] = value
    manifest.write_text(json.dumps(fields))


def refused(what) -> str:
    with pytest.raises(UserError) as caught:
        open_detector(str(what))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_manifest_says_how_to_feed_and_read_the_model(model):
    fields = json.loads(model.with_suffix(".json").read_text())
    assert fields["format"] == "pat-detector/1"
    assert fields["sha256"] == sha256(model)
    assert fields["input"] == {
        "name": "images", "height": 64, "width": 64, "colour": "BGR", "resize": "letterbox",
        "divide_by": 1.0, "mean": [0, 0, 0], "std": [1, 1, 1],
    }  # fmt: skip
    assert (fields["classes"], fields["person"], fields["outputs"]) == (CLASSES, 0, {"predictions": "output"})
    assert fields["licence"] == "Apache-2.0"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"format": "other/2"}, "does not have the format 'pat-detector/1'"),
        ({"family": "ssd"}, "family = 'ssd' is not one of rf-detr, yolox"),
        ({"family": None}, "family is missing"),
        ({"input": []}, "input must be a table"),
        ({"input__height": "64"}, "input.height = '64' is not"),
        ({"input__height": True}, "input.height = True is not"),
        ({"input__std": [1, 0, 1]}, "input.std = 0 is not a number above 0"),
        ({"input__mean": [1, 0]}, "input.mean = [1, 0] is not"),
        ({"input__colour": "GRB"}, "input.colour = 'GRB' is not one of RGB, BGR"),
        ({"input__divide_by": 0}, "input.divide_by = 0 is not a number above 0"),
        ({"person": 3}, "person = 3 is not one of 3 classes"),
        ({"threshold": 1.5}, "threshold = 1.5 is not a number"),
        ({"overlap": math.nan}, "overlap = nan is not"),
        ({"outputs": {}}, "yolox needs predictions"),
        ({"model": "../m.onnx"}, "not the name of a file"),
        ({"model": "other.onnx"}, "describes other.onnx, not m.onnx"),
        ({"boxes": "corners"}, "boxes = 'corners' is not one of raw, decoded"),
        ({"sha256": "0" * 64}, "SHA-256"),
        ({"input__name": "crops"}, "takes images and gives output"),
        ({"outputs__predictions": "boxes"}, "takes images and gives output"),
        ({"input__height": 128}, "expected tensor(float) [1, 3, 128, 64]"),
        ({"classes": 80}, "[1, 84, 8], expected [1, 84, 85]"),
    ],
)
def test_a_manifest_that_does_not_fit_is_refused(model, change, words):
    changed(model, **change)
    assert words in refused(model)


def test_a_manifest_of_another_family_is_refused(model):
    changed(model, family="rf-detr", boxes="decoded", outputs={"boxes": "output", "scores": "output"})
    assert "output for boxes has the shape [1, 84, 8], expected [1, n, 4]" in refused(model)


@pytest.mark.parametrize("text", ["", "{", "[1, 2]", "null"])
def test_a_broken_manifest_is_refused(model, text):
    model.with_suffix(".json").write_text(text)
    assert "m.json" in refused(model)


def test_missing_files_are_refused(model, tmp_path):
    assert 'give "rendered", "hog"' in refused(tmp_path / "nowhere.onnx")
    assert "no ONNX detector" in refused(Path(__file__))
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "no manifest detector.json" in refused(empty)
    lonely = constant(tmp_path / "lonely.onnx", output=np.zeros((1, ANCHORS, 8)))
    assert "no manifest lonely.json or detector.json; write it with" in refused(lonely)
    model.unlink()
    assert "is missing" in refused(model.with_suffix(".json"))


@pytest.mark.parametrize("share", [0, 0.5, 0.99])
def test_a_truncated_model_is_refused(model, share):
    whole = model.read_bytes()
    model.write_bytes(whole[: int(len(whole) * share)])
    assert "SHA-256" in refused(model)
    changed(model, sha256=sha256(model))
    assert "m.onnx" in refused(model)  # what ONNX Runtime, or the check of its outputs, says


def test_the_command_writes_a_manifest_that_opens(tmp_path, capsys):
    file = seeing_rf_detr(tmp_path / "rf.onnx")
    arguments = ["describe", str(file), "--family", "rf-detr", "--threshold", "0.6", "--licence", "Apache-2.0"]
    assert main(arguments) == 0
    assert "class 1 of 2 is people" in capsys.readouterr().out
    assert open_detector(str(file)).manifest.threshold == 0.6


def several(path: Path, **changes) -> Path:
    return save(path, [helper.make_node("Identity", ["images"], ["output"])], ["output"], **changes)


@pytest.mark.parametrize(
    ("make", "family", "words"),
    [
        (lambda path: several(path), "yolox", "output for predictions has the shape [1, 3, 64, 64]"),
        (lambda path: several(path, inputs=2), "yolox", "2 inputs"),
        (lambda path: several(path), "rf-detr", "gives output and no dets for boxes"),
        (lambda path: seeing_yolox(path, 0), "rf-detr", "gives output and no dets for boxes"),
        (lambda path: seeing_rf_detr(path), "yolox", "gives dets, labels and no output for predictions"),
        (
            lambda path: constant(path, dets=np.zeros((1, 9, 4)), labels=np.zeros((1, 8, 4))),
            "rf-detr",
            "output for scores has the shape [1, 8, 4], expected [1, 9, n]",
        ),
        (lambda path: constant(path, output=np.zeros((1, ANCHORS, 5))), "yolox", "one for each class"),
        (lambda path: constant(path, output=np.zeros((1, ANCHORS, 6))), "yolox --person 2", "1 classes"),
        (lambda path: constant(path, output=np.zeros((1, 9, 8))), "yolox", "expected [1, 84, n]"),
        (lambda path: seeing_yolox(path, 0), "yolox --threshold 2", "threshold is 2"),
        (lambda path: seeing_yolox(path, 0), "yolox --size 32 32", "expected tensor(float) [1, 3, 32, 32]"),
        (lambda path: seeing_yolox(path, 0), "yolox --out /tmp/d.json", "does not lie beside"),
        (lambda path: path.write_bytes(b"not a model"), "yolox", "cannot load"),
        (lambda path: None, "yolox", "there is no file"),
    ],
)
def test_the_command_refuses_a_model_that_does_not_fit(tmp_path, capsys, make, family, words):
    make(tmp_path / "m.onnx")
    assert main(["describe", str(tmp_path / "m.onnx"), "--family", *family.split()]) == 2
    message = capsys.readouterr().err
    assert words in message
    assert message.count("\n") == 1
    assert not (tmp_path / "m.json").exists()


def test_an_open_size_is_named_by_the_user(tmp_path, capsys):
    nodes = [
        helper.make_node("ReduceMean", ["images"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "nothing"], ["zero"]),
        helper.make_node("Add", ["zero", "rows"], ["output"]),
    ]
    constants = {"nothing": np.zeros(1, np.float32), "rows": np.zeros((1, ANCHORS, 8), np.float32)}
    file = save(tmp_path / "m.onnx", nodes, ["output"], constants, side="side")
    assert main(["describe", str(file), "--family", "yolox"]) == 2
    assert "--size HEIGHT WIDTH" in capsys.readouterr().err
    assert main(["describe", str(file), "--family", "yolox", "--size", "64", "64"]) == 0
    assert len(open_detector(str(file)).detect(np.zeros((10, 10, 3), np.uint8))) == 0


def test_a_model_that_takes_no_grey_image_is_refused(tmp_path, capsys):
    nodes = [
        helper.make_node("ReduceMean", ["images"], ["mean"], keepdims=0),
        helper.make_node("Cast", ["mean"], ["index"], to=TensorProto.INT64),
        helper.make_node("Gather", ["one", "index"], ["output"], axis=0),
    ]
    file = save(tmp_path / "m.onnx", nodes, ["output"], {"one": np.zeros((1, 1, ANCHORS, 8), np.float32)})
    assert main(["describe", str(file), "--family", "yolox"]) == 1
    message = capsys.readouterr().err
    assert "m.onnx failed" in message
    assert message.count("\n") == 1
