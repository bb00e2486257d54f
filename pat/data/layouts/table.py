"""Own images listed in a table: .csv with a header, or .jsonl with an object on each line.

Columns: path, identity, camera and, where the data set is divided, split (train, query, gallery or test); others
are not read. Relative paths start at the table's folder. Identities and cameras become numbers, and images
without a split serve training and evaluation, as `layouts.named` says; the identity -1 is junk. An image counts
once: a row that repeats another is dropped with a note, one that contradicts another is refused.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pat.base.errors import UserError
from pat.data.layouts.named import SPLITS, NamedImage, data_set_of
from pat.data.layouts.reading import DataSet, Problems, explained

FOLDERS: tuple[str, ...] = ()
EXPECTED = "a .csv or .jsonl file with path, identity, camera and optionally split"
SUFFIXES = (".csv", ".jsonl")

_COLUMNS = ("path", "identity", "camera")


def recognises(path: Path) -> bool:
    return path.is_file() and path.suffix.lower() in SUFFIXES


def read(path: Path, name: str, problems: Problems) -> DataSet:
    """Read a table. Raises UserError for another kind of file, a missing column or a table without images."""
    if not recognises(path):
        raise UserError(f"{path} does not have the layout table: expected {EXPECTED}")
    rows = _csv_rows if path.suffix.lower() == ".csv" else _jsonl_rows
    listed: list[tuple[int, NamedImage]] = []
    try:
        for line, row in rows(path, problems):
            image = _image(row, path, line, problems)
            if image:
                listed.append((line, image))
    except OSError as error:
        raise UserError(f"cannot read the table {path}: {explained(error)}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"cannot read the table {path}: {error}") from error
    images = _each_once(listed, path, name, problems)
    if len({bool(image.split) for image in images}) > 1:
        raise UserError(f"{path}: some rows have a split and some have none; give all of them one, or none")
    return data_set_of(images, name, path, problems)


def _each_once(
    listed: Sequence[tuple[int, NamedImage]], table: Path, name: str, problems: Problems
) -> list[NamedImage]:
    """The images, however their paths are spelled, without rows that say the same again.

    Raises UserError, naming both lines, where two rows say different things of one image, whatever is done with
    other problems: nobody can tell which of them is right.
    """
    first: dict[str, tuple[int, NamedImage]] = {}
    repeats = []
    for line, image in listed:
        earlier, known = first.setdefault(os.path.realpath(image.path), (line, image))
        if known is image:
            continue
        if replace(image, path=known.path) != known:
            raise UserError(
                f"{table}, lines {earlier} and {line} contradict each other: {image.path} is {_told(known)} in "
                f"the one and {_told(image)} in the other; keep one of them"
            )
        repeats.append(f"{line} (as {earlier})")
    if repeats:
        shown = ", ".join(repeats[:5]) + (f" and {len(repeats) - 5} more" if len(repeats) > 5 else "")
        problems.notes.append(f"{name}: rows that repeat an image were dropped: line {shown}")
    return [image for _, image in first.values()]


def _told(image: NamedImage) -> str:
    part = f", split {image.split}" if image.split else ""
    return f"identity {image.identity}, camera {image.camera}{part}"


def _csv_rows(path: Path, problems: Problems) -> Iterator[tuple[int, dict[str, Any]]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, skipinitialspace=True)
        columns = [column.strip() for column in reader.fieldnames or ()]
        missing = [column for column in _COLUMNS if column not in columns]
        if missing:
            raise UserError(
                f"{path}: the first line lacks {', '.join(missing)}; expected {EXPECTED}; "
                f"found {', '.join(columns) or 'nothing'}"
            )
        reader.fieldnames = columns
        for row in reader:
            yield reader.line_num, row


def _jsonl_rows(path: Path, problems: Problems) -> Iterator[tuple[int, dict[str, Any]]]:
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError:
                row = None
            if isinstance(row, dict):
                yield number, row
            else:
                problems.report(f"{path}, line {number} is not a JSON object with path, identity and camera")


def _image(row: dict[str, Any], table: Path, line: int, problems: Problems) -> NamedImage | None:
    """The image of a row, or None after its problem was reported."""
    values = {column: row.get(column) for column in (*_COLUMNS, "split")}
    texts = {column: "" if value is None else str(value).strip() for column, value in values.items()}
    empty = [column for column in _COLUMNS if not texts[column]]
    image = table.parent / texts["path"]
    if empty:
        problems.report(f"{table}, line {line}: no {' and no '.join(empty)}")
    elif texts["split"] and texts["split"] not in SPLITS:
        problems.report(f"{table}, line {line}: split {texts['split']!r} is not one of {', '.join(SPLITS)}")
    elif not image.is_file():
        problems.report(f"{table}, line {line}: the image {image} does not exist")
    else:
        return NamedImage(image, texts["identity"], texts["camera"], texts["split"])
    return None
