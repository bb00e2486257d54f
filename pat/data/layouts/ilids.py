"""QMUL i-LIDS, an airport: i-LIDS_Pedestrian/Persons/0001002.jpg, person 1, its second image.

476 images of 119 people; which of the cameras took an image is not told. Within a person each image counts
as a camera of its own, so that no answer is left out of a ranking for being from the query's camera. Names of
seven digits are common, so without the folder Persons it is recognised by its folder's name alone.

Ten splits (layouts.splits): 59 people train with all their images. Of each of the 60 others two images are
drawn, one to ask and one for the gallery, as studies of generalisation do; the rest of theirs serve nothing.
Source: Zheng et al., "Associating Groups of People", BMVC 2009.
"""

from __future__ import annotations

import re
from pathlib import Path

from pat.data.layouts.reading import DataSet, Problems, Split, folder_of, holds, parsed_names, plain_name
from pat.data.layouts.splits import SPLITS, divided, first_half, in_drawn_order
from pat.data.sample import Sample

FOLDERS: tuple[str, ...] = ("i-LIDS_Pedestrian", "iLIDS", "QMUL-iLIDS")
EXPECTED = "the folder Persons (or images) with names like 0001002.jpg"

_NAME = re.compile(r"(\d{4})(\d{3})\.")


def recognises(path: Path) -> bool:
    named = plain_name(path.name) in {plain_name(name) for name in (*FOLDERS, "Persons")}
    return any(holds(folder, _NAME) for folder in (_places(path) if named else [path / "Persons"]))


def read(path: Path, name: str, problems: Problems) -> DataSet:
    """Read the folder of i-LIDS. Raises UserError when there are no such images."""
    folder = folder_of(path, _places(path), _NAME, "ilids", EXPECTED)
    people: dict[int, dict[str, Sample]] = {}
    for image, match in parsed_names(folder, _NAME, "0001002.jpg", problems):
        sample = Sample(image, int(match[1]), int(match[2]) - 1, name)
        people.setdefault(sample.identity, {})[image.stem] = sample
    for person in [person for person, images in people.items() if len(images) < 2]:
        problems.report(f"{next(iter(people.pop(person).values())).path} is the only image of its person")
    every = [sample for images in people.values() for sample in images.values()]
    return divided(path, name, every, lambda: [_split(people, number) for number in range(SPLITS)], problems)


def _split(people: dict[int, dict[str, Sample]], number: int) -> Split:
    training = first_half(people, "ilids", number)
    train: list[Sample] = []
    query: list[Sample] = []
    gallery: list[Sample] = []
    for person, images in sorted(people.items()):
        if person in training:
            train += images.values()
        else:
            first, second = in_drawn_order(images, "ilids", number)[:2]
            query.append(images[first])
            gallery.append(images[second])
    return Split(tuple(train), tuple(query), tuple(gallery))


def _places(path: Path) -> tuple[Path, ...]:
    return (path / "Persons", path / "images", path)
