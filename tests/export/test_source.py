"""What is built, judged and used again is what was given, whatever name it goes by."""

from __future__ import annotations

import dataclasses
import shutil

import pytest

import export.precision
from bundles import colours, make_bundle
from export.crops import find_images, unseen
from export.making import made
from export.manifest import MODEL, Decision, Manifest, Output, Precision
from export.trt.source import find_source
from pat.base.errors import UserError


@pytest.fixture
def bundle(tmp_path):
    return colours(tmp_path / "fp32")


def changed(bundle, **facts):
    """The bundle written anew with other facts in its manifest."""
    manifest = dataclasses.replace(Manifest.load(bundle), **facts)
    return make_bundle(bundle, manifest, (bundle / MODEL).read_bytes())


@pytest.mark.parametrize("name", ["", MODEL, "manifest.json"])
def test_a_bundle_for_another_program_is_refused_by_whatever_file_it_is_named(bundle, name):
    assert find_source(bundle / name, "fp32").manifest == Manifest.load(bundle)
    with pytest.raises(UserError, match="is in fp32, not in fp16"):
        find_source(bundle / name, "fp16")
    changed(bundle, backends=("openvino",))
    with pytest.raises(UserError, match="was written for openvino, not for TensorRT"):
        find_source(bundle / name, None)


def test_an_onnx_file_of_nobody_has_no_manifest(bundle, tmp_path):
    bare = shutil.copy(bundle / MODEL, tmp_path / "bare.onnx")
    assert find_source(bare, None).manifest is None


def test_a_bundle_in_16_bits_is_used_again_for_the_same_export_alone(bundle, monkeypatch):
    calls = []

    def lower(folder, out, request):
        manifest = dataclasses.replace(Manifest.load(folder), precision=Precision(name="fp16"))
        calls.append(make_bundle(out, manifest, (folder / MODEL).read_bytes()))
        return Manifest.load(out)

    monkeypatch.setattr(export.precision, "lower_bundle", lower)
    out = made(bundle, "fp16")
    assert made(bundle, "fp16") == out
    assert len(calls) == 1
    for facts in (
        {"decision": Decision(0.7, 0.001, "somewhere")},
        {"output": Output("embeddings", 48, "cls+parts")},
        {"opset": 23},
    ):
        changed(bundle, **facts)
        before = len(calls)
        assert made(bundle, "fp16") == out
        assert len(calls) == before + 1, facts


def test_a_copy_of_an_image_is_no_other_image(tmp_path):
    for name, content in (("a.png", b"one"), ("b.png", b"two"), ("copies/c.png", b"one"), ("d.png", b"longer")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    left = unseen(find_images(tmp_path), [tmp_path / "a.png"])
    assert [path.name for path in left] == ["b.png", "d.png"]
