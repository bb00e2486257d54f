"""Market-1501 and whatever is stored like it: three folders of `0002_c1s1_000451_03.jpg`.

The name tells identity (-1: junk, 0000: distractor), camera from 1, sequence, frame and box; only identity and
camera are used, so `0002_c1_anything.jpg` is read as well. Junk and distractors are dropped from the training
part and kept in the gallery. Source: Zheng et al., "Scalable Person Re-identification: A Benchmark", ICCV 2015,
and the readme of release v15.09.15.
"""

from __future__ import annotations

import re
from pathlib import Path

from pat.data.layouts.reading import DataSet, Problems, holds, parsed_names, require_folders
from pat.data.sample import DISTRACTOR, Sample

FOLDERS: tuple[str, ...] = ("Market-1501-v15.09.15", "Market-1501")
EXPECTED = "the folders bounding_box_train, query and bounding_box_test"

FRAME_NAME = re.compile(r"\d{4}_c[1-8]_f\d{7}\.jpg$")
"""Names of DukeMTMC-reID, which is stored like Market-1501 and is a layout of its own."""

_PARTS = ("bounding_box_train", "query", "bounding_box_test")
NAME = re.compile(r"(-1|\d+)_c([1-9]\d*)(?:s\d+)?[_.]")


def has_parts(path: Path) -> bool:
    """True where a folder is stored like Market-1501, whatever the names of its images."""
    return any((path / part).is_dir() for part in ("bounding_box_train", "bounding_box_test"))


def recognises(path: Path) -> bool:
    return has_parts(path) and not holds(path / "bounding_box_train", FRAME_NAME)


def read(path: Path, name: str, problems: Problems) -> DataSet:
    """Read the folder of Market-1501. Raises UserError when a part is missing or empty."""
    require_folders(path, _PARTS, "market1501", EXPECTED)
    train, query, gallery = (_part(path / part, name, problems) for part in _PARTS)
    people = tuple(sample for sample in train if sample.identity > DISTRACTOR)
    return DataSet(name, people, query, gallery, tuple(problems.notes))


def _part(folder: Path, domain: str, problems: Problems) -> tuple[Sample, ...]:
    parsed = parsed_names(folder, NAME, "0002_c1s1_000451_03.jpg", problems)
    return tuple(Sample(path, int(match[1]), int(match[2]) - 1, domain) for path, match in parsed)
