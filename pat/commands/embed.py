"""`pat embed`: images in, vectors out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from tyro.conf import Positional, arg

from pat.base.errors import UserError
from pat.base.files import written_whole
from pat.base.mapping import check_limits
from pat.base.progress import Progress, TerminalProgress
from pat.commands.arguments import parse
from pat.commands.embedders import SHIPPED, OpenedModel, check_device, model_and_rest, opened_model
from pat.config import AttentionImplementation, Count, TargetConfig
from pat.data.images import find_images
from pat.data.pixels import read_images, samples_of
from pat.evaluation.scoring import embed_images


@dataclass(frozen=True)
class Arguments:
    """Embed images. The output holds their paths and vectors (float32, unit length), in sorted order."""

    model: Annotated[Positional[Path], arg(metavar="[MODEL]", help_behavior_hint=SHIPPED)] = Path()
    """A model file (.safetensors), the folder of a finished run, or an exported bundle."""
    paths: Annotated[
        Positional[tuple[Path, ...]], arg(metavar="PATHS...", help_behavior_hint="(at least one)")
    ] = ()
    """Images, or folders that are searched for images."""
    out: Path = Path("embeddings.npz")
    """The file to write: .npz (arrays `paths` and `vectors`) or .parquet (columns `path` and `vector`)."""
    parts: bool = False
    """cls and part tokens concatenated instead of cls alone."""
    flip: bool = False
    """Average with the embedding of the mirror image."""
    batch_size: Count = 64
    device: str = "auto"
    attention: AttentionImplementation = "auto"
    cache: Path = field(default=TargetConfig.cache)
    """Where resized images are kept."""
    on_error: Annotated[Literal["stop", "skip"], arg(name="data.on-error")] = "stop"
    """What an unreadable image does: stop, or be skipped and named."""


def main(arguments: Sequence[str]) -> None:
    """Embed the images and write the file."""
    given = parse(Arguments, arguments, "embed")
    if given.out.suffix not in (".npz", ".parquet"):
        raise UserError(f"--out {given.out} must end in .npz or .parquet")
    check_limits(given)
    progress = TerminalProgress()
    if given.model == Path():
        raise UserError("name images, or folders that hold them: pat embed [MODEL] PATHS...")
    model, paths = model_and_rest((given.model, *given.paths), progress)
    check_device(model, given.device)
    files = find_images(paths)
    with opened_model(model, given.device, given.attention, progress) as opened:
        names, vectors = embed(opened, files, given, progress)
    write_vectors(given.out, names, vectors)
    progress.say(f"wrote {given.out}: {len(vectors)} vectors of {vectors.shape[1]} numbers")


def embed(
    opened: OpenedModel, files: list[Path], given: Arguments, progress: Progress
) -> tuple[list[str], np.ndarray]:
    """Paths of the readable images, and their vectors float32 [N, D]."""
    config = TargetConfig(cache=given.cache, on_error=given.on_error)
    images = read_images(samples_of(files), opened.image_size, config, progress)
    (features,) = embed_images(
        opened.embedder(given.parts), [images], progress, batch_size=given.batch_size, flip=given.flip
    )
    return [str(sample.path) for sample in images.samples], features.vectors


def write_vectors(path: Path, names: list[str], vectors: np.ndarray) -> None:
    """Write names and float32 vectors [N, D] as .npz or .parquet, whole or not at all."""
    with written_whole(path) as temporary:
        if path.suffix == ".npz":
            with open(temporary, "wb") as file:
                np.savez(file, paths=np.array(names), vectors=vectors)
            return
        try:
            import pyarrow as arrow
            import pyarrow.parquet
        except ModuleNotFoundError as error:
            raise UserError("writing .parquet needs pyarrow (pip install pyarrow); .npz needs nothing") from error
        names = [name.encode(errors="backslashreplace").decode() for name in names]  # text alone
        column = arrow.FixedSizeListArray.from_arrays(arrow.array(vectors.reshape(-1)), vectors.shape[1])
        arrow.parquet.write_table(arrow.table({"path": names, "vector": column}), temporary)
