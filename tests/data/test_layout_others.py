"""DukeMTMC-reID, RandPerson and folders of images that nobody has named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pat.base.errors import UserError
from pat.data.layouts import open_data_set
from pat.data.sources import merge_sources

Miniature = Callable[..., Path]


def test_dukemtmc_is_read_with_a_note_on_its_withdrawal(tmp_path: Path, miniature: Miniature) -> None:
    miniature("dukemtmc", tmp_path / "DukeMTMC-reID")
    data_set = open_data_set("dukemtmc", tmp_path)
    assert [(sample.identity, sample.camera) for sample in data_set.train] == [(1, 1), (1, 7)]
    assert [sample.identity for sample in data_set.gallery] == [5, 6]
    assert "withdrawn by its authors" in data_set.notes[0]


def test_randperson_cameras_are_those_of_a_scene(tmp_path: Path, miniature: Miniature) -> None:
    miniature("randperson", tmp_path / "randperson_subset" / "randperson_subset")
    data_set = open_data_set("randperson", tmp_path)
    assert [(sample.identity, sample.camera) for sample in data_set.train] == [(0, 0), (0, 1), (7, 2)]


def test_unlabelled_images_are_people_of_their_own(tmp_path: Path, miniature: Miniature) -> None:
    miniature("folder", tmp_path / "LUPerson" / "uk" / "video1")
    data_set = open_data_set(f"unlabelled={tmp_path / 'LUPerson'}", tmp_path)
    assert [sample.identity for sample in data_set.train] == [1, 2, 3, 4]
    assert [sample.camera for sample in data_set.train] == [0, 0, 1, 1]  # anna's folder and ben's
    assert data_set.query == data_set.gallery == ()
    merged = merge_sources([data_set])
    assert merged.identities == len(merged) == 4


def test_unlabelled_has_to_be_asked_for(tmp_path: Path, miniature: Miniature) -> None:
    folder = miniature("folder", tmp_path / "LUPerson")
    assert len(open_data_set(str(folder), tmp_path).query) == 4  # a folder for each identity
    with pytest.raises(UserError, match="unlabelled=PATH"):
        open_data_set("unlabelled", tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"no images in .*empty"):
        open_data_set(f"unlabelled={tmp_path / 'empty'}", tmp_path)
    with pytest.raises(UserError, match="does not have the layout unlabelled"):
        open_data_set(f"unlabelled={next((folder / 'anna').iterdir())}", tmp_path)
