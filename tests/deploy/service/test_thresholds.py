"""What a threshold costs, between the points that were measured."""

from __future__ import annotations

import dataclasses
import json

import pytest

from deploy.service.thresholds import ErrorRates, Point, false_alarms, read_error_rates
from export.manifest import Decision, Manifest


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


def test_where_the_rates_come_from(colour_bundle, tmp_path):
    manifest = Manifest.load(colour_bundle)
    assert read_error_rates("0.8", manifest).points == ()
    assert read_error_rates("", manifest).points == ()
    decided = dataclasses.replace(manifest, decision=Decision(0.6, 0.001, "rendered people"))
    assert read_error_rates("", decided) == ErrorRates((Point(0.6, 0.001, None),), "rendered people")
    row = {"threshold": 0.7, "false_match_rate": 0.01, "false_non_match_rate": 0.2}
    path = tmp_path / "calibration.json"
    path.write_text(json.dumps({"identities": 30, "data": "gate", "table": [row, {**row, "threshold": 0.5}]}))
    read = read_error_rates(str(path), manifest)
    assert [each.threshold for each in read.points] == [0.5, 0.7]
    assert read.measured_on == "30 people, gate"
