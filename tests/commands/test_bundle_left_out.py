"""`pat gallery` commands that take the bundle in the box where none is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from pat.cli import main


@pytest.mark.parametrize("command", ["enrol", "search", "calibrate"])
def test_the_help_says_that_the_bundle_may_be_left_out(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["gallery", command, "--help"])
    words = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "(default: the model in the box)" in words
    assert words.count("(required)") <= 2  # the gallery, and an image to search for


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("enrol", "gallery"), "name the folders or images to enrol"),
        (("enrol", "gallery", "."), "no images"),
        (("enrol", "gallery", "", "people"), "an empty path"),
        (("search", "gallery"), "name one image to search for"),
        (("calibrate",), "give one labelled data set, or videos alone, not nothing"),
    ],
)
def test_what_else_is_missing_is_told(
    words: tuple[str, ...], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        main(["gallery", *words])
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err
    assert not Path("gallery").exists()
