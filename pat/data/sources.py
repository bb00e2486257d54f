"""Data sets to train on, as one: labels that never collide, and a part held out to choose settings on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from pat.base.errors import UserError
from pat.data.layouts.reading import DataSet, queries_of
from pat.data.sample import Sample


@dataclass(frozen=True)
class TrainingSet:
    """Training images of one or more data sets, in the order of the data sets and of names within each."""

    samples: tuple[Sample, ...]
    labels: np.ndarray
    """i64 [N], 0 ... identities - 1, different people in different data sets."""
    cameras: np.ndarray
    """i64 [N], different cameras in different data sets."""
    identities: int
    names: tuple[str, ...]
    """Of the data sets."""
    notes: tuple[str, ...] = ()
    """What is unusual, a line each: data sets of one camera, identities with one image."""

    def __len__(self) -> int:
        return len(self.samples)


def merge_sources(data_sets: Sequence[DataSet]) -> TrainingSet:
    """The training parts of `data_sets`, in the order given.

    Raises UserError for a data set without training images, and where two hold the same image: one person
    would become two.
    """
    samples: list[Sample] = []
    notes: list[str] = []
    origin: dict[str, str] = {}
    people: list[tuple[int, int]] = []
    places: list[tuple[int, int]] = []
    for number, data_set in enumerate(data_sets):
        if not data_set.train:
            raise UserError(f"the data set {data_set.name} holds no training image")
        paths = {sample.path.as_posix() for sample in data_set.train}
        twice = sorted(paths & origin.keys())
        if twice:
            raise UserError(f"{twice[0]} is in {origin[twice[0]]} and in {data_set.name}; give each image once")
        origin.update(dict.fromkeys(paths, data_set.name))
        samples += data_set.train
        people += [(number, sample.identity) for sample in data_set.train]
        places += [(number, sample.camera) for sample in data_set.train]
        notes += _unusual(data_set)
    labels, cameras = _numbered(people), _numbered(places)
    names = tuple(data_set.name for data_set in data_sets)
    return TrainingSet(tuple(samples), labels, cameras, int(labels.max()) + 1, names, tuple(notes))


def split_holdout(
    training: TrainingSet, share: float, seed: int
) -> tuple[TrainingSet, tuple[Sample, ...], tuple[Sample, ...]]:
    """Hold out a share of the identities: what stays for training, and queries and gallery of the others.

    The same share of each data set is drawn, the same for a seed on every machine. The queries are one image
    of each (identity, camera) whose identity another camera sees too, the gallery is every held-out image;
    their identities and cameras are those of `training` (identities + 1), which do not collide over data sets.

    Raises UserError for a share outside (0, 1), where every data set has a single identity, and where none of the
    held-out identities is seen by two cameras.
    """
    if not 0 < share < 1:
        raise UserError(f"--data.holdout {share} is not a share of the identities between 0 and 1")
    held = np.isin(training.labels, _drawn(training, share, seed))
    if not held.any():
        raise UserError(f"--data.holdout {share}: no data set has two identities to divide")
    gallery = tuple(
        replace(training.samples[i], identity=int(training.labels[i]) + 1, camera=int(training.cameras[i]))
        for i in np.flatnonzero(held)
    )
    query = queries_of(gallery)
    if not query:
        raise UserError(
            f"--data.holdout {share}: none of the held-out identities is seen by two cameras; nothing to rank"
        )
    return subset(training, np.flatnonzero(~held)), query, gallery


def subset(training: TrainingSet, rows: np.ndarray) -> TrainingSet:
    """The images `rows` i64 of `training`, classes numbered anew from 0."""
    names, labels = np.unique(training.labels[rows], return_inverse=True)
    return replace(
        training,
        samples=tuple(training.samples[i] for i in rows),
        labels=labels.astype(np.int64),
        cameras=training.cameras[rows],
        identities=len(names),
    )


def _drawn(training: TrainingSet, share: float, seed: int) -> np.ndarray:
    """Labels to hold out, i64: of each data set its share, rounded; at least one identity and never all."""
    domains = np.array([sample.domain for sample in training.samples])
    drawn = []
    for number, name in enumerate(dict.fromkeys(training.names)):
        labels = np.unique(training.labels[domains == name])
        count = min(max(1, round(share * len(labels))), len(labels) - 1)
        drawn.append(np.random.default_rng([seed, number]).permutation(labels)[:count])
    return np.concatenate(drawn)


def _numbered(keys: Sequence[tuple[int, int]]) -> np.ndarray:
    """Numbers from 0, in the order of the sorted keys, i64 [N]."""
    numbers = {key: number for number, key in enumerate(sorted(set(keys)))}
    return np.array([numbers[key] for key in keys], dtype=np.int64)


def _unusual(data_set: DataSet) -> list[str]:
    notes = []
    if len({sample.camera for sample in data_set.train}) == 1:
        notes.append(f"{data_set.name}: every training image is from one camera")
    single = sum(count == 1 for count in Counter(sample.identity for sample in data_set.train).values())
    if single:
        notes.append(f"{data_set.name}: {single} identities have a single training image, repeated in a batch")
    return notes
