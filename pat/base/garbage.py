"""Python's search for garbage, out of the way of work that makes many objects and leaves none behind."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def uncollected(*, for_good: bool = False) -> Iterator[None]:
    """No search for garbage inside: for imports and traces, which make objects that stay.

    With `for_good` none afterwards either, in all that there is by then: for what stays as long as the process.
    """
    collected = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if for_good:
            gc.freeze()
        if collected:
            gc.enable()
