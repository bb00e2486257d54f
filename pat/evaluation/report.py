"""report.html: one file with everything in it, to be read offline, in light and dark, and on a phone."""

from __future__ import annotations

import base64
import html
import io
import platform
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata, resources
from os import PathLike
from typing import Any

from PIL import Image

from pat.base.files import write_text
from pat.base.mapping import flat
from pat.evaluation.figures import DENSITY
from pat.evaluation.table import Measured, table_of

_WIDE, _NARROWEST = 800, 640
"""An image wider than the first shrinks to the second on a narrow page, then scrolls; others shrink to fit."""

_DISTRIBUTIONS = ("pat-reid", "torch", "timm", "triton", "numpy", "onnxruntime", "tensorrt")


class Report:
    """Collects blocks in order and writes them as a page; every text is escaped."""

    def __init__(self, title: str, subtitle: str = "") -> None:
        self.title = title
        self._blocks = [f"<h1>{_text(title)}</h1>"]
        if subtitle:
            self._blocks.append(f'<p class="subtitle">{_text(subtitle)}</p>')

    def add_heading(self, text: str) -> None:
        self._blocks.append(f"<h2>{_text(text)}</h2>")

    def add_text(self, text: str) -> None:
        """Paragraphs, parted by an empty line."""
        self._blocks.extend(f"<p>{_text(part)}</p>" for part in text.split("\n\n") if part.strip())

    def add_cards(self, cards: Iterable[tuple[str, str, str]]) -> None:
        """The few numbers that matter: (what it is, value, a note beneath) of each."""
        inner = "".join(
            f'<div><dt>{_text(name)}</dt><dd class="value">{_text(value)}</dd>'
            f'<dd class="note">{_text(note)}</dd></div>'
            for name, value, note in cards
        )
        self._blocks.append(f'<dl class="cards">{inner}</dl>')

    def add_table(
        self,
        columns: Sequence[str],
        rows: Sequence[Sequence[str | float]],
        *,
        caption: str = "",
        percent: Sequence[int] = (),
    ) -> None:
        """A table whose first column names the rows. Floats get one decimal, whole numbers none.

        Columns whose index is in `percent` hold numbers from 0 to 100: they get a bar, and the highest is marked.
        """
        best = {c: max(float(row[c]) for row in rows) for c in percent} if len(rows) > 1 else {}
        numbers = [c for c, value in enumerate(rows[0]) if not isinstance(value, str)] if rows else []
        head = "".join(
            f'<th{" class=number" * (c in numbers)}>{_text(name)}</th>' for c, name in enumerate(columns)
        )
        body = "".join(
            f"<tr><th>{_text(row[0])}</th>"
            + "".join(_cell(value, c in percent, best.get(c)) for c, value in enumerate(row) if c)
            + "</tr>"
            for row in rows
        )
        table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        below = f'<p class="caption">{_text(caption)}</p>' if caption else ""
        self._blocks.append(f'<div class="box wide">{table}</div>{below}')

    def add_results(self, results: Mapping[str, Measured], *, caption: str = "") -> None:
        """The figures of several results, a row each."""
        columns, rows = table_of(results)
        shares = [place for place, value in enumerate(rows[0]) if isinstance(value, float)]
        self.add_table(columns, rows, caption=caption, percent=shares)

    def add_figure(self, image: Image.Image, caption: str) -> None:
        """An image of `pat.evaluation.figures` or `.curves`."""
        width = round(image.width / DENSITY)
        least = _NARROWEST if width > _WIDE else 0
        size = f'width="{width}" style="width:clamp({least}px, 100%, {width}px)"'
        self._blocks.append(
            f'<figure class="box"><div class="wide"><img {size} alt="{_text(caption)}" '
            f'src="{_data_url(image)}"></div><figcaption>{_text(caption)}</figcaption></figure>'
        )

    def add_settings(self, title: str, settings: Mapping[str, Any]) -> None:
        """Nested values, folded away until asked for: `data.root`, `model.parts`, ..."""
        values = {key: _listed(value) for key, value in flat(settings).items()}
        rows = "".join(f"<tr><th>{_text(key)}</th><td>{_text(value)}</td></tr>" for key, value in values.items())
        self._blocks.append(
            f'<details class="box"><summary>{_text(title)}</summary><table><tbody>{rows}</tbody></table></details>'
        )

    def html(self) -> str:
        style = resources.files("pat.evaluation").joinpath("report.css").read_text(encoding="utf-8")
        return (
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f"<title>{_text(self.title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n<main>\n"
            + "\n".join(self._blocks)
            + "\n</main>\n</body>\n</html>\n"
        )

    def write(self, path: str | PathLike[str]) -> None:
        """Write the page, whole or not at all. Raises Failure when the disk refuses."""
        write_text(path, self.html())


def versions() -> dict[str, str]:
    """What ran: Python, the machine, and the installed packages that numbers depend on; imports none of them."""
    found = {"python": platform.python_version(), "machine": f"{platform.system()} {platform.machine()}"}
    for name in _DISTRIBUTIONS:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _text(value: object) -> str:
    """A value as a reader wants it, escaped."""
    if isinstance(value, float):
        value = f"{value:.1f}"
    return html.escape(str(value))


def _cell(value: str | float, percent: bool, best: float | None) -> str:
    if isinstance(value, str):
        return f"<td>{_text(value)}</td>"
    mark = " best" if best is not None and round(value, 1) == round(best, 1) else ""
    bar = f' style="--share:{min(max(value, 0), 100):.1f}%"' if percent else ""
    return f'<td class="number{mark}"{bar}>{_text(value)}</td>'


def _data_url(image: Image.Image) -> str:
    """WebP: an eighth of the PNG's size, transparency included."""
    buffer = io.BytesIO()
    image.save(buffer, format="WEBP", quality=90, method=4)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _listed(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
