"""Is a data set on disk whole? What it holds beside what was published, and which images cannot be used."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pat.base.errors import UserError
from pat.base.progress import Progress
from pat.data.figures import FIGURES, Figures, Size
from pat.data.images import UnreadableImage, decode_rgb, read_bytes
from pat.data.layouts import DataSet, Found
from pat.data.sample import JUNK, Sample

PARTS = ("train", "query", "gallery")


@dataclass(frozen=True)
class Count:
    """What a part holds."""

    identities: int
    images: int
    cameras: int


@dataclass
class Finding:
    """What was found of one data set; it is whole where `wrong` is empty."""

    found: Found
    parts: dict[str, Count] = field(default_factory=dict)
    """train, query, gallery and, of all images in any part or split, whole."""
    published: Figures | None = None
    wrong: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    def to_mapping(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "name": self.found.name,
            "layout": self.found.layout,
            "path": str(self.found.path),
            "parts": {name: vars(count) for name, count in self.parts.items()},
            "published": {part: size_of(self.published, part) for part in self.parts} if self.published else None,
            "wrong": self.wrong,
            "remarks": self.remarks,
        }


def check(found: Found, progress: Progress, quick: bool = False) -> Finding:
    """Read a data set, count it and open every image; `quick` looks at names alone.

    What is wrong with it is in the result and not raised, a line each.
    """
    finding = Finding(found, published=_figures_of(found))
    try:
        data_set = found.read("skip")
    except UserError as error:
        finding.wrong.append(str(error))
        return finding
    for note in data_set.notes:
        remarks = finding.wrong if note.startswith("left out: ") else finding.remarks
        remarks.append(note.removeprefix(f"{data_set.name}: "))
    _count(data_set, finding)
    if not quick:
        _open_images(data_set, finding, progress)
    return finding


def size_of(figures: Figures | None, part: str) -> Size | None:
    """The published size of a part, where there is one."""
    size: Size | None = getattr(figures, part) if figures else None
    return size


def _figures_of(found: Found) -> Figures | None:
    """The published figures, unless the folder may be somebody's own data stored like Market-1501."""
    somebodys_own = found.layout == "market1501" and found.name != found.layout
    return None if somebodys_own else FIGURES.get(found.layout)


def _count(data_set: DataSet, finding: Finding) -> None:
    """Fill in the parts, and say where they differ from what was published."""
    figures = finding.published
    nobody = figures.nobody if figures else frozenset({JUNK})
    parts: dict[str, Sequence[Sample]] = {part: getattr(data_set, part) for part in PARTS}
    parts["whole"] = _every_sample(data_set)
    people = {part: {sample.identity for sample in samples} - nobody for part, samples in parts.items()}
    identities = {part: len(each) for part, each in people.items()}
    if figures and figures.counted_apart:
        tested = people["query"] | people["gallery"]
        identities["whole"] = len(people["train"]) + len(tested)
    for part, samples in parts.items():
        count = Count(identities[part], len(samples), len({sample.camera for sample in samples}))
        finding.parts[part] = count
        published = size_of(figures, part)
        if published and (count.identities, count.images) != published:
            finding.wrong.append(
                f"{part}: {count.identities} identities and {count.images} images, "
                f"published are {published[0]} and {published[1]}"
                + ("; half copied?" if count.images < published[1] else "")
            )
    cameras = finding.parts["whole"].cameras
    if figures and figures.cameras not in (None, cameras):
        finding.wrong.append(f"images of {cameras} cameras, published are {figures.cameras}")


def _every_sample(data_set: DataSet) -> list[Sample]:
    """The images of any part of any split, each once, sorted by name."""
    divisions = data_set.splits or (data_set,)
    samples = (sample for division in divisions for part in PARTS for sample in getattr(division, part))
    return sorted({sample.path: sample for sample in samples}.values(), key=lambda sample: sample.path.as_posix())


def _open_images(data_set: DataSet, finding: Finding, progress: Progress) -> None:
    """Decode every image; name those that are broken, and those that are there twice."""
    paths = [sample.path for sample in _every_sample(data_set)]
    same: dict[str, list[Path]] = {}
    broken = 0
    with (
        progress.bar(f"open {finding.found.name}", len(paths)) as advance,
        ThreadPoolExecutor(min(32, os.cpu_count() or 1)) as threads,
    ):
        for path, (digest, reason) in zip(paths, threads.map(_opened, paths), strict=True):
            if reason:
                broken += 1
                finding.wrong.append(f"broken: {path}: {reason}")
            if digest:
                same.setdefault(digest, []).append(path)
            advance(1, f"{broken} broken" if broken else "")
    counts_fit = finding.published is not None and not finding.wrong
    for group in same.values():
        if len(group) > 1:
            # Where every count is the published one, the doubles are the data set's own.
            told = f"the same image: {' = '.join(map(str, group))}"
            (finding.remarks if counts_fit else finding.wrong).append(told)


def _opened(path: Path) -> tuple[str, str]:
    """Hash of the contents (empty where there are none to compare), and why the image is broken, or nothing."""
    try:
        data = read_bytes(path)
    except UnreadableImage as error:
        return "", error.reason
    digest = hashlib.blake2b(data, digest_size=16).hexdigest() if data else ""
    try:
        decode_rgb(data, path)
    except UnreadableImage as error:
        return digest, error.reason
    return digest, ""
