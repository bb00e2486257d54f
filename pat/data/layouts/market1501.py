"""Market-1501 and whatever is stored like it: three folders of `0002_c1s1_000451_03.jpg`.

The name tells identity (-1: junk, 0000: distractor), camera from 1, sequence, frame and box; only identity and
camera are used, so `0002_c1_anything.jpg` is read as well. Junk and distractors are dropped from the training
part and kept in the gallery. Source: Zheng et al., "Scalable Person Re-identification: A Benchmark", ICCV 2015,
and the readme of release v15.09.15.
"""

from __future__ import annotations

import re
from pathlib import Path

from pat.data.layouts.reading import DataSet, Problems, listing, picture_names
from pat.data.sample import DISTRACTOR, Sample
from pat.errors import UserError

FOLDERS: tuple[str, ...] = ("Market-1501-v15.09.15", "Market-1501")
EXPECTED = "the folders bounding_box_train, query and bounding_box_test"

_PARTS = ("bounding_box_train", "query", "bounding_box_test")
_NAME = re.compile(r"(-1|\d+)_c([1-9]\d*)(?:s\d+)?[_.]")


def recognises(path: Path) -> bool:
    return any((path / part).is_dir() for part in ("bounding_box_train", "bounding_box_test"))


def read(path: Path, name: str, problems: Problems) -> DataSet:
    """Read the folder of Market-1501. Raises UserError when a part is missing or empty."""
    missing = [part for part in _PARTS if not (path / part).is_dir()]
    if missing:
        raise UserError(
            f"{path} has not the layout market1501: expected {EXPECTED}; missing {', '.join(missing)}; "
            f"found {listing(path)}"
        )
    train, query, gallery = (_part(path / part, name, problems) for part in _PARTS)
    people = tuple(sample for sample in train if sample.identity > DISTRACTOR)
    return DataSet(name, people, query, gallery, tuple(problems.notes))


def _part(folder: Path, domain: str, problems: Problems) -> tuple[Sample, ...]:
    names = picture_names(folder)
    if not names:
        raise UserError(f"{folder} holds no pictures; expected names like 0002_c1s1_000451_03.jpg")
    samples = []
    for name in names:
        match = _NAME.match(name)
        if match:
            identity, camera = int(match[1]), int(match[2]) - 1
            samples.append(Sample(folder / name, identity, camera, domain))
        else:
            problems.report(f"{folder / name} has not the expected form 0002_c1s1_000451_03.jpg")
    return tuple(samples)
