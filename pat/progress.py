"""What long work tells the person who waits for it. The base class is silent; the terminal's uses rich."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, Protocol


class Advance(Protocol):
    """Moves a bar by `steps`, shows the short text `figures` beside it, and tells a total known only now."""

    def __call__(self, steps: int, figures: str = "", total: int | None = None) -> None: ...


class Progress:
    """Says nothing: for tests, benchmarks and callers that have their own display."""

    def say(self, line: str) -> None:
        """One line for the reader."""

    @contextlib.contextmanager
    def bar(self, label: str, total: int) -> Iterator[Advance]:
        """A bar of `total` steps for as long as the context lasts."""
        yield lambda steps, figures="", total=None: None


class TerminalProgress(Progress):
    """Lines and bars on standard error, so that standard output stays for results."""

    def __init__(self) -> None:
        from rich.console import Console

        self.console = Console(stderr=True, highlight=False)

    def say(self, line: str) -> None:
        self.console.print(line, markup=False, soft_wrap=True)

    @contextlib.contextmanager
    def bar(self, label: str, total: int) -> Iterator[Advance]:
        if not self.console.is_terminal:  # in a log file a bar would be noise
            with super().bar(label, total) as silent:
                yield silent
            return
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bars

        columns: list[Any] = [
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[figures]}"),
        ]
        with Bars(*columns, console=self.console) as bars:
            task = bars.add_task(label, total=total, figures="")

            def advance(steps: int, figures: str = "", total: int | None = None) -> None:
                if figures:
                    bars.update(task, figures=figures)
                bars.update(task, advance=steps, total=total)

            yield advance
