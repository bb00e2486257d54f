"""A drawn training set with as many images and people as asked for."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from pat.base.errors import UserError
from pat.base.files import write_text
from pat.base.progress import Progress
from pat.synthetic.flat import generate

CAMERAS = 6  # as in Market-1501


def draw_people(folder: Path, images: int, identities: int, progress: Progress) -> Path:
    """The table of the set in `folder`, drawn where it is not there yet: a source for DataConfig.

    Everyone is drawn equally often in each camera, 128 x 64 pixels; what is beyond `images` is left out of the
    table, the last images of as many people as it takes. Raises UserError for numbers that make no set.
    """
    table = folder / "train.csv"
    if table.exists():
        return table
    if not 1 <= identities <= images:
        raise UserError(f"{images} images of {identities} people: each needs one at least")
    people = folder / "people"
    if not people.exists():
        progress.say(f"drawing {images} images of {identities} people")
        each = -(-images // (identities * CAMERAS))
        generate(
            people,
            style="source",
            identities_train=identities,
            identities_test=0,
            cameras=CAMERAS,
            images_per_camera=each,
        )
    text = io.StringIO()
    rows = csv.writer(text)
    rows.writerow(("path", "identity", "camera", "split"))
    for path in chosen(sorted(people.rglob("*.jpg")), images):
        identity, camera = place(path)
        rows.writerow((path.relative_to(folder).as_posix(), identity, camera, "train"))
    write_text(table, text.getvalue())
    return table


def chosen(paths: list[Path], count: int) -> list[Path]:
    """`count` images in the order of their names; those left out are spread over people, then over cameras."""
    seen: dict[tuple[str, str], int] = {}

    def turn(path: Path) -> tuple[int, str, str]:
        """The first image of everyone in each camera comes before anyone's second."""
        identity, camera = place(path)
        number = seen[identity, camera] = seen.get((identity, camera), -1) + 1
        return number, camera, identity

    turns = {path: turn(path) for path in paths}
    return sorted(sorted(paths, key=turns.__getitem__)[:count])


def place(path: Path) -> tuple[str, str]:
    """Identity and camera of an image from its Market-1501 name, 0007_c3s1_000025_01.jpg."""
    identity, camera, *_ = path.name.split("_")
    return identity, camera[1]
