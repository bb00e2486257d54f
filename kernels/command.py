"""What the command lines of this package share."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence


def exit_status(work: Callable[[], int]) -> int:
    """That of `work`; 2 for a ValueError, a user's mistake, 1 for what broke, either said in one line."""
    try:
        return work()
    except (ValueError, RuntimeError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, ValueError) else 1


def in_columns(lines: Sequence[Sequence[str]], *, right: bool = False) -> str:
    """Cells below each other, at the left of their column or at the right, the last one always at the left."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    place = str.rjust if right else str.ljust
    return "\n".join("  ".join((*map(place, line[:-1], widths), line[-1])).rstrip() for line in lines)
