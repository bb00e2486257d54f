"""Tables on standard output, in which no heading and no number is ever cut short."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def show_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table. Numbers and headings stay on one line; the first column folds where the width ends."""
    from rich import box
    from rich.console import Console
    from rich.table import Column, Table

    console = Console(file=sys.stdout)
    if not console.is_terminal:  # nothing to fit into
        console.width = max(console.width, 120)
    heads = [Column(name, no_wrap=True, min_width=len(name), justify="right") for name in columns[1:]]
    first = Column(columns[0], overflow="fold")
    table = Table(first, *heads, title=title, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for row in rows:
        table.add_row(*row)
    console.print(table)
