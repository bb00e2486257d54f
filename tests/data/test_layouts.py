"""Layouts on miniatures of the real folders, with their real naming rules and their real accidents."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from layouts import facts, touch
from pat.base.errors import UserError
from pat.data.layouts import open_data_set
from pat.data.layouts.reading import explained
from pat.data.sample import DISTRACTOR, JUNK, Sample, digest

MARKET = {
    "bounding_box_train": ["0002_c1s1_000451_03.jpg", "0002_c3s2_000001_01.jpg", "0007_c6s3_077392_02.jpg",
                           "-1_c1s1_000401_03.jpg", "0000_c2s1_000401_03.jpg"],
    "query": ["0001_c1s1_001051_00.jpg", "0001_c2s1_000301_00.jpg"],
    "bounding_box_test": ["0001_c1s1_001051_03.jpg", "0001_c2s1_000776_01.jpg", "0000_c1s1_000151_01.jpg",
                          "-1_c4s6_001051_01.jpg"],
}  # fmt: skip

MSMT17 = {
    "train": ["0000/0000_000_01_0303morning_0008_0.jpg 0", "0001/0001_000_15_0303noon_0020_0.jpg 1"],
    "val": ["0000/0000_001_07_0303afternoon_0031_1.jpg 0"],
    "query": ["0000/0000_000_02_0113noon_0001_0.jpg 0"],
    "gallery": ["0000/0000_001_03_0113noon_0002_0.jpg 0", "0001/0001_000_02_0113noon_0003_0.jpg 1"],
}


def make_market(folder: Path) -> Path:
    for part, names in MARKET.items():
        for name in [*names, "Thumbs.db", ".DS_Store", "._0002_c1s1_000451_03.jpg"]:
            touch(folder / part / name)
    return folder


def make_msmt17(folder: Path, train: str = "train", test: str = "test") -> Path:
    for part, lines in MSMT17.items():
        for line in lines:
            touch(folder / (train if part in ("train", "val") else test) / line.split()[0])
        (folder / f"list_{part}.txt").write_text("\n".join(lines) + "\n")
    return folder


def test_market1501_reads_identities_cameras_junk_and_distractors(tmp_path: Path) -> None:
    make_market(tmp_path / "Market-1501-v15.09.15")
    data_set = open_data_set("market1501", tmp_path)
    assert facts(data_set.train) == [
        ("0002_c1s1_000451_03.jpg", 2, 0),
        ("0002_c3s2_000001_01.jpg", 2, 2),
        ("0007_c6s3_077392_02.jpg", 7, 5),
    ]
    assert facts(data_set.query) == [("0001_c1s1_001051_00.jpg", 1, 0), ("0001_c2s1_000301_00.jpg", 1, 1)]
    assert facts(data_set.gallery) == [
        ("-1_c4s6_001051_01.jpg", JUNK, 3),
        ("0000_c1s1_000151_01.jpg", DISTRACTOR, 0),
        ("0001_c1s1_001051_03.jpg", 1, 0),
        ("0001_c2s1_000776_01.jpg", 1, 1),
    ]
    assert {sample.domain for sample in data_set.train + data_set.query} == {"market1501"}
    assert data_set.notes == ()


@pytest.mark.parametrize("where", ["Market-1501", "MARKET1501", "market1501/Market-1501-v15.09.15", "."])
def test_usual_folders_are_found_under_the_root(tmp_path: Path, where: str) -> None:
    make_market(tmp_path / where)
    assert len(open_data_set("market1501", tmp_path).train) == 3


@pytest.mark.parametrize(("train", "test"), [("train", "test"), ("mask_train_v2", "mask_test_v2")])
def test_msmt17_reads_both_versions(tmp_path: Path, train: str, test: str) -> None:
    make_msmt17(tmp_path / "MSMT17_V1", train, test)
    data_set = open_data_set("msmt17", tmp_path)
    assert facts(data_set.train) == [
        ("0000_000_01_0303morning_0008_0.jpg", 0, 0),
        ("0000_001_07_0303afternoon_0031_1.jpg", 0, 6),  # from list_val
        ("0001_000_15_0303noon_0020_0.jpg", 1, 14),
    ]
    assert facts(data_set.query) == [("0000_000_02_0113noon_0001_0.jpg", 0, 1)]
    assert [identity for _, identity, _ in facts(data_set.gallery)] == [0, 1]


@pytest.mark.parametrize("line", ["0000_000.jpg 0", "0000/0000_000_16_0303noon_0008_0.jpg 0", "0000_000_01_a.jpg"])
def test_msmt17_line_that_does_not_parse(tmp_path: Path, line: str) -> None:
    folder = make_msmt17(tmp_path / "MSMT17")
    with (folder / "list_query.txt").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(UserError, match=r"list_query\.txt, line 2: .* expected form"):
        open_data_set("msmt17", tmp_path)
    skipped = open_data_set("msmt17", tmp_path, on_error="skip")
    assert len(skipped.query) == 1
    assert line in skipped.notes[0]


def test_msmt17_listed_image_that_is_missing(tmp_path: Path) -> None:
    folder = make_msmt17(tmp_path / "MSMT17")
    image = folder / "test" / MSMT17["query"][0].split()[0]
    image.unlink()
    with pytest.raises(UserError, match=f"{image.name} does not exist"):
        open_data_set("msmt17", tmp_path)


def test_a_name_that_does_not_parse_stops_or_is_skipped(tmp_path: Path) -> None:
    bad = touch(make_market(tmp_path / "Market-1501") / "bounding_box_train" / "holiday.jpg")
    with pytest.raises(UserError, match=r"holiday\.jpg .*0002_c1s1_000451_03\.jpg.*--data\.on-error skip"):
        open_data_set("market1501", tmp_path)
    data_set = open_data_set("market1501", tmp_path, on_error="skip")
    assert len(data_set.train) == 3
    assert len(data_set.notes) == 1
    assert str(bad) in data_set.notes[0]


def test_missing_root_and_missing_data_set(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere does not exist; --data\.root"):
        open_data_set("market1501", tmp_path / "nowhere")
    (tmp_path / "photos").mkdir()
    with pytest.raises(UserError, match=r"no market1501 under .*expected a folder Market-1501-v15.*found photos"):
        open_data_set("market1501", tmp_path)


def test_wrong_layout_says_what_was_expected_and_found(tmp_path: Path) -> None:
    (tmp_path / "Market-1501" / "query").mkdir(parents=True)
    (tmp_path / "Market-1501" / "images").mkdir()
    with pytest.raises(UserError, match=r"expected .*bounding_box_train.*missing .*found images, query"):
        open_data_set("market1501", tmp_path)
    make_msmt17(tmp_path / "MSMT17_V1")
    with pytest.raises(UserError, match=r"MSMT17_V1 does not have the layout market1501.*found list_gallery\.txt"):
        open_data_set(f"market1501={tmp_path / 'MSMT17_V1'}", tmp_path)
    (tmp_path / "MSMT17_V1" / "list_gallery.txt").unlink()
    with pytest.raises(UserError, match=r"missing list_gallery\.txt"):
        open_data_set("msmt17", tmp_path)


@pytest.mark.parametrize("part", list(MARKET))
def test_empty_part_of_market1501(tmp_path: Path, part: str) -> None:
    folder = make_market(tmp_path / "Market-1501")
    for name in MARKET[part]:
        (folder / part / name).unlink()
    with pytest.raises(UserError, match=f"{part} holds no images"):
        open_data_set("market1501", tmp_path)


def test_unknown_names_say_what_was_meant(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"unknown data set 'makret1501': did you mean market1501\?"):
        open_data_set("makret1501", tmp_path)
    with pytest.raises(UserError, match=r"there is no file or folder people/shop"):
        open_data_set("people/shop", tmp_path)
    with pytest.raises(UserError, match=r"there is no file or folder people/shop"):
        open_data_set("shop=people/shop", tmp_path)
    with pytest.raises(UserError, match="folder=PATH"):
        open_data_set("folder", tmp_path)


def test_paths_are_recognised_and_may_be_named(tmp_path: Path) -> None:
    market = make_market(tmp_path / "a" / "images")
    msmt = make_msmt17(tmp_path / "b")
    assert open_data_set(str(market), Path("data")).name == "images"
    named = open_data_set(f"mall={market}", Path("data"))
    assert named.name == "mall"
    assert {sample.domain for sample in named.train} == {"mall"}
    assert open_data_set(f"market1501={market}", Path("data")).name == "market1501"
    assert len(open_data_set(str(msmt), Path("data")).gallery) == 2
    assert len(open_data_set("b", tmp_path).gallery) == 2  # relative to the root


def test_a_folder_of_data_sets_is_not_taken_for_people(tmp_path: Path) -> None:
    make_market(tmp_path / "data" / "Market-1501")
    with pytest.raises(UserError, match=r"contains data sets \(market1501\).*--data\.root"):
        open_data_set(str(tmp_path / "data"), tmp_path)


def test_flat_or_empty_folder_has_no_known_layout(tmp_path: Path) -> None:
    touch(tmp_path / "flat" / "1.jpg")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"no known layout: expected .*found 1\.jpg"):
        open_data_set(str(tmp_path / "flat"), tmp_path)
    with pytest.raises(UserError, match=r"no known layout: expected .*found nothing"):
        open_data_set(str(tmp_path / "empty"), tmp_path)


def test_a_data_set_in_the_form_of_another_says_how_to_read_it(tmp_path: Path) -> None:
    folder = make_market(tmp_path / "MSMT17")
    with pytest.raises(UserError, match=r"layout msmt17: .*stored as market1501 is: give .*MSMT17 as"):
        open_data_set("msmt17", tmp_path)
    assert len(open_data_set(str(folder), tmp_path).train) == 3


@pytest.mark.parametrize("make", [make_market, make_msmt17])
def test_order_does_not_depend_on_the_file_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], Path]
) -> None:
    folder = make(tmp_path / "made")
    expected = open_data_set(str(folder), tmp_path)

    def backwards(path: Path) -> list[Path]:
        return sorted(path.iterdir(), reverse=True)  # a Path has what is used of a DirEntry

    monkeypatch.setattr("pat.data.layouts.reading.os.scandir", backwards)
    assert open_data_set(str(folder), tmp_path) == expected


def test_an_unreadable_folder_is_told_in_words() -> None:
    refused = PermissionError(13, "Permission denied", "/data/market")
    assert explained(refused) == "Permission denied: /data/market"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_folder_without_permission(tmp_path: Path) -> None:
    make_market(tmp_path / "market1501")
    (tmp_path / "market1501" / "query").chmod(0)
    with pytest.raises(UserError, match=r"cannot read the data set market1501: Permission denied: .*query"):
        open_data_set("market1501", tmp_path)


def test_msmt17_without_its_val(tmp_path: Path) -> None:
    make_msmt17(tmp_path / "MSMT17_V1")
    assert len(open_data_set("msmt17", tmp_path).train) == 3
    assert len(open_data_set("msmt17:no-val", tmp_path).train) == 2
    assert len(open_data_set(f"msmt17={tmp_path / 'MSMT17_V1'}:no-val", tmp_path).train) == 2
    with pytest.raises(UserError, match="the layout msmt17 has no-val ways"):
        open_data_set("msmt17:classic", tmp_path)


def test_a_name_that_is_no_text_has_a_digest(tmp_path: Path) -> None:
    names = [os.fsdecode(b"c1_caf\xe9.jpg"), os.fsdecode(b"c1_caf\xe8.jpg")]
    samples = [Sample(tmp_path / name, 1, 0, "people") for name in names]
    assert digest(samples[:1], [1]) != digest(samples[1:], [1])


@pytest.mark.parametrize("root", [".", "~nobody-of-this-name/data"])
def test_a_home_folder_that_is_not_there_is_told(root: str) -> None:
    spec = "market1501" if root != "." else "~nobody-of-this-name/data"
    with pytest.raises(UserError, match="home folder is not known"):
        open_data_set(spec, Path(root))


def test_a_link_in_a_circle_is_no_folder_and_stops_nothing(tmp_path: Path, miniature: Callable[..., Path]) -> None:
    folder = miniature("folder", tmp_path / "own")
    (folder / "anna" / "c1_circle.jpg").symlink_to("c1_circle.jpg")
    assert "c1_circle.jpg" in {sample.path.name for sample in open_data_set(str(folder), tmp_path).gallery}
