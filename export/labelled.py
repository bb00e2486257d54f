"""What embedders are worth on a labelled data set, by the evaluation of `pat`: ranking, decisions, a threshold.

It needs no PyTorch but the training side's data readers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from export.check_set import Agreement, compare
from export.judge import Embed
from export.manifest import Decision
from export.precisions import Gate
from pat.base.errors import UserError
from pat.base.progress import Progress

if TYPE_CHECKING:
    from pat.evaluation.scoring import EvaluationSet, Score

RATE = 0.001
"""False-match rate that a threshold is chosen at, where nobody asks for another."""
MOST = 2000
"""Images whose embeddings are compared with one another."""


@dataclass(frozen=True)
class Ranked:
    """Two embedders on the query and gallery of a labelled data set."""

    reference: Score
    other: Score

    def agreement(self, thresholds: tuple[float, float] | None = None) -> Agreement:
        """How close the embeddings are, on up to MOST images."""
        first, second = (
            np.concatenate([each.query.vectors, each.gallery.vectors]) for each in (self.reference, self.other)
        )
        rows = np.linspace(0, len(first) - 1, min(MOST, len(first))).round().astype(int)
        return compare(first[rows], second[rows], thresholds)

    def facts(self, thresholds: tuple[float, float] | None = None) -> tuple[dict[str, Any], dict[str, Any]]:
        """Rank-1 and mAP of both, and with `thresholds` the error rates of a decision at them.

        Of the other one also how many queries are answered rightly only now (`gained`), or only before (`lost`).
        """
        from pat.evaluation.verification import pairs_between

        first, second = (_right(each) for each in (self.reference, self.other))
        found: list[dict[str, Any]] = []
        for score in (self.reference, self.other):
            found.append({"rank1": float(score.result.cmc[0]), "mAP": score.result.mAP})
        for values, score, limit in zip(found, (self.reference, self.other), thresholds or (), strict=False):
            pairs = pairs_between(score.query, score.gallery)
            values["false_match_rate"] = pairs.false_match_rate(limit)
            values["false_non_match_rate"] = pairs.false_non_match_rate(limit)
        found[1] |= {"gained": int((second & ~first).sum()), "lost": int((first & ~second).sum())}
        return found[0], found[1]

    def misses(self, gate: Gate) -> str:
        """What misses the gate's `points`, or nothing. One query may always be lost."""
        count = len(self.reference.query.vectors)
        before, after = self.reference.result, self.other.result
        for name, lost, spare in (
            ("rank-1", before.cmc[0] - after.cmc[0], 1 / count),
            ("mAP", before.mAP - after.mAP, 0.0),
        ):
            if not lost <= max(gate.points / 100, spare + 1e-9):
                return f"{name} falls by {100 * lost:.2f} points, {gate.points} allowed"
        return ""


def ranking_words(values: Mapping[str, Any]) -> str:
    """Facts of `Ranked` for the reader."""
    changed = f" ({values['gained']} queries gained, {values['lost']} lost)" if "gained" in values else ""
    line = f"rank-1 {values['rank1']:.2%}{changed}, mAP {values['mAP']:.2%}"
    if "false_match_rate" in values:
        line += f", false matches {values['false_match_rate']:.3%}, missed {values['false_non_match_rate']:.2%}"
    return line


def rank_both(spec: str, size: tuple[int, int], embedders: Mapping[str, Embed], progress: Progress) -> Ranked:
    """Score two embedders, the reference first, on the data set `spec` (a folder, or LAYOUT=PATH).

    Raises UserError for a folder that cannot be evaluated.
    """
    images = _open(spec, size, progress)
    from pat.evaluation.scoring import score

    first, second = (score(embed, images, progress, label=name) for name, embed in embedders.items())
    return Ranked(first, second)


@dataclass(frozen=True)
class Decide:
    """A threshold to choose."""

    data: str
    """A labelled data set: a folder, or LAYOUT=PATH."""
    rate: float = RATE
    """The share of the pairs of different people that may match."""

    def check(self) -> None:
        """Raise UserError for a rate that is none."""
        if not 0 < self.rate < 0.5:
            raise UserError(f"--false-match-rate {self.rate:g} must lie between 0 and 0.5; 0.001 is usual")

    def choose(self, embed: Embed, size: tuple[int, int], progress: Progress) -> Decision:
        """The threshold of an embedder.

        Raises UserError for a folder that cannot be evaluated, too few pairs for the rate, or a model that does
        not tell these people apart.
        """
        images = _open(self.data, size, progress)
        from pat.evaluation.scoring import embed_images
        from pat.evaluation.verification import pairs_between

        pairs = pairs_between(*embed_images(embed, (images.query, images.gallery), progress, label="decision"))
        if self.rate < pairs.smallest_rate:
            raise UserError(
                f"{self.data} has {pairs.impostor_pairs} pairs of different people, too few to show a false-match "
                f"rate of {self.rate:g}: ask for {pairs.smallest_rate:.1g} or more, or give more images"
            )
        found = pairs.decision(self.rate)
        if found.useless:
            raise UserError(f"no threshold can be chosen on {self.data}: {found.useless}")
        return Decision(
            threshold=found.threshold,
            false_match_rate=found.false_match_rate,
            chosen_on=(
                f"{images.name}: {pairs.impostor_pairs} pairs of different people and {pairs.genuine_pairs} of "
                f"one by two cameras, {found.false_non_match_rate:.2%} of which do not match"
            ),
        )


def _open(spec: str, size: tuple[int, int], progress: Progress) -> EvaluationSet:
    try:
        from pat.config import TargetConfig
        from pat.evaluation.scoring import open_evaluation_set
    except ImportError as error:
        raise UserError(
            f"a labelled folder needs the training side of this project ({error}): pip install 'pat-reid[train]'"
        ) from error
    return open_evaluation_set(spec, size, TargetConfig(), progress)


def _right(score: Score) -> Any:
    """Which queries have a first answer that is right, [Q]."""
    from pat.evaluation.ranking import rank_list

    first = rank_list(score.query, score.gallery, 1)[0][:, 0]
    return (first >= 0) & (score.gallery.identities[first] == score.query.identities)
