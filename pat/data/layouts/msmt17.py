"""MSMT17: lists of images, `0000/0000_000_01_0303morning_0008_0.jpg 0`, and two folders they lie in.

V1 keeps the images in `train` and `test`, V2 (faces masked) in `mask_train_v2` and `mask_test_v2`. The number
after the name is the identity, the third field of the name the camera, 1 to 15. The training part is list_train
and list_val together: they show the same 1,041 people. `msmt17:no-val` trains on list_train alone, as the releases
of torchreid and PAT do unless told otherwise; which of the two it was belongs to a result. Identities of the
training and the test part count from 0 each and are different people. Source: Wei et al., "Person Transfer GAN to
Bridge Domain Gap for Person Re-Identification", CVPR 2018.
"""

from __future__ import annotations

import functools
import re
from pathlib import Path

from pat.base.errors import UserError
from pat.data.layouts.reading import DataSet, Problems, wrong_layout
from pat.data.sample import Sample

FOLDERS: tuple[str, ...] = ("MSMT17_V1", "MSMT17_V2", "MSMT17")
EXPECTED = (
    "list_train.txt, list_val.txt, list_query.txt, list_gallery.txt and the folders train and test "
    "(V2: mask_train_v2 and mask_test_v2)"
)

NO_VAL = "no-val"

_FORM = "0000/0000_000_01_0303morning_0008_0.jpg 0"
_NAME = re.compile(r"\d+_\d+_(\d+)_")
_CAMERAS = range(1, 16)


def recognises(path: Path) -> bool:
    return any((path / f"list_{part}.txt").is_file() for part in ("train", "query", "gallery"))


def read(path: Path, name: str, problems: Problems, *, val: bool = True) -> DataSet:
    """Read the folder of MSMT17. Raises UserError when a list or folder is missing or a list is empty."""
    train = _first_folder(path, "train", "mask_train_v2")
    test = _first_folder(path, "test", "mask_test_v2")
    parts = {"train": train, "val": train, "query": test, "gallery": test}
    samples = {part: _listed(path, part, folder, name, problems) for part, folder in parts.items()}
    trains = samples["train"] + (samples["val"] if val else [])
    people = sorted(trains, key=lambda sample: sample.path.as_posix())
    query, gallery = tuple(samples["query"]), tuple(samples["gallery"])
    return DataSet(name, tuple(people), query, gallery, tuple(problems.notes))


DIVISIONS = {NO_VAL: functools.partial(read, val=False)}
"""Other ways to divide it, after a colon."""


def _first_folder(path: Path, *names: str) -> Path:
    for name in names:
        if (path / name).is_dir():
            return path / name
    raise wrong_layout(path, "msmt17", EXPECTED, " or ".join(names))


def _listed(path: Path, part: str, folder: Path, domain: str, problems: Problems) -> list[Sample]:
    """The images of one list, sorted by name."""
    file = path / f"list_{part}.txt"
    if not file.is_file():
        raise wrong_layout(path, "msmt17", EXPECTED, file.name)
    samples = []
    lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    for number, line in enumerate(lines, 1):
        relative, _, identity = line.strip().rpartition(" ")
        match = _NAME.match(relative.rpartition("/")[2])
        if not line.strip():
            continue
        if not (match and identity.isdecimal() and int(match[1]) in _CAMERAS):
            problems.report(f"{file}, line {number}: {line!r} does not have the expected form {_FORM}")
        elif not (folder / relative).is_file():
            problems.report(f"{file}, line {number}: the image {folder / relative} does not exist")
        else:
            samples.append(Sample(folder / relative, int(identity), int(match[1]) - 1, domain))
    if not samples:
        raise UserError(f"{file} lists no image; expected lines like {_FORM}")
    return sorted(samples, key=lambda sample: sample.path.as_posix())
