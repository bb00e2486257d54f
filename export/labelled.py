"""Rank-1 and mAP on a labelled folder, by the evaluation of `pat`, which needs no PyTorch but its data readers."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from export.crops import Pixels
from pat.base.errors import UserError
from pat.base.progress import Progress

Embed = Callable[[Pixels], NDArray[np.float32]]


def rank_embedders(
    spec: str, size: tuple[int, int], embedders: Mapping[str, Embed], progress: Progress
) -> dict[str, dict[str, float]]:
    """Score each embedder on the query and gallery of the data set `spec` (a folder, or LAYOUT=PATH).

    Returns name -> rank1, mAP, and against the first embedder: the share of queries with the `same_first` answer,
    and how many queries are answered rightly only now (`gained`) or only by the first one (`lost`). Raises
    UserError for a folder that cannot be evaluated.
    """
    try:
        from pat.config import TargetConfig
        from pat.evaluation.ranking import rank_list
        from pat.evaluation.scoring import open_evaluation_set, score
    except ImportError as error:
        raise UserError(
            f"ranking a labelled folder needs the training side of this project ({error}): "
            "pip install 'pat-reid[train]'"
        ) from error

    images = open_evaluation_set(spec, size, TargetConfig(), progress)
    scores = {name: score(embed, images, progress, label=name) for name, embed in embedders.items()}
    firsts = {name: rank_list(each.query, each.gallery, 1)[0][:, 0] for name, each in scores.items()}
    right = {
        name: (first >= 0) & (scores[name].gallery.identities[first] == scores[name].query.identities)
        for name, first in firsts.items()
    }
    reference, truth = next(iter(firsts.values())), next(iter(right.values()))
    return {
        name: {
            "rank1": float(each.result.cmc[0]),
            "mAP": each.result.mAP,
            "same_first": float((firsts[name] == reference).mean()),
            "gained": int((right[name] & ~truth).sum()),
            "lost": int((truth & ~right[name]).sum()),
        }
        for name, each in scores.items()
    }
