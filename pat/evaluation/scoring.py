"""A model's score on a data set: the same code whatever embeds the images."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from pat.base.errors import UserError
from pat.base.progress import Progress
from pat.config import TargetConfig
from pat.data.layouts import DataSet, open_data_set
from pat.data.pixels import Images, read_images
from pat.data.sample import JUNK, Sample, digest
from pat.evaluation.camera_bias import without_camera_bias
from pat.evaluation.extract import Embed, extract
from pat.evaluation.kinds import Kind, Rerank
from pat.evaluation.ranking import Features, Indices, RankingResult, evaluate_ranking
from pat.evaluation.rerank import Slabs, reranked
from pat.evaluation.rerank_cameras import camera_reranked


@dataclass(frozen=True)
class EvaluationSet:
    """Query and gallery of a data set, decoded."""

    name: str
    query: Images
    gallery: Images
    splits: tuple[tuple[Indices, Indices], ...] = ()
    """Where there are several: the rows of each one's query and gallery; both sides are all images then."""

    def digest(self) -> str:
        """A hash of which images these are."""
        samples = (*self.query.samples, *self.gallery.samples)
        return digest(samples, [each.identity for each in samples])


@dataclass(frozen=True)
class Score:
    """How one embedder did on one data set, and the vectors behind it."""

    results: tuple[RankingResult, ...]
    """One for each split."""
    query: Features
    gallery: Features

    @property
    def result(self) -> RankingResult:
        """Of the data set's only split, or its first."""
        return self.results[0]


def open_evaluation_set(
    spec: str, size: tuple[int, int], config: TargetConfig, progress: Progress
) -> EvaluationSet:
    """Query and gallery of the data set `spec`, at `size` (height, width). Raises UserError without a query."""
    data_set = open_data_set(spec, config.root, config.on_error)
    for note in (*data_set.notes, *remarks_on(data_set)):
        progress.say(f"note: {note}")
    return decoded(data_set.name, data_set.query, data_set.gallery, size, config, progress)


def check_targets(targets: Sequence[DataSet]) -> None:
    """Raise UserError for what cannot be scored on, and for two of one name: for what trains before it scores."""
    names = set[str]()
    for target in targets:
        cameras: dict[int, set[int]] = {}
        for sample in target.gallery:
            cameras.setdefault(sample.identity, set()).add(sample.camera)
        if not any(cameras.get(sample.identity, set()) - {sample.camera} for sample in target.query):
            few = "no query has its person in another camera's gallery"
            raise UserError(f"{target.name} cannot be scored on: {few}")
        if target.name in names:
            raise UserError(f"two targets are called {target.name}; call one otherwise: --data.target NAME=PATH")
        names.add(target.name)


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


def decoded_splits(
    data_set: DataSet, size: tuple[int, int], config: TargetConfig, progress: Progress
) -> EvaluationSet:
    """All splits of a data set; each image once."""
    if not data_set.splits:
        return decoded(data_set.name, data_set.query, data_set.gallery, size, config, progress)
    samples = list(dict.fromkeys(s for split in data_set.splits for s in (*split.query, *split.gallery)))
    images = read_images(samples, size, config, progress)
    row_of = {sample: row for row, sample in enumerate(images.samples)}

    def rows(side: Sequence[Sample]) -> Indices:
        return np.array([row_of[sample] for sample in side if sample in row_of], dtype=np.int64)

    splits = tuple((rows(split.query), rows(split.gallery)) for split in data_set.splits)
    return EvaluationSet(data_set.name, images, images, splits)


def score(
    embedder: Embed, images: EvaluationSet, progress: Progress, *, batch_size: int = 64, label: str = "embed"
) -> Score:
    """Embed query and gallery and rank them in one way."""
    query, gallery = embed_images(
        embedder, (images.query, images.gallery), progress, batch_size=batch_size, label=label
    )
    return Score((evaluate_ranking(query, gallery),), query, gallery)


def score_kinds(
    embedder: Callable[[bool], Embed],
    images: EvaluationSet,
    kinds: Iterable[Kind],
    progress: Progress,
    *,
    plain: str = "cls",
    batch_size: int = 64,
    max_rank: int = 50,
    device: str = "cpu",
    embed_only: bool = False,
) -> dict[str, Score]:
    """Embed and rank in several ways; the scores by the names of the kinds. Kinds of one vector share it.

    `embedder` gives the embedder with or without part tokens, `plain` is what it is called without, `device` is
    where the ranking runs. `embed_only` is for a process that helps another to embed; it ranks nothing.
    """
    vectors: dict[tuple[bool, bool], list[Features]] = {}
    sides = (images.query,) if images.gallery is images.query else (images.query, images.gallery)
    scores = {}
    for kind in kinds:
        how, name = (kind.parts, kind.flip), kind.named(plain)
        label = f"{images.name}: {name}"
        if how not in vectors:
            embed = embedder(kind.parts)
            vectors[how] = embed_images(embed, sides, progress, batch_size=batch_size, flip=kind.flip, label=label)
        if not embed_only:
            query, gallery = vectors[how][0], vectors[how][-1]
            splits = [(query[q], gallery[g]) for q, g in images.splits]
            if kind.debias:
                query, gallery = without_camera_bias(query, gallery)
                splits = [without_camera_bias(*each) for each in splits]
            splits = splits or [(query, gallery)]
            results = _ranked(splits, kind.rerank, label, progress, max_rank, device)
            scores[name] = Score(results, query, gallery)
    return scores


def _ranked(
    splits: Sequence[tuple[Features, Features]],
    rerank: Rerank,
    label: str,
    progress: Progress,
    max_rank: int,
    device: str,
) -> tuple[RankingResult, ...]:
    if not rerank:
        return tuple(evaluate_ranking(*each, max_rank=max_rank, device=device) for each in splits)
    ranked = sum(len(query) + np.count_nonzero(gallery.identities != JUNK) for query, gallery in splits)
    with progress.bar(label, ranked) as advance:

        def slabs(query: Features, gallery: Features) -> Slabs:
            if rerank == "re-ranked":
                return reranked(progress=advance)
            people = gallery.cameras[gallery.identities != JUNK]
            return camera_reranked(query.cameras, people, advance)

        return tuple(evaluate_ranking(*each, max_rank=max_rank, slabs=slabs(*each)) for each in splits)


def embed_images(
    embedder: Embed,
    sides: Sequence[Images],
    progress: Progress,
    *,
    batch_size: int = 64,
    flip: bool = False,
    label: str = "embed",
) -> list[Features]:
    """The features of each of several lists of images, under one progress bar; errors as in `extract`."""
    with progress.bar(label, sum(len(side.pixels) for side in sides)) as advance:
        return [
            extract(
                embedder, side.pixels, side.identities, side.cameras, batch_size=batch_size, flip=flip,
                progress=advance,
            )
            for side in sides
        ]


def spread_rows(count: int, wanted: int) -> list[int]:
    """`wanted` rows spread evenly over `count`, for images that show the good and the bad alike."""
    return np.linspace(0, count - 1, min(wanted, count)).round().astype(int).tolist() if count and wanted else []
