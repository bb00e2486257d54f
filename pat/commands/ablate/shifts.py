"""`pat ablate shifts`: how a model's score falls as images drift from what it learned from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pat.ablation.people import interval_of
from pat.ablation.rendered import Facts, facts_of, has_facts
from pat.ablation.report import markdown_table
from pat.ablation.shifts import SHIFTS, Shift
from pat.base.errors import UserError
from pat.base.files import write_image, write_text
from pat.base.progress import Progress
from pat.commands.ablate.arguments import ShiftsArguments
from pat.commands.arguments import writable
from pat.commands.embedders import SUFFIXES, OpenedModel, check_device, opened_model
from pat.data.pixels import Images
from pat.evaluation.curves import curves_plot
from pat.evaluation.extract import Pixels
from pat.evaluation.figures import contact_sheet
from pat.evaluation.ranking import Floats, evaluate_ranking
from pat.evaluation.scoring import EvaluationSet, embed_images, open_evaluation_set

TABLE, FIGURE, EXAMPLES = "table.md", "figure.png", "examples.png"

FACTS = ("weather", "view", "box", "pose", "occlusion", "camera_rows", "family")
CONDITIONS: Mapping[str, Callable[[Facts], str]] = {
    "weather": lambda row: str(row["weather"]),
    "side seen": lambda row: str(row["view"]),
    "box": lambda row: str(row["box"]),
    "hidden": lambda row: "a tenth or more" if row["occlusion"] >= 0.1 else "less than a tenth",
    "rows of the camera": lambda row: _step(row["camera_rows"], (60, 100, 160)),
    "look-alikes": lambda row: "has look-alikes" if row["family"] >= 0 else "none",
}
FEWEST = 20
"""Queries that a condition must have to be told."""


@dataclass(frozen=True)
class ModelScores:
    """What one model scored."""

    name: str
    precision: dict[str, list[np.ndarray]]
    """Shift -> at each strength the average precision [Q]; NaN for queries that do not count."""
    identities: np.ndarray
    conditions: dict[str, dict[str, np.ndarray]]
    """Condition -> value -> average precision of the queries it holds for."""


def run(given: ShiftsArguments, command: str, progress: Progress) -> None:
    """The study from models to figure."""
    if not given.models:
        raise UserError("name at least one model: a model file, the folder of a run, or a bundle")
    if len(given.data.target) != 1:
        raise UserError("name one data set with --data.target")
    for path in given.models:
        check_device(path, given.device)
    writable(given.out)
    found, queries = [], []
    for name, path in zip(_names(given.models), given.models, strict=True):
        with opened_model(path, given.device, given.attention, progress) as opened:
            images = open_evaluation_set(given.data.target[0], opened.image_size, given.data, progress)
            found.append(_scored(name, opened, images, progress))
            queries.append(images.query)
    write_text(given.out / TABLE, markdown(found, command))
    write_image(_figure(found), given.out / FIGURE)
    write_image(_examples(queries[0]), given.out / EXAMPLES)
    print("\n".join(_rows(found)))
    progress.say(f"wrote {given.out / TABLE}")


def _scored(name: str, opened: OpenedModel, images: EvaluationSet, progress: Progress) -> ModelScores:
    """One model on every shift; what is not changed is embedded once."""
    (gallery,) = embed_images(opened.cls, [images.gallery], progress, label=f"{name}: gallery")

    def precision(shift: Shift, strength: float) -> np.ndarray:
        def changed(pixels: Pixels) -> Floats:
            return opened.cls(shift.apply(pixels, strength))

        label = f"{name}: {shift.name} {strength:g}"
        (query,) = embed_images(changed, [images.query], progress, label=label)
        return evaluate_ranking(query, gallery, device=opened.device).average_precision

    plain = precision(SHIFTS[0], SHIFTS[0].strengths[0])
    found = {
        shift.name: [plain, *(precision(shift, strength) for strength in shift.strengths[1:])] for shift in SHIFTS
    }
    return ModelScores(name, found, images.query.identities, _by_condition(images.query, plain))


def _names(paths: Sequence[Path]) -> list[str]:
    """What each model is called: the least of its path that tells them apart."""
    whole = [path.resolve() for path in paths]
    whole = [path.with_suffix("") if path.suffix in SUFFIXES else path for path in whole]
    for depth in range(1, 12):
        names = ["/".join(path.parts[-depth:]) for path in whole]
        if len(set(names)) == len(names):
            return names
    raise UserError("one model is named twice")


def _by_condition(query: Images, precision: np.ndarray) -> dict[str, dict[str, np.ndarray]]:
    if not has_facts(query.samples):
        return {}
    facts = facts_of(query.samples, FACTS)
    found: dict[str, dict[str, np.ndarray]] = {}
    for condition, value_of in CONDITIONS.items():
        values = np.array([value_of(row) for row in facts])
        for value in np.unique(values):
            of_value = precision[(values == value) & np.isfinite(precision)]
            if len(of_value) >= FEWEST:
                found.setdefault(condition, {})[str(value)] = of_value
    return found


def _step(value: float, edges: Sequence[float]) -> str:
    """Which interval of `edges` holds a value, in words that sort."""
    below = sum(value >= edge for edge in edges)
    low = f"{edges[below - 1]:g}" if below else "0"
    return f"{low} to {edges[below]:g}" if below < len(edges) else f"{low} and more"


def _mean(precision: np.ndarray) -> float:
    return 100 * float(np.nanmean(precision))


def _rows(found: Sequence[ModelScores]) -> list[str]:
    columns = ("shift", "model", "mAP, %: unchanged", "1st", "2nd", "3rd", "4th", "lost at the 4th, 95 % interval")
    body = []
    for shift in SHIFTS:
        strengths = ", ".join(f"{strength:g}" for strength in shift.strengths[1:])
        title = f"{shift.name} ({strengths}; {shift.unit})"
        for each in found:
            precision = each.precision[shift.name]
            scores = [f"{_mean(at):.1f}" for at in precision]
            body.append([title, each.name, *scores, _lost(precision[0] - precision[-1], each.identities)])
    return markdown_table(columns, body)


def _lost(differences: np.ndarray, identities: np.ndarray) -> str:
    counted = np.isfinite(differences)
    low, high = interval_of(differences[counted], identities[counted])
    return f"{_mean(differences):.1f} [{100 * low:.1f}, {100 * high:.1f}]"


def markdown(found: Sequence[ModelScores], command: str) -> str:
    """The page: tables with what was changed."""
    by_condition = ""
    if any(each.conditions for each in found):
        table = "\n".join(_condition_rows(found))
        by_condition = f"""## By what is true of a query

{table}

Not changed; groups differ in more than what they are named by.

"""
    table = "\n".join(_rows(found))
    return f"""\
# shifts

How does the score fall as images drift from what the model learned from?

{table}

The queries are changed and the gallery stays. The interval is a bootstrap's over people; one training of each
model says nothing of other seeds, so that a difference between two models is no finding about their methods.

![mAP against strength]({FIGURE})

![An image at every strength]({EXAMPLES})

{by_condition}## How it was made

`{command}`
"""


def _condition_rows(found: Sequence[ModelScores]) -> list[str]:
    body = []
    for condition, values in found[0].conditions.items():
        for value, precision in values.items():
            scores = [f"{_mean(each.conditions[condition][value]):.1f}" for each in found]
            body.append([condition, value, str(len(precision)), *scores])
    return markdown_table(("condition", "value", "queries", *(f"mAP: {each.name}" for each in found)), body)


def _figure(found: Sequence[ModelScores]) -> Any:
    return curves_plot(
        {
            f"{shift.name}\n{shift.unit}": {
                each.name: (shift.strengths, [_mean(at) for at in each.precision[shift.name]]) for each in found
            }
            for shift in SHIFTS
        },
        label="mAP, %",
    )


def _examples(queries: Images) -> Any:
    image = np.asarray(queries.pixels[len(queries.pixels) // 2])[None]
    return contact_sheet(
        {
            shift.name: np.concatenate([shift.apply(image, strength) for strength in shift.strengths])
            for shift in SHIFTS
        }
    )
