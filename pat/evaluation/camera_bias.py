"""Vectors without what their camera adds to all of them: its light, its colours, its height.

Song, Park and Lee, "Exploring the Camera Bias of Person Re-identification", ICLR 2025, arXiv 2502.10195: the
vectors of cameras that a model never saw lie apart by camera, and taking each camera's mean and deviation away
brings them together. Nothing need be known but which camera took an image.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pat.data.sample import JUNK
from pat.evaluation.arrays import Indices
from pat.evaluation.extract import unit_length
from pat.evaluation.ranking import Features

PRIOR = 40
"""Images of all cameras that a camera's own are mixed with. The mean of few images is that of the few people they
show, and would take away who they are: without these, 8 images of each camera cost 12 mAP on rendered people of
another generator, and 6 on those that the model in the box learned from."""


def without_camera_bias(query: Features, gallery: Features) -> tuple[Features, Features]:
    """Both sides with every camera's mean at zero and its deviations alike, at unit length.

    A camera's mean and variance are those of its images, of both sides and without junk, and of PRIOR as all are.
    """
    vectors = np.concatenate([query.vectors, gallery.vectors])
    cameras = np.concatenate([query.cameras, gallery.cameras])
    people = np.concatenate([query.identities, gallery.identities]) != JUNK
    if not people.any():
        return query, gallery
    groups = [np.flatnonzero(cameras == camera) for camera in np.unique(cameras)]

    def own(rows: Indices) -> NDArray[np.float64]:  # a camera's at a time: all of them would be twice the features
        return vectors[rows[people[rows]]].astype(np.float64)

    mean = sum(own(rows).sum(0) for rows in groups) / people.sum()
    variance = sum(((own(rows) - mean) ** 2).sum(0) for rows in groups) / people.sum()
    for rows in groups:
        seen = own(rows)
        among = len(seen) + PRIOR
        centre = (seen.sum(0) + PRIOR * mean) / among
        spread = (((seen - centre) ** 2).sum(0) + PRIOR * variance) / among
        vectors[rows] = (vectors[rows] - centre) / np.sqrt(np.where(spread > 0, spread, 1))
    unbiased = unit_length(vectors)
    return replace(query, vectors=unbiased[: len(query)]), replace(gallery, vectors=unbiased[len(query) :])
