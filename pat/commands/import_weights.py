"""`pat import-weights`: a foreign checkpoint becomes a model file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tyro.conf import Positional

from pat.commands.arguments import parse


@dataclass(frozen=True)
class Arguments:
    """Convert a checkpoint of another project into a model file of this one.

    Read are: the paper's authors' checkpoints; timm's ViT, DeiT and DINOv2, the same under Hugging Face's names,
    and torchvision's ViT; self-supervised person ViTs (TransReID-SSL with either stem, PASS, a ViT trained as
    SOLIDER is) as published or as DINO's whole checkpoint; fine-tuned TransReID and CLIP-ReID; CLIP image towers
    (OpenAI's archive, open_clip, Hugging Face).
    The architecture is read from the shapes; every key that is not used is named.
    """

    file: Positional[Path]
    """The checkpoint: .pth, .pt, .bin or .safetensors. Nothing in it is run, be it a pickle or TorchScript."""
    out: Positional[Path]
    """The .safetensors file to write."""
    image_size: tuple[int, int] | None = None
    """Height and width in pixels, where the number of patches does not tell."""
    parts: int | None = None
    """Part tokens to add to a plain backbone, copied from its cls token."""
    part_tokens: Literal["auto", "first", "own"] = "auto"
    """What each part of an authors' checkpoint reads: "first" token 1 for all (trained before November 2024),
    "own" its own, "auto" decides by whether tokens 2 and 3 are equal."""
    activation: Literal["auto", "gelu", "quick_gelu"] = "auto"
    """Activation of a CLIP tower, where the file does not tell: OpenAI, DFN and MetaCLIP trained with quick_gelu,
    LAION and DataComp with gelu."""
    normalisation: Literal["auto", "half", "imagenet"] = "auto"
    """Mean and standard deviation of the inputs: "half" is 0.5 (timm's augreg ViTs), "imagenet" ImageNet's (DeiT,
    DINO, DINOv2, MAE, BEiT-like weights), "auto" what the file suggests."""


def main(arguments: Sequence[str]) -> None:
    """Convert the file and print what was done."""
    given = parse(Arguments, arguments, "import-weights")
    from pat.model.weights import import_weights  # here: the help does without PyTorch

    report = import_weights(
        given.file, given.out, image_size=given.image_size, parts=given.parts, part_tokens=given.part_tokens,
        activation=given.activation, normalisation=given.normalisation,
    )  # fmt: skip
    print("\n".join(report))
