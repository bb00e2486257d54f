"""VIPeR: 632 people, one image of each in cam_a and in cam_b, `000_45.bmp`: the person's number and the angle.

Ten divisions in halves of 316 people (layouts.splits), scored in one of three ways that the field has:

    viper       10 splits  cam_a asks, cam_b answers. MetaBIN's published table; PAT's release scores the first
                           of MetaBIN's ten alone, in this direction
    viper:20    20 splits  both directions (torchreid)
    viper:40    40 splits  both directions, and each half tested in turn (all four of MetaBIN's)

Which people are in a half is published by nobody. Source: Gray et al., "Evaluating Appearance Models for
Recognition, Reacquisition, and Tracking", PETS 2007; the conventions are those of the releases of torchreid
(Zhou and Xiang, 2019), MetaBIN (Choi et al., CVPR 2021) and PAT (Ni et al., ICCV 2023).
"""

from __future__ import annotations

import functools
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


def read(
    path: Path, name: str, problems: Problems, *, both_directions: bool = False, both_halves: bool = False
) -> DataSet:
    """Read the folder of VIPeR. Raises UserError when a camera is missing or empty."""
    a, b = read_sides(path, "viper", EXPECTED, _NAME, _FORM, name, problems)
    people = partners(a, b, problems)
    asking = "both cameras ask in turn" if both_directions else "cam_a asks"
    problems.notes.append(f"{name}: {asking}" + ("; each half is tested in turn" if both_halves else ""))
    make = functools.partial(
        halves, people, a, b, (), "viper", both_directions=both_directions, both_halves=both_halves
    )
    return divided(path, name, [*a.values(), *b.values()], make, problems)


DIVISIONS = {
    "20": functools.partial(read, both_directions=True),
    "40": functools.partial(read, both_directions=True, both_halves=True),
}
"""Other ways to divide it, after a colon."""
