"""A folder of one's own images: who and which camera, by the names of folders and files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from layouts import as_people, facts, touch
from pat.base.errors import UserError
from pat.data.layouts import DataSet, open_data_set
from pat.data.layouts.reading import OnError
from pat.data.sample import DISTRACTOR, JUNK

People = Callable[..., DataSet]


@pytest.fixture
def people(tmp_path: Path) -> People:
    """`people(name, ...)` reads a folder of people with such images."""

    def read(*names: str, on_error: OnError = "stop") -> DataSet:
        for name in names:
            touch(tmp_path / "people" / name)
        return open_data_set(str(tmp_path / "people"), tmp_path, on_error)

    return read


def test_folder_with_cameras_in_names(people: People) -> None:
    annas = ["anna/c2s1_0001.jpg", "anna/0002_c1_0007.png", "anna/c2s1_0002.jpg", "anna/notes.txt"]
    data_set = people(*annas, "ben/cam2-0001.JPG", "ben/x_cam_2.png")
    assert as_people(data_set) == [
        ("anna/0002_c1_0007.png", 1, 0),
        ("anna/c2s1_0001.jpg", 1, 1),
        ("anna/c2s1_0002.jpg", 1, 1),
        ("ben/cam2-0001.JPG", 2, 1),
        ("ben/x_cam_2.png", 2, 1),
    ]
    assert data_set.train == data_set.gallery
    # One of each (identity, camera) that another camera sees too: ben has one camera.
    assert [sample.path.name for sample in data_set.query] == ["0002_c1_0007.png", "c2s1_0001.jpg"]


def test_folder_with_cameras_as_folders(people: People) -> None:
    data_set = people("7/door/1.jpg", "7/hall/1.jpg", "8/hall/1.jpg", "-1/door/1.jpg")
    assert as_people(data_set) == [
        ("-1/door/1.jpg", JUNK, 0), ("7/door/1.jpg", 1, 0), ("7/hall/1.jpg", 1, 1), ("8/hall/1.jpg", 2, 1),
    ]  # fmt: skip
    assert JUNK not in {sample.identity for sample in data_set.train}
    assert [sample.identity for sample in data_set.query] == [1, 1]


def test_folder_with_the_camera_outside_the_identity(people: People) -> None:
    data_set = people("cam_a/anna/1.jpg", "cam_a/bert/1.jpg", "cam_b/anna/1.jpg", "cam_b/bert/1.jpg")
    assert as_people(data_set) == [
        ("cam_a/anna/1.jpg", 1, 0), ("cam_a/bert/1.jpg", 2, 0),
        ("cam_b/anna/1.jpg", 1, 1), ("cam_b/bert/1.jpg", 2, 1),
    ]  # fmt: skip
    assert len(data_set.query) == 4


def test_folder_with_a_split_keeps_one_numbering(people: People) -> None:
    gallery = ["gallery/c/c2_1.jpg", "gallery/a/c1_1.jpg"]
    data_set = people("train/b/c1_1.jpg", "train/a/c9_1.jpg", "query/c/c1_1.jpg", *gallery, "docs/x.jpg")
    assert facts(data_set.train) == [("c9_1.jpg", 1, 2), ("c1_1.jpg", 2, 0)]
    assert facts(data_set.query) == [("c1_1.jpg", 3, 0)]
    assert facts(data_set.gallery) == [("c1_1.jpg", 1, 0), ("c2_1.jpg", 3, 1)]
    assert "docs" in data_set.notes[0]


def test_a_split_is_one_whatever_its_case(people: People) -> None:
    data_set = people("Train/b/c1_1.jpg", "Query/c/c1_1.jpg", "Gallery/c/c2_1.jpg")
    assert [len(part) for part in (data_set.train, data_set.query, data_set.gallery)] == [1, 1, 1]


@pytest.mark.parametrize(
    "names",
    [
        ["bbox_train/0001/0001C1T0001F001.jpg", "bbox_test/0002/0002C1T0001F001.jpg"],  # MARS
        ["image_train/0001_c001_00030600_0.jpg", "image_query/0002_c002_00030600_0.jpg"],  # VeRi
        ["test/gallery/0001_c1_1.jpg", "test/query/0001_c2_1.jpg"],  # LaST
        ["occluded_body_images/001/001_01.tif", "whole_body_images/001/001_01.tif"],  # Occluded-REID
        ["rgb/test/A/101/1.jpg", "rgb/train/001/A_1.jpg", "sketch/test/101/101.jpg"],  # PRCC
        ["train/001/A_1.jpg", "test/A/101/1.jpg", "test/C/101/1.jpg"],
        ["A/101/1.jpg", "B/101/1.jpg"],
    ],
)
def test_parts_of_a_data_set_are_not_taken_for_people(people: People, names: list[str]) -> None:
    with pytest.raises(UserError, match=r"(_train|query|_body_images|rgb/train|B|C) look like parts .* \.csv"):
        people(*names, on_error="skip")


def test_people_with_letters_for_names_are_people(people: People) -> None:
    assert len(people("a/1/x.jpg", "a/2/x.jpg", "b/1/x.jpg", "c/x_c1.jpg").query) == 2


@pytest.mark.parametrize("cameras", [("cam_a", "cam_b"), ("Camera1", "Camera2")])
def test_cameras_are_not_taken_for_people(people: People, cameras: tuple[str, str]) -> None:
    with pytest.raises(UserError, match=r"look like cameras, not like people, .*/PERSON/IMAGE"):
        people(*(f"{camera}/{image}.jpg" for camera in cameras for image in ("anna", "ben")))


def test_parts_with_the_names_of_market1501_say_how_to_read_them(people: People) -> None:
    with pytest.raises(UserError, match="call the folders bounding_box_train, query, bounding_box_test"):
        people("train/0002_c1s1_000451_03.jpg", "query/0001_c1s1_001051_00.jpg")


def test_a_tracklet_is_no_camera(people: People) -> None:
    """DukeMTMC-VideoReID: 0001/0012 and 0001/0013 are two walks of person 1 past camera 5."""
    data_set = people(*(f"{part}/0001/{n:04d}/0001_C{c}_F0001.jpg"
                        for part, n, c in (("query", 12, 5), ("gallery", 13, 5), ("gallery", 14, 6))))  # fmt: skip
    assert [sample.camera for sample in data_set.query] == [0]
    assert [sample.camera for sample in data_set.gallery] == [0, 1]


def test_folders_named_as_in_market1501_hold_junk_and_distractors(people: People) -> None:
    """What scripts for teaching make of Market-1501: a folder for each number, those of nobody too."""
    nobody = ["gallery/-1/-1_c1s1_1.jpg", "gallery/0000/0000_c1s1_1.jpg", "gallery/0000/0000_c2s1_1.jpg"]
    somebody = ["train/0002/0002_c1s1_1.jpg", "query/0001/0001_c1s1_1.jpg", "gallery/0001/0001_c2s1_1.jpg"]
    own = people(*somebody, *nobody)
    assert [sample.identity for sample in own.gallery] == [JUNK, DISTRACTOR, DISTRACTOR, 1]
    assert [sample.identity for sample in own.train] == [2]


def test_a_test_part_with_distractors_does_not_ask_for_them(people: People) -> None:
    names = [f"test/{who}/{who}_c{camera}_1.jpg" for who in ("-1", "0000", "0001") for camera in (1, 2)]
    assert {sample.identity for sample in people(*names).query} == {1}


def test_without_junk_0000_is_a_person(people: People) -> None:
    data_set = people("0000/c1_1.jpg", "0000/c2_1.jpg", "0001/c1_1.jpg")
    assert [sample.identity for sample in data_set.query] == [1, 1]


def test_folder_with_a_test_part_chooses_queries_from_it(people: People) -> None:
    data_set = people("train/a/c1_1.jpg", "test/b/c1_1.jpg", "test/b/c1_2.jpg", "test/b/c2_1.jpg")
    assert len(data_set.train) == 1
    assert [sample.path.name for sample in data_set.query] == ["c1_1.jpg", "c2_1.jpg"]
    assert len(data_set.gallery) == 3


def test_folder_of_one_camera_trains_and_says_so(people: People) -> None:
    data_set = people("a/1.jpg", "a/2.jpg", "b/1.jpg")
    assert len(data_set.train) == 3
    assert data_set.query == ()
    assert any("one camera" in note for note in data_set.notes)
    assert any("not evaluated" in note for note in data_set.notes)


@pytest.mark.parametrize("bad", ["anna/portrait.jpg", "stray.jpg", "anna/door/day/1.jpg"])
def test_folder_with_a_image_out_of_place(people: People, bad: str) -> None:
    with pytest.raises(UserError, match=Path(bad).parts[-2] if bad.count("/") > 1 else Path(bad).name):
        people("anna/c1_1.jpg", bad)
    data_set = people(on_error="skip")
    assert [sample.path.name for sample in data_set.train] == ["c1_1.jpg"]
    assert len([note for note in data_set.notes if "left out" in note]) == 1


def test_folder_with_camera_and_number_in_names(people: People) -> None:
    data_set = people("001/01_1.png", "001/01_2.png", "001/02_1.png", "002/01_1.png", "002/2_1.png")
    assert [(s.identity, s.camera) for s in data_set.train] == [(1, 0), (1, 0), (1, 1), (2, 0), (2, 1)]
    assert any("read as camera and number: 2 cameras" in note for note in data_set.notes)


def test_folder_without_cameras_shows_a_name_that_works(people: People, tmp_path: Path) -> None:
    (note, *_) = people("anna/one.jpg", "anna/two.jpg", "ben/one.jpg").notes
    assert "anna/c1_one.jpg" in note
    for image in list((tmp_path / "people").rglob("*.jpg")):
        image.rename(image.with_name(f"c{1 + ('two' in image.name)}_{image.name}"))
    assert {s.camera for s in people().train} == {0, 1}
