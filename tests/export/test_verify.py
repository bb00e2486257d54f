"""Comparing two embedders: the PyTorch model and its bundle, two bundles, and the exit code."""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

from bundles import make_bundle
from export import verify
from export.check import read_graph
from export.check_set import compare, read_check_set
from export.manifest import MODEL, Manifest
from export.precision import Request, lower_bundle
from export.to_onnx import export_bundle
from export.verify import embed_both, opened
from lowering import drawn_model
from pat.config import ModelConfig
from pat.model import PartAwareTransformer
from pat.model.weights import save


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """model.safetensors, its bundle `fp32`, `bf16`, and `damaged`: the bundle with one layer's weights halved."""
    folder = tmp_path_factory.mktemp("verify")
    config = ModelConfig("vit_tiny_patch16_224", image_size=(32, 16), patch_size=8, width=64, depth=2, heads=1)
    save(drawn_model(config), folder / "model.safetensors")
    manifest = export_bundle(folder / "model.safetensors", folder / "fp32")
    lower_bundle(folder / "fp32", folder / "fp16", Request("fp16"))
    graph = read_graph(str(manifest.file(MODEL)))
    weight = next(each for each in graph.graph.initializer if each.name == "blocks.0.mlp.fc2.weight")
    weight.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(weight) / 2, weight.name))
    make_bundle(folder / "damaged", manifest, graph.SerializeToString(), *read_check_set(manifest))
    return folder


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """Resized images of labelled data sets are kept there."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


@pytest.fixture
def crops(tmp_path):
    place = tmp_path / "crops"
    place.mkdir()
    for number in range(20):
        pixels = np.random.default_rng(number).integers(0, 256, (40, 20, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(place / f"{number:02d}.png")
    return place


def run(*arguments: object) -> int:
    return verify.main([str(argument) for argument in arguments])


@pytest.mark.parametrize("other", ["fp32", "fp16"])
def test_the_model_and_its_bundle_agree(folder, crops, capsys, other):
    assert run(folder / "model.safetensors", folder / other, "--images", crops) == 0
    said = capsys.readouterr().out
    assert "20 images: centred cosine worst 0.99" in said or "20 images: centred cosine worst 1.0" in said
    assert "20 images find a broken model, not one a little worse; 256 do" in said
    assert said.endswith("they agree\n")


def test_a_damaged_bundle_does_not_agree(folder, crops, capsys):
    assert run(folder / "fp32", folder / "damaged", "--images", crops) == 1
    assert "they do not agree: worst centred cosine 0." in capsys.readouterr().out
    wide = ("centred_worst=0.1", "centred-p1=0.1", "same_first=0")
    assert run(folder / "fp32", folder / "damaged", "--images", crops, "--gate", *wide) == 0


def test_the_threshold_decides(folder, crops):
    with opened(folder / "fp32") as first, opened(folder / "fp16") as second:
        assert first.size == second.size == (32, 16)
        pixels = np.random.default_rng(0).integers(0, 256, (8, 32, 16, 3), dtype=np.uint8)
        found = compare(*embed_both(first, second, pixels))
    assert 0.999 < found.worst < 1


def test_a_labelled_data_set_is_ranked_by_both(folder, market, capsys):
    assert run(folder / "model.safetensors", folder / "fp32", "--data", market) == 0
    said = capsys.readouterr().out
    scores = [line.split(": ", 1)[1] for line in said.splitlines() if "rank-1" in line]
    assert len(scores) == 2
    assert scores[0] == scores[1].replace(" (0 queries gained, 0 lost)", "")
    assert "same first neighbour 100.0%" in said


def test_a_loss_of_rank_fails(folder, market, monkeypatch, capsys):
    """An embedder that gives noise agrees with nobody."""
    original = verify.opened

    def noisy(path, like):
        with original(path, like) as embedder:
            generator = np.random.default_rng(0)
            embed = embedder.embed
            if path.name == "fp16":
                embed = lambda pixels: generator.normal(size=(len(pixels), 64)).astype(np.float32)  # noqa: E731
            yield dataclasses.replace(embedder, embed=embed)

    monkeypatch.setattr(verify, "opened", contextlib.contextmanager(noisy))
    assert run(folder / "fp32", folder / "fp16", "--data", market) == 1


def right_of(left: np.ndarray) -> np.ndarray:
    """The same vectors, disturbed as much as they are long."""
    return left + np.random.default_rng(1).normal(size=left.shape).astype(np.float32)


def test_cosines_and_ranks_against_numpy():
    generator = np.random.default_rng(0)
    left = generator.normal(size=(30, 8)).astype(np.float32)
    right = left + generator.normal(size=left.shape).astype(np.float32)
    right[3] = np.nan
    found = compare(left, 5 * right)
    for row in range(30):
        a, b = left[row].astype(float), right[row].astype(float)
        expected = -1.0 if row == 3 else a @ b / np.linalg.norm(a) / np.linalg.norm(b)
        assert found.cosines[row] == pytest.approx(expected)
    assert found.worst == -1
    assert found.summary()["worst"] == -1
    clean = compare(np.delete(left, 3, 0), np.delete(right, 3, 0))
    units = [v / np.linalg.norm(v, axis=1, keepdims=True) for v in (np.delete(left, 3, 0), np.delete(right, 3, 0))]
    a, b = (each[5] - units[0].mean(0) for each in units)
    assert clean.centred[5] == pytest.approx(a @ b / np.linalg.norm(a) / np.linalg.norm(b), abs=1e-6)
    # All pointing nearly the same way: the plain cosine sees nothing, the centred one does.
    assert compare(left + 1000, right_of(left) + 1000).worst > 0.999
    assert compare(left + 1000, right_of(left) + 1000).centred.min() < 0.9
    assert compare(left, left).same_first == 1
    assert compare(left, left).worst == pytest.approx(1)
    moved = left.copy()
    moved[0] = left[7]  # now these two are each other's nearest
    assert compare(left, moved).same_first < 1
    assert compare(left[:1], left[:1]).same_first == 1
    with pytest.raises(ValueError, match="do not compare"):
        compare(left, left[:4])
    with pytest.raises(ValueError, match="do not compare"):
        compare(left[:0], left[:0])


def test_mistakes_are_one_line_with_exit_code_2(folder, crops, tmp_path, capsys):
    empty = tmp_path / "empty"
    empty.mkdir()
    other = tmp_path / "other.safetensors"
    save(PartAwareTransformer(ModelConfig("vit_tiny_patch16_224", image_size=(64, 32), depth=1)), other)
    fp32 = folder / "fp32"
    for arguments, message in (
        ((fp32, folder / "fp16"), "name images to compare on"),
        ((fp32, tmp_path / "nowhere", "--images", crops), "does not exist"),
        ((fp32, empty, "--images", crops), "is no bundle"),
        ((tmp_path / "no.safetensors", fp32, "--images", crops), "there is no model file"),
        ((fp32, other, "--images", crops), "take images of different size: (32, 16) and (64, 32)"),
        ((fp32, folder / "fp16", "--images", empty), "holds no images"),
        ((fp32, folder / "fp16", "--images", crops, "--most", 1), "one image tells no model from another"),
        ((fp32, folder / "fp16", "--images", crops, "--most", 0), "must be at least 1"),
        ((fp32, folder / "fp16", "--data", empty), str(empty)),
        ((fp32, folder / "fp16", "--images", crops, "--gate", "cosine=0.5"), "unknown key cosine"),
        ((fp32, folder / "fp16", "--images", crops, "--gate", "same_first=2"), "at least 0 and at most 1"),
        ((fp32, folder / "fp16", "--images", crops, "--gate", "0.9"), "'0.9' is not NAME=NUMBER"),
    ):
        assert run(*arguments) == 2, arguments
        said = capsys.readouterr().err.strip().splitlines()[-1]
        assert said.startswith("verify.py: ")
        assert message in said


def test_a_bundle_with_parts_is_compared_with_the_models_parts(folder, crops, tmp_path, capsys):
    model = folder / "model.safetensors"
    export_bundle(model, tmp_path / "parts", parts=True)
    assert Manifest.load(tmp_path / "parts").output.kind == "cls+parts"
    assert run(model, tmp_path / "parts", "--images", crops) == 0
    assert run(folder / "fp32", tmp_path / "parts", "--images", crops) == 2
    assert "give vectors of different size: 64 and 256" in capsys.readouterr().err
