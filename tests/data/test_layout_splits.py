"""VIPeR, PRID, GRID and i-LIDS: who trains, asks and answers in each of the ten splits, and splits by hand."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import scipy.io

from layouts import touch
from pat.base.errors import UserError
from pat.data.layouts import DataSet, find_data_set, open_data_set
from pat.data.layouts.splits import SPLITS_FILE, first_half, in_drawn_order, splits_text
from pat.data.sample import DISTRACTOR, Sample

Miniature = Callable[..., Path]

NAMES = ("viper", "prid", "grid", "ilids")


def people(samples: tuple[Sample, ...]) -> set[int]:
    return {sample.identity for sample in samples}


def test_the_order_is_the_documented_one_and_stays() -> None:
    # Values of the SHA-256 rule, written down: another order would be other splits for everybody.
    assert in_drawn_order(range(1, 9), "viper", 0) == [5, 7, 8, 3, 2, 6, 1, 4]
    assert in_drawn_order(range(1, 9), "viper", 1) != in_drawn_order(range(1, 9), "viper", 0)
    assert in_drawn_order(range(1, 9), "prid", 0) != in_drawn_order(range(1, 9), "viper", 0)
    assert first_half([8, 7, 6, 5, 4, 3, 2, 1], "viper", 0) == {5, 7, 8, 3}
    assert len(first_half(range(1, 120), "ilids", 0)) == 59


@pytest.mark.parametrize("name", NAMES)
def test_splits_hold_together(tmp_path: Path, miniature: Miniature, name: str) -> None:
    data_set = open_data_set(str(miniature(name, tmp_path / "images")), tmp_path)
    assert len(data_set.splits) == 10
    assert len({split.train for split in data_set.splits}) > 1
    first = data_set.splits[0]
    assert (data_set.train, data_set.query, data_set.gallery) == (first.train, first.query, first.gallery)
    for split in data_set.splits:
        assert not people(split.train) & (people(split.query) | people(split.gallery))
        assert people(split.query) <= people(split.gallery)
        assert len(split.query) == len(people(split.query))
        for sample in split.query:
            assert any(s.identity == sample.identity and s.camera != sample.camera for s in split.gallery)
        for part in (split.train, split.query, split.gallery):
            assert [s.path for s in part] == sorted(s.path for s in part)
    assert any("first of 10 splits" in note for note in data_set.notes)


def test_viper_halves(tmp_path: Path, miniature: Miniature) -> None:
    data_set = open_data_set(str(miniature("viper", tmp_path / "VIPeR")), tmp_path)
    sizes = [(len(split.train), len(split.query), len(split.gallery)) for split in data_set.splits]
    assert sizes == [(8, 4, 4)] * 10
    assert {sample.camera for sample in data_set.query} == {0}
    assert {sample.camera for sample in data_set.gallery} == {1}
    # The person is the number in the name; the angle differs between the cameras.
    assert {int(sample.path.name[:3]) for sample in data_set.query} == people(data_set.query)


@pytest.mark.parametrize(("division", "count"), [("20", 20), ("40", 40)])
def test_viper_in_both_directions_and_halves(
    tmp_path: Path, miniature: Miniature, division: str, count: int
) -> None:
    miniature("viper", tmp_path / "VIPeR")
    data_set = open_data_set(f"viper:{division}", tmp_path)
    assert len(data_set.splits) == count
    there, back = data_set.splits[:2]
    assert (there.query, there.gallery) == (back.gallery, back.query)
    assert there.train == back.train
    if count == 40:
        assert people(data_set.splits[2].train) == people(there.query)
    each = count // 10
    assert data_set.splits[::each] == open_data_set("viper", tmp_path).splits  # the default is among them
    for split in data_set.splits:
        assert not people(split.train) & people(split.query)
        assert people(split.query) == people(split.gallery)


def test_prid_strangers_answer_and_those_of_cam_a_serve_nothing(tmp_path: Path, miniature: Miniature) -> None:
    data_set = open_data_set(str(miniature("prid", tmp_path / "prid_2011")), tmp_path)
    for split in data_set.splits:
        assert (len(split.train), len(split.query), len(split.gallery)) == (6, 3, 3 + 3)
        assert people(split.gallery) - people(split.query) == {201, 202, 203}
        assert {sample.camera for sample in split.gallery} == {1}


def test_prid_of_real_size_has_the_published_halves(tmp_path: Path) -> None:
    for camera, last in (("cam_a", 385), ("cam_b", 749)):
        folder = tmp_path / "prid_2011" / "single_shot" / camera
        folder.mkdir(parents=True)
        for person in range(1, last + 1):
            (folder / f"person_{person:04d}.png").touch()
    for split in open_data_set("prid", tmp_path).splits:
        assert (len(split.train), len(split.query), len(split.gallery)) == (200, 100, 649)


def test_grid_takes_its_own_partitions(tmp_path: Path, miniature: Miniature) -> None:
    data_set = open_data_set(str(miniature("grid", tmp_path / "GRID")), tmp_path)
    assert [sorted(people(split.train)) for split in data_set.splits][:3] == [[1, 2, 3], [2, 3, 4], [3, 4, 5]]
    for split in data_set.splits:
        assert (len(split.train), len(split.query), len(split.gallery)) == (6, 3, 3 + 3)
        assert DISTRACTOR in people(split.gallery) - people(split.query)
    assert {sample.camera for sample in data_set.query} == {0}
    assert {sample.camera for sample in data_set.gallery} == {1, 2}


def test_ilids_one_asks_and_one_answers(tmp_path: Path, miniature: Miniature) -> None:
    data_set = open_data_set(str(miniature("ilids", tmp_path / "i-LIDS_Pedestrian")), tmp_path)
    for split in data_set.splits:
        assert (len(split.train), len(split.query), len(split.gallery)) == (9, 3, 3)
        assert not {s.path for s in split.query} & {s.path for s in split.gallery}
    assert len({split.query for split in data_set.splits}) > 1


def test_splits_are_the_same_wherever_the_folder_lies(tmp_path: Path, miniature: Miniature) -> None:
    for name in NAMES:
        texts = []
        for place in (tmp_path / "a" / name, tmp_path / "b" / "other"):
            found = find_data_set(f"{name}={miniature(name, place)}", tmp_path)
            texts.append(splits_text(found.read(), found.path))
            shutil.rmtree(place)
        assert texts[0] == texts[1]


@pytest.mark.parametrize("name", NAMES)
def test_a_splits_file_is_read_back_and_wins(tmp_path: Path, miniature: Miniature, name: str) -> None:
    folder = miniature(name, tmp_path / "images")
    before = open_data_set(f"{name}={folder}", tmp_path)
    values = json.loads(splits_text(before, folder))
    values["splits"] = values["splits"][3:5]
    (folder / SPLITS_FILE).write_text(json.dumps(values))
    after = open_data_set(f"{name}={folder}", tmp_path)
    assert after.splits == before.splits[3:5]
    assert any(SPLITS_FILE in note for note in after.notes)


def test_with_a_splits_file_grid_needs_no_partitions(tmp_path: Path, miniature: Miniature) -> None:
    folder = miniature("grid", tmp_path / "GRID")
    before = open_data_set("grid", tmp_path)
    (folder / SPLITS_FILE).write_text(splits_text(before, folder))
    (folder / "features_and_partitions.mat").unlink()
    assert open_data_set("grid", tmp_path).splits == before.splits


def edited(folder: Path, data_set: DataSet, change: Callable[[dict[str, Any]], object]) -> Path:
    """A splits file after `change` of its third split."""
    values = json.loads(splits_text(data_set, folder))
    change(values["splits"][2])
    (folder / SPLITS_FILE).write_text(json.dumps(values))
    return folder


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s["query"].append("cam_a/9_0.bmp"), r"split 2, query, entry 4: 'cam_a/9_0\.bmp' is not an"),
        (lambda s: s["train"].append(7), "split 2, train, entry 8: 7 is not an image"),
        (lambda s: s["query"].append(s["query"][0]), "split 2, query: 'cam_a/.*' is listed twice"),
        (lambda s: s["query"].append(s["train"][0]), "split 2: person .* is in both halves: .* in train"),
        (lambda s: s["gallery"].pop(0), "split 2, query: .* has no match by another camera in gallery"),
        (lambda s: s.update(gallery=s["query"]), "split 2, query: .* has no match by another camera in gallery"),
        (lambda s: s.update(gallery=[]), "split 2 has no gallery"),
        (lambda s: s.pop("train"), "split 2 has no train"),
    ],
)  # fmt: skip
def test_a_splits_file_edited_by_hand(tmp_path: Path, miniature: Miniature, change: Any, words: str) -> None:
    folder = miniature("viper", tmp_path / "VIPeR")
    edited(folder, open_data_set("viper", tmp_path), change)
    for on_error in ("stop", "skip"):
        with pytest.raises(UserError, match=rf"pat-splits\.json: {words}"):
            open_data_set("viper", tmp_path, on_error)


@pytest.mark.parametrize(
    ("text", "words"),
    [("{", "is not JSON"), ("[]", "no list `splits`"), ('{"splits": []}', "no list `splits`"),
     ('{"splits": [3]}', "split 0 is not an object")],
)  # fmt: skip
def test_a_splits_file_of_another_form(tmp_path: Path, miniature: Miniature, text: str, words: str) -> None:
    (miniature("viper", tmp_path / "VIPeR") / SPLITS_FILE).write_text(text)
    with pytest.raises(UserError, match=rf"pat-splits\.json.*{words}"):
        open_data_set("viper", tmp_path)


@pytest.mark.parametrize(
    ("name", "image", "words"),
    [
        ("viper", "cam_b/000_90.bmp", r"cam_a.000_0\.bmp has no partner in the other camera"),
        ("prid", "single_shot/cam_a/person_0002.png", r"cam_b.person_0002\.png has no partner"),
        ("grid", "gallery/0002_2_25023_116_134_128_330.jpeg", r"probe.0002_1_.* has no match in"),
    ],
)
def test_a_person_with_one_image_missing(
    tmp_path: Path, miniature: Miniature, name: str, image: str, words: str
) -> None:
    folder = miniature(name, tmp_path / "images")
    (folder / image).unlink()
    with pytest.raises(UserError, match=f"{words}.*--data.on-error skip"):
        open_data_set(f"{name}={folder}", tmp_path)
    skipped = open_data_set(f"{name}={folder}", tmp_path, "skip")
    missing = 0 if name == "viper" else 2
    assert all(missing not in people(split.train) | people(split.query) for split in skipped.splits)


def test_ilids_person_with_one_image(tmp_path: Path, miniature: Miniature) -> None:
    folder = miniature("ilids", tmp_path / "iLIDS")
    for name in ("0002001.jpg", "0002003.jpg"):
        (folder / "Persons" / name).unlink()
    with pytest.raises(UserError, match=r"0002002\.jpg is the only image of its person"):
        open_data_set("ilids", tmp_path)
    assert len(open_data_set("ilids", tmp_path, "skip").notes) == 2


@pytest.mark.parametrize(
    ("name", "gone", "words"),
    [
        ("viper", "cam_b", "missing cam_b; found cam_a"),
        ("prid", "single_shot/cam_a", "missing cam_a"),
        ("grid", "gallery", r"missing gallery; found features_and_partitions\.mat, probe"),
    ],
)
def test_a_camera_that_was_not_copied(
    tmp_path: Path, miniature: Miniature, name: str, gone: str, words: str
) -> None:
    folder = miniature(name, tmp_path / "images")
    shutil.rmtree(folder / gone)
    with pytest.raises(UserError, match=f"does not have the layout {name}: expected .*{words}"):
        open_data_set(str(folder), tmp_path)


def test_too_few_people_to_divide(tmp_path: Path, miniature: Miniature) -> None:
    with pytest.raises(UserError, match="too few people to divide: train would be empty"):
        open_data_set(str(miniature("viper", tmp_path / "VIPeR", 1)), tmp_path)


def test_grid_without_or_with_other_partitions(tmp_path: Path, miniature: Miniature) -> None:
    file = miniature("grid", tmp_path / "GRID") / "features_and_partitions.mat"
    whole = file.read_bytes()
    file.write_bytes(b"MATLAB 7.3 MAT-file, Platform: GLNXA64")
    with pytest.raises(UserError, match=r"is a MATLAB file of version 7\.3; the published file has version 5"):
        open_data_set("grid", tmp_path)
    file.write_bytes(whole[:-40])
    with pytest.raises(UserError, match=r"partitions\.mat is damaged"):
        open_data_set("grid", tmp_path)
    file.write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(UserError, match="no MATLAB file, or one cut short"):
        open_data_set("grid", tmp_path)
    scipy.io.savemat(file, {"testIdx": [1]})
    with pytest.raises(UserError, match="another version of the file: it lacks trainIdxAll and holds testIdx"):
        open_data_set("grid", tmp_path)
    scipy.io.savemat(file, {"trainIdxAll": [[1, 2, 3]]})
    with pytest.raises(UserError, match="another version of the file: partition 0 has no third field"):
        open_data_set("grid", tmp_path)
    file.unlink()
    with pytest.raises(UserError, match=r"missing features_and_partitions\.mat"):
        open_data_set("grid", tmp_path)


@pytest.mark.parametrize("name", NAMES)
def test_a_name_that_does_not_parse(tmp_path: Path, miniature: Miniature, name: str) -> None:
    folder = miniature(name, tmp_path / "images")
    image = open_data_set(f"{name}={folder}", tmp_path).query[0].path
    shutil.copy(image, image.with_stem("holiday"))
    with pytest.raises(UserError, match=r"holiday\..* does not have the expected form .*--data\.on-error skip"):
        open_data_set(f"{name}={folder}", tmp_path)
    skipped = open_data_set(f"{name}={folder}", tmp_path, "skip")
    assert len([note for note in skipped.notes if "holiday" in note]) == 1


def test_several_images_of_a_person_are_not_dropped_unsaid(tmp_path: Path, miniature: Miniature) -> None:
    """Own images may have names like VIPeR's: cam_a/012_01.jpg, 012_02.jpg."""
    folder = miniature("viper", tmp_path / "own")
    shutil.copy(folder / "cam_a" / "000_0.bmp", folder / "cam_a" / "000_1.bmp")
    with pytest.raises(UserError, match=r"000_1\.bmp is a second image of the person in 000_0\.bmp"):
        open_data_set(str(folder), tmp_path)
    assert any("second image" in note for note in open_data_set(str(folder), tmp_path, "skip").notes)


@pytest.mark.parametrize("given", ["PRID", "PRID/multi_shot"])
def test_the_multi_shot_version_of_prid_is_refused(tmp_path: Path, given: str) -> None:
    """Read as a folder for each person, strangers of one number would be one person."""
    for camera in ("cam_a", "cam_b"):
        touch(tmp_path / "PRID" / "multi_shot" / camera / "person_0300" / "0001.png")
    with pytest.raises(UserError, match="multi-shot version of PRID 2011, which is not read"):
        open_data_set(given, tmp_path)
