"""`pat synth` as a user types it: what it cannot do is one line."""

from __future__ import annotations

import sys

import pytest


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["people", "--identities", "0"], "identities must be 2 to 999999"),
        (["people", "--cameras", "1000"], "cameras must be 1 to 999, three digits in the names of"),
        (["people", "--cameras-each", "0"], "cameras of each person must be at least 1"),
        (["people", "--images", "3"], "images must be 12 to 10000 (a query and a match in 6 cameras), not 3"),
        (["people", "--look-alikes", "2"], "look-alikes must be 0 to 1"),
        (["people", "--size", "1x1"], "size must be 32 to 1024 pixels each way, not 1x1"),
        (["people", "--size", "large"], "size is height x width in pixels, such as 256x128, not large"),
        (["people", "--workers", "0"], "workers must be at least 1, not 0"),
        (["people", "--workers", "many"], "workers is a number of processes or auto, not many"),
        (["people", "--seed", "-1"], "seed must be at least 0"),
        (["people", "--preset", "test-domain", "--seed", "3"], "the test domain is fixed"),
        (["flat", "--style", "sorce"], "source"),
        (["street", "--people", "0"], "at least one person"),
    ],
)
def test_numbers_that_make_no_people(arguments, said, tmp_path, fails):
    kind, *rest = arguments
    assert said in fails(2, "synth", kind, tmp_path / "out", *rest)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("kind", "said"),
    [("people", "already holds files; name a new"), ("flat", "letters"), ("street", "exists")],
)
def test_a_folder_that_holds_something_else_stays_as_it_is(kind, said, tmp_path, fails):
    file = tmp_path / "letters" / "mother.txt"
    file.parent.mkdir()
    file.write_text("dear")
    assert said in fails(2, "synth", kind, file.parent)
    assert "mother.txt" in fails(2, "synth", kind, file)
    assert [path.name for path in tmp_path.rglob("*")] == ["letters", "mother.txt"]


def test_without_numba_it_says_what_to_install(tmp_path, monkeypatch, fails):
    for name in [name for name in sys.modules if name.startswith("pat.synthetic.people")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "numba", None)
    said = fails(2, "synth", "people", tmp_path / "out")
    assert "need numba: pip install 'pat-reid[people]'" in said
