"""Which words on a command line are a bundle, when the model in the box is taken, and its detector."""

import shutil
from pathlib import Path

import pytest

from deploy import shipped
from deploy.detect import open_detector
from pat.base.errors import UserError


@pytest.fixture
def box(tmp_path, monkeypatch):
    """The shipped bundle, and an empty folder to work in."""
    folder = tmp_path / "models" / shipped.NAME
    folder.mkdir(parents=True)
    (folder / "manifest.json").touch()
    monkeypatch.setattr(shipped, "MODELS", tmp_path / "models")
    monkeypatch.chdir(tmp_path)
    return folder


def test_a_folder_with_a_manifest_is_the_bundle(box):
    mine = Path("mine")
    mine.mkdir()
    (mine / "manifest.json").touch()
    assert shipped.bundle_and_rest(["mine", "a.mp4"]) == (mine, ("a.mp4",), False)


@pytest.mark.parametrize(
    "words",
    [
        ["gate=rtsp://10.0.0.1/1", "b.mp4"],
        ["rtsp://10.0.0.1//1"],
        ["/dev/video0", "b.mp4"],
        ["typo.mp4"],
        ["gst: a ! b"],
        ["gst: " + "a ! " * 99 + "b"],
    ],
)
def test_sources_alone_go_to_the_model_in_the_box_as_they_are(box, words):
    assert shipped.bundle_and_rest(words) == (box, tuple(words), True)


def test_a_video_or_a_folder_of_images_is_no_bundle(box):
    Path("crops").mkdir()
    Path("hall.mp4").touch()
    assert shipped.bundle_and_rest(["crops", "hall.mp4"]) == (box, ("crops", "hall.mp4"), True)
    assert shipped.bundle_and_rest(["hall.mp4", "crops"]) == (box, ("hall.mp4", "crops"), True)


@pytest.mark.parametrize("left", ["model.onnx", "checkpoint.pt", "config.json", "market.plan"])
def test_what_is_left_of_a_model_is_not_replaced_by_the_one_in_the_box(box, left):
    Path("mine").mkdir()
    Path("mine", left).touch()
    assert shipped.bundle_and_rest(["mine", "crops"]) == (Path("mine"), ("crops",), False)
    Path("mine", "a.jpg").touch()  # images with a model among them
    assert shipped.bundle_and_rest(["mine", "crops"]) == (box, ("mine", "crops"), True)


def test_a_mistaken_bundle_is_not_taken_for_a_source(box):
    assert shipped.bundle_and_rest(["bundels/market", "hall.mp4"]) == (
        Path("bundels/market"),
        ("hall.mp4",),
        False,
    )


def test_an_installation_without_models_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(shipped, "MODELS", tmp_path)
    with pytest.raises(UserError, match="this installation holds no model"):
        shipped.bundle_and_rest(["rtsp://10.0.0.1/1"])


def test_an_installation_without_a_detector_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(shipped, "MODELS", tmp_path)
    with pytest.raises(UserError, match=r"holds no detector: .*; give \"hog\""):
        open_detector("rendered")


def test_the_detector_in_the_box_opens_and_a_broken_one_is_refused(tmp_path, monkeypatch):
    assert "pat-detector.onnx" in open_detector("rendered").name
    shutil.copytree(shipped.MODELS / shipped.DETECTOR, tmp_path / shipped.DETECTOR)
    monkeypatch.setattr(shipped, "MODELS", tmp_path)
    (tmp_path / shipped.DETECTOR / "pat-detector.onnx").write_bytes(b"short")
    with pytest.raises(UserError, match=r"is not the model that detector\.json describes"):
        open_detector("rendered")
