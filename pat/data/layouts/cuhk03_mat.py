"""The images of CUHK03, taken out of its cuhk-03.mat into files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pat.base.errors import UserError
from pat.base.files import folder_written_whole
from pat.base.progress import Progress
from pat.data.layouts.cuhk03 import mat_file
from pat.data.layouts.matlab import open_version_73

_KINDS = ("detected", "labeled")
_PER_VIEW = 5
"""Places for images of a person in each of the two views."""


def extract(path: Path, progress: Progress) -> dict[str, int]:
    """Write images_detected and images_labeled in the folder of CUHK03; how many images each holds now.

    `cuhk-03.mat` has for each kind five pairs of cameras, for each pair a table of people by ten images (five
    of each view, some empty), each uint8 [H, W, 3] stored column first. A folder appears when it is whole, and
    one that is there already is left as it is.

    Raises UserError where there is no such file, or one of another version; Failure when writing fails.
    """
    file = mat_file(path)
    if file is None:
        raise UserError(f"{path} holds no cuhk-03.mat, nor cuhk03_release/cuhk-03.mat")
    counts = {}
    with open_version_73(file, _KINDS) as mat:
        for kind in _KINDS:
            folder = path / f"images_{kind}"
            if not folder.is_dir():
                with folder_written_whole(folder) as draft:
                    _extract_kind(_Stored(mat, kind, file), draft, progress)
            counts[kind] = sum(1 for _ in folder.iterdir())
    return counts


@dataclass(frozen=True)
class _Stored:
    """The images of one kind in the opened file."""

    mat: Any
    kind: str
    file: Path

    def read(self, key: Any) -> np.ndarray:
        """What is stored under a name or reference, in MATLAB's order. Raises UserError where it is not there."""
        try:
            return np.asarray(self.mat[key]).T
        except (TypeError, ValueError, KeyError, OSError) as error:
            raise self.unlike() from error

    def unlike(self) -> UserError:
        """The error of what is not as published."""
        return UserError(
            f"{self.file} is damaged or another version of the file: {self.kind} is not stored as published"
        )


def _extract_kind(stored: _Stored, folder: Path, progress: Progress) -> None:
    tables = [stored.read(reference) for reference in stored.read(stored.kind).ravel()]  # each [people, 10]
    if not tables or any(table.ndim != 2 for table in tables):
        raise stored.unlike()
    with progress.bar(f"extract {stored.kind}", sum(map(len, tables))) as advance:
        for pair, table in enumerate(tables, 1):
            for person, places in enumerate(table, 1):
                for number, reference in enumerate(places):
                    pixels = stored.read(reference)
                    if pixels.ndim == 3:  # an empty place is a vector
                        if pixels.dtype != np.uint8 or pixels.shape[2] != 3:
                            raise stored.unlike()
                        name = f"{pair}_{person:03d}_{1 + number // _PER_VIEW}_{number + 1:02d}.png"
                        Image.fromarray(pixels).save(folder / name)
                advance(1)
