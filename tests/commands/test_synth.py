"""`pat synth` as a user types it: what it cannot do is one line."""

from __future__ import annotations

import sys

import pytest

from pat.cli import run


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--identities", "0"], "identities must be 2 to 999999"),
        (["--cameras", "1000"], "cameras must be 1 to 999, three digits in the names of images, not 1000"),
        (["--cameras-each", "0"], "cameras of each person must be at least 1"),
        (["--images", "3"], "a query and a match in 6 cameras"),
        (["--size", "1x1"], "size must be 32 to 1024 pixels each way, not 1x1"),
        (["--size", "big"], "size is height x width in pixels, such as 256x128, not big"),
        (["--workers", "0"], "workers must be at least 1, not 0"),
        (["--workers", "many"], "workers is a number of processes or auto, not many"),
        (["--seed", "-1"], "seed must be at least 0"),
        (["--preset", "test-domain", "--seed", "3"], "the test domain is fixed"),
    ],
)
def test_numbers_that_make_no_people(arguments, said, tmp_path, capsys):
    pytest.importorskip("numba")
    refused(["people", str(tmp_path / "out"), *arguments], said, capsys)
    assert not (tmp_path / "out").exists()


def test_a_folder_that_holds_something_else_stays_as_it_is(tmp_path, capsys):
    pytest.importorskip("numba")
    file = tmp_path / "letters" / "mother.txt"
    file.parent.mkdir()
    file.write_text("dear")
    refused(["people", str(file.parent)], f"{file.parent} already holds files; name a new folder", capsys)
    refused(["people", str(file)], f"{file} is a file; name a new folder", capsys)
    assert [path.name for path in tmp_path.rglob("*")] == ["letters", "mother.txt"]


def test_without_numba_it_says_what_to_install(tmp_path, monkeypatch, capsys):
    for name in [name for name in sys.modules if name.startswith("pat.synthetic.people")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "numba", None)
    refused(["people", str(tmp_path / "out")], "need numba: pip install 'pat-reid[people]'", capsys)


def refused(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("synth", words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("pat synth: ")
    assert said in line
