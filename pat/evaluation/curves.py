"""Curves over ranks and epochs, spreads over seeds: transparent images that read on white and on black.

matplotlib is imported when a curve is drawn.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from itertools import cycle, product
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pat.evaluation.figures import DENSITY, TEXT

COLOURS = ("#3b82f6", "#f59e0b", "#10b981", "#d946ef", "#8b93a1", "#ef4444", "#06b6d4")
"""In the order of the curves; each shows on white and on black."""
LINES = tuple(product(("-", "--", ":", "-."), COLOURS))
"""Where there are more curves than colours: as many as `pat evaluate` can rank in ways."""

_GREY = "#{:02x}{:02x}{:02x}".format(*TEXT)


def cmc_curve(curves: Mapping[str, NDArray[np.float64]]) -> Image.Image:
    """Share of queries with a match among the first n answers, one line for each name."""
    figure, (axes,) = _figure(1, width=6.4, height=3.8)
    for (line, colour), (name, cmc) in zip(cycle(LINES), curves.items(), strict=False):
        ranks = np.arange(1, len(cmc) + 1)
        axes.plot(ranks, 100 * np.asarray(cmc), line, color=colour, linewidth=2, label=name)
        axes.plot(1, 100 * cmc[0], "o", color=colour, markersize=5)
    longest = max(len(cmc) for cmc in curves.values())
    axes.set_xlim(0, longest + 0.5)
    step = 5 if longest <= 30 else 10
    axes.set_xticks([1, *range(step, longest + 1, step)])
    axes.set_ylim(0, 102)
    axes.set_xlabel("rank")
    axes.set_ylabel("queries with a match, %")
    axes.legend(frameon=False, labelcolor=_GREY, loc="lower right")
    return _drawn(figure)


def training_curve(series: Mapping[str, Sequence[float]]) -> Image.Image:
    """A panel for each name, such as a loss: its value over the epochs. Gaps are NaN."""
    figure, panels = _figure(len(series), width=2.9 * len(series), height=2.3)
    for axes, colour, (name, values) in zip(panels, cycle(COLOURS), series.items(), strict=False):
        epochs, marker = range(1, 1 + len(values)), "o" if len(values) < 3 else ""
        axes.plot(epochs, values, color=colour, linewidth=2, marker=marker)
        axes.set_title(name, loc="left", color=_GREY)
        axes.set_xlabel("epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
    return _drawn(figure)


def spread_plot(
    series: Mapping[str, Mapping[str, Sequence[float]]], *, label: str, baseline: bool = False
) -> Image.Image:
    """A line for each name: a small dot for each value, a large one for the mean, a bar for the deviation.

    `series` are named sets of such lines, drawn in a colour each, one above the other. Dashed lines show the means
    of the first name where it is the `baseline` of the others.
    """
    names = list(next(iter(series.values())))
    figure, (axes,) = _figure(1, width=8.0, height=0.9 + 0.45 * len(names))
    step = 0.8 / (len(series) + 1)
    for number, (colour, (title, lines)) in enumerate(zip(cycle(COLOURS), series.items(), strict=False)):
        shown = [(place, lines[name]) for place, name in enumerate(names) if len(lines.get(name, ()))]
        for place, each in shown:
            values = np.asarray(each, dtype=np.float64)
            height = place + (number - (len(series) - 1) / 2) * step
            axes.plot(values, np.full(len(values), height), "o", color=colour, markersize=3.5, alpha=0.5)
            deviation = values.std(ddof=1) if len(values) > 1 else 0.0
            axes.errorbar(
                values.mean(), height, xerr=deviation, fmt="o", color=colour, markersize=7, capsize=3,
                label=title if place == shown[0][0] else None,
            )  # fmt: skip
            if baseline and place == 0:
                axes.axvline(values.mean(), color=colour, linestyle="--", linewidth=1, alpha=0.6)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.set_xlabel(label)
    figure.legend(frameon=False, labelcolor=_GREY, loc="outside lower center", ncols=len(series), fontsize=9)
    return _drawn(figure)


def curves_plot(
    panels: Mapping[str, Mapping[str, tuple[Sequence[float], Sequence[float]]]], *, label: str
) -> Image.Image:
    """A panel for each title, four in a row: lines by name, of x and y values each; `label` is y's."""
    rows = -(-len(panels) // 4)
    figure, all_axes = _figure(4, width=10.4, height=2.3 * rows + 0.4, rows=rows)
    names = list(dict.fromkeys(name for lines in panels.values() for name in lines))
    colour_of = dict(zip(names, cycle(COLOURS), strict=False))
    highest = max(max(y) for lines in panels.values() for _, y in lines.values())
    for number, (axes, (title, lines)) in enumerate(zip(all_axes, panels.items(), strict=False)):
        for name, (x, y) in lines.items():
            axes.plot(x, y, color=colour_of[name], linewidth=2, marker="o", markersize=4, label=name)
        axes.set_ylim(0, 1.08 * highest)
        axes.set_title(title, loc="left", color=_GREY, fontsize=9)
        if number % 4 == 0:
            axes.set_ylabel(label)
    for axes in all_axes[len(panels) :]:
        axes.set_visible(False)
    handles = all_axes[0].get_legend_handles_labels()
    figure.legend(
        *handles, frameon=False, labelcolor=_GREY, loc="outside lower center", ncols=len(names), fontsize=9
    )
    return _drawn(figure)


def _figure(panels: int, *, width: float, height: float, rows: int = 1) -> tuple[Any, Any]:
    """A matplotlib figure of quiet panels side by side, and in `rows`; inches."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = list(figure.subplots(rows, panels, squeeze=False).ravel())
    for each in axes:
        each.set_facecolor("none")
        each.spines[["top", "right"]].set_visible(False)
        each.spines[["left", "bottom"]].set_color(_GREY)
        each.tick_params(colors=_GREY, labelsize=9)
        each.grid(color=_GREY, alpha=0.25, linewidth=0.7)
        each.set_axisbelow(True)
        for text in (each.xaxis.label, each.yaxis.label):
            text.set_color(_GREY)
    return figure, axes


def _drawn(figure: Any) -> Image.Image:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100 * DENSITY, transparent=True)
    image = Image.open(buffer)
    image.load()
    return image
