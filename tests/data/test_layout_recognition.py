"""Which data set a folder is: each layout knows its own miniature and none of the others'."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pat.base.errors import UserError
from pat.data.layouts import LAYOUTS, find_data_set, find_data_sets, open_data_set

Miniature = Callable[..., Path]

NAMES = ("market1501", "msmt17", "dukemtmc", "cuhk02", "cuhk03", "cuhk-sysu", "viper", "prid", "grid", "ilids",
         "randperson")  # fmt: skip
"""Data sets with usual folder names; cuhk03-labeled is in the folder of cuhk03."""


@pytest.mark.parametrize("name", NAMES)
def test_a_folder_is_recognised_by_its_own_layout_alone(tmp_path: Path, miniature: Miniature, name: str) -> None:
    folder = miniature(name, tmp_path / "images")
    knows = {other for other, layout in LAYOUTS.items() if layout.FOLDERS and layout.recognises(folder)}
    assert knows == ({"cuhk03", "cuhk03-labeled"} if name == "cuhk03" else {name})
    assert find_data_set(str(folder), tmp_path).layout == name
    assert open_data_set(str(folder), tmp_path).train


def test_own_data_and_empty_folders_are_none_of_them(tmp_path: Path, miniature: Miniature) -> None:
    folder = miniature("folder", tmp_path / "people")
    (tmp_path / "empty").mkdir()
    for place in (folder, folder / "anna", tmp_path / "empty"):
        assert not [name for name, layout in LAYOUTS.items() if layout.FOLDERS and layout.recognises(place)]
    assert find_data_set(str(folder), tmp_path).layout == "folder"


def test_frames_with_numbers_as_names_are_not_taken_for_ilids(tmp_path: Path, miniature: Miniature) -> None:
    frames = (miniature("ilids", tmp_path / "shop") / "Persons").rename(tmp_path / "shop" / "images")
    assert not LAYOUTS["ilids"].recognises(frames)
    assert not LAYOUTS["ilids"].recognises(tmp_path / "shop")
    assert LAYOUTS["ilids"].recognises((tmp_path / "shop").rename(tmp_path / "QMUL-iLIDS"))


@pytest.mark.parametrize(
    ("name", "place"),
    [(name, folder) for name in NAMES for folder in LAYOUTS[name].FOLDERS]
    + [("cuhk02", "cuhk02/Dataset"), ("grid", "grid/underground_reid"), ("viper", "viper/VIPeR"),
       ("prid", "prid2011/prid_2011"), ("ilids", "ilids/i-LIDS_Pedestrian"),
       ("dukemtmc", "dukemtmc/DukeMTMC-reID"), ("randperson", "randperson_subset/randperson_subset")],
)  # fmt: skip
def test_a_name_finds_the_usual_folders(tmp_path: Path, miniature: Miniature, name: str, place: str) -> None:
    miniature(name, tmp_path / place)
    data_set = open_data_set(name, tmp_path)
    assert data_set.name == name
    assert {sample.domain for sample in data_set.train} == {name}


def test_a_root_with_several(tmp_path: Path, miniature: Miniature) -> None:
    for name, place in (("viper", "viper/VIPeR"), ("cuhk03", "cuhk03"), ("market1501", "images")):
        miniature(name, tmp_path / place)
    (tmp_path / "MSMT17_V1" / "train").mkdir(parents=True)  # half copied: no list
    found = {(each.layout, each.path.relative_to(tmp_path).as_posix()) for each in find_data_sets(tmp_path)}
    assert found == {
        ("viper", "viper/VIPeR"), ("cuhk03", "cuhk03"), ("cuhk03-labeled", "cuhk03"), ("market1501", "images"),
        ("msmt17", "MSMT17_V1"),
    }  # fmt: skip
    assert [each.layout for each in find_data_sets(tmp_path / "viper" / "VIPeR")] == ["viper"]


def test_a_root_with_none(tmp_path: Path, miniature: Miniature) -> None:
    with pytest.raises(UserError, match="no file or folder"):
        find_data_sets(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"no known layout: expected a data set .*viper"):
        find_data_sets(tmp_path)
    own = find_data_sets(miniature("folder", tmp_path / "people"))
    assert [(each.name, each.layout) for each in own] == [("people", "folder")]


def test_an_unknown_name_says_what_was_meant(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"unknown data set 'cuhk_sysu': did you mean cuhk-sysu\?"):
        open_data_set("cuhk_sysu", tmp_path)
    with pytest.raises(UserError, match=r"no viper under .*expected a folder VIPeR or VIPeR\.v1\.0 with .*cam_a"):
        open_data_set("viper", tmp_path)
