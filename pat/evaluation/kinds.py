"""The ways to embed and rank with one model that a table compares."""

from __future__ import annotations

import itertools
from dataclasses import dataclass


@dataclass(frozen=True)
class Kind:
    """A row of a table."""

    parts: bool = False
    """cls and part tokens concatenated."""
    flip: bool = False
    """Averaged with the embedding of the mirror image."""
    rerank: bool = False
    """Ranked by k-reciprocal neighbours."""

    def named(self, plain: str = "cls") -> str:
        """"cls + parts, flip"; `plain` is what the model gives by itself."""
        words = ["cls + parts" if self.parts else plain, "flip" * self.flip, "re-ranked" * self.rerank]
        return ", ".join(filter(None, words))


def every_kind(*, parts: bool, flip: bool, rerank: bool) -> list[Kind]:
    """The plain one, and every combination of what is asked for."""
    asked = [(False, True) if each else (False,) for each in (rerank, parts, flip)]
    return [Kind(parts, flip, rerank) for rerank, parts, flip in itertools.product(*asked)]
