"""A table of one's own images, .csv or .jsonl."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from layouts import as_people, touch
from pat.base.errors import UserError
from pat.data.layouts import open_data_set

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
