"""GRID, an underground station: probe/0001_1_25004_107_32_106_221.jpeg and gallery, and ten given partitions.

The name tells person (0000 in gallery: nobody who was asked for, 775 images) and camera from 1. The partitions
are in features_and_partitions.mat: `trainIdxAll` holds ten structures whose third field lists the 125 people who
train; the 125 others of probe ask, and gallery without those who train answers with 125 + 775 images. Source:
Loy et al., "Multi-Camera Activity Correlation Analysis", CVPR 2009, and the readme of the release.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pat.base.errors import UserError
from pat.data.layouts.matlab import load_version_5
from pat.data.layouts.reading import DataSet, Problems, Split, holds, parsed_names, wrong_layout
from pat.data.layouts.splits import SPLITS_FILE, divided
from pat.data.sample import DISTRACTOR, Sample

FOLDERS: tuple[str, ...] = ("underground_reid", "GRID", "QMUL-GRID")
PARTITIONS = "features_and_partitions.mat"
EXPECTED = f"the folders probe and gallery and the file {PARTITIONS}"

_FORM = "0001_1_25004_107_32_106_221.jpeg"
_NAME = re.compile(r"(\d{4})_([1-9])_\d+_-?\d+_")


def recognises(path: Path) -> bool:
    return (path / PARTITIONS).is_file() or any(holds(path / part, _NAME) for part in ("probe", "gallery"))


def read(path: Path, name: str, problems: Problems) -> DataSet:
    """Read the folder of GRID. Raises UserError when a part is missing, empty or of another form."""
    missing = [part for part in ("probe", "gallery") if not (path / part).is_dir()]
    if not any((path / file).is_file() for file in (PARTITIONS, SPLITS_FILE)):
        missing.append(PARTITIONS)
    if missing:
        raise wrong_layout(path, "grid", EXPECTED, ", ".join(missing))
    probe, gallery = (_part(path / part, name, problems) for part in ("probe", "gallery"))
    matched = {sample.identity for sample in gallery}
    for sample in probe:
        if sample.identity not in matched:
            problems.report(f"{sample.path} has no match in {path / 'gallery'}")
    probe = [sample for sample in probe if sample.identity in matched]
    return divided(
        path, name, [*probe, *gallery], lambda: _partitioned(path / PARTITIONS, probe, gallery), problems
    )


def _part(folder: Path, domain: str, problems: Problems) -> list[Sample]:
    parsed = parsed_names(folder, _NAME, _FORM, problems)
    return [Sample(path, int(match[1]), int(match[2]) - 1, domain) for path, match in parsed]


def _partitioned(file: Path, probe: Sequence[Sample], gallery: Sequence[Sample]) -> list[Split]:
    """The splits that the partitions of the file give."""
    return [
        Split(
            train=tuple(sample for sample in [*gallery, *probe] if sample.identity in training),
            query=tuple(sample for sample in probe if sample.identity not in training),
            gallery=tuple(sample for sample in gallery if sample.identity not in training),
        )
        for training in _training_people(file)
    ]


def _training_people(file: Path) -> list[set[int]]:
    """Who trains, for each partition. Raises UserError for a file of another form."""
    cells = load_version_5(file, ("trainIdxAll",))["trainIdxAll"]
    partitions = []
    for number, cell in enumerate(cells.ravel()):
        record = np.asarray(cell).ravel()
        fields = record.dtype.names or ()
        if not record.size or len(fields) < 3:
            raise UserError(f"{file} is another version of the file: partition {number} has no third field")
        people = np.asarray(record[0][fields[2]]).ravel()
        if not (people.size and np.issubdtype(people.dtype, np.number) and people.min() > DISTRACTOR):
            raise UserError(f"{file} is another version of the file: partition {number} lists no people")
        partitions.append({int(person) for person in people})
    if not partitions:
        raise UserError(f"{file} is another version of the file: it holds no partition")
    return partitions
