"""Images of people nobody has named, such as LUPerson, in folders of any depth: unlabelled=PATH.

Each image is a person of its own, numbered from 1 in the order of the paths. That is what the memory bank
needs: it has a slot for every image and never looks at identities, and with one identity an image "the same
person" leaves out the image itself and nothing else. It is for studies of the bank's size, time and
neighbours; a classifier over it has a class for every image, and batches repeat each image. The folder that
an image lies in counts as its camera, because LUPerson keeps the images of a video together. There is no
query and no gallery. Source: Fu et al., "Unsupervised Pre-training for Person Re-identification", CVPR 2021.
"""

from __future__ import annotations

from pathlib import Path

from pat.base.errors import UserError
from pat.data.images import find_images
from pat.data.layouts.reading import DataSet, Problems, numbered
from pat.data.sample import Sample

FOLDERS: tuple[str, ...] = ()
EXPECTED = "a folder of images, in folders of any depth; always asked for, as unlabelled=PATH"


def recognises(path: Path) -> bool:
    """False: any folder could be one, so it has to be asked for."""
    return False


def read(path: Path, name: str, problems: Problems) -> DataSet:
    """Read every image below a folder. Raises UserError when there is none."""
    if not path.is_dir():
        raise UserError(f"{path} does not have the layout unlabelled: expected {EXPECTED}")
    images = find_images([path])
    cameras = numbered((image.parent.as_posix() for image in images), start=0)
    train = tuple(
        Sample(image, identity, cameras[image.parent.as_posix()], name)
        for identity, image in enumerate(images, 1)
    )
    problems.notes.append(f"{name}: no identity is known, so each image counts as a person of its own")
    return DataSet(name, train, (), (), tuple(problems.notes))
