"""The images of a study, looked at before anything is trained: hours later a mistake would cost hours."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pat.base.errors import UserError
from pat.config import TrainConfig
from pat.data.layouts import open_data_set
from pat.data.sample import Sample
from pat.data.sources import merge_sources, split_holdout
from pat.evaluation.scoring import check_targets
from pat.training.data import batches


def check_images(base: TrainConfig, tuning_seeds: Sequence[int], share: float) -> None:
    """Open sources and targets as the runs will, and split the sources as the tuning will.

    Raises UserError for a data set that is missing, cannot train or cannot be scored on, for targets of one name,
    and for a target that is part of a source: its cameras are no unseen ones.
    """
    sources, targets = (
        [open_data_set(spec, base.data.root, base.data.on_error) for spec in specs]
        for specs in (base.data.source, base.data.target)
    )
    training = merge_sources(sources)
    for each in (training, *(split_holdout(training, share, seed)[0] for seed in tuning_seeds)):
        batches(base, each, epoch=1)
    known = _files([sample for each in sources for sample in (*each.train, *each.query, *each.gallery)])
    check_targets(targets)
    for target in targets:
        if shared := sorted(_files((*target.query, *target.gallery)) & known):
            held = f"a source holds its images too, such as {shared[0]}"
            raise UserError(f"{target.name} is no unseen target: {held}")


def _files(samples: Iterable[Sample]) -> set[str]:
    """The files behind some samples, however their folders are spelled."""
    folders = {folder: folder.resolve() for folder in {sample.path.parent for sample in samples}}
    return {str(folders[sample.path.parent] / sample.path.name) for sample in samples}
