"""A drawn training set with as many images and people as asked for."""

from __future__ import annotations

import csv
import io
from itertools import chain, groupby, islice, zip_longest
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
        generate(
            people, style="source", identities_train=identities, identities_test=0, cameras=CAMERAS,
            images_per_camera=-(-images // (identities * CAMERAS)),
        )  # fmt: skip
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
    by_place = [list(group) for _, group in groupby(sorted(paths), place)]
    by_place.sort(key=lambda group: place(group[0])[::-1])  # camera, identity
    turns = chain(*zip_longest(*by_place))  # the first image of everyone in each camera, then their second
    return sorted(islice(filter(None, turns), count))


def place(path: Path) -> tuple[str, str]:
    """Identity and camera of an image from its Market-1501 name, 0007_c3s1_000025_01.jpg."""
    identity, camera, *_ = path.name.split("_")
    return identity, camera[1]
