"""CUHK02: five pairs of cameras, P1/cam1/001_0001.png and so on; the name starts with the person's number.

The numbers start again in each pair and are other people there: people count from 1 over all pairs, cameras
from 0 to 9. Studies of generalisation train on every image of it and never test on it, so it has no query and
no gallery. Source: Li and Wang, "Locally Aligned Feature Transforms across Views", CVPR 2013.
"""

from __future__ import annotations

import re
from pathlib import Path

from pat.data.layouts.reading import DataSet, Problems, parsed_names, require_folders
from pat.data.sample import Sample

FOLDERS: tuple[str, ...] = ("CUHK02",)
EXPECTED = "the folders P1 to P5 with cam1 and cam2 in each"

_PAIRS = ("P1", "P2", "P3", "P4", "P5")
_NAME = re.compile(r"(\d+)_")


def recognises(path: Path) -> bool:
    return any((_pairs_in(path) / pair / "cam1").is_dir() for pair in _PAIRS)


def read(path: Path, name: str, problems: Problems) -> DataSet:
    """Read the folder of CUHK02. Raises UserError when a camera is missing or empty."""
    folder = _pairs_in(path)
    cameras = [f"{pair}/{camera}" for pair in _PAIRS for camera in ("cam1", "cam2")]
    require_folders(folder, cameras, "cuhk02", EXPECTED)
    found = [
        (image, (number // 2, int(match[1])), number)
        for number, camera in enumerate(cameras)
        for image, match in parsed_names(folder / camera, _NAME, "001_0001.png", problems)
    ]
    people = {person: number for number, person in enumerate(sorted({who for _, who, _ in found}), 1)}
    train = tuple(Sample(image, people[who], camera, name) for image, who, camera in found)
    return DataSet(name, train, (), (), tuple(problems.notes))


def _pairs_in(path: Path) -> Path:
    """Where the pairs are: the archive has them in a folder of its own."""
    return path / "Dataset" if (path / "Dataset").is_dir() else path
