"""What has to be timed to fill one entry of a table of tiles; each operator lists its own in `tune.py`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from kernels.configuration import Configuration
from kernels.roofline import Work

Run = Callable[[Any], tuple[Tensor, ...]]


@dataclass(frozen=True)
class Job:
    """One operation, one key of its table, and the cases whose total time decides.

    The tiles are of the operator's own type; the first candidate is the default.
    """

    operation: str
    key: str
    candidates: tuple[Any, ...]
    cases: tuple[Any, ...]
    matrix: bool  # whether matrix instructions do the products
    compile: Callable[[Any], Configuration]  # tiles -> what to compile for the resource report
    work: Callable[[Any, Any, int], Work]  # case, tiles, multiprocessors -> what one launch does
    prepare: Callable[[Any], Run]  # case -> inputs made, and a function that launches given tiles
