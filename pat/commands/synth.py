"""`pat synth`: people who do not exist: in three dimensions, flat, or walking along a street."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg, subcommand

from pat.base.errors import UserError
from pat.base.progress import Progress, TerminalProgress, totals
from pat.commands.arguments import parse
from pat.synthetic.flat import generate

Out = Annotated[Positional[Path], arg(metavar="OUT")]


@dataclass(frozen=True)
class People:
    """Render 3D people in Market-1501 layout; people.parquet tells all that is true of every image.

    After Ctrl-C or a full disk the same command continues where it stopped.
    """

    out: Out
    """A new folder, or one that the same command began."""
    identities: int = 5000
    images: int = 24
    """Images of each person."""
    cameras: int = 200
    cameras_each: int = 6
    """Cameras that see each person."""
    test_share: float = 0.1
    """Share of the people who are queries and gallery instead of training."""
    look_alikes: float = 0.2
    """Share of people in families of 4 who differ in one attribute."""
    size: str = "256x128"
    """Height and width in pixels."""
    seed: int = 0
    segmentation: bool = False
    """Write the part at each pixel, too: OUT/segmentation/..."""
    workers: str = "auto"
    """Processes that draw, or auto: one for each core. The images do not depend on it."""
    preset: Literal["test-domain"] | None = None
    """test-domain: 500 people to test on, in places and prints that no training draws; only --size, --workers
    and --segmentation go with it."""

    def run(self, progress: Progress) -> None:
        from pat.synthetic.people.dataset import write_people
        from pat.synthetic.people.plan import TEST_DOMAIN, Plan

        size = _pixels(self.size)
        plan = Plan(
            self.identities, self.images, self.cameras, self.cameras_each, self.test_share, self.look_alikes,
            size, self.seed, segmentation=self.segmentation,
        )  # fmt: skip
        if self.preset == "test-domain":
            if plan != Plan(size=size, segmentation=self.segmentation):
                raise UserError(
                    "the test domain is fixed: with --preset give only --size, --workers and --segmentation"
                )
            plan = replace(TEST_DOMAIN, size=size, segmentation=self.segmentation)
        with progress.bar("places", 0) as places, progress.bar("crops", 0) as crops:
            tell = {"places": totals(places), "crops": totals(crops, "crops/s")}
            images = write_people(
                self.out,
                plan,
                workers=_processes(self.workers),
                progress=lambda what, done, total: tell[what](done, total),
            )
        progress.say(f"wrote {self.out}: {images} images of {plan.identities} people in {plan.cameras} cameras")


@dataclass(frozen=True)
class Flat:
    """Draw flat people in Market-1501 layout, with the true attributes of every image as JSONL: for tests."""

    out: Out
    """A folder that does not exist yet."""
    style: str = "source"
    """Domain: "source", "target", or either with a number ("target:3"): other cameras, places and garments."""
    identities_train: int = 100
    """People to train on."""
    identities_test: int = 50
    """Other people, for query and gallery."""
    cameras: int = 4
    images_per_camera: float = 4
    """Images of each person in each camera; a fraction is a mean."""
    distractors: int = 0
    """Gallery images of people who are no query."""
    junk: int = 0
    """Gallery images that an evaluation ignores."""
    size: str = "128x64"
    """Height and width in pixels."""
    seed: int = 0
    workers: str = "auto"
    """Processes that draw, or auto: one for each core. The images do not depend on it."""

    def run(self, progress: Progress) -> None:
        with progress.bar("draw", 0) as advance:
            numbers = {**vars(self), "size": _pixels(self.size), "workers": _processes(self.workers)}
            summary = generate(**numbers, progress=totals(advance))
        people = f"{summary.identities} people in {summary.cameras} cameras"
        progress.say(f"wrote {self.out}: {summary.images} images of {people}")


@dataclass(frozen=True)
class Street:
    """Film people who walk past cameras: OUT/camera-1.mp4 and so on, and who is where in OUT/truth.jsonl."""

    out: Out
    """A folder that does not exist yet."""
    street_cameras: int = 2
    people: int = 12
    """People who walk past every camera."""
    look_alikes: float = 0.0
    """Share of the people who come in families of 4 that differ in one attribute."""
    returns: tuple[float, ...] = ()
    """Seconds out of sight after which everyone comes back once, to any of the cameras: 5 30 300 lets a third
    come back after each. Longer times without anybody are left out of the videos; their time stamps go on."""
    rate: int = 10
    """Frames per second."""
    seed: int = 0
    workers: str = "auto"
    """Processes that film, or auto: one for each core. The videos do not depend on it."""

    def run(self, progress: Progress) -> None:
        from pat.synthetic.people.street import film_people

        with progress.bar("film", 0) as advance:
            frames = film_people(
                self.out, cameras=self.street_cameras, people=self.people, look_alikes=self.look_alikes,
                returns=self.returns, rate=self.rate, seed=self.seed, workers=_processes(self.workers),
                progress=totals(advance),
            )  # fmt: skip
        videos = f"{self.street_cameras} videos of up to {frames} frames"
        progress.say(f"wrote {self.out}: {videos}, {self.people} people in each")


Kinds = (
    Annotated[People, subcommand("people")]
    | Annotated[Flat, subcommand("flat")]
    | Annotated[Street, subcommand("street")]
)


def main(arguments: Sequence[str]) -> None:
    """Write the kind that is asked for, with a progress bar."""
    parse(Kinds, arguments, "synth").run(TerminalProgress())


def _pixels(size: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+)x(\d+)", size)
    if not match:
        raise UserError(f"size is height x width in pixels, such as 256x128, not {size}")
    return int(match[1]), int(match[2])


def _processes(workers: str) -> int | None:
    if workers == "auto":
        return None
    if not workers.isdigit():
        raise UserError(f"workers is a number of processes or auto, not {workers}")
    return int(workers)
