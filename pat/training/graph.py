"""Graph sampling: which identities look most alike to the model, so that they meet in a batch."""

from __future__ import annotations

import numpy as np

from pat.base.progress import Progress
from pat.config import TrainConfig
from pat.evaluation.extract import extract
from pat.model.images import embedder
from pat.training.data import TrainingData
from pat.training.distributed import Ranks
from pat.training.state import TrainingState


def most_alike(
    config: TrainConfig,
    data: TrainingData,
    state: TrainingState,
    ranks: Ranks,
    progress: Progress,
    *,
    epoch: int,
) -> np.ndarray:
    """The identities that fill the batch of each one, most alike first, i64 [identities, identities a batch - 1].

    Liao and Shao, "Graph Sampling Based Deep Metric Learning for Generalizable Person Re-Identification", CVPR
    2022, arXiv 2104.01546: one random image stands for each identity, embedded in evaluation mode as an epoch
    begins. There an epoch has a batch of each identity; here it has the steps of random sampling.
    """
    rng, labels = np.random.default_rng([config.seed, epoch, 1]), data.training.labels
    shuffled = rng.permutation(len(labels))
    faces = shuffled[np.unique(labels[shuffled], return_index=True)[1]]  # a random image of each identity
    shared = ranks.sharing(embedder(state.model.eval(), ranks.device))
    with progress.bar("graph", len(faces)) as advance:
        vectors = extract(
            shared, data.pixels[faces], labels[faces], data.training.cameras[faces], batch_size=64 * ranks.count,
            progress=advance,
        ).vectors  # fmt: skip
    alike = vectors @ vectors.T
    np.fill_diagonal(alike, -np.inf)
    return np.argsort(-alike, axis=1, kind="stable")[:, : config.identities_per_batch - 1]
