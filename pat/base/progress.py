"""What long work tells the person who waits for it: nothing, or lines and bars on a terminal."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol


class Advance(Protocol):
    """Moves a bar by `steps`, shows the short text `figures` beside it, and tells a total known only now."""

    def __call__(self, steps: float, figures: str = "", total: int | None = None) -> None: ...


class Progress:
    """Says nothing: for tests, benchmarks and callers that have their own display."""

    def say(self, line: str) -> None:
        """One line for the reader."""

    @contextlib.contextmanager
    def bar(self, label: str, total: int) -> Iterator[Advance]:
        """A bar of `total` steps for as long as the context lasts."""
        yield lambda steps, figures="", total=None: None


class TerminalProgress(Progress):
    """Lines and bars on standard error, so that standard output stays for results.

    Bars need rich and a terminal. In a log file, and where rich is not installed, work that takes long is told in
    a line every `every` seconds.
    """

    def __init__(self, every: float = 60.0) -> None:
        self.every = every
        self.console: Any = None
        with contextlib.suppress(ImportError):
            from rich.console import Console

            self.console = Console(stderr=True, highlight=False)

    def say(self, line: str) -> None:
        if self.console is None:
            say(line)
        else:
            self.console.print(printable(line), markup=False, soft_wrap=True)

    @contextlib.contextmanager
    def bar(self, label: str, total: int) -> Iterator[Advance]:
        if self.console is None or not self.console.is_terminal:
            yield self._lines(label, total)
            return
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bars

        columns: list[Any] = [
            TextColumn("{task.description}"), BarColumn(bar_width=24), MofNCompleteColumn(),
            TimeRemainingColumn(compact=True), TextColumn("{task.fields[figures]}"),
        ]  # fmt: skip
        with Bars(*columns, console=self.console) as bars:
            task = bars.add_task(label, total=total, figures="")

            def advance(steps: float, figures: str = "", total: int | None = None) -> None:
                if figures:
                    bars.update(task, figures=figures)
                bars.update(task, advance=steps, total=total)

            yield advance

    def _lines(self, label: str, whole: int) -> Advance:
        """A bar as lines of text."""
        done, told = 0.0, time.monotonic()

        def advance(steps: float, figures: str = "", total: int | None = None) -> None:
            nonlocal done, told, whole
            done, whole = done + steps, total or whole
            if time.monotonic() - told >= self.every:
                told = time.monotonic()
                end = f" of {whole}" if whole else ""  # a recording does not say how long it is
                self.say(f"{label}: {done:.0f}{end} {figures}".rstrip())

        return advance


def totals(advance: Advance, unit: str = "") -> Callable[[int, int], None]:
    """Moves a bar by running totals, (done, all), with what is done in a second where it has a `unit`."""
    before, first, began = 0, -1, 0.0

    def tell(done: int, total: int) -> None:
        nonlocal before, first, began
        if first < 0:  # what an earlier run did is not this one's speed
            first, began = done, time.monotonic()
        passed = time.monotonic() - began
        figures = f"{(done - first) / passed:.0f} {unit}" if unit and passed > 0.5 else ""
        advance(done - before, figures, total)
        before = done

    return tell


SILENT = Progress()


def printable(line: str) -> str:
    """The line with line breaks and what else is not shown spelled out: a file's name may hold anything."""
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in line)


def say(line: str) -> None:
    """One line for the reader, on standard error."""
    print(printable(line), file=sys.stderr, flush=True)
