"""python -m deploy.detect fetch|describe: bring an ONNX detector, and write the manifest that the camera reads."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from tyro.conf import Positional, arg

from deploy.detect.describe import describe
from deploy.detect.fetch import PUBLISHED, fetch
from deploy.detect.manifest import DetectorManifest, FamilyName
from pat.base.errors import Failure, UserError
from pat.base.progress import TerminalProgress


@dataclass(frozen=True)
class Describe:
    """Write the manifest that tells how an ONNX people detector is fed and read."""

    model: Positional[Path]
    """The ONNX file."""
    family: FamilyName
    """What kind of model it is."""
    out: Path | None = None
    """The manifest; by default NAME.json beside NAME.onnx."""
    size: tuple[int, int] | None = None
    """Height and width of the input, where the model leaves them open."""
    outputs: tuple[str, ...] = ()
    """Names of the outputs, where they are not the usual ones: boxes and scores of an rf-detr."""
    person: int | None = None
    """Index of the class of people: 1 for an rf-detr and 0 for a yolox of the published COCO weights."""
    threshold: float | None = None
    """Least score of a detection, 0 to 1."""
    licence: str = ""
    """Licence of the weights, as a note."""

    def run(self) -> DetectorManifest:
        return describe(**vars(self))


@dataclass(frozen=True)
class Fetch:
    """Fetch a published ONNX detector and write its manifest. Nothing is fetched unless you ask for it here."""

    name: Annotated[Positional[str], arg(metavar="NAME")]
    """yolox-nano (3.7 MB, 1.1 GFLOP an image), yolox-tiny (20 MB, 6.5) or yolox-s (36 MB, 27); all Apache-2.0."""
    out: Path = Path("detectors")
    """The folder for the model and its manifest."""
    url: str | None = None
    """Another address of the same file: it must have the same hash."""

    def run(self) -> DetectorManifest:
        known = PUBLISHED.get(self.name)
        if known is not None:
            sys.stderr.write(
                f"{self.url or known.url}, {known.licence}; expected SHA-256 {known.sha256}. Its makers publish "
                "no hash: this one is what several projects have found at that address\n"
            )
        manifest = fetch(self.name, self.out, url=self.url, progress=TerminalProgress())
        sys.stderr.write(f"use it with `pat camera --detect.detector {manifest.model_file()}`\n")
        return manifest


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 2 for a mistake that the user can mend, 1 for a failure."""
    command = tyro.extras.subcommand_cli_from_dict(
        {"fetch": Fetch, "describe": Describe}, args=arguments, prog="python -m deploy.detect"
    )
    try:
        manifest = command.run()
    except (UserError, Failure) as error:
        sys.stderr.write(f"error: {error}\n")
        return 2 if isinstance(error, UserError) else 1
    feed = manifest.input
    sys.stdout.write(
        f"{manifest.path}: {manifest.family}, input {feed.height} x {feed.width}, {manifest.boxes} boxes, "
        f"class {manifest.person} of {manifest.classes} is people, scores from {manifest.threshold:g}\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
