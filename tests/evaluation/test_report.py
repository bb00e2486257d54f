"""report.html: whole, escaped, self-contained."""

from __future__ import annotations

from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from pat.base.errors import Failure
from pat.evaluation.ranking import RankingResult
from pat.evaluation.report import Report, versions

NASTY = "<script>alert(\"1\")</script> & 'x'"
VOID = {"meta", "img", "br"}


class Page(HTMLParser):
    """Reads a page; complains about tags that do not nest."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        assert not self._open

    def handle_starttag(self, tag, attrs) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data) -> None:
        if data.strip() and self._open[-1] != "style":
            self.words.append(data.strip())


def result(mean: float, valid: int = 7, ranks: int = 10) -> RankingResult:
    return RankingResult(np.linspace(mean, 1, ranks), mean, mean / 2, valid, np.full(valid, mean))


@pytest.fixture
def page(tmp_path) -> Page:
    report = Report(NASTY, NASTY)
    report.add_heading(NASTY)
    report.add_text(f"{NASTY}\n\nsecond")
    report.add_cards([(NASTY, NASTY, NASTY)])
    report.add_table([NASTY, "n"], [[NASTY, 3], ["b", NASTY]], caption=NASTY)
    report.add_results({"histogram": result(0.2), NASTY: result(0.4)})
    report.add_figure(Image.new("RGBA", (40, 20), (1, 2, 3, 4)), NASTY)
    report.add_settings(NASTY, {"data": {"root": NASTY}, "size": [1, 2]})
    report.write(tmp_path / "report.html")
    return Page((tmp_path / "report.html").read_text(encoding="utf-8"))


def test_texts_are_escaped(page: Page) -> None:
    assert not [tag for tag, _ in page.tags if tag in ("script", "x")]
    assert page.words.count(NASTY) >= 11
    assert page.words[-2:] == ["size", "1, 2"]
    assert "data.root" in page.words


def test_nothing_is_loaded_from_elsewhere(page: Page) -> None:
    for tag, attributes in page.tags:
        assert tag not in ("script", "link", "iframe", "object")
        assert "href" not in attributes
        if "src" in attributes:
            assert (attributes["src"] or "").startswith("data:image/webp;base64,")


def test_every_image_has_a_text(page: Page) -> None:
    (image,) = (attributes for tag, attributes in page.tags if tag == "img")
    assert image["alt"] == NASTY
    assert image["width"] == "20"


def test_results_are_in_percent_and_the_best_is_marked(page: Page) -> None:
    best = [attributes for tag, attributes in page.tags if "best" in (attributes.get("class") or "")]
    assert len(best) == 6  # four columns won, and rank-10 shared
    start = page.words.index("histogram")
    assert page.words[start : start + 7] == ["histogram", "20.0", "20.0", "55.6", "100.0", "10.0", "7"]


def test_a_short_curve_shows_no_rank_beyond_it() -> None:
    report = Report("short")
    report.add_results({"a": result(0.5, ranks=5)})
    words = Page(report.html()).words
    assert "rank-5" in words
    assert "rank-10" not in words


def test_a_table_without_rows() -> None:
    report = Report("empty")
    report.add_table(["name", "value"], [])
    assert "value" in Page(report.html()).words


def test_a_refusing_disk_is_one_line(tmp_path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(Failure, match="cannot write"):
        Report("x").write(tmp_path / "file" / "report.html")


def test_versions_name_what_is_installed() -> None:
    found = versions()
    assert found["numpy"] == np.__version__
    assert found["python"].startswith("3.")
