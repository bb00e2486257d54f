"""What a model is worth on rendered people, as a whole and for groups of them: every attribute is known."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pat.ablation.people import interval
from pat.base.errors import UserError
from pat.base.progress import Progress
from pat.config import TargetConfig
from pat.evaluation.extract import Embed
from pat.evaluation.histogram import stripe_histogram
from pat.evaluation.ranking import evaluate_ranking
from pat.evaluation.scoring import EvaluationSet, Score, open_evaluation_set, score
from pat.synthetic.people.dataset import TABLE

FEWEST = 20
"""Queries of a group below which its score is not told."""

Attributes = Mapping[str, Any]
"""A row of people.parquet."""


@dataclass(frozen=True)
class Figures:
    """A score, and how far other people drawn the same way could move it."""

    rank1: float
    mAP: float
    low: float
    high: float
    """95 % interval of mAP, from a bootstrap over the people of the queries."""
    queries: int


def _thirds(name: str, words: tuple[str, str, str]) -> Callable[[Attributes], str]:
    """Groups by an attribute that is drawn from 0 to 1."""
    return lambda row: words[min(2, int(3 * row[name]))]


def _clothes(row: Attributes) -> str:
    if row["hat"] == "headscarf" or row["hair"] == "covered":
        return "headscarf"
    if any(word in f"{row['top']} {row['bottom']}" for word in ("dress", "skirt", "robe")):
        return "dress, skirt or robe"
    if "coat" in row["top"]:
        return "coat"
    return "shorts" if "shorts" in row["bottom"] else "trousers"


def _resolution(row: Attributes) -> str:
    rows = row["camera_rows"]
    return "below 96 rows" if rows < 96 else "96 to 191 rows" if rows < 192 else "192 rows and more"


GROUPS: dict[str, Callable[[Attributes], str]] = {
    "skin tone": _thirds("tone", ("light", "medium", "dark")),
    "body": lambda row: row["sex"],
    "build": _thirds("body_weight", ("light", "medium", "heavy")),
    "clothes": _clothes,
    "light": lambda row: row["weather"],
    "box": lambda row: row["box"],
    "pixels of the person": _resolution,
    "look-alikes": lambda row: "has look-alikes" if row["family"] >= 0 else "has none",
}
"""Name of a division of the queries -> the group that a query image with these attributes is in."""


def scores_on(
    folder: Path, embed: Embed, size: tuple[int, int], cache: Path, progress: Progress
) -> dict[str, Any]:
    """Figures of an embedder of images of `size` on the people in `folder`: whole, by group, and the histogram's.

    Each group's queries search the whole gallery. Raises UserError for a folder that `pat synth people` did not
    finish.
    """
    if not (folder / TABLE).is_file():
        raise UserError(f"{folder} holds no {TABLE}; write it with `pat synth people`")
    config = TargetConfig(cache=cache)
    images = open_evaluation_set(f"market1501={folder}", size, config, progress)
    rows = _attributes(folder, images)
    ours = score(embed, images, progress, label="model")
    histogram = score(stripe_histogram, images, progress, label="histogram")
    everyone = np.ones(len(rows), dtype=bool)
    groups = {}
    for name, group_of in GROUPS.items():
        of_query = np.array([group_of(row) for row in rows])
        parts = {group: of_query == group for group in sorted(set(of_query.tolist()))}
        groups[name] = {
            group: asdict(figures(ours, mask)) for group, mask in parts.items() if mask.sum() >= FEWEST
        }
    return {
        "images": len(images.gallery.samples),
        "people": len(np.unique(ours.query.identities)),
        "cameras": len(np.unique(ours.gallery.cameras)),
        "model": asdict(figures(ours, everyone)),
        "histogram": asdict(figures(histogram, everyone)),
        "groups": groups,
    }


def figures(scored: Score, mask: NDArray[np.bool_]) -> Figures:
    """The figures of the queries in `mask`."""
    result = evaluate_ranking(scored.query[mask], scored.gallery, max_rank=1)
    precision = result.average_precision
    valid = ~np.isnan(precision)
    _, person = np.unique(scored.query.identities[mask][valid], return_inverse=True)
    low, high = interval(np.bincount(person, precision[valid]), np.bincount(person))
    return Figures(float(result.cmc[0]), result.mAP, low, high, result.valid_queries)


def _attributes(folder: Path, images: EvaluationSet) -> list[Attributes]:
    """A row of the table for each query image."""
    import pyarrow.parquet as parquet

    columns = [
        "path", "sex", "tone", "body_weight", "hat", "hair", "top", "bottom", "weather", "box", "camera_rows",
        "family",
    ]  # fmt: skip
    table = parquet.read_table(folder / TABLE, columns=columns).to_pylist()
    rows = {Path(row["path"]).name: row for row in table}
    return [rows[sample.path.name] for sample in images.query.samples]
