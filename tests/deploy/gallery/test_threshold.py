"""Which model made a vector, and from which cosine on two are the same person, at what cost."""

from __future__ import annotations

import dataclasses
import json

import pytest

from deploy.gallery.fingerprint import fingerprint
from deploy.gallery.threshold import FORMAT, NOT_MEASURED, ErrorRates, Point, false_alarms, read_threshold
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
    assert read_threshold("0.625", tmp_path) == (0.625, NOT_MEASURED)
    for given in ("1.5", "-2", "nan"):
        with pytest.raises(UserError, match="a cosine lies between -1 and 1"):
            read_threshold(given, tmp_path)


def test_a_calibration_is_read_for_its_own_model_alone(tmp_path, colour_bundle, manifest):
    file = tmp_path / "calibration.json"
    values = {"format": FORMAT, "model": fingerprint(manifest), "threshold": 0.75}
    file.write_text(json.dumps(values))
    assert read_threshold(str(file), colour_bundle)[0] == 0.75
    file.write_text(json.dumps({**values, "model": "another"}))
    with pytest.raises(UserError, match="was calibrated for the model another"):
        read_threshold(str(file), colour_bundle)


def test_a_calibration_tells_what_thresholds_cost(tmp_path, colour_bundle, manifest):
    file = tmp_path / "calibration.json"
    row = {"threshold": 0.7, "false_match_rate": 0.01, "false_non_match_rate": 0.2}
    values = {"format": FORMAT, "model": fingerprint(manifest), "threshold": 0.7, "identities": 30, "data": "gate"}
    file.write_text(json.dumps({**values, "table": [row, {**row, "threshold": 0.5}]}))
    _, rates = read_threshold(str(file), colour_bundle)
    assert rates == ErrorRates([Point(0.5, 0.01, 0.2), Point(0.7, 0.01, 0.2)], "30 people, gate")
    file.write_text(json.dumps({**values, "table": [{"threshold": 0.5}]}))
    with pytest.raises(UserError, match="is no file of `pat gallery calibrate`, or damaged"):
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
    assert read_threshold("", tmp_path) == (0.625, ErrorRates((Point(0.625, 0.001, None),), "rendered people"))
    (tmp_path / MANIFEST).write_text(chosen.to_json().replace("0.625", "1.5"))
    with pytest.raises(UserError, match="threshold"):
        read_threshold("", tmp_path)
    with pytest.raises(UserError, match="does not exist"):
        read_threshold("", tmp_path / "nowhere")


def test_between_two_points():
    rates = ErrorRates([Point(0.5, 1e-2, 0.1), Point(0.7, 1e-4, 0.3)], "x")
    middle = rates.at(0.6)
    assert middle is not None
    assert middle.false_match_rate == pytest.approx(1e-3)
    assert middle.false_non_match_rate == pytest.approx(0.2)
    assert rates.at(0.5) == Point(0.5, 1e-2, 0.1)
    assert rates.at(0.49) is None
    assert rates.at(0.71) is None


def test_a_rate_of_nothing_has_no_logarithm():
    middle = ErrorRates([Point(0.5, 1e-2, 0.1), Point(0.7, 0.0, None)], "x").at(0.6)
    assert middle == Point(0.6, pytest.approx(5e-3), None)


def test_a_stranger_meets_the_whole_gallery():
    assert false_alarms(0.001, 0) == 0
    assert false_alarms(0.001, 1000) == pytest.approx(0.632, abs=1e-3)
    assert false_alarms(1.0, 5) == pytest.approx(1.0)
