"""Figures as rows of a table, for the terminal and for a page: a result says itself what its figures are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

Figure = float | int | str
"""A share of 1, of which more is better; a count; or words."""


class Measured(Protocol):
    """A result with figures."""

    def figures(self) -> Mapping[str, Figure]:
        """The figures by their headings."""


def table_of(results: Mapping[str, Measured]) -> tuple[list[str], list[list[Figure]]]:
    """Columns and rows: a row for each result, of the figures that all of them have, shares in percent."""
    figures = {name: each.figures() for name, each in results.items()}
    first = next(iter(figures.values()))
    columns = [heading for heading in first if all(heading in each for each in figures.values())]
    rows = [[name, *(_percent(each[heading]) for heading in columns)] for name, each in figures.items()]
    return ["", *columns], rows


def _percent(value: Figure) -> Figure:
    return 100 * value if isinstance(value, float) else value
