"""VIPeR: 632 people, one image of each in cam_a and in cam_b, `000_45.bmp`: the person's number and the angle.

Ten splits in halves of 316 people (layouts.splits): cam_a asks, cam_b is the gallery. Source: Gray et al.,
"Evaluating Appearance Models for Recognition, Reacquisition, and Tracking", PETS 2007.
"""

from __future__ import annotations

import re
from pathlib import Path

from pat.data.layouts.reading import DataSet, Problems, holds
from pat.data.layouts.splits import divided
from pat.data.layouts.two_cameras import CAMERAS, halves, partners, read_sides

FOLDERS: tuple[str, ...] = ("VIPeR", "VIPeR.v1.0")
EXPECTED = "the folders cam_a and cam_b with names like 000_45.bmp"

_FORM = "000_45.bmp"
_NAME = re.compile(r"(\d+)_\d+\.")


def recognises(path: Path) -> bool:
    return any(holds(path / camera, _NAME) for camera in CAMERAS)


def read(path: Path, name: str, problems: Problems) -> DataSet:
    """Read the folder of VIPeR. Raises UserError when a camera is missing or empty."""
    a, b = read_sides(path, "viper", EXPECTED, _NAME, _FORM, name, problems)
    people = partners(a, b, problems)
    images = [*a.values(), *b.values()]
    return divided(path, name, images, lambda: halves(people, a, b, (), "viper"), problems)
