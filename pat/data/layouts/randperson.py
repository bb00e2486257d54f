"""RandPerson, drawn people: the published subset, one folder of `000000_s00_c00_f000264.jpg`.

The name tells person, scene, camera within the scene, and frame. Cameras are numbered from 0 over the pairs of
scene and camera that occur. It has no query and no gallery. Source: Wang et al., "Surpassing Real-World Source
Training Data: Random 3D Characters for Generalizable Person Re-Identification", ACM Multimedia 2020.
"""

from __future__ import annotations

import re
from pathlib import Path

from pat.data.layouts.reading import DataSet, Problems, folder_of, holds, numbered, parsed_names
from pat.data.sample import Sample

FOLDERS: tuple[str, ...] = ("randperson_subset", "RandPerson")
EXPECTED = "images named like 000000_s00_c00_f000264.jpg, in the folder or in its folder randperson_subset"

_NAME = re.compile(r"(\d+)_(s\d+_c\d+)_f\d+")


def recognises(path: Path) -> bool:
    return any(holds(folder, _NAME) for folder in _places(path))


def read(path: Path, name: str, problems: Problems) -> DataSet:
    """Read the subset. Raises UserError when there are no such images."""
    folder = folder_of(path, _places(path), _NAME, "randperson", EXPECTED)
    parsed = parsed_names(folder, _NAME, "000000_s00_c00_f000264.jpg", problems)
    cameras = numbered((match[2] for _, match in parsed), start=0)
    train = tuple(Sample(image, int(match[1]), cameras[match[2]], name) for image, match in parsed)
    return DataSet(name, train, (), (), tuple(problems.notes))


def _places(path: Path) -> tuple[Path, ...]:
    return (path, path / "randperson_subset", path / "images" / "subset")
