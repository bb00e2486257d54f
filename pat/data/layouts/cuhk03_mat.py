"""The images of CUHK03, taken out of its cuhk-03.mat into files."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pat.base.errors import Failure, UserError
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
                _extract_kind(_Stored(mat, kind, file), kind, folder, progress)
            counts[kind] = sum(1 for _ in folder.iterdir())
    return counts


def _extract_kind(stored: _Stored, kind: str, folder: Path, progress: Progress) -> None:
    temporary = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir()
        with progress.bar(f"extract {kind}", sum(len(table) for table in stored.tables)) as advance:
            for pair, table in enumerate(stored.tables, 1):
                for person, places in enumerate(table, 1):
                    _write_person(stored.person(places), f"{pair}_{person:03d}", temporary)
                    advance(1)
        temporary.rename(folder)
    except OSError as error:
        raise Failure(f"cannot write {folder}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _write_person(images: Sequence[np.ndarray], start: str, folder: Path) -> None:
    for number, pixels in enumerate(images):
        if pixels.ndim == 3:  # an empty place is a vector
            view = 1 + number // _PER_VIEW
            Image.fromarray(pixels).save(folder / f"{start}_{view}_{number + 1:02d}.png")


class _Stored:
    """The images of one kind in the opened file; what is not as published raises UserError."""

    def __init__(self, mat: Any, kind: str, file: Path) -> None:
        self._mat, self._kind, self._file = mat, kind, file
        self.tables = [self._read(reference).T for reference in self._read_references()]  # each [people, 10]

    def person(self, places: np.ndarray) -> list[np.ndarray]:
        """uint8 [H, W, 3] of each place; of an empty one, a vector."""
        images = [self._read(reference).T for reference in places]
        if any(pixels.ndim == 3 and (pixels.dtype != np.uint8 or pixels.shape[2] != 3) for pixels in images):
            raise self._unlike()
        return images

    def _read_references(self) -> np.ndarray:
        try:
            return np.atleast_1d(np.asarray(self._mat[self._kind])[0])
        except (TypeError, ValueError, IndexError, OSError) as error:
            raise self._unlike() from error

    def _read(self, reference: Any) -> np.ndarray:
        try:
            return np.asarray(self._mat[reference])
        except (TypeError, ValueError, KeyError, OSError) as error:
            raise self._unlike() from error

    def _unlike(self) -> UserError:
        return UserError(
            f"{self._file} is damaged or another version of the file: {self._kind} is not stored as published"
        )
