"""Layouts on miniatures of the real folders, with their real naming rules and their real accidents."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from pat.base.errors import UserError
from pat.data.layouts import DataSet, open_data_set
from pat.data.layouts.reading import OnError, explained
from pat.data.sample import DISTRACTOR, JUNK, Sample, digest

People = Callable[..., DataSet]

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


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")  # a layout looks at names alone
    return path


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


def facts(samples: tuple) -> list[tuple[str, int, int]]:
    return [(sample.path.name, sample.identity, sample.camera) for sample in samples]


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


@pytest.fixture
def people(tmp_path: Path) -> People:
    """`people(name, ...)` reads a folder of people with such images."""

    def read(*names: str, on_error: OnError = "stop") -> DataSet:
        for name in names:
            touch(tmp_path / "people" / name)
        return open_data_set(str(tmp_path / "people"), tmp_path, on_error)

    return read


def as_people(data_set: DataSet) -> list[tuple[str, int, int]]:
    return sorted((s.path.as_posix().split("people/")[1], s.identity, s.camera) for s in data_set.gallery)


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
    ],
)
def test_parts_of_a_data_set_are_not_taken_for_people(people: People, names: list[str]) -> None:
    with pytest.raises(UserError, match=r"_train look like parts .* \.csv"):
        people(*names, on_error="skip")


def test_a_data_set_in_the_form_of_another_says_how_to_read_it(tmp_path: Path) -> None:
    folder = make_market(tmp_path / "MSMT17")
    with pytest.raises(UserError, match=r"layout msmt17: .*stored as market1501 is: give .*MSMT17 as"):
        open_data_set("msmt17", tmp_path)
    assert len(open_data_set(str(folder), tmp_path).train) == 3


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


ROWS = [
    {"path": "people/x/1.jpg", "identity": "zoe", "camera": "hall"},
    {"path": "people/x/2.jpg", "identity": "zoe", "camera": "door"},
    {"path": "people/y/1.jpg", "identity": "adam", "camera": "hall"},
]


def make_table(path: Path, rows: list[dict]) -> Path:
    for row in rows:
        touch(path.parent / str(row["path"]))
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        lines = [",".join(rows[0]), *(",".join(map(str, row.values())) for row in rows)]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8-sig")  # as Excel writes it
    return path


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_table_without_split(tmp_path: Path, suffix: str) -> None:
    table = make_table(tmp_path / f"shop{suffix}", ROWS)
    data_set = open_data_set(str(table), Path("data"))
    assert data_set.name == "shop"
    assert as_people(data_set) == [("x/1.jpg", 2, 1), ("x/2.jpg", 2, 0), ("y/1.jpg", 1, 1)]
    assert [sample.path.name for sample in data_set.query] == ["1.jpg", "2.jpg"]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_table_with_split_numbers_and_extra_columns(tmp_path: Path, suffix: str) -> None:
    splits = ["train", "query", "gallery"]
    rows = [{**row, "identity": 7, "camera": i, "split": splits[i], "hat": "red"} for i, row in enumerate(ROWS)]
    data_set = open_data_set(f"shop2={make_table(tmp_path / f'shop{suffix}', rows)}", Path("data"))
    assert data_set.name == "shop2"
    assert [(s.identity, s.camera) for s in data_set.train + data_set.query + data_set.gallery] == [
        (1, 0), (1, 1), (1, 2),
    ]  # fmt: skip


def test_table_problems_name_file_and_line(tmp_path: Path) -> None:
    table = make_table(tmp_path / "shop.jsonl", ROWS)
    with table.open("a") as file:
        file.write('{"path": "people/missing.jpg", "identity": 1, "camera": 1}\n{broken\n')
        file.write('{"path": "people/x/1.jpg", "identity": null, "camera": 1}\n')
        file.write('{"path": "people/x/1.jpg", "identity": 1, "camera": 1, "split": "trian"}\n')
    with pytest.raises(UserError, match=r"shop\.jsonl, line 4: the image .*missing\.jpg does not exist"):
        open_data_set(str(table), tmp_path)
    data_set = open_data_set(str(table), tmp_path, on_error="skip")
    assert len(data_set.train) == 3
    assert [note.split(" line ")[1][0] for note in data_set.notes] == ["4", "5", "6", "7"]


def test_table_with_missing_column_or_partial_split(tmp_path: Path) -> None:
    (tmp_path / "shop.csv").write_text("path,person,camera\n1.jpg,a,1\n")
    with pytest.raises(UserError, match=r"lacks identity; expected .*found path, person, camera"):
        open_data_set(str(tmp_path / "shop.csv"), tmp_path)
    (tmp_path / "empty.csv").write_text("")
    with pytest.raises(UserError, match=r"lacks path, identity, camera; .*found nothing"):
        open_data_set(str(tmp_path / "empty.csv"), tmp_path)
    table = make_table(tmp_path / "half.jsonl", [{**ROWS[0], "split": "train"}, ROWS[1]])
    with pytest.raises(UserError, match="some rows have a split and some have none"):
        open_data_set(str(table), tmp_path)
    (tmp_path / "latin.csv").write_bytes("path,identity,camera\n\xe9.jpg,a,1\n".encode("latin-1"))
    with pytest.raises(UserError, match=r"cannot read the table .*latin\.csv"):
        open_data_set(str(tmp_path / "latin.csv"), tmp_path)


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


def test_a_row_that_repeats_another_is_dropped_with_a_note(tmp_path: Path) -> None:
    rows = [{"path": "a/1.jpg", "identity": "anna", "camera": "door"},
            {"path": "a/2.jpg", "identity": "anna", "camera": "hall"},
            {"path": "a/../a/1.jpg", "identity": "anna", "camera": "door"}]  # fmt: skip
    data_set = open_data_set(str(make_table(tmp_path / "people.csv", rows)), tmp_path)
    assert len(data_set.train) == len(data_set.gallery) == 2
    assert any("dropped: line 4 (as 2)" in note for note in data_set.notes)


@pytest.mark.parametrize("other", [{"identity": "ben"}, {"camera": "hall"}])
@pytest.mark.parametrize("on_error", ["stop", "skip"])
def test_rows_that_contradict_each_other_name_both_lines(tmp_path: Path, other: dict, on_error: str) -> None:
    rows = [{"path": "a/1.jpg", "identity": "anna", "camera": "door"},
            {"path": "a/2.jpg", "identity": "anna", "camera": "hall"}]  # fmt: skip
    table = make_table(tmp_path / "people.csv", [*rows, {**rows[0], **other}])
    with pytest.raises(UserError, match=r"lines 2 and 4 contradict each other: .*1\.jpg is identity anna"):
        open_data_set(str(table), tmp_path, on_error)


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
