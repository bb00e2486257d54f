"""Which layers cost the most accuracy in a lower precision, and which must keep theirs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import onnx

from export.judge import Verdict
from export.lowering.methods import Lowering
from pat.base.errors import Failure
from pat.base.progress import Progress

Score = Callable[[onnx.ModelProto], Verdict]
"""From a graph to the verdict on it."""


@dataclass(frozen=True)
class Sensitivity:
    """What one part costs when it is lowered alone: the worst cosine and the mean centred one."""

    layer: str
    cosine: float
    centred: float


@dataclass(frozen=True)
class Lowered:
    """The graph that passes the gate, what had to be excluded, and the list that decided it."""

    graph: onnx.ModelProto
    verdict: Verdict
    excluded: tuple[str, ...]
    sensitivity: tuple[Sensitivity, ...]
    """Every part that was measured, worst first."""


def find_graph(
    lowering: Lowering, score: Score, rough: Score, progress: Progress, *, always_rank: bool
) -> Lowered:
    """Lower everything; where that misses the gate, exclude the most sensitive parts, as few as suffice.

    `score` decides; `rough`, which may look at fewer images, orders the parts. `always_rank` measures the
    sensitivity of every part also where nothing needs to be excluded. Raises Failure when not even a graph
    with every part excluded passes.
    """
    graph = lowering.build(())
    verdict = score(graph)
    ranked = rank_parts(lowering, rough, progress) if always_rank or verdict.misses else ()
    if not verdict.misses:
        return Lowered(graph, verdict, (), ranked)
    order = [each.layer for each in ranked]
    # The fewest parts from the top of the list: `low` are known to be too few, `high` to suffice.
    low, high, best = 0, len(order), None
    with progress.bar("exclude layers", len(order).bit_length() + 1) as advance:
        while best is None or high - low > 1:
            count = high if best is None else (low + high) // 2
            graph = lowering.build(order[:count])
            verdict = score(graph)
            advance(1)
            if not verdict.misses:
                high, best = count, Lowered(graph, verdict, tuple(order[:count]), ranked)
            elif best is None:
                raise Failure(
                    f"with every layer excluded the gate is missed still: {verdict.misses}; choose another "
                    "precision, or a wider gate with --gate"
                )
            else:
                low = count
    return best


def rank_parts(lowering: Lowering, score: Score, progress: Progress) -> tuple[Sensitivity, ...]:
    """What each part costs when it is lowered alone, worst first."""
    found = []
    with progress.bar("sensitivity", len(lowering.units)) as advance:
        for unit in lowering.units:
            agreement = score(lowering.alone(unit)).telling
            centred = float(agreement.centred.mean())
            found.append(Sensitivity(unit, round(agreement.worst, 7), round(centred, 7)))
            advance(1)
    return tuple(sorted(found, key=lambda each: each.centred))
