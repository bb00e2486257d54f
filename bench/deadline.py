"""Leaving in time: what was done is kept, and the same command goes on."""

from __future__ import annotations

import time

from pat.base.errors import UserError

UNFINISHED = 75
"""Exit status of a call that left in time: the same command goes on (EX_TEMPFAIL of sysexits.h)."""


class Deadline:
    """A moment some minutes from now; never, without. Raises UserError for minutes that are none."""

    def __init__(self, minutes: float | None) -> None:
        if minutes is not None and not minutes > 0:
            raise UserError(f"--minutes {minutes}: expected more than 0")
        self.moment = time.monotonic() + 60 * (minutes or float("inf"))

    def left(self) -> float:
        """Seconds until then, below 0 after it."""
        return self.moment - time.monotonic()

    def passed(self) -> bool:
        return self.left() <= 0
