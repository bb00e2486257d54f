"""Help that fits the terminal: tyro folds what stands in its boxes, but neither the usage nor the description."""

from __future__ import annotations

import contextlib
import re
import shutil
import sys
import textwrap
from typing import Any, TextIO

COLOUR = re.compile(r"\x1b\[[\d;]*m")
CHOICES = re.compile(r"\{.*?\}")


class Folded:
    """A screen on which lines wider than `columns` go on below; in all else it is `screen`."""

    def __init__(self, screen: TextIO, columns: int) -> None:
        self._screen, self._columns = screen, columns

    def __getattr__(self, name: str) -> Any:
        return getattr(self._screen, name)

    def write(self, text: str) -> int:
        return self._screen.write("\n\n".join(map(self._fold, text.split("\n\n"))))

    def _fold(self, paragraph: str) -> str:
        if all(len(line) <= self._columns for line in COLOUR.sub("", paragraph).split("\n")):
            return paragraph
        spaced = CHOICES.sub(lambda found: found[0].replace(",", ", "), paragraph)
        return textwrap.fill(spaced, self._columns, break_long_words=False, break_on_hyphens=False)


def folded() -> contextlib.AbstractContextManager[object]:
    """Standard output is folded at the width of the terminal."""
    screen: Any = Folded(sys.stdout, shutil.get_terminal_size().columns)
    return contextlib.redirect_stdout(screen)
