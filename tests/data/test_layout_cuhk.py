"""CUHK02, CUHK03 and CUHK-SYSU, from folders and from their .mat files."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from PIL import Image

from pat.base.errors import UserError
from pat.base.progress import Progress
from pat.data.layouts import open_data_set
from pat.data.layouts.cuhk03_mat import extract
from pat.data.sample import Sample

Miniature = Callable[..., Path]

PROTOCOL = "cuhk03_new_protocol_config_detected.mat"


def facts(samples: tuple[Sample, ...]) -> list[tuple[str, int, int]]:
    return [(sample.path.name, sample.identity, sample.camera) for sample in samples]


def test_cuhk02_numbers_people_over_the_pairs(tmp_path: Path, miniature: Miniature) -> None:
    miniature("cuhk02", tmp_path / "cuhk02" / "Dataset")
    data_set = open_data_set("cuhk02", tmp_path)
    assert len(data_set.train) == 20
    assert facts(data_set.train)[:4] == [
        ("001_1.png", 1, 0), ("002_1.png", 2, 0), ("001_2.png", 1, 1), ("002_2.png", 2, 1),
    ]  # fmt: skip
    assert facts(data_set.train)[-1] == ("002_2.png", 10, 9)
    assert data_set.query == data_set.gallery == ()


def test_cuhk02_half_copied(tmp_path: Path, miniature: Miniature) -> None:
    folder = miniature("cuhk02", tmp_path / "CUHK02")
    shutil.rmtree(folder / "P4" / "cam2")
    with pytest.raises(UserError, match=r"does not have the layout cuhk02: .*missing P4/cam2; found P1, P2"):
        open_data_set("cuhk02", tmp_path)
    miniature("cuhk02", folder)
    for image in (folder / "P5" / "cam1").iterdir():
        image.unlink()
    with pytest.raises(UserError, match=r"cam1 holds no images; expected names like 001_0001\.png"):
        open_data_set("cuhk02", tmp_path)


@pytest.mark.parametrize("boxes", ["detected", "labeled"])
def test_cuhk03_in_the_new_protocol(tmp_path: Path, miniature: Miniature, boxes: str) -> None:
    miniature("cuhk03", tmp_path / "cuhk03")
    data_set = open_data_set("cuhk03" if boxes == "detected" else "cuhk03-labeled", tmp_path)
    assert facts(data_set.train) == [
        ("1_001_1_01.png", 1, 0), ("1_001_2_06.png", 1, 1), ("1_002_1_01.png", 2, 0), ("1_002_2_06.png", 2, 1),
    ]  # fmt: skip
    assert facts(data_set.query) == [("2_001_1_01.png", 3, 0), ("2_002_1_01.png", 4, 0)]
    assert facts(data_set.gallery) == [("2_001_2_06.png", 3, 1), ("2_002_2_06.png", 4, 1)]
    assert {sample.path.parent.name for sample in data_set.train + data_set.query} == {f"images_{boxes}"}


def test_cuhk03_stored_as_market_is(tmp_path: Path, miniature: Miniature) -> None:
    folder = miniature("cuhk03_np", tmp_path / "cuhk03-np")
    for name, boxes in (("cuhk03", "detected"), ("cuhk03-labeled", "labeled")):
        data_set = open_data_set(name, tmp_path)
        assert facts(data_set.query) == [("0002_c1_3.png", 2, 0)]
        assert data_set.query[0].path.is_relative_to(folder / boxes)
    assert len(open_data_set(str(folder / "labeled"), tmp_path).train) == 2


def test_cuhk03_with_one_kind_of_boxes(tmp_path: Path, miniature: Miniature) -> None:
    folder = miniature("cuhk03", tmp_path / "cuhk03")
    shutil.rmtree(folder / "images_detected")
    assert open_data_set(str(folder), tmp_path).train[0].path.parent.name == "images_labeled"
    with pytest.raises(UserError, match=r"does not have the layout cuhk03: .*missing images_detected"):
        open_data_set("cuhk03", tmp_path)


def test_cuhk03_from_its_mat(tmp_path: Path, miniature: Miniature) -> None:
    folder = tmp_path / "cuhk03"
    miniature("cuhk03_mat", folder / "cuhk03_release" / "cuhk-03.mat")
    with pytest.raises(UserError, match=r"cuhk-03\.mat still holds the images; .*pat data extract .*cuhk03$"):
        open_data_set("cuhk03", tmp_path)
    assert extract(folder, Progress()) == {"detected": 4, "labeled": 4}
    names = ["1_001_1_01.png", "1_001_2_06.png", "2_001_1_01.png", "2_001_2_06.png"]
    assert sorted(path.name for path in (folder / "images_labeled").iterdir()) == names
    image = Image.open(folder / "images_detected" / names[3])
    assert image.size == (3, 4)
    np.testing.assert_array_equal(np.asarray(image)[2, 1], [1, 5, 200])
    with pytest.raises(UserError, match=f"missing {PROTOCOL}"):
        open_data_set("cuhk03", tmp_path)
    cells = np.empty((4, 1), dtype=object)
    cells[:, 0] = names
    values = {"filelist": cells, "labels": [[1], [1], [2], [2]], "train_idx": [[1], [2]]}
    scipy.io.savemat(folder / PROTOCOL, {**values, "query_idx": [[3]], "gallery_idx": [[4]]})
    assert facts(open_data_set("cuhk03", tmp_path).gallery) == [("2_001_2_06.png", 2, 1)]
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]


def test_the_classic_splits_of_cuhk03(tmp_path: Path, miniature: Miniature) -> None:
    miniature("cuhk03_mat", tmp_path / "cuhk03" / "cuhk-03.mat")
    with pytest.raises(UserError, match="missing images_detected, which pat data extract"):
        open_data_set("cuhk03:classic", tmp_path)
    extract(tmp_path / "cuhk03", Progress())
    for name in ("cuhk03:classic", "cuhk03-labeled:classic"):
        data_set = open_data_set(name, tmp_path)
        assert [{s.identity for s in split.query} for split in data_set.splits] == [{1001}, {2001}]
        for split in data_set.splits:
            assert split.query == split.gallery
            assert {s.camera for s in split.query} == {0, 1}
            assert not {s.identity for s in split.train} & {s.identity for s in split.query}


def test_extracting_again_leaves_what_is_there(tmp_path: Path, miniature: Miniature) -> None:
    miniature("cuhk03_mat", tmp_path / "cuhk-03.mat")
    (tmp_path / "images_detected").mkdir()
    assert extract(tmp_path, Progress()) == {"detected": 0, "labeled": 4}


def test_extracting_from_another_file(tmp_path: Path, miniature: Miniature) -> None:
    with pytest.raises(UserError, match=r"holds no cuhk-03\.mat"):
        extract(tmp_path, Progress())
    file = tmp_path / "cuhk-03.mat"
    scipy.io.savemat(file, {"detected": [1], "labeled": [1]})
    with pytest.raises(UserError, match=r"is a MATLAB file of version 5; the published file has version 7\.3"):
        extract(tmp_path, Progress())
    file.unlink()
    file.write_bytes(miniature("cuhk03_mat", tmp_path / "whole.mat").read_bytes()[:5000])
    with pytest.raises(UserError, match="damaged"):
        extract(tmp_path, Progress())
    import h5py

    with h5py.File(file, "w") as mat:
        mat["detected"] = [1, 2]
    with pytest.raises(UserError, match="another version of the file: it lacks labeled and holds detected"):
        extract(tmp_path, Progress())
    with h5py.File(file, "a") as mat:
        mat["labeled"] = [1, 2]
    with pytest.raises(UserError, match="detected is not stored as published"):
        extract(tmp_path, Progress())
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]


def test_cuhk03_with_another_protocol_file(tmp_path: Path, miniature: Miniature) -> None:
    folder = miniature("cuhk03", tmp_path / "cuhk03")
    whole = scipy.io.loadmat(folder / PROTOCOL)
    values = {key: value for key, value in whole.items() if not key.startswith("__")}
    scipy.io.savemat(folder / PROTOCOL, {**values, "gallery_idx": [[9]]})
    with pytest.raises(UserError, match="gallery_idx points outside its list of names"):
        open_data_set("cuhk03", tmp_path)
    scipy.io.savemat(folder / PROTOCOL, {**values, "labels": [[1], [2]]})
    with pytest.raises(UserError, match="8 names and 2 labels"):
        open_data_set("cuhk03", tmp_path)
    scipy.io.savemat(folder / PROTOCOL, {"labels": [[1], [2]]})
    with pytest.raises(UserError, match="another version of the file: it lacks train_idx, query_idx, gallery_idx"):
        open_data_set("cuhk03", tmp_path)


def test_cuhk03_half_copied(tmp_path: Path, miniature: Miniature) -> None:
    folder = miniature("cuhk03", tmp_path / "cuhk03")
    (folder / "images_detected" / "1_002_2_06.png").unlink()
    with pytest.raises(UserError, match=r"the image .*1_002_2_06\.png does not exist; --data\.on-error skip"):
        open_data_set("cuhk03", tmp_path)
    assert len(open_data_set("cuhk03", tmp_path, "skip").train) == 3


@pytest.mark.parametrize("part", ["cropped_images", "cropped_image"])
def test_cuhk_sysu_in_both_ways_of_naming(tmp_path: Path, miniature: Miniature, part: str) -> None:
    folder = miniature("cuhk-sysu", tmp_path / "CUHK-SYSU")
    (folder / "cropped_images").rename(folder / part)
    for name in ("p12_s3_1.jpg", "p-1_s3_2.jpg"):
        shutil.copy(folder / part / "p00001_n01_s00001_hard0.png", folder / part / name)
    data_set = open_data_set("cuhk-sysu", tmp_path)
    assert [(sample.identity, sample.camera) for sample in data_set.train] == [(1, 0), (1, 0), (7, 0), (12, 0)]
    assert data_set.query == data_set.gallery == ()
    assert "for training alone" in data_set.notes[0]


def test_cuhk_sysu_scenes_that_were_not_cut(tmp_path: Path) -> None:
    (tmp_path / "CUHK-SYSU" / "Image").mkdir(parents=True)
    with pytest.raises(UserError, match="does not have the layout cuhk-sysu: expected the folder cropped_images"):
        open_data_set("cuhk-sysu", tmp_path)
