"""What every layout shares: the data set it yields, the way it meets bad names, and the order of files."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from pat.base.errors import UserError
from pat.data.images import is_image_name
from pat.data.sample import JUNK, Sample

OnError = Literal["stop", "skip"]


@dataclass(frozen=True)
class Split:
    """One division of a data set, each part sorted by name."""

    train: tuple[Sample, ...]
    query: tuple[Sample, ...]
    gallery: tuple[Sample, ...]


@dataclass(frozen=True)
class DataSet:
    """The images of one data set, each part sorted by name.

    `notes` tells what was left out and what is unusual, a line each. `splits` are all divisions of a data set
    that is scored over several; `train`, `query` and `gallery` are then those of the first. Elsewhere it is
    empty.
    """

    name: str
    train: tuple[Sample, ...]
    query: tuple[Sample, ...]
    gallery: tuple[Sample, ...]
    notes: tuple[str, ...] = ()
    splits: tuple[Split, ...] = ()


@dataclass
class Problems:
    """Images that cannot be used: the first one stops the reading, or each is left out and noted."""

    on_error: OnError = "stop"
    notes: list[str] = field(default_factory=list)

    def report(self, problem: str) -> None:
        """Raise UserError with the `problem`, or note it and return."""
        if self.on_error == "stop":
            raise UserError(f"{problem}; --data.on-error skip leaves such images out")
        self.notes.append(f"left out: {problem}")


class Layout(Protocol):
    """What the module of a layout offers. A folder is recognised by one layout at most that is no own data."""

    FOLDERS: tuple[str, ...]
    """Names that its folder usually has, most usual first."""
    EXPECTED: str
    """What belongs in its folder, in one line for messages."""

    def recognises(self, path: Path) -> bool:
        """True where `path` looks like this layout; `read` then says what is missing from it."""

    def read(self, path: Path, name: str, problems: Problems) -> DataSet:
        """The data set in `path`. Raises UserError where the layout is another one."""


Reader = Callable[[Path, str, Problems], DataSet]
"""What reads the folder of a layout: path, name, problems."""


def explained(error: OSError) -> str:
    """What the system says of a file or folder, in words: "Permission denied: /data/x"."""
    where = f": {error.filename}" if error.filename else ""
    return f"{error.strerror or error}{where}"


def wrong_layout(path: Path, layout: str, expected: str, missing: str) -> UserError:
    """The error of a folder that lacks a part of its layout."""
    return UserError(
        f"{path} does not have the layout {layout}: expected {expected}; missing {missing}; found {listing(path)}"
    )


def require_folders(path: Path, parts: Iterable[str], layout: str, expected: str) -> None:
    """Raise UserError where `path` lacks a folder of its layout."""
    missing = [part for part in parts if not (path / part).is_dir()]
    if missing:
        raise wrong_layout(path, layout, expected, ", ".join(missing))


def folder_of(path: Path, places: Iterable[Path], name: re.Pattern[str], layout: str, expected: str) -> Path:
    """The first of some places in `path` with images of such names. Raises UserError where none has them."""
    for place in places:
        if holds(place, name):
            return place
    raise wrong_layout(path, layout, expected, "such images")


def listing(folder: Path, shown: int = 6) -> str:
    """What is at a path: the first names in a folder, for messages."""
    if not folder.is_dir():
        return "a file" if folder.exists() else "nothing"
    names = sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith("."))
    rest = f" and {len(names) - shown} more" if len(names) > shown else ""
    return (", ".join(names[:shown]) or "nothing") + rest


def image_names(folder: Path) -> list[str]:
    """Names of the images directly in a folder, sorted by name and never in the system's order."""
    return sorted(entry.name for entry in os.scandir(folder) if is_image_name(entry.name))


def holds(folder: Path, name: re.Pattern[str]) -> bool:
    """True where an image directly in a folder has such a name."""
    return folder.is_dir() and any(name.match(each) for each in image_names(folder))


def parsed_names(
    folder: Path, name: re.Pattern[str], form: str, problems: Problems
) -> list[tuple[Path, re.Match[str]]]:
    """The images directly in a folder and what their names tell, sorted by name.

    A name that does not match is a problem; `form` shows what it should look like. Raises UserError when the
    folder holds no images.
    """
    names = image_names(folder)
    if not names:
        raise UserError(f"{folder} holds no images; expected names like {form}")
    parsed = []
    for each in names:
        match = name.match(each)
        if match:
            parsed.append((folder / each, match))
        else:
            problems.report(f"{folder / each} does not have the expected form {form}")
    return parsed


def plain_name(name: str) -> str:
    """A name whatever its case and separators, to compare with the usual names of folders."""
    return re.sub(r"[-_. ]", "", name).lower()


def sub_folders(folder: Path) -> list[Path]:
    """Folders directly in a folder, sorted by name; hidden ones and `__MACOSX` left out."""
    names = sorted(e.name for e in os.scandir(folder) if not e.name.startswith((".", "__")) and _is_folder(e))
    return [folder / name for name in names]


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link in a circle
        return False


def numbered(names: Iterable[str], start: int) -> dict[str, int]:
    """Numbers for names, in sorted order."""
    return {name: number for number, name in enumerate(sorted(set(names)), start)}


def queries_of(samples: Sequence[Sample]) -> tuple[Sample, ...]:
    """One image, the first, of each (identity, camera) whose identity is also seen by another camera.

    With all of `samples` as the gallery each of these queries has a match: its own image is left out of the
    ranking by the rule that leaves out images of the same identity and camera.
    """
    first: dict[tuple[int, int], Sample] = {}
    cameras: dict[int, set[int]] = {}
    for sample in samples:
        if sample.identity != JUNK:
            first.setdefault((sample.identity, sample.camera), sample)
            cameras.setdefault(sample.identity, set()).add(sample.camera)
    return tuple(sample for sample in first.values() if len(cameras[sample.identity]) > 1)
