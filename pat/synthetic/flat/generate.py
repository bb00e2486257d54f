"""Writing a synthetic data set: Market-1501 folders and names, and the true attributes beside them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from pat.base.errors import UserError
from pat.base.files import folder_written_whole
from pat.data.sample import DISTRACTOR, JUNK
from pat.synthetic.flat.domains import DomainStyle, style_named
from pat.synthetic.flat.photograph import take_photograph
from pat.synthetic.flat.wardrobe import Identity, identities
from pat.synthetic.randomness import stream
from pat.synthetic.sharing import checked_workers, in_processes

TRAIN, QUERY, GALLERY = "bounding_box_train", "query", "bounding_box_test"
ATTRIBUTES = "attributes.jsonl"
QUALITY = 90
CHUNK = 32
MOST_CAMERAS = 9
"""A Market-1501 name holds one digit for the camera."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Summary:
    """What was written; `identities` counts the people with a number above 0."""

    images: int
    identities: int
    cameras: int


def generate(
    out: Path,
    *,
    style: DomainStyle | str,
    identities_train: int,
    identities_test: int,
    cameras: int,
    images_per_camera: float,
    distractors: int = 0,
    junk: int = 0,
    seed: int = 0,
    size: tuple[int, int] = (128, 64),
    workers: int | None = None,
    progress: Progress | None = None,
) -> Summary:
    """Write the folder `out` in Market-1501 layout, completely or not at all.

    `images_per_camera` is the number of images of each person in each camera: exactly where it is whole,
    on average otherwise (then at least 1 in training and 2 in the test). One image of each test identity
    and camera is a query; the others are the gallery, together with `distractors` (other people) and `junk`
    (bad detections of the test people). `size` is height and width in pixels. `progress` is called with the
    numbers of finished and of all images. The bytes depend on all arguments but `out`, `workers` and
    `progress`.

    `attributes.jsonl` has a line for each image: path, identity, camera (from 1, as in the name), view,
    what the person wears, which parts of it are visible, and what stands in front.

    `workers` are processes, one for each core if None; more than one are started by "spawn", so a script
    calls this under `if __name__ == "__main__"`.
    Raises UserError for numbers that make no sense, for more people than the wardrobe can dress, and when
    `out` holds files; Failure when the disk refuses or a worker dies.
    """
    style = style_named(style) if isinstance(style, str) else style
    plan = _Plan(identities_train, identities_test, cameras, images_per_camera, distractors, junk, seed, size)
    plan.check()
    workers = checked_workers(workers)
    out = Path(out)
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file; name a new folder for the synthetic people")
    if out.is_dir() and any(out.iterdir()):
        raise UserError(f"{out} already holds files; name a new folder for the synthetic people, or empty it")
    shots = list(plan.shots(style))
    _write_folder(out, shots, partial(_take, style, plan), workers, progress)
    return Summary(len(shots), identities_train + identities_test, cameras)


@dataclass(frozen=True)
class _Shot:
    """An image still to be taken; `number` is the identity in the name, `camera` counts from 0."""

    path: str
    number: int
    camera: int
    index: int
    identity: Identity
    passer_by: Identity


@dataclass(frozen=True)
class _Plan:
    """How many of what; the arguments of `generate`."""

    train: int
    test: int
    cameras: int
    images_per_camera: float
    distractors: int
    junk: int
    seed: int
    size: tuple[int, int]

    def check(self) -> None:
        """Raise UserError for numbers that make no data set."""
        people, least = self.train + self.test, 2 if self.test else 1
        reason = " (a query and a match)" if self.test else ""
        for wrong, message in (
            (min(self.train, self.test) < 0 or people < 1,
             f"{self.train} training and {self.test} test identities make no data set"),
            (people > 9999, f"{people} identities do not fit the four digits of Market-1501's names"),
            (not 1 <= self.cameras <= MOST_CAMERAS,
             f"cameras must be 1 to {MOST_CAMERAS}, one digit in Market-1501's names, not {self.cameras}"),
            (not least <= self.images_per_camera <= 100,
             f"images_per_camera must be {least} to 100{reason}, not {self.images_per_camera}"),
            (min(self.distractors, self.junk) < 0,
             f"distractors and junk must be at least 0, not {self.distractors} and {self.junk}"),
            (self.test == 0 and self.distractors + self.junk > 0,
             "distractors and junk are for the gallery of test identities, and there are none"),
            (self.seed < 0, f"seed must be at least 0, not {self.seed}"),
            (min(self.size) < 16 or max(self.size) > 2048,
             f"size must be 16 to 2048 pixels each (height, width), not {self.size}"),
        ):  # fmt: skip
            if wrong:
                raise UserError(message)

    def shots(self, style: DomainStyle) -> Iterator[_Shot]:
        """Every image of the data set; identities 1 to `train` are those of training."""
        people = list(islice(identities(style, self.seed), self.train + self.test + self.distractors))
        generator = stream("plan", style.seed, self.seed)

        def shot(folder: str, number: int, camera: int, index: int, person: Identity) -> _Shot:
            passer_by = people[int(generator.integers(len(people)))]
            return _Shot(self._path(folder, number, camera, index), number, camera, index, person, passer_by)

        for number, person in enumerate(people[: self.train + self.test], start=1):
            is_test = number > self.train
            for camera in range(self.cameras):
                for index in range(self._count(generator, 2 if is_test else 1)):
                    folder = TRAIN if not is_test else GALLERY if index else QUERY
                    yield shot(folder, number, camera, index, person)
        for index, person in enumerate(people[self.train + self.test :]):
            yield shot(GALLERY, DISTRACTOR, int(generator.integers(self.cameras)), index, person)
        for index in range(self.junk):
            person = people[self.train + int(generator.integers(self.test))]
            yield shot(GALLERY, JUNK, int(generator.integers(self.cameras)), index, person)

    def _count(self, generator: np.random.Generator, least: int) -> int:
        """Images of one person in one camera."""
        mean = self.images_per_camera
        return int(mean) if float(mean).is_integer() else least + int(generator.poisson(mean - least))

    def _path(self, folder: str, number: int, camera: int, index: int) -> str:
        """Folder and name as Market-1501 spells it: identity, camera, sequence, frame, detection."""
        frame = int(stream("frame", self.seed, number + 1, camera).integers(1, 90_000)) + 25 * index
        identity = f"{number:04d}" if number >= 0 else str(number)
        return f"{folder}/{identity}_c{camera + 1}s1_{frame:06d}_{index % 5 + 1:02d}.jpg"


def _take(style: DomainStyle, plan: _Plan, root: Path, shots: list[_Shot]) -> list[dict[str, Any]]:
    """Take some images and store them; returns their attributes."""
    described = []
    for shot in shots:
        generator = stream("image", style.seed, plan.seed, shot.number + 1, shot.camera, shot.index)
        image, attributes = take_photograph(
            style, shot.camera, shot.identity, generator,
            size=plan.size, passer_by=shot.passer_by, badly_framed=shot.number == JUNK,
        )  # fmt: skip
        image.save(root / shot.path, "JPEG", quality=QUALITY)
        described.append({"path": shot.path, "identity": shot.number, "camera": shot.camera + 1, **attributes})
    return described


def _write_folder(
    out: Path,
    shots: list[_Shot],
    take: Callable[[Path, list[_Shot]], list[dict[str, Any]]],
    workers: int,
    progress: Progress | None,
) -> None:
    chunks = [shots[start : start + CHUNK] for start in range(0, len(shots), CHUNK)]
    lines: list[dict[str, Any]] = []
    with folder_written_whole(out) as temporary:
        for folder in (TRAIN, QUERY, GALLERY):
            (temporary / folder).mkdir()
        for described in in_processes(partial(take, temporary), chunks, min(workers, len(chunks))):
            lines.extend(described)
            if progress is not None:
                progress(len(lines), len(shots))
        text = "".join(json.dumps(line) + "\n" for line in sorted(lines, key=lambda line: line["path"]))
        (temporary / ATTRIBUTES).write_text(text, encoding="utf-8")
        if out.is_dir():
            out.rmdir()  # refuses what has come in meanwhile
