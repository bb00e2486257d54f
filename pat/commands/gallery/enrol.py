"""`pat gallery enrol` and `search`: images of people into a gallery, and who an image shows."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Annotated

import numpy as np
from PIL import Image
from tyro.conf import Positional, arg

from deploy import runtime
from deploy.gallery import Gallery, facts_of
from deploy.gallery.database import FILE
from deploy.gallery.facts import DAY, words
from deploy.gallery.fingerprint import fingerprint
from export.manifest import Manifest
from pat.base.errors import UserError
from pat.base.files import named_path
from pat.base.progress import Advance, Progress
from pat.commands.embedders import SHIPPED, model_and_rest
from pat.commands.gallery.tools import OnGallery, moment, print_table, seconds_of
from pat.data.images import UnreadableImage, find_images, load_rgb
from pat.data.layouts import stored_as
from pat.data.layouts.folder import cameras_in, parts_in

BATCH = 32


@dataclass(frozen=True)
class Enrol(OnGallery):
    """Put known people into a gallery: crops in folders, one sub-folder for each identity.

    The gallery is made where there is none; cameras may be using it. It keeps vectors, no images. Who is enrolled
    is kept until forgotten, or for --retention-hours, whatever `pat camera --gallery.retention-hours` says.
    """

    bundle: Annotated[Positional[str], arg(metavar="[BUNDLE]", help_behavior_hint=SHIPPED)] = ""
    """The bundle folder of `pat export`: the gallery takes vectors of one model only."""
    folders: Annotated[
        Positional[tuple[Path, ...]], arg(metavar="FOLDER...", help_behavior_hint="(at least one)")
    ] = ()
    """Folders with a sub-folder for each identity; with --identity, folders or images of that one."""
    identity: str = ""
    """All images show this one identity."""
    camera: str = "enrolled"
    """The camera that the entries are said to come from."""
    note: str = ""
    """A note kept with every entry."""
    retention_hours: float = math.inf
    """How long these people are kept; inf: until they are forgotten."""
    skip_unreadable: bool = False
    """Name unreadable images and go on, instead of stopping at the first."""

    def run(self, progress: Progress) -> None:
        given = (named_path(self.bundle), *self.folders) if self.bundle or self.folders else ()
        bundle, folders = model_and_rest(given, progress)
        if not folders:
            raise UserError("name the folders or images to enrol")
        if not self.retention_hours > 0:
            raise UserError(f"--retention-hours is {self.retention_hours}; it must be above 0")
        found = named_images(folders, self.identity)
        manifest = Manifest.load(bundle)
        kept = self.retention_hours * 3600
        people: set[str] = set()
        stored = 0
        with progress.bar("enrol", len(found)) as advance:
            crops = self._read(found, manifest, progress, advance)
            batches = iter(lambda: list(islice(crops, BATCH)), [])
            first = next(batches, None)  # before a gallery is made for nobody
            if first is None:
                raise UserError("none of the images could be read; nothing was enrolled")
            with (
                runtime.open(bundle) as session,
                Gallery.open(
                    self.gallery, dimension=manifest.output.size, model=fingerprint(manifest),
                    retention=self._others(),
                ) as gallery,
            ):  # fmt: skip
                for batch in chain([first], batches):
                    names = [name for name, _ in batch]
                    vectors = session.embed(np.stack([pixels for _, pixels in batch]))
                    gallery.add(
                        vectors, identity=names, camera=self.camera, time=time.time(), note=self.note,
                        keep_for=kept,
                    )  # fmt: skip
                    people.update(names)
                    stored += len(names)
        progress.say(
            f"{self.gallery}: enrolled {len(people)} identities, {stored} entries, kept for {words(kept)}"
        )

    def _others(self) -> float | None:
        """How long the gallery keeps everybody else: as it does already."""
        there = (Path(self.gallery) / FILE).exists()
        return facts_of(self.gallery).retention if there else DAY

    def _read(
        self, found: Iterable[tuple[Path, str]], manifest: Manifest, progress: Progress, advance: Advance
    ) -> Iterator[tuple[str, np.ndarray]]:
        for path, name in found:
            try:
                yield name, crop_of(path, manifest)
            except UnreadableImage as error:
                if not self.skip_unreadable:
                    raise
                progress.say(f"skipped {error.path}: {error.reason}")
            advance(1)


@dataclass(frozen=True)
class Search(OnGallery):
    """Say who an image of a person shows: the nearest entries of a gallery, best first."""

    bundle: Annotated[Positional[Path], arg(metavar="[BUNDLE]", help_behavior_hint=SHIPPED)] = Path()
    """The bundle folder that the gallery was filled with."""
    image: Annotated[Positional[Path], arg(metavar="IMAGE", help_behavior_hint="(required)")] = Path()
    """A crop: one person, from head to feet."""
    k: int = 10
    """Answers."""
    camera: str | None = None
    """Entries of this camera alone."""
    exclude_camera: str | None = None
    """Entries of the other cameras alone."""
    since: str = ""
    """Entries from this time on: 2026-11-23T08:57 (local), or seconds since the epoch."""
    until: str = ""
    """Entries up to this time."""
    json: bool = False
    """One JSON object a line instead of a table."""

    def run(self, progress: Progress) -> None:
        words = [word for word in (self.bundle, self.image) if word != Path()]
        bundle, images = model_and_rest(words, progress)
        if len(images) != 1:
            raise UserError("name one image to search for")
        manifest = Manifest.load(bundle)
        since, until = seconds_of("--since", self.since), seconds_of("--until", self.until)
        crop = crop_of(images[0], manifest)
        retention = facts_of(self.gallery).retention
        with runtime.open(bundle) as session:
            vector = session.embed(crop[None])[0]
        with Gallery.open(
            self.gallery, dimension=manifest.output.size, model=fingerprint(manifest), retention=retention
        ) as gallery:
            found = gallery.search(
                vector, self.k, camera=self.camera, exclude_camera=self.exclude_camera, since=since, until=until
            )
        if self.json:
            for match in found:
                print(json.dumps(asdict(match), ensure_ascii=False))
            return
        rows = [[each.identity, f"{each.score:.4f}", each.camera, moment(each.time), each.note] for each in found]
        print_table(["identity", "cosine", "camera", "time", "note"], rows)


def named_images(paths: tuple[Path, ...], identity: str) -> list[tuple[Path, str]]:
    """Images and the identity of each: the one given, or the sub-folder's name.

    Raises UserError without one, and for a data set, whose folders are no people.
    """
    if identity:
        return [(image, identity) for image in find_images(paths)]
    found = []
    for folder in paths:
        if not folder.is_dir():
            raise UserError(f"{folder} is no folder of identities; for single images give --identity NAME")
        if stored := stored_as(folder) or ", ".join(parts_in(folder)):
            raise UserError(
                f"{folder} is a data set ({stored}), whose folders are no people; give a folder with a sub-folder "
                "for each person"
            )
        if cameras := cameras_in(folder):
            raise UserError(
                f"{folder} holds cameras ({', '.join(cameras)}), which are no people; give folders with a "
                "sub-folder for each person, one camera's at a time with --camera"
            )
        for image in find_images([folder]):
            inside = image.relative_to(folder).parts
            if len(inside) < 2:
                raise UserError(
                    f"{image} lies in no identity's sub-folder; sort it into one, or give --identity"
                )
            found.append((image, inside[0]))
    return found


def crop_of(path: Path, manifest: Manifest) -> np.ndarray:
    """An image at the size of the bundle's input, uint8 [H, W, 3]. Raises UnreadableImage (a UserError)."""
    size = (manifest.input.width, manifest.input.height)
    return np.asarray(load_rgb(path).resize(size, Image.Resampling.BICUBIC))
