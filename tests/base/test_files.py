"""Files and folders are written whole or not at all, and drafts of killed writers go away."""

import os
import time
from pathlib import Path

import numpy as np
import pytest

from disks import files_of_at_most
from pat.base.errors import Failure
from pat.base.files import QUIET, folder_written_whole, write_files, write_json, write_text, written_whole


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    path = tmp_path / "new" / "a.json"
    write_json(path, {"a": 1})
    before = path.read_bytes()
    with pytest.raises(Failure, match="No space left"), written_whole(path):
        Path("/dev/full").write_bytes(b"x")
    with pytest.raises(ZeroDivisionError), written_whole(path):
        1 / 0  # noqa: B018
    assert path.read_bytes() == before
    assert names(path.parent) == ["a.json"]


def test_numpy_tells_of_no_full_disk_and_the_line_does(tmp_path):
    said = pytest.raises(Failure, match=r"requested and \d+ written \(is the disk full\?\)")
    with files_of_at_most(100_000), said, written_whole(tmp_path / "a.npy") as draft, open(draft, "wb") as file:
        np.save(file, np.zeros(100_000))
    assert names(tmp_path) == []


def test_a_folder_replaces_a_folder_or_leaves_it(tmp_path):
    out = tmp_path / "out"
    for text in ("first", "second"):
        with folder_written_whole(out) as draft:
            (draft / text).write_text(text)
    with pytest.raises(ZeroDivisionError), folder_written_whole(out):
        1 / 0  # noqa: B018
    assert names(tmp_path) == ["out"]
    assert names(out) == ["second"]


def test_drafts_of_killed_writers_are_swept_and_others_are_left(tmp_path):
    path = tmp_path / "a"
    past = time.time() - 2 * QUIET
    abandoned, folder, young = (tmp_path / f".a.{name}.part" for name in ("old", "folder", "young"))
    other = tmp_path / ".b.old.part"
    folder.mkdir()
    for each in (abandoned, young, other, folder / "inside"):
        each.write_bytes(b"half")
    with written_whole(path) as held:
        held.write_bytes(b"slow")
        for each in (abandoned, other, folder, held):
            os.utime(each, (past, past))
        write_files({path: b"quick", tmp_path / "c": b"beside"})
        assert names(tmp_path) == sorted([held.name, young.name, other.name, "a", "c"])
    assert path.read_bytes() == b"slow"


def test_a_text_with_a_file_name_that_is_no_text_is_written(tmp_path):
    write_text(tmp_path / "report.html", os.fsdecode(b"caf\xe9.jpg"))
    assert (tmp_path / "report.html").read_text() == r"caf\udce9.jpg"
