"""The ways to embed and rank with one model that a table compares."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Literal

Rerank = Literal["", "re-ranked", "re-ranked by camera"]
"""Not at all, by k-reciprocal neighbours, or by CA-Jaccard."""


@dataclass(frozen=True)
class Kind:
    """A row of a table."""

    parts: bool = False
    """cls and part tokens concatenated."""
    flip: bool = False
    """Averaged with the embedding of the mirror image."""
    debias: bool = False
    """Without what each camera adds to all of its vectors (`pat.evaluation.camera_bias`)."""
    rerank: Rerank = ""

    def named(self, plain: str = "cls") -> str:
        """"cls + parts, flip"; `plain` is what the model gives by itself."""
        words = ["cls + parts" if self.parts else plain, "flip" * self.flip, "debiased" * self.debias, self.rerank]
        return ", ".join(filter(None, words))


def every_kind(*, parts: bool, flip: bool, debias: bool, rerank: bool) -> list[Kind]:
    """The plain one, and every combination of what is asked for."""
    ranked: tuple[Rerank, ...] = ("", "re-ranked", "re-ranked by camera") if rerank else ("",)
    whole, mirrored, unbiased = ((False, True) if asked else (False,) for asked in (parts, flip, debias))
    return [Kind(*each, how) for how in ranked for each in itertools.product(whole, mirrored, unbiased)]
