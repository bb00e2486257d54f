"""`pat ablate labels`: what the neighbours of a model's parts wear, judged by what was rendered."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from PIL import Image
from tyro.conf import Positional, arg

from pat.ablation import attention, calibration, labels
from pat.ablation.attention import Look, looks
from pat.ablation.calibration import Bin, expected_error, reliability
from pat.ablation.labels import Agreement, Neighbours
from pat.ablation.power import LEVEL
from pat.ablation.rendered import facts_of, size_of
from pat.ablation.report import markdown_table
from pat.base.errors import UserError
from pat.base.files import write_image, write_text
from pat.base.mapping import check_limits
from pat.base.progress import Progress, TerminalProgress
from pat.commands.arguments import parse, writable
from pat.commands.embedders import opened_model
from pat.config import AttentionImplementation, Count, TargetConfig
from pat.data.sample import JUNK
from pat.evaluation.curves import spread_plot
from pat.evaluation.figures import contact_sheet
from pat.evaluation.scoring import EvaluationSet, open_evaluation_set, spread_rows
from pat.model.attention_maps import attention_maps
from pat.model.images import to_images
from pat.model.transformer import PartAwareTransformer

TABLE, FIGURE, EXAMPLES = "table.md", "figure.png", "examples.png"
COLUMNS = (
    "part",
    "attribute",
    "images",
    "people",
    "chance, %",
    "global feature, %",
    "part, %",
    "part - global, 95 % interval",
    "over models, 95 % interval",
    "p (Holm)",
)


@dataclass(frozen=True)
class Arguments:
    """Do the neighbours of a part feature wear what the part shows?

    Query and gallery of rendered people (pat synth people) stand for the memory bank. For every image and part:
    the share of its K neighbours, other people's images, that wear the same garment, colour or bag where the
    part's region shows it, against chance and against the neighbours of the global feature. Then how far soft
    labels can be believed, and how much of each token's attention lies on what is worn. Of several models, such
    as the seeds of one arm of a study, the mean is told, and a test over them. Writes table.md, figure.png and
    examples.png.
    """

    models: Annotated[Positional[tuple[Path, ...]], arg(metavar="MODEL...")]
    """Model files with part tokens, or folders of finished runs: trainings of one configuration."""
    data: TargetConfig = field(default_factory=TargetConfig)
    out: Path = Path("runs/ablate/labels")
    images: Count = 4000
    """Images taken, evenly over the data set, where it has more."""
    k: Count = 10
    """Neighbours of an image."""
    device: str = "auto"
    attention: AttentionImplementation = "auto"


@dataclass(frozen=True)
class Seen:
    """What one model makes of the images."""

    bands: list[tuple[float, float]]
    others: list[Neighbours]
    """Of each part, other people's images; the global feature's last."""
    anybody: list[Neighbours]
    """The same where one's own images are neighbours too."""
    maps: np.ndarray
    """What the tokens look at, f32 [N, 1 + P, R, C]."""


@dataclass(frozen=True)
class Found:
    """What the neighbours say; means over the models."""

    models: int
    bands: list[tuple[float, float]]
    table: list[Agreement]
    same_person: list[float]
    """Of each part, where one's own images are neighbours too; the global feature's last."""
    chance_of_person: float
    bins: list[Bin]
    looks: list[Look]


def main(arguments: Sequence[str]) -> None:
    """Find the neighbours, print the table and write the results."""
    given = parse(Arguments, arguments, "ablate labels")
    run(given, shlex.join(["pat", "ablate", "labels", *arguments]), TerminalProgress())


def run(given: Arguments, command: str, progress: Progress) -> Found:
    """The study from models to table."""
    check_limits(given)
    if not given.models:
        raise UserError("name at least one model with part tokens: a model file, or the folder of a run")
    if len(given.data.target) != 1:
        raise UserError("name one data set of rendered people with --data.target")
    writable(given.out)
    seen = []
    for path in given.models:
        with opened_model(path, given.device, given.attention, progress) as opened:
            model = opened.model
            if model is None or not model.parts:
                raise UserError(f"{path} has no part tokens to look at; train with --model.parts 3")
            images = open_evaluation_set(given.data.target[0], opened.image_size, given.data, progress)
            pixels, samples = _chosen(images, given.images)
            facts, size = facts_of(samples, labels.COLUMNS), size_of(samples[0])
            identities = np.array([sample.identity for sample in samples], dtype=np.int64)
            seen.append(_seen(model, torch.device(opened.device), pixels, identities, given.k, progress))
        if seen[-1].bands != seen[0].bands or seen[-1].maps.shape != seen[0].maps.shape:
            raise UserError(f"{path} has other part tokens than {given.models[0]}; their means say nothing")
    bands = seen[0].bands
    table = labels.agreements(
        facts, size[0], bands, [each.others[:-1] for each in seen], [each.others[-1] for each in seen], identities
    )
    if not table:
        raise UserError(
            f"no attribute is shown by {labels.FEWEST} of these {len(samples)} images; take more with --images"
        )
    people = np.unique(identities, return_counts=True)[1]
    by_luck = float((people * (people - 1)).sum() / (len(samples) * (len(samples) - 1)))
    own = [[labels.same_person(near, identities) for near in each.anybody] for each in seen]
    guessed = [calibration.guesses(each.anybody[:-1], identities) for each in seen]
    confidence, right = (np.concatenate(each) for each in zip(*guessed, strict=True))
    found = Found(
        len(seen),
        bands,
        table,
        np.mean(own, axis=0).tolist(),
        by_luck,
        reliability(confidence, right, np.tile(identities, len(seen))),
        looks(np.mean([each.maps for each in seen], axis=0), facts, size, bands, identities),
    )
    write_text(given.out / TABLE, markdown(found, given, len(samples), command))
    write_image(_figure(found), given.out / FIGURE)
    write_image(_examples(pixels, seen[-1]), given.out / EXAMPLES)
    progress.say(f"wrote {given.out / TABLE}")
    print("\n".join(_rows(found)))
    return found


def _seen(
    model: PartAwareTransformer,
    device: torch.device,
    pixels: np.ndarray,
    identities: np.ndarray,
    k: int,
    progress: Progress,
) -> Seen:
    plain, parts, maps = _features(model, device, pixels, progress)
    others, anybody = (
        [*labels.neighbours(parts, k, people), *labels.neighbours(plain[None], k, people)]
        for people in (identities, None)
    )
    return Seen(_bands(model), others, anybody, maps)


def _chosen(images: EvaluationSet, most: int) -> tuple[np.ndarray, list[Any]]:
    """Pixels u8 [N, H, W, 3] and samples of people, without junk, evenly over query and gallery."""
    sides = (images.query, images.gallery)
    places = [(side, row) for side in sides for row, sample in enumerate(side.samples) if sample.identity != JUNK]
    kept = [places[row] for row in spread_rows(len(places), most)]
    return np.stack([side.pixels[row] for side, row in kept]), [side.samples[row] for side, row in kept]


@torch.no_grad()
def _features(
    model: PartAwareTransformer, device: torch.device, pixels: np.ndarray, progress: Progress
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The embeddings float32 [N, D], unit length, the part features [P, N, D] as the bank holds them, and what the
    tokens look at [N, 1 + P, R, C]."""
    plain, parts, maps = [], [], []
    with progress.bar("embed", len(pixels)) as advance:
        for start in range(0, len(pixels), 64):
            images = to_images(pixels[start : start + 64], device)
            global_feature, part_features = model.features(images)
            maps.append(attention_maps(model, images).float().cpu())
            plain.append(torch.nn.functional.normalize(global_feature.float(), dim=1).cpu())
            parts.append(part_features.float().transpose(0, 1).cpu())
            advance(len(global_feature))
    return torch.cat(plain).numpy(), torch.cat(parts, dim=1).contiguous().numpy(), torch.cat(maps).numpy()


def _bands(model: PartAwareTransformer) -> list[tuple[float, float]]:
    """Top and bottom of each part's band as shares of the height."""
    rows = model.grid[0]
    bands = model.host_bands.reshape(-1, 4).tolist()
    return [(float(top) / rows, float(bottom) / rows) for top, bottom, _, _ in bands]


def _part_name(found: Found, part: int) -> str:
    top, bottom = found.bands[part]
    return f"{part + 1} ({100 * top:.0f} to {100 * bottom:.0f} % of the height)"


def _rows(found: Found) -> list[str]:
    body = []
    for row in found.table:
        shares = [f"{100 * share:.1f}" for share in (row.chance, row.by_global, row.by_part)]
        change = 100 * (row.by_part - row.by_global)
        interval = f"{change:+.1f} [{100 * row.low:+.1f}, {100 * row.high:+.1f}]"
        name = _part_name(found, row.part)
        cells = [name, row.attribute, str(row.images), str(row.people), *shares, interval]
        if row.over_models is not None and row.p is not None:
            test = row.over_models
            cells += [f"[{100 * test.low:+.1f}, {100 * test.high:+.1f}]", f"{row.p:.3f}"]
        body.append(cells)
    return markdown_table(COLUMNS if found.models > 1 else COLUMNS[:-2], body)


def markdown(found: Found, given: Arguments, images: int, command: str) -> str:
    """The table with what it counts."""
    better = [row for row in found.table if row.low > 0]
    worse = [row for row in found.table if row.high < 0]
    certain = [row for row in found.table if row.p is not None and row.p < LEVEL]
    same = [
        [_part_name(found, part) if part < len(found.bands) else "global feature", f"{100 * share:.1f}"]
        for part, share in enumerate(found.same_person)
    ]
    lines = [
        "# labels",
        "",
        "Do the neighbours of a part feature wear what the part shows?",
        "",
        *_rows(found),
        "",
        f"Of {len(found.table)} rows the part's neighbours agree more than the global feature's in {len(better)}, "
        f"less in {len(worse)}, and in the others the interval holds 0; no correction for their number.",
        *(
            [
                f"Over {found.models} models, corrected by Holm over the rows: {len(certain)} rows below "
                f"{100 * LEVEL:.0f} %. All shares are means over the models."
            ]
            if found.models > 1
            else []
        ),
        "",
        f"Neighbours: the {given.k} nearest images of other people among {images}. An image counts where the "
        f"thing is visible and lies in the part's region by {100 * labels.INSIDE:.0f} % of its height. Chance: "
        "the share of all other people's images. The interval is a bootstrap's over people.",
        "",
        f"![Share of neighbours that agree]({FIGURE})",
        "",
        f"![A query and its neighbours in each part, then by the global feature]({EXAMPLES})",
        "",
        f"## Neighbours that show the image's own person, % (chance {100 * found.chance_of_person:.2f})",
        "",
        *markdown_table(("part", "own person"), same),
        "",
        "Here an image's own person may be found, as CSL and PSD do unless `loss.other_identities` is set.",
        "",
        *_soft_labels(found),
        *_attention(found),
        "## How it was made",
        "",
        f"`{command}`",
    ]
    return "\n".join(lines) + "\n"


def _soft_labels(found: Found) -> list[str]:
    return [
        "## Soft labels: is the commonest person among an image's neighbours the right one?",
        "",
        *markdown_table(calibration.COLUMNS, map(calibration.cells, found.bins)),
        "",
        *(["An image counts once for each model.", ""] if found.models > 1 else []),
        "The neighbours of all parts together, one's own images among them, as PSD counts them. A calibrated soft "
        "label is right as often as its share says; here share and truth are "
        f"{100 * expected_error(found.bins):.1f} points apart, mean over images (expected calibration error).",
        "",
    ]


def _attention(found: Found) -> list[str]:
    return [
        "## What the tokens look at",
        "",
        *markdown_table(attention.COLUMNS, map(attention.cells, found.looks)),
        "",
        "Attention of the last block to the patches of a token's region, mean over heads, against the share of "
        "that region that the thing's box covers: what a token that looks everywhere alike would give.",
        "",
    ]


def _figure(found: Found) -> Image.Image:
    names = [f"part {row.part + 1}: {row.attribute}" for row in found.table]
    shares = {
        "chance": [row.chance for row in found.table],
        "global feature": [row.by_global for row in found.table],
        "part": [row.by_part for row in found.table],
    }
    series = {
        title: {name: [100 * value] for name, value in zip(names, values, strict=True)}
        for title, values in shares.items()
    }
    return spread_plot(series, label="neighbours that wear the same, %")


def _examples(pixels: np.ndarray, seen: Seen) -> Image.Image:
    """For two images: themselves and their neighbours in each part, the rest of the image faded; of one model."""
    rows = {}
    *others, of_global = seen.others
    for number, row in enumerate(spread_rows(len(pixels), 4)[1:3], 1):
        for part, (band, found) in enumerate(zip(seen.bands, others, strict=True), 1):
            near = pixels[[row, *_first(found[row])]]
            rows[f"{number}: the image, then its neighbours in part {part}"] = _faded(near, band)
        rows[f"{number}: by the global feature"] = pixels[[row, *_first(of_global[row])]]
    return contact_sheet(rows)


def _first(found: np.ndarray) -> list[int]:
    return [int(each) for each in found[:7] if each >= 0]


def _faded(images: np.ndarray, band: tuple[float, float]) -> np.ndarray:
    height = images.shape[1]
    faded = 160 + (images.astype(np.int16) - 160) // 4
    rows = slice(round(band[0] * height), round(band[1] * height))
    faded[:, rows] = images[:, rows]
    return faded.astype(np.uint8)
