"""Writing a synthetic data set: Market-1501 folders and names, and the true attributes beside them."""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from pat.data.sample import DISTRACTOR, JUNK
from pat.data.synthetic.domains import DomainStyle, style_named
from pat.data.synthetic.picture import take_picture
from pat.data.synthetic.wardrobe import Identity, identities
from pat.errors import Failure, UserError

TRAIN, QUERY, GALLERY = "bounding_box_train", "query", "bounding_box_test"
ATTRIBUTES = "attributes.jsonl"
QUALITY = 90
CHUNK = 32
MOST_CAMERAS = 9
"""A Market-1501 name holds one digit for the camera."""


@dataclass(frozen=True)
class Summary:
    """What was written; `identities` counts people with a number above 0."""

    pictures: int
    identities: int
    cameras: int


@dataclass(frozen=True)
class Shot:
    """A picture still to be taken. `number` is the identity in the name, `camera` counts from 0."""

    folder: str
    number: int
    camera: int
    index: int
    identity: Identity
    passer_by: Identity

    def path(self, seed: int) -> str:
        """Folder and name, as Market-1501 spells it: identity, camera, sequence, frame, detection."""
        start = int(np.random.default_rng((seed, self.number + 1, self.camera)).integers(1, 90_000))
        number = f"{self.number:04d}" if self.number >= 0 else str(self.number)
        return f"{self.folder}/{number}_c{self.camera + 1}s1_{start + 25 * self.index:06d}_{self.index % 5 + 1:02d}.jpg"


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
    progress: Callable[[int, int], None] | None = None,
) -> Summary:
    """Write the folder `out` in Market-1501 layout, whole or not at all.

    `images_per_camera` is the number of pictures of each person in each camera: exactly, if it is whole, on
    average otherwise (then at least 1 in training and 2 in the test). One picture of each test identity and
    camera is a query, the rest are the gallery, together with `distractors` (other people) and `junk` (bad
    detections of the test people). `size` is height and width in pixels. The bytes depend on all arguments but
    `workers` (None: one for each core) and `progress`, which is called with (done, all) pictures.

    `attributes.jsonl` holds a line for each picture: path, identity, camera (from 1, as in the name), view,
    what the person wears, which parts are visible, and what stands in front.

    Workers are started by multiprocessing's "spawn": a script calls this under `if __name__ == "__main__"`.
    Raises UserError for numbers that make no sense, for more people than the wardrobe can dress, and when
    `out` holds files; Failure when the disk refuses.
    """
    style = style_named(style) if isinstance(style, str) else style
    _check_numbers(identities_train, identities_test, cameras, images_per_camera, distractors, junk, seed, size)
    if workers is not None and workers < 1:
        raise UserError(f"workers must be at least 1, not {workers}")
    out = Path(out)
    _check_free(out)
    shots = list(_planned(style, identities_train, identities_test, cameras, images_per_camera, distractors, junk, seed))
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".part", dir=out.parent))
        try:
            for folder in (TRAIN, QUERY, GALLERY):
                (temporary / folder).mkdir()
            _write(temporary, shots, style, seed, size, workers, progress)
            temporary.chmod(0o755)
            temporary.replace(out)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    except OSError as error:
        raise Failure(f"cannot write synthetic people to {out}: {error.strerror or error}") from error
    return Summary(len(shots), identities_train + identities_test, cameras)


def _check_numbers(
    train: int,
    test: int,
    cameras: int,
    images_per_camera: float,
    distractors: int,
    junk: int,
    seed: int,
    size: tuple[int, int],
) -> None:
    least = 2 if test else 1
    for wrong, message in (
        (train < 0 or test < 0 or train + test < 1, f"{train} training and {test} test identities make no data set"),
        (train + test > 9999, f"{train + test} identities do not fit Market-1501's four digits; take at most 9999"),
        (not 1 <= cameras <= MOST_CAMERAS, f"cameras must be 1 to {MOST_CAMERAS} (one digit in the names), not {cameras}"),
        (
            not least <= images_per_camera <= 100 or not math.isfinite(images_per_camera),
            f"images_per_camera must be {least} to 100{' (a query and a match)' if test else ''}, not {images_per_camera}",
        ),
        (distractors < 0 or junk < 0, f"distractors and junk must be at least 0, not {distractors} and {junk}"),
        (junk > 0 and test == 0, "junk pictures are bad detections of test identities, and there are none"),
        (seed < 0, f"seed must be at least 0, not {seed}"),
        (min(size) < 16 or max(size) > 2048, f"size must be 16 to 2048 pixels (height, width), not {size}"),
    ):
        if wrong:
            raise UserError(message)


def _check_free(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file; name a new folder for the synthetic people")
    if out.is_dir() and any(out.iterdir()):
        raise UserError(f"{out} already holds files; name a new folder for the synthetic people, or empty it")


def _planned(
    style: DomainStyle,
    train: int,
    test: int,
    cameras: int,
    images_per_camera: float,
    distractors: int,
    junk: int,
    seed: int,
) -> Iterator[Shot]:
    """Every picture of the data set; numbers 1 to `train` are the training identities."""
    people = list(islice(identities(style, seed), train + test + distractors))
    generator = np.random.default_rng((style.seed, seed, 6))

    def passer_by() -> Identity:
        return people[int(generator.integers(len(people)))]

    for number, person in enumerate(people[: train + test], start=1):
        is_test = number > train
        for camera in range(cameras):
            for index in range(_count(generator, images_per_camera, 2 if is_test else 1)):
                folder = TRAIN if not is_test else GALLERY if index else QUERY
                yield Shot(folder, number, camera, index, person, passer_by())
    for index, person in enumerate(people[train + test :]):
        yield Shot(GALLERY, DISTRACTOR, int(generator.integers(cameras)), index, person, passer_by())
    for index in range(junk):
        person = people[train + int(generator.integers(test))]
        yield Shot(GALLERY, JUNK, int(generator.integers(cameras)), index, person, passer_by())


def _count(generator: np.random.Generator, mean: float, least: int) -> int:
    if float(mean).is_integer():
        return int(mean)
    return least + int(generator.poisson(mean - least))


def _write(
    root: Path,
    shots: list[Shot],
    style: DomainStyle,
    seed: int,
    size: tuple[int, int],
    workers: int | None,
    progress: Callable[[int, int], None] | None,
) -> None:
    chunks = [shots[start : start + CHUNK] for start in range(0, len(shots), CHUNK)]
    take = partial(_take, root, style, seed, size)
    workers = min(workers or len(os.sched_getaffinity(0)), len(chunks))
    lines: list[dict[str, Any]] = []

    def collect(results: Iterator[list[dict[str, Any]]]) -> None:
        for described in results:
            lines.extend(described)
            if progress is not None:
                progress(len(lines), len(shots))

    if workers == 1:
        collect(map(take, chunks))
    else:
        with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
            collect(pool.map(take, chunks))
    text = "".join(json.dumps(line) + "\n" for line in sorted(lines, key=lambda line: line["path"]))
    (root / ATTRIBUTES).write_text(text, encoding="utf-8")


def _take(root: Path, style: DomainStyle, seed: int, size: tuple[int, int], shots: list[Shot]) -> list[dict[str, Any]]:
    """Take and store some pictures; returns their attributes."""
    described = []
    for shot in shots:
        generator = np.random.default_rng((style.seed, seed, 7, shot.number + 1, shot.camera, shot.index))
        picture = take_picture(
            style,
            shot.camera,
            shot.identity,
            generator,
            size=size,
            passer_by=shot.passer_by,
            badly_framed=shot.number == JUNK,
        )
        path = shot.path(seed)
        picture.image.save(root / path, "JPEG", quality=QUALITY)
        described.append({"path": path, "identity": shot.number, "camera": shot.camera + 1, **picture.attributes})
    return described
