"""`pat rank`: an image of the gallery's nearest answers to each query."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from pat.base.errors import UserError
from pat.base.files import write_image
from pat.base.mapping import check_limits
from pat.base.progress import TerminalProgress
from pat.commands.arguments import parse
from pat.commands.embedders import SHIPPED, check_device, model_or_shipped, opened_model
from pat.config import AttentionImplementation, Count, TargetConfig
from pat.data.images import find_images
from pat.data.pixels import read_images, samples_of
from pat.evaluation.figures import ranked_list_figure
from pat.evaluation.scoring import embed_images


@dataclass(frozen=True)
class Arguments:
    """Draw the gallery images nearest to each query image, nearest first, with their distances.

    Any images will do: nothing is assumed about who they show.
    """

    model: Annotated[Positional[Path], arg(metavar="[MODEL]", help_behavior_hint=SHIPPED)] = Path()
    """A model file (.safetensors), the folder of a finished run, or an exported bundle."""
    query: tuple[Path, ...] = ()
    """Images or folders to search for."""
    gallery: tuple[Path, ...] = ()
    """Images or folders to search in."""
    out: Path = Path("ranked.png")
    k: Count = 10
    """Answers to each query."""
    most: Count = 50
    """Queries drawn at most."""
    device: str = "auto"
    attention: AttentionImplementation = "auto"
    cache: Path = field(default=TargetConfig.cache)
    """Where resized images are kept."""
    on_error: Annotated[Literal["stop", "skip"], arg(name="data.on-error")] = "stop"
    """What an unreadable image does: stop, or be skipped and named."""


def main(arguments: Sequence[str]) -> None:
    """Embed both sides and draw."""
    given = parse(Arguments, arguments, "rank")
    if not given.query or not given.gallery:
        raise UserError("give --query and --gallery, each with images or folders")
    check_limits(given)
    if given.out.suffix != ".png":
        raise UserError(f"--out {given.out} must end in .png")
    progress = TerminalProgress()
    model = model_or_shipped(given.model, progress)
    check_device(model, given.device)
    queries, answers = find_images(given.query), find_images(given.gallery)
    if len(queries) > given.most:
        progress.say(f"drawing the first {given.most} of {len(queries)} queries; --most draws more")
    config = TargetConfig(cache=given.cache, on_error=given.on_error)
    with opened_model(model, given.device, given.attention, progress) as opened:
        query, gallery = (
            read_images(samples_of(files), opened.image_size, config, progress)
            for files in (queries[: given.most], answers)
        )
        query_features, gallery_features = embed_images(opened.embedder(), (query, gallery), progress)
    image = ranked_list_figure(
        query.pixels, query_features, gallery.pixels, gallery_features, range(len(query.samples)),
        k=min(given.k, len(gallery.samples)),
        names=([sample.path.stem for sample in query.samples], [sample.path.stem for sample in gallery.samples]),
    )  # fmt: skip
    write_image(image, given.out)
    progress.say(f"wrote {given.out}: {len(query.samples)} queries, {len(gallery.samples)} gallery images")
