"""`pat import-weights`: a foreign checkpoint becomes a model file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tyro.conf import Positional

from pat.commands.arguments import parse
from pat.model.weights import import_weights


@dataclass(frozen=True)
class Arguments:
    """Convert a checkpoint of the paper's authors, or a timm state dict, into a model file of this project.

    The architecture is read from the shapes; every key that is not used is named.
    """

    file: Positional[Path]
    """The checkpoint: .pth, .pt or .safetensors. Pickles are read without running their code."""
    out: Positional[Path]
    """The .safetensors file to write."""
    image_size: tuple[int, int] | None = None
    """Height and width in pixels, where the number of patches does not tell."""
    parts: int | None = None
    """Part tokens to add to a plain backbone, copied from its cls token."""
    part_tokens: Literal["auto", "first", "own"] = "auto"
    """What each part of an authors' checkpoint reads: "first" token 1 for all (trained before November 2024),
    "own" its own, "auto" decides by whether tokens 2 and 3 are equal."""


def main(arguments: Sequence[str]) -> None:
    """Convert the file and print what was done."""
    given = parse(Arguments, arguments, "import-weights")
    report = import_weights(
        given.file, given.out, image_size=given.image_size, parts=given.parts, part_tokens=given.part_tokens
    )
    print("\n".join(report))
