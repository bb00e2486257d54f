"""`pat demo`: the model in the box finds people and watches a street; then a small PAT learns before your eyes."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pat.base.errors import UserError
from pat.base.files import write_image, write_json
from pat.base.progress import Progress, TerminalProgress
from pat.commands.arguments import parse, writable
from pat.commands.small_study import TRAINING
from pat.evaluation.report import Report, versions


@dataclass(frozen=True)
class Arguments:
    """See what the project does, on people who do not exist.

    First the model in the box: it finds rendered people again in other cameras, and the camera process names
    those who walk past two cameras. Then a small PAT learns from scratch on flat people of one domain and finds
    people of another. Writes report.html, report.json and model.safetensors (the small one); minutes on two cores.
    """

    out: Path = Path("runs/demo")
    """Folder for everything; the images in it are drawn once and used again."""
    training: bool = True
    """Train the small PAT, too; without, the demo takes about a minute."""
    epochs: int = TRAINING.epochs
    """Of the training."""
    seed: int = 0
    device: str = "auto"
    """Where the training runs."""


def main(arguments: Sequence[str]) -> None:
    """Run the demo."""
    given = parse(Arguments, arguments, "demo")
    if given.epochs < 1:
        raise UserError("--epochs must be at least 1")
    writable(given.out)
    run(given, TerminalProgress())


def run(given: Arguments, progress: Progress) -> None:
    """The demo from images to report."""
    from pat.commands.demo import first_day, training  # here, and both at once: the help does without PyTorch

    started = time.perf_counter()
    report = Report("Finding people on cameras never seen", "On people who do not exist")
    box, figures = first_day.run(given.out / "box", report, progress)
    facts: dict[str, Any] = {"box": box}
    if given.training:
        learned, drawn = training.run(given.out, given.epochs, given.seed, given.device, report, progress)
        facts |= learned
        figures |= drawn
    minutes = (time.perf_counter() - started) / 60
    facts |= {"minutes": minutes, "seed": given.seed, "versions": versions()}
    report.add_settings("Settings", {"demo": dataclasses.asdict(given), "training": dataclasses.asdict(TRAINING)})
    report.add_settings("Versions", versions())
    for name, image in figures.items():
        write_image(image, given.out / f"{name}.png")
    write_json(given.out / "report.json", facts)
    report.write(given.out / "report.html")
    progress.say(f"done in {minutes:.1f} minutes; open {given.out / 'report.html'}")
