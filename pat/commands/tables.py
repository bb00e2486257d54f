"""Tables on standard output, in which no heading and no number is ever cut short."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

from pat.evaluation.table import Measured, table_of


def show_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table. Headings and numbers stay on one line, several numbers of a cell where the width suffices.

    The first column folds where the width ends.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Column, Table

    console = Console(file=sys.stdout)
    if not console.is_terminal:  # nothing to fit into
        console.width = max(console.width, 120)
    heads = [
        Column(name, no_wrap=not any(" " in row[place] for row in rows), min_width=len(name), justify="right")
        for place, name in enumerate(columns[1:], 1)
    ]
    first = Column(columns[0], overflow="fold", min_width=min(12, max((len(row[0]) for row in rows), default=0)))
    table = Table(first, *heads, title=title, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for row in rows:
        table.add_row(*row)
    console.print(table)


def print_table(title: str, results: Mapping[str, Measured]) -> None:
    """The results on standard output, one row each, in percent."""
    columns, rows = table_of(results)
    show_table(title, columns, [[f"{x:.1f}" if isinstance(x, float) else str(x) for x in row] for row in rows])
