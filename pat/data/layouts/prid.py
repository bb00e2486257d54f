"""PRID 2011, the single-shot version: single_shot/cam_a/person_0001.png and cam_b.

People 1 to 200 are in both cameras. From 201 on a number in cam_a and the same number in cam_b are different
people, and those of cam_a serve nothing. Ten splits of the 200 in halves (layouts.splits): 100 images of cam_a
ask, the gallery is cam_b without the 100 who train: 649 people. Source: Hirzer et al., "Person Re-Identification
by Descriptive and Discriminative Classification", SCIA 2011, and the readme of the release.
"""

from __future__ import annotations

import re
from pathlib import Path

from pat.data.layouts.reading import DataSet, Problems, holds
from pat.data.layouts.splits import divided
from pat.data.layouts.two_cameras import CAMERAS, halves, partners, read_sides

FOLDERS: tuple[str, ...] = ("prid_2011", "PRID")
EXPECTED = "the folders single_shot/cam_a and single_shot/cam_b with names like person_0001.png"

SHARED = 200
"""The last person that both cameras saw."""

_FORM = "person_0001.png"
_NAME = re.compile(r"person_(\d+)\.")


def recognises(path: Path) -> bool:
    return any(holds(_single_shot(path) / camera, _NAME) for camera in CAMERAS)


def read(path: Path, name: str, problems: Problems) -> DataSet:
    """Read the folder of PRID 2011. Raises UserError when a camera is missing or empty."""
    a, b = read_sides(_single_shot(path), "prid", EXPECTED, _NAME, _FORM, name, problems)
    a = {person: sample for person, sample in a.items() if person <= SHARED}
    strangers = {person: sample for person, sample in b.items() if person > SHARED}
    people = partners(a, {person: b[person] for person in b.keys() - strangers.keys()}, problems)
    images = [*a.values(), *b.values()]
    return divided(path, name, images, lambda: halves(people, a, b, strangers, "prid"), problems)


def _single_shot(path: Path) -> Path:
    return path / "single_shot" if (path / "single_shot").is_dir() else path
