"""Which model made a vector, and from which cosine on two are the same person."""

from __future__ import annotations

import dataclasses
import json

import pytest

from deploy.gallery.fingerprint import fingerprint
from deploy.gallery.threshold import FORMAT, read_threshold
from export.manifest import MANIFEST, Decision, FileFact, Manifest, Output, Precision
from pat.base.errors import UserError


@pytest.fixture
def manifest(colour_bundle) -> Manifest:
    return Manifest.load(colour_bundle)


def test_precisions_of_the_same_weights_are_one_model(manifest):
    graph = {"model.onnx": FileFact("0" * 64, 1)}
    fp16 = dataclasses.replace(manifest, precision=Precision("fp16"), files=graph, opset=23)
    assert fingerprint(fp16) == fingerprint(manifest)
    assert len(fingerprint(manifest)) == 16


def test_other_weights_and_outputs_are_other_models(manifest):
    size = manifest.output.size
    others = [
        dataclasses.replace(manifest, weights={"sha256": "1" * 64}),
        dataclasses.replace(manifest, output=Output("embeddings", size, "cls+parts")),
        dataclasses.replace(manifest, output=Output("embeddings", size + 1, "cls")),
        dataclasses.replace(manifest, weights={}),  # then its graph stands for them
    ]
    assert len({fingerprint(each) for each in [manifest, *others]}) == 5


def test_a_number_is_a_threshold(tmp_path):
    assert read_threshold("0.625", tmp_path) == 0.625
    for given in ("1.5", "-2", "nan"):
        with pytest.raises(UserError, match="a cosine lies between -1 and 1"):
            read_threshold(given, tmp_path)


def test_a_calibration_is_read_for_its_own_model_alone(tmp_path, colour_bundle, manifest):
    file = tmp_path / "calibration.json"
    values = {"format": FORMAT, "model": fingerprint(manifest), "threshold": 0.75}
    file.write_text(json.dumps(values))
    assert read_threshold(str(file), colour_bundle) == 0.75
    file.write_text(json.dumps({**values, "model": "another"}))
    with pytest.raises(UserError, match="was calibrated for the model another"):
        read_threshold(str(file), colour_bundle)


@pytest.mark.parametrize("content", [None, "", "[]", "{}", '{"format": "x"}', f'{{"format": "{FORMAT}"}}'])
def test_files_that_are_no_calibration_are_refused(tmp_path, colour_bundle, content):
    file = tmp_path / "calibration.json"
    if content is not None:
        file.write_text(content)
    with pytest.raises(UserError) as caught:
        read_threshold(str(file), colour_bundle)
    assert "\n" not in str(caught.value)
    assert str(file) in str(caught.value)


def test_without_a_threshold_the_bundle_says_one(tmp_path, colour_bundle, manifest):
    with pytest.raises(UserError, match="no threshold is set"):
        read_threshold("", colour_bundle)
    chosen = dataclasses.replace(manifest, decision=Decision(0.625, 0.001, "rendered people"))
    (tmp_path / MANIFEST).write_text(chosen.to_json())
    assert read_threshold("", tmp_path) == 0.625
    (tmp_path / MANIFEST).write_text(chosen.to_json().replace("0.625", "1.5"))
    with pytest.raises(UserError, match="threshold"):
        read_threshold("", tmp_path)
    with pytest.raises(UserError, match="does not exist"):
        read_threshold("", tmp_path / "nowhere")
