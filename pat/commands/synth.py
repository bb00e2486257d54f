"""`pat synth`: synthetic people in Market-1501 layout, or walking along a street."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional

from pat.commands.arguments import parse
from pat.progress import TerminalProgress
from pat.synthetic.flat import generate
from pat.synthetic.flat.street import film_street


@dataclass(frozen=True)
class Arguments:
    """Draw synthetic people in Market-1501 layout, with the true attributes of every image as JSONL.

    With --street-cameras N they are filmed instead: OUT/camera-1.mp4 and so on, and who is where in
    OUT/truth.jsonl.
    """

    out: Positional[Path]
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
    size: tuple[int, int] = (128, 64)
    """Height and width in pixels."""
    street_cameras: int = 0
    """Cameras that film the same people walking past; 0 takes single images."""
    people: int = 10
    """People who walk past every one of --street-cameras."""
    seed: int = 0
    workers: int | None = None
    """Processes that draw; default: one for each core. The images do not depend on it."""


def main(arguments: Sequence[str]) -> None:
    """Draw the images with a progress bar."""
    given = parse(Arguments, arguments, "synth")
    progress = TerminalProgress()
    with progress.bar("draw", 0) as advance:
        done = 0

        def report(count: int, total: int) -> None:
            nonlocal done
            advance(count - done, "", total)
            done = count

        if given.street_cameras:
            frames = film_street(
                given.out,
                style=given.style,
                cameras=given.street_cameras,
                people=given.people,
                seed=given.seed,
                progress=report,
            )
            videos = f"{given.street_cameras} videos of {frames} frames"
            progress.say(f"wrote {given.out}: {videos}, {given.people} people in each")
            return
        summary = generate(
            given.out,
            style=given.style,
            identities_train=given.identities_train,
            identities_test=given.identities_test,
            cameras=given.cameras,
            images_per_camera=given.images_per_camera,
            distractors=given.distractors,
            junk=given.junk,
            seed=given.seed,
            size=given.size,
            workers=given.workers,
            progress=report,
        )
    people = f"{summary.identities} people in {summary.cameras} cameras"
    progress.say(f"wrote {given.out}: {summary.images} images of {people}")
