"""PRID 2011, the single-shot version: single_shot/cam_a/person_0001.png and cam_b.

People 1 to 200 are in both cameras. From 201 on a number in cam_a and the same number in cam_b are different
people, and those of cam_a serve nothing. Ten splits of the 200 in halves (layouts.splits): 100 images of cam_a
ask, the gallery is cam_b without the 100 who train: 649 people. Source: Hirzer et al., "Person Re-Identification
by Descriptive and Discriminative Classification", SCIA 2011, and the readme of the release.
"""

from __future__ import annotations

import re
from pathlib import Path

from pat.base.errors import UserError
from pat.data.layouts.reading import DataSet, Problems, holds, sub_folders
from pat.data.layouts.splits import divided
from pat.data.layouts.two_cameras import CAMERAS, halves, partners, read_sides

FOLDERS: tuple[str, ...] = ("prid_2011", "PRID")
EXPECTED = "the folders single_shot/cam_a and single_shot/cam_b with names like person_0001.png"

SHARED = 200
"""The last person that both cameras saw."""

_FORM = "person_0001.png"
_NAME = re.compile(r"person_(\d+)\.")
_PERSON = re.compile(r"person_(\d{4})")


def recognises(path: Path) -> bool:
    return any(holds(_shots(path) / camera, _NAME) for camera in CAMERAS) or _is_multi_shot(path)


def read(path: Path, name: str, problems: Problems) -> DataSet:
    """Read the folder of PRID 2011. Raises UserError when a camera is missing or empty, or holds several shots."""
    if _is_multi_shot(path):
        raise UserError(
            f"{path} is the multi-shot version of PRID 2011, which is not read: a number above {SHARED} is one "
            "person in cam_a and another in cam_b; give the folder single_shot, or keep the people up to it alone"
        )
    a, b = read_sides(_shots(path), "prid", EXPECTED, _NAME, _FORM, name, problems)
    a = {person: sample for person, sample in a.items() if person <= SHARED}
    strangers = {person: sample for person, sample in b.items() if person > SHARED}
    people = partners(a, {person: b[person] for person in b.keys() - strangers.keys()}, problems)
    images = [*a.values(), *b.values()]
    return divided(path, name, images, lambda: halves(people, a, b, strangers, "prid"), problems)


def _is_multi_shot(path: Path) -> bool:
    """Whether it has a folder for each person, strangers too: read as own images, two of them would be one."""
    sides = [_shots(path) / camera for camera in CAMERAS]
    people = [_PERSON.fullmatch(each.name) for side in sides if side.is_dir() for each in sub_folders(side)]
    return any(match and int(match[1]) > SHARED for match in people)


def _shots(path: Path) -> Path:
    return next((each for each in (path / "single_shot", path / "multi_shot") if each.is_dir()), path)
