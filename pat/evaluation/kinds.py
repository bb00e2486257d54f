"""The ways to embed and rank with one model that a table compares."""

from __future__ import annotations

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
    rerank: Rerank = ""

    def named(self, plain: str = "cls") -> str:
        """"cls + parts, flip"; `plain` is what the model gives by itself."""
        words = ["cls + parts" if self.parts else plain, "flip" * self.flip, self.rerank]
        return ", ".join(filter(None, words))


def every_kind(*, parts: bool, flip: bool, rerank: bool) -> list[Kind]:
    """The plain one, and every combination of what is asked for."""
    ranked: tuple[Rerank, ...] = ("", "re-ranked", "re-ranked by camera") if rerank else ("",)
    whole, mirrored = ((False, True) if asked else (False,) for asked in (parts, flip))
    return [Kind(each, both, how) for how in ranked for each in whole for both in mirrored]
