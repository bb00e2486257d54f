"""From identities and cameras that are names to a data set: shared by the layouts for own data.

Names become numbers in sorted order over the whole data set, identities from 1 and cameras from 0; an identity
named -1 is junk, and beside junk 0000 is a distractor, as in Market-1501. Without a split every image serves
training and evaluation alike: the gallery is everything, the queries are one image of each (identity, camera)
whose identity another camera sees too. A part `test` is a gallery; where there is no `query` part, the queries are
chosen from the gallery in the same way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pat.base.errors import UserError
from pat.data.layouts.reading import DataSet, Problems, numbered, queries_of
from pat.data.sample import DISTRACTOR, JUNK, Sample

SPLITS = ("train", "query", "gallery", "test")


@dataclass(frozen=True)
class NamedImage:
    """An image whose identity and camera are still names; `split` is empty in a data set without one."""

    path: Path
    identity: str
    camera: str
    split: str = ""


def data_set_of(images: Sequence[NamedImage], name: str, origin: Path, problems: Problems) -> DataSet:
    """Number the images and divide them. Raises UserError when there is none; `origin` is for messages."""
    if not images:
        raise UserError(f"{origin} holds no image that can be used")
    names = {image.identity for image in images}
    nobody = {"-1": JUNK, "0000": DISTRACTOR} if "-1" in names else {}
    identities = {**numbered(names - nobody.keys(), start=1), **nobody}
    cameras = numbered((p.camera for p in images), start=0)
    parts: dict[str, list[Sample]] = {}
    for image in sorted(images, key=lambda p: p.path.as_posix()):
        sample = Sample(image.path, identities[image.identity], cameras[image.camera], name)
        parts.setdefault(image.split, []).append(sample)

    everything = parts.get("", [])
    train = [sample for sample in everything + parts.get("train", []) if sample.identity > DISTRACTOR]
    gallery = everything + parts.get("gallery", []) + parts.get("test", [])
    query = tuple(parts.get("query", ())) or queries_of([s for s in gallery if s.identity > DISTRACTOR])
    if gallery and not query:
        problems.notes.append(
            f"{name}: no identity is seen by two cameras, so it can be trained on but not evaluated"
        )
    return DataSet(name, tuple(train), query, tuple(gallery), tuple(problems.notes))
