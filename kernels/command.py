"""What the command lines of this package share."""

from __future__ import annotations

import sys
from collections.abc import Callable


def exit_status(work: Callable[[], int]) -> int:
    """That of `work`; 2 for a ValueError, a user's mistake, 1 for what broke, either said in one line."""
    try:
        return work()
    except (ValueError, RuntimeError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, ValueError) else 1
