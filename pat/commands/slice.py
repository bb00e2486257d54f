"""`pat slice`: a narrower model, cut out of a trained one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

from export.check_set import compare
from export.crops import Pixels, evenly, find_images, read_images
from pat.base.errors import UserError
from pat.commands.arguments import parse, writable

if TYPE_CHECKING:
    from pat.model import PartAwareTransformer

LEAST, MOST = 256, 2048
"""Crops: each tells its last block one row, where the cls token alone leaves the model."""


@dataclass(frozen=True)
class Arguments:
    """Cut a narrower model out of a trained one, without training and without labels.

    The tokens of a trained model vary along few directions, which the narrower one keeps. It has as many blocks,
    heads and part tokens, and takes the same images. Its embeddings do not compare with those of the model that
    it was cut out of. `pat distill` cuts one, too, and trains it.
    """

    model: Positional[Path]
    """A model file (.safetensors), the folder of a finished run, or a bundle that holds one."""
    out: Positional[Path]
    """The .safetensors file to write."""
    images: Annotated[Path, arg(metavar="CROPS")]
    """A folder of person crops, some hundreds: every second one says which directions matter, the others how near
    the narrower model comes."""
    width: int | None = None
    """Of its tokens and embeddings; half of the model's, if not given."""


def main(arguments: Sequence[str]) -> None:
    """Write the narrower model, and print how near it comes."""
    given = parse(Arguments, arguments, "slice")
    from pat.model import PartAwareTransformer, weights  # here: the help does without PyTorch
    from pat.model.model_file import file_at, read_description
    from pat.model.slicing import narrower, slice_into, why_not

    paths = evenly(find_images(given.images), MOST)
    if len(paths) < LEAST:
        raise UserError(f"{given.images} holds {len(paths)} images; a slice needs {LEAST} or more")
    file = file_at(given.model)
    if given.out.is_dir():
        raise UserError(f"{given.out} is a folder; name the .safetensors file to write")
    if given.out.resolve() == file.resolve():
        raise UserError(f"{given.out} is the model itself; name another file to write")
    writable(given.out.parent)
    wide = weights.load(file)
    narrow = PartAwareTransformer(narrower(wide, given.width))
    if reason := why_not(narrow, wide):
        raise UserError(f"{file}: {reason}")
    pixels = read_images(paths, wide.config.image_size)
    kept = slice_into(narrow, wide, pixels[::2])
    training = {**read_description(file).training, "sliced_from": given.model.name}
    weights.save(narrow, given.out, training)
    sizes = [sum(each.numel() for each in model.parameters()) / 1e6 for model in (narrow, wide)]
    print(f"a slice of {given.model}, {kept:.2%} of the variance of its tokens")
    print(_nearness(narrow, wide, pixels[1::2]))
    print(f"{given.out}: width {narrow.dim} of {wide.dim}, {sizes[0]:.2f} of {sizes[1]:.2f} million weights")


def _nearness(narrow: PartAwareTransformer, wide: PartAwareTransformer, pixels: Pixels) -> str:
    """How near the embeddings of a slice come to the wide model's, turned onto its axes: a line."""
    import torch

    from pat.model.images import to_images
    from pat.model.slicing import BATCH, turn_towards

    def embedded(model: PartAwareTransformer) -> torch.Tensor:
        begins = range(0, len(pixels), BATCH)
        return torch.cat([model.eval().embed(to_images(pixels[begin : begin + BATCH])) for begin in begins])

    own, others = embedded(wide), embedded(narrow)
    turned = own @ turn_towards(own, others)
    return f"against the model in full, {compare(turned.numpy(), others.numpy()).sentence()}"
