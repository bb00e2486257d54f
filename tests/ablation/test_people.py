"""The bootstrap over people: by hand where it has no spread, and wide where people differ."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from pat.ablation import people


def scored(identities, precision):
    found = SimpleNamespace(average_precision=np.array(precision))
    return SimpleNamespace(query=SimpleNamespace(identities=np.array(identities)), result=found)


def test_queries_without_a_match_do_not_count(tmp_path):
    found = people.of_score(scored([7, 7, 9, 9], [0.5, 1.0, np.nan, 0.25]))
    assert found == {"7": [2, 1.5], "9": [1, 0.25]}
    (tmp_path / people.FILE).write_text(json.dumps({"elsewhere": {"cls": found}}))
    assert people.read(tmp_path, "elsewhere", "cls") == found
    assert people.read(tmp_path, "elsewhere", "cls, flip") == {}
    assert people.read(tmp_path / "older", "elsewhere", "cls") == {}


def test_the_same_gain_on_everybody_is_certain():
    theirs = {str(i): [1 + i, 0.2 * i] for i in range(5)}
    ours = {name: [count, total + 0.25 * count] for name, (count, total) in theirs.items()}
    found = people.difference([ours, ours], [theirs, theirs])
    assert (found.people, found.low, found.high) == (5, pytest.approx(0.25), pytest.approx(0.25))


def test_a_gain_on_one_person_of_many_is_not():
    theirs = {str(i): [1, 0.5] for i in range(10)}
    found = people.difference([{**theirs, "3": [1, 1.0]}], [theirs])
    assert found.low == 0
    assert 0.05 < found.high <= 0.2
    assert found == people.difference([{**theirs, "3": [1, 1.0]}], [theirs])


def test_the_interval_is_that_of_the_mean():
    generator = np.random.default_rng(1)
    values = generator.normal(0.1, 0.2, 400)
    low, high = people.interval(values, np.ones(400, dtype=int))
    expected = 1.96 * values.std(ddof=1) / 20
    assert (low, high) == (
        pytest.approx(values.mean() - expected, abs=0.1 * expected),
        pytest.approx(values.mean() + expected, abs=0.1 * expected),
    )


def test_people_that_one_side_alone_has_are_left_out():
    assert people.difference([{"1": [1, 1.0]}], [{"2": [1, 1.0]}]) is None
    assert people.difference([], []) is None
    ours = {"1": [1, 1.0], "2": [1, 0.75], "3": [2, 1.5]}
    found = people.difference([ours], [{"2": [1, 0.5], "3": [2, 1.0], "4": [1, 0.0]}])
    assert (found.people, found.low, found.high) == (2, 0.25, 0.25)
