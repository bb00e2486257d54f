"""A model's score on a data set: the same code whatever embeds the images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pat.base.errors import UserError
from pat.base.progress import Progress
from pat.config import TargetConfig
from pat.data.layouts import DataSet, open_data_set
from pat.data.pixels import Images, read_images
from pat.data.sample import JUNK, Sample
from pat.evaluation.extract import Embedder, extract
from pat.evaluation.ranking import Features, RankingResult, evaluate_ranking


@dataclass(frozen=True)
class EvaluationSet:
    """Query and gallery of a data set, decoded."""

    name: str
    query: Images
    gallery: Images


@dataclass(frozen=True)
class Score:
    """How one embedder did on one data set, and the vectors behind it."""

    result: RankingResult
    query: Features
    gallery: Features


def open_evaluation_set(
    spec: str, size: tuple[int, int], config: TargetConfig, progress: Progress
) -> EvaluationSet:
    """Query and gallery of the data set `spec`, at `size` (height, width). Raises UserError without a query."""
    data_set = open_data_set(spec, config.root, config.on_error)
    for note in (*data_set.notes, *remarks_on(data_set)):
        progress.say(f"note: {note}")
    return decoded(data_set.name, data_set.query, data_set.gallery, size, config, progress)


def remarks_on(data_set: DataSet) -> tuple[str, ...]:
    """What makes scores on a data set say nothing, a line each."""
    people = {sample.identity for sample in data_set.gallery} - {JUNK}
    if len(people) != 1:
        return ()
    return (
        f"{data_set.name}: the gallery shows one identity alone, so that every answer is right: a perfect "
        "score says nothing",
    )


def decoded(
    name: str,
    query: Sequence[Sample],
    gallery: Sequence[Sample],
    size: tuple[int, int],
    config: TargetConfig,
    progress: Progress,
) -> EvaluationSet:
    """An evaluation set from samples. Raises UserError when a side is empty."""
    for side, samples in (("query", query), ("gallery", gallery)):
        if not samples:
            raise UserError(f"{name} has no {side} images; an evaluation needs identities seen by two cameras")
    return EvaluationSet(
        name, read_images(query, size, config, progress), read_images(gallery, size, config, progress)
    )


def score(
    embedder: Embedder,
    images: EvaluationSet,
    progress: Progress,
    *,
    batch_size: int = 64,
    flip: bool = False,
    max_rank: int = 50,
    device: str = "cpu",
    label: str = "embed",
) -> Score:
    """Embed query and gallery and rank; `device` is where the ranking runs."""
    query, gallery = embedded(embedder, images, progress, batch_size=batch_size, flip=flip, label=label)
    return Score(evaluate_ranking(query, gallery, max_rank=max_rank, device=device), query, gallery)


def embedded(
    embedder: Embedder,
    images: EvaluationSet,
    progress: Progress,
    *,
    batch_size: int = 64,
    flip: bool = False,
    label: str = "embed",
) -> tuple[Features, Features]:
    """Query and gallery embedded, not ranked."""
    sides = []
    total = len(images.query.pixels) + len(images.gallery.pixels)
    with progress.bar(label, total) as advance:
        for side in (images.query, images.gallery):
            sides.append(
                extract(
                    embedder,
                    side.pixels,
                    side.identities,
                    side.cameras,
                    batch_size=batch_size,
                    flip=flip,
                    progress=lambda count: advance(count, ""),
                )
            )
    return sides[0], sides[1]


def spread_rows(count: int, wanted: int) -> list[int]:
    """`wanted` rows spread evenly over `count`, for images that show the good and the bad alike."""
    return np.linspace(0, count - 1, min(wanted, count)).round().astype(int).tolist() if count and wanted else []
