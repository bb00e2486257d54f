"""CUHK-SYSU, a person-search set, cut into people: cropped_images/p00001_n01_s00001_hard0.png.

`p` is the person (-1: nobody in particular, left out), `n` the person's image where it is told, `s` the scene
it was cut from; `p1_s2_3.jpg` is met as well. The scenes are street photographs and film stills: no camera is
named, so all images count as one camera. Studies of generalisation train on every image and never test on
it. Source: Xiao et al., "Joint Detection and Identification Feature Learning for Person Search", CVPR 2017; the
cut images are those of Song et al., "Generalizable Person Re-Identification by Domain-Invariant Mapping
Network", CVPR 2019.
"""

from __future__ import annotations

import re
from pathlib import Path

from pat.data.layouts.reading import DataSet, Problems, folder_of, holds, parsed_names
from pat.data.sample import JUNK, Sample

FOLDERS: tuple[str, ...] = ("CUHK-SYSU",)
EXPECTED = "the folder cropped_images (or cropped_image) with names like p00001_n01_s00001_hard0.png"

_NAME = re.compile(r"p(-1|\d+)_(?:n\d+_)?s\d+")


def recognises(path: Path) -> bool:
    return any(holds(folder, _NAME) for folder in _places(path))


def read(path: Path, name: str, problems: Problems) -> DataSet:
    """Read the cut images. Raises UserError when there are none."""
    folder = folder_of(path, _places(path), _NAME, "cuhk-sysu", EXPECTED)
    parsed = parsed_names(folder, _NAME, "p00001_n01_s00001_hard0.png", problems)
    train = tuple(Sample(image, int(match[1]), 0, name) for image, match in parsed if int(match[1]) != JUNK)
    problems.notes.append(f"{name}: no image tells a camera; all count as one, and it is for training alone")
    return DataSet(name, train, (), (), tuple(problems.notes))


def _places(path: Path) -> tuple[Path, ...]:
    return (path / "cropped_images", path / "cropped_image", path)
