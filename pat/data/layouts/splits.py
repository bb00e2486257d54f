"""The ten random splits of the small test sets: made, written down, read back.

VIPeR, PRID, GRID and i-LIDS are scored as the mean over ten random divisions of their people into halves
(source: Song et al., "Generalizable Person Re-Identification by Domain-Invariant Mapping Network", CVPR 2019,
and Jia et al., "Frustratingly Easy Person Re-Identification", BMVC 2019, whose scripts draw ten folds). Nobody
published which; GRID alone gives its own. Ours come from no random generator, so that they are the same
everywhere: things are put in the order of the SHA-256 of "DATASET SPLIT THING", such as "viper 0 17" for person
17 in split 0, and the first half of the people train (rounded down).

A file `pat-splits.json` in the folder of the data set wins over this rule: {"splits": [{"train": [...],
"query": [...], "gallery": [...]}, ...]}, each entry an image's path from that folder.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pat.base.errors import UserError
from pat.data.layouts.reading import DataSet, Problems, Split
from pat.data.sample import Sample

SPLITS = 10

SPLITS_FILE = "pat-splits.json"

_PARTS = ("train", "query", "gallery")

Thing = TypeVar("Thing", int, str)


def in_drawn_order(things: Iterable[Thing], data_set: str, split: int) -> list[Thing]:
    """`things` shuffled by the rule above: a function of its arguments on every machine."""

    def key(thing: Thing) -> str:
        return hashlib.sha256(f"{data_set} {split} {thing}".encode()).hexdigest()

    return sorted(things, key=key)


def first_half(people: Iterable[int], data_set: str, split: int) -> set[int]:
    """The people who train in a split."""
    order = in_drawn_order(set(people), data_set, split)
    return set(order[: len(order) // 2])


def divided(
    path: Path, name: str, images: Sequence[Sample], make: Callable[[], Sequence[Split]], problems: Problems
) -> DataSet:
    """The data set in the folder `path`, with the splits of its file or else those that `make` gives."""
    file = path / SPLITS_FILE
    if file.is_file():
        splits = read_splits(file, path, images)
        problems.notes.append(f"{name}: its splits are those of {file}")
    else:
        splits = tuple(make())
    first = splits[0]
    empty = [part for part in _PARTS if not getattr(first, part)]
    if empty:
        raise UserError(f"{path} has too few people to divide: {', '.join(empty)} would be empty")
    problems.notes.append(f"{name}: train, query and gallery are those of the first of {len(splits)} splits")
    return DataSet(name, first.train, first.query, first.gallery, tuple(problems.notes), splits)


def splits_text(data_set: DataSet, path: Path) -> str:
    """The splits of the data set in the folder `path` as the text of a splits file."""
    splits = [
        {part: [s.path.relative_to(path).as_posix() for s in getattr(split, part)] for part in _PARTS}
        for split in data_set.splits
    ]
    return json.dumps({"data_set": data_set.name, "splits": splits}, indent=1) + "\n"


def read_splits(file: Path, path: Path, images: Sequence[Sample]) -> tuple[Split, ...]:
    """The splits of a file, of the `images` of the data set in the folder `path`.

    Raises UserError naming the entry for a file of another form, an image that the data set has not or that is
    there twice, a person in both halves, and a query without a match in the gallery.
    """
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{file} is not JSON: {error}; correct or remove it for the usual splits") from error
    splits = values.get("splits") if isinstance(values, dict) else None
    if not (isinstance(splits, list) and splits):
        raise UserError(f"{file} has no list `splits` of objects with train, query and gallery")
    known = {sample.path.relative_to(path).as_posix(): sample for sample in images}
    return tuple(_split(entry, f"{file}: split {number}", known) for number, entry in enumerate(splits))


def _split(entry: Any, where: str, known: dict[str, Sample]) -> Split:
    if not isinstance(entry, dict):
        raise UserError(f"{where} is not an object with train, query and gallery")
    train, query, gallery = (_part(entry, part, where, known) for part in _PARTS)
    people = {sample.identity: sample for sample in train}
    places: dict[int, set[int]] = {}
    for sample in gallery:
        places.setdefault(sample.identity, set()).add(sample.camera)
    for sample in query:
        if sample.identity in people:
            both = f"{people[sample.identity].path.name} in train and {sample.path.name} in query"
            raise UserError(f"{where}: person {sample.identity} is in both halves: {both}")
        if not places.get(sample.identity, set()) - {sample.camera}:
            raise UserError(f"{where}, query: {sample.path.name} has no match by another camera in gallery")
    return Split(train, query, gallery)


def _part(entry: dict[str, Any], part: str, where: str, known: dict[str, Sample]) -> tuple[Sample, ...]:
    names = entry.get(part)
    if not (isinstance(names, list) and names):
        raise UserError(f"{where} has no {part}; expected a list of images")
    for number, name in enumerate(names):
        if not isinstance(name, str) or name not in known:
            raise UserError(f"{where}, {part}, entry {number}: {name!r} is not an image of this data set")
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise UserError(f"{where}, {part}: {twice[0]!r} is listed twice")
    return tuple(sorted((known[name] for name in names), key=lambda sample: sample.path.as_posix()))
