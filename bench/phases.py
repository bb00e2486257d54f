"""How long each part of a training step takes: by events on a GPU, by the wall clock on a CPU."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch

from kernels.timing import ON_GPU

Mark = float | torch.cuda.Event
REST = "outside forward, backward"
"""What remains of a step when both are subtracted: reading, augmenting, CSL, optimiser, and what has no name."""


@dataclass
class _Step:
    begun: Mark
    spans: list[tuple[str, Mark, Mark]] = field(default_factory=list)
    ended: Mark | None = None


class Phases:
    """A clock for `pat.training.step.Phase`.

    On a GPU nothing is waited for: events are recorded where a part begins and ends in the stream. So a part
    has the time in which its kernels run and in which the GPU waits for them to be queued, and work that the
    host does while the GPU is busy costs nothing, as in the training itself.
    """

    def __init__(self) -> None:
        self._steps: list[_Step] = []

    @contextlib.contextmanager
    def step(self) -> Iterator[None]:
        """The step to which the parts until its end belong."""
        step = _Step(_mark())
        self._steps.append(step)
        yield
        step.ended = _mark()

    @contextlib.contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """A part of the step; the same name may come several times, and parts do not nest."""
        begun = _mark()
        yield
        self._steps[-1].spans.append((name, begun, _mark()))

    def seconds(self, steps: int) -> dict[str, list[float]]:
        """Of each part, and of REST, in each of the last `steps` steps; waits for the GPU."""
        found: dict[str, list[float]] = {}
        for number, step in enumerate(self._steps[-steps:]):
            assert step.ended is not None
            taken: dict[str, float] = {}
            for name, begun, ended in step.spans:
                taken[name] = taken.get(name, 0.0) + _between(begun, ended)
            network = taken.get("forward", 0.0) + taken.get("backward", 0.0)
            taken[REST] = _between(step.begun, step.ended) - network
            for name, value in taken.items():
                found.setdefault(name, [0.0] * number).append(value)
        return found


def _mark() -> Mark:
    if not ON_GPU:
        return time.perf_counter()
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event


def _between(begun: Mark, ended: Mark) -> float:
    if isinstance(begun, float) or isinstance(ended, float):
        return float(ended) - float(begun)  # type: ignore[arg-type]
    ended.synchronize()
    return begun.elapsed_time(ended) / 1e3
