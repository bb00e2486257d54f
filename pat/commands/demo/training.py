"""The training part of the demo: two domains of flat people, three networks, and what each finds."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image

import pat
from pat.base.files import copy_whole
from pat.base.progress import Progress
from pat.commands.small_study import SIZE, TRAINING, draw_domains
from pat.commands.tables import print_table
from pat.config import DataConfig, TargetConfig, TrainConfig
from pat.device import choose_device, resolve_loss, resolve_model
from pat.evaluation.curves import cmc_curve, training_curve
from pat.evaluation.extract import Embed
from pat.evaluation.figures import attention_figure, contact_sheet, ranked_list_figure
from pat.evaluation.histogram import stripe_histogram
from pat.evaluation.ranking import RankingResult
from pat.evaluation.report import Report
from pat.evaluation.scoring import EvaluationSet, Score, open_evaluation_set, score, spread_rows
from pat.model import PartAwareTransformer
from pat.model.attention_maps import attention_maps
from pat.model.images import embedder, to_images
from pat.training.loop import train
from pat.training.side_by_side import epochs_of, lanes, side_by_side

NAMES = {
    "histogram": "colour histogram",
    "untrained": "untrained network",
    "baseline": "trained, no CSL, no PSD",
    "pat": "PAT: CSL + PSD",
}

Figures = dict[str, tuple[Image.Image, str]]
"""Name -> image and caption, in the order of the page."""


def run(
    out: Path, epochs: int, seed: int, asked: str, report: Report, progress: Progress
) -> tuple[dict[str, Any], dict[str, Image.Image]]:
    """Draw both domains, train on the device `asked` for, score on the one that no training saw, tell on the page.

    Returns facts for report.json, and images by name.
    """
    device = choose_device(asked)
    draw_domains(out / "data", progress)
    shared = dataclasses.replace(
        TRAINING, data=DataConfig(source=(str(out / "data" / "source"),), cache=out / "cache"),
        optim=dataclasses.replace(TRAINING.optim, cosine_epochs=epochs),
        model=resolve_model(TRAINING.model, device), loss=resolve_loss(TRAINING.loss, device), epochs=epochs,
        seed=seed, device=asked, out=out,
    )  # fmt: skip
    arms = train_arms(shared, device, progress)
    progress.say("scoring on the target domain, which no training saw")
    images = open_evaluation_set(str(out / "data" / "target"), SIZE, shared.data, progress)
    embedders: dict[str, Embed] = {"histogram": stripe_histogram}
    embedders |= {name: embedder(model, device) for name, model in arms.items()}
    scores = {name: score(each, images, progress, label=name) for name, each in embedders.items()}
    results = {name: each.result for name, each in scores.items()}
    print_table("people of the unseen domain", {NAMES[name]: each for name, each in results.items()})
    copy_whole(out / "pat" / "model.safetensors", out / "model.safetensors")
    figures = draw_figures(out, scores, arms["pat"], images, device)
    tell(report, results, figures)
    unseen = {name: {"mAP": each.mAP, "rank1": float(each.cmc[0])} for name, each in results.items()}
    return {"unseen": unseen, "epochs": epochs}, {name: image for name, (image, _) in figures.items()}


def tell(report: Report, results: Mapping[str, RankingResult], figures: Figures) -> None:
    """This part of the page."""
    ours, histogram, baseline = (results[name] for name in ("pat", "histogram", "baseline"))
    gain = f"{100 * (ours.mAP - baseline.mAP):+.1f} points with them"
    report.add_heading("Minutes later: a small PAT, trained from scratch")
    report.add_cards(
        [
            ("mAP on the unseen domain", f"{ours.mAP:.1%}", f"colour histogram: {histogram.mAP:.1%}"),
            ("right at the first answer", f"{ours.cmc[0]:.1%}", f"of {ours.valid_queries} queries"),
            ("without CSL and PSD", f"{baseline.mAP:.1%}", gain),
        ]
    )
    report.add_text(
        "A small part-aware transformer learned from scratch to tell 120 flat people of the source domain "
        "apart, and then searched for 60 other people in the target domain: other cameras, places and "
        "clothes. One seed on little data: the difference to the training without CSL and PSD may well be "
        "chance."
    )
    named = {NAMES[name]: each for name, each in results.items()}
    report.add_results(named, caption="Scores on the target domain, one seed.")
    for image, caption in figures.values():
        report.add_figure(image, caption)


def train_arms(shared: TrainConfig, device: torch.device, progress: Progress) -> dict[str, PartAwareTransformer]:
    """The untrained network, the same training without CSL and PSD, and PAT, in folders of `shared.out`."""
    torch.manual_seed(shared.seed)
    arms = {"untrained": PartAwareTransformer(shared.model).eval().to(device)}
    losses = {"baseline": dataclasses.replace(shared.loss, csl=0.0, psd=0.0), "pat": shared.loss}
    runs = {name: dataclasses.replace(shared, loss=loss, out=shared.out / name) for name, loss in losses.items()}
    for run_config in runs.values():
        if (run_config.out / "config.json").exists():  # an earlier demo's
            shutil.rmtree(run_config.out)
    progress.say(f"training: {' · '.join(NAMES[name] for name in runs)}")
    jobs = [_Arm(NAMES[name], run_config) for name, run_config in runs.items()]
    at_once = len(jobs) if device.type == "cpu" else None
    side_by_side(_train, jobs, lanes(device, shared.device, at_once), progress)
    for name, run_config in runs.items():
        arms[name] = pat.load(run_config.out / "model.safetensors", shared.model.attention).to(device)
    return arms


@dataclass(frozen=True)
class _Arm:
    name: str
    config: TrainConfig


def _train(arm: _Arm, device: str) -> None:
    train(dataclasses.replace(arm.config, device=device))


def draw_figures(
    out: Path,
    scores: Mapping[str, Score],
    model: PartAwareTransformer,
    images: EvaluationSet,
    device: torch.device,
) -> Figures:
    found = scores["pat"]
    epochs = epochs_of(out / "pat")
    config = TargetConfig(cache=out / "cache")
    source = open_evaluation_set(str(out / "data" / "source"), SIZE, config, Progress())
    rows = spread_rows(len(images.query.pixels), 6)
    sheet = {
        name: each.gallery.pixels[spread_rows(len(each.gallery.pixels), 12)]
        for name, each in (("source domain, seen in training", source), ("target domain, never seen", images))
    }
    ranked = ranked_list_figure(images.query.pixels, found.query, images.gallery.pixels, found.gallery, rows)
    looked = attention_maps(model, to_images(images.query.pixels[rows], device)).cpu().numpy()
    names = ["cls", *(f"part {part}" for part in range(1, model.parts + 1))]
    return {
        "domains": (contact_sheet(sheet), "People of both domains share garments, not cameras or places."),
        "ranked": (ranked, "First answers of PAT to some queries. Green: the same person. Red: somebody else."),
        "attention": (
            attention_figure(images.query.pixels[rows], looked, names),
            "Where the cls token and the part tokens look in the last block.",
        ),
        "cmc": (
            cmc_curve({NAMES[name]: each.result.cmc for name, each in scores.items()}),
            "Share of queries with a match among the first answers.",
        ),
        "training": (
            training_curve({name: [epoch[name] for epoch in epochs] for name in ("identity", "triplet", "csl")}),
            "Losses of PAT over the epochs.",
        ),
    }
