"""What the model in the box does at once: it finds people in other cameras and names those in a street."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from deploy.annotate import Label, draw
from deploy.frames import Frame
from deploy.settings import ProcessSettings
from deploy.shipped import shipped_bundle
from pat.base.progress import Progress, totals
from pat.commands.embedders import opened_model
from pat.commands.street import read_street, run_street
from pat.commands.tables import print_table
from pat.config import TargetConfig
from pat.evaluation.figures import DENSITY, ranked_list_figure
from pat.evaluation.histogram import stripe_histogram
from pat.evaluation.ranking import RankingResult
from pat.evaluation.report import Report
from pat.evaluation.scoring import open_evaluation_set, score, spread_rows
from pat.evaluation.street import Scores
from pat.evaluation.street import score as street_scores
from pat.synthetic.people.dataset import write_people
from pat.synthetic.people.plan import Plan
from pat.synthetic.people.street import film_people

PEOPLE = Plan(
    identities=42, images=8, cameras=8, cameras_each=4, test_share=40 / 42, size=(160, 80), seed=5, domain="test"
)
"""40 people to find, in places and prints that no training draws."""
STREET_CAMERAS, STREET_PEOPLE, STREET_SEED = 2, 6, 21
SCENE_WIDTH = 760
"""Of the street in the report, in pixels of the page."""
TRUTH, FOUND = "true boxes", "boxes of the detector in the box"
MODEL, HISTOGRAM = "model in the box", "colour histogram"


def run(folder: Path, report: Report, progress: Progress) -> tuple[dict[str, Any], dict[str, Image.Image]]:
    """Render, score, film, watch, and tell on the page; facts for report.json, and images by name.

    Raises UserError where the installation holds no model.
    """
    started = time.perf_counter()
    bundle = shipped_bundle()
    progress.say(f"the model in the box, {bundle}, meets people who do not exist")
    _draw(folder, progress)
    results, ranked = _find(bundle, folder, progress)
    print_table("rendered people, cameras and clothes never seen", results)
    streets, scene = _watch(bundle, folder / "street", progress)
    for name, scores in streets.items():
        progress.say(f"street, {name}: {scores.right} of {scores.recognised} recognitions right")
    progress.say(f"{time.perf_counter() - started:.0f} s so far")
    _tell(report, results, ranked, streets, scene)
    facts = {
        "bundle": str(bundle),
        "people": {name: {"mAP": each.mAP, "rank1": float(each.cmc[0])} for name, each in results.items()},
        "street": {name: dict(scores.rows()) for name, scores in streets.items()},
    }
    return facts, {"box-ranked": ranked, "box-street": scene}


def _tell(
    report: Report,
    results: Mapping[str, RankingResult],
    ranked: Image.Image,
    streets: Mapping[str, Scores],
    scene: Image.Image,
) -> None:
    """This part of the page."""
    ours, true, found = results[MODEL], streets[TRUTH], streets[FOUND]
    detected = f"with those of the detector in the box {found.right} of {found.recognised}"
    report.add_heading("On the first day: the model in the box")
    report.add_cards(
        [
            ("right at the first answer", f"{ours.cmc[0]:.1%}", f"of {ours.valid_queries} queries"),
            ("mAP", f"{ours.mAP:.1%}", f"colour histogram: {results[HISTOGRAM].mAP:.1%}"),
            (
                "recognised rightly in the street",
                f"{true.right} of {true.recognised}",
                f"with true boxes; {detected}",
            ),
        ]
    )
    report.add_text(
        "The network that comes with the project learned from rendered people alone. Here it meets others, in "
        "places and clothes that its training never drew: first as crops, then walking past two cameras. "
        "There the camera process says who they are, twice: with true boxes, and with those of the detector "
        "in the box, which learned from rendered people, too. How both do on your cameras only images of "
        "your cameras can tell."
    )
    report.add_results(results, caption="40 rendered people in eight cameras.")
    report.add_figure(ranked, "First answers to some queries. Green: the same person. Red: somebody else.")
    report.add_figure(scene, "The street: names are those that the gallery gave, numbers are cosines.")
    tables = [dict(scores.rows()) for scores in streets.values()]
    names = dict.fromkeys(name for table in tables for name in table)
    rows = [[name, *(table.get(name, "-") for table in tables)] for name in names]
    report.add_table(["street", *streets], rows, caption="Against the truth of the film.")


def _draw(folder: Path, progress: Progress) -> None:
    """People and street, where an earlier demo did not leave them."""
    with progress.bar("render people", PEOPLE.total) as advance:
        tell = {"places": lambda done, total: None, "crops": totals(advance)}
        write_people(folder / "people", PEOPLE, progress=lambda what, *counts: tell[what](*counts))
    if (folder / "street").exists():
        return
    draft = folder / "street.unfinished"
    shutil.rmtree(draft, ignore_errors=True)
    with progress.bar("film a street", STREET_CAMERAS) as advance:
        film_people(
            draft, cameras=STREET_CAMERAS, people=STREET_PEOPLE, seed=STREET_SEED,
            progress=totals(advance),
        )  # fmt: skip
    draft.rename(folder / "street")


def _find(bundle: Path, folder: Path, progress: Progress) -> tuple[dict[str, RankingResult], Image.Image]:
    """How often the right person is found, and some answers."""
    config = TargetConfig(cache=folder / "cache")
    with opened_model(bundle, "cpu", "auto", progress) as model:
        images = open_evaluation_set(f"market1501={folder / 'people'}", model.image_size, config, progress)
        ours = score(model.embedder(), images, progress, label="model")
    histogram = score(stripe_histogram, images, progress, label="histogram")
    rows = spread_rows(len(images.query.pixels), 6)
    ranked = ranked_list_figure(images.query.pixels, ours.query, images.gallery.pixels, ours.gallery, rows)
    return {HISTOGRAM: histogram.result, MODEL: ours.result}, ranked


def _watch(bundle: Path, folder: Path, progress: Progress) -> tuple[dict[str, Scores], Image.Image]:
    """What the camera process says of the street, against the truth, and its fullest frame with true boxes."""
    street, best, scores = read_street(folder), _Fullest(), {}
    for name in (FOUND, TRUTH):
        progress.say(f"the camera process watches the street: {name}")
        best = _Fullest()
        with tempfile.TemporaryDirectory() as work:
            said, _ = run_street(
                street, bundle, ProcessSettings(), work=Path(work), see_truth=name == TRUTH, look=best.look
            )
        scores[name] = street_scores(street.truth, said, street.seconds, street.people)
    scene = Image.fromarray(best.pixels)
    scene = scene.resize((SCENE_WIDTH * DENSITY, SCENE_WIDTH * DENSITY * scene.height // scene.width))
    return scores, scene


class _Fullest:
    """Keeps the frame in which the most people have a name."""

    def __init__(self) -> None:
        self.names, self.pixels = -1, np.zeros((2, 2, 3), np.uint8)

    def look(self, frame: Frame, labels: Sequence[Label]) -> None:
        names = sum(label.identity is not None for label in labels)
        if names > self.names:
            self.names, self.pixels = names, draw(frame.pixels, labels)
