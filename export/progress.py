"""A progress bar for long work: rich where it is installed, silence where it is not."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

Advance = Callable[[int], None]
Bar = Callable[[str, int], AbstractContextManager[Advance]]
"""From a label and a number of steps to a context that gives a function advancing by that many."""


@contextmanager
def silent(label: str, total: int) -> Iterator[Advance]:
    """No bar."""
    yield lambda steps: None


@contextmanager
def terminal(label: str, total: int) -> Iterator[Advance]:
    """A bar on standard error."""
    try:
        from rich.console import Console
        from rich.progress import Progress
    except ImportError:
        with silent(label, total) as advance:
            yield advance
        return
    console = Console(stderr=True)
    with Progress(console=console, transient=not console.is_terminal) as bars:
        task = bars.add_task(label, total=total)
        yield lambda steps: bars.advance(task, steps)


def say(line: str) -> None:
    """One line for the reader, on standard error: standard output is for results."""
    print(line, file=sys.stderr, flush=True)
