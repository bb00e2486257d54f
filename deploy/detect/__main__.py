"""python -m deploy.detect describe MODEL.onnx --family yolox: write the manifest of a detector."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro
from tyro.conf import Positional

from deploy.detect.describe import describe
from deploy.detect.manifest import FamilyName
from pat.base.errors import Failure, UserError


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


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 2 for a mistake that the user can mend, 1 for a failure."""
    command = tyro.extras.subcommand_cli_from_dict(
        {"describe": Describe}, args=arguments, prog="python -m deploy.detect"
    )
    try:
        manifest = describe(
            command.model,
            command.family,
            out=command.out,
            size=command.size,
            outputs=command.outputs,
            person=command.person,
            threshold=command.threshold,
            licence=command.licence,
        )
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
