"""`pat ablate labels`: what the neighbours of a model's parts wear, judged by what was rendered."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

from pat.ablation import attention, calibration, labels
from pat.ablation.attention import Look, looks
from pat.ablation.calibration import Bin, expected_error, reliability
from pat.ablation.labels import Agreement, Neighbours
from pat.ablation.power import LEVEL
from pat.ablation.rendered import Facts, facts_of, size_of
from pat.ablation.report import markdown_table
from pat.base.errors import UserError
from pat.base.files import write_image, write_text
from pat.base.mapping import check_limits
from pat.base.progress import Progress
from pat.commands.ablate.arguments import LabelsArguments
from pat.commands.arguments import writable
from pat.commands.embedders import opened_model
from pat.data.sample import JUNK, Sample
from pat.evaluation.curves import spread_plot
from pat.evaluation.figures import contact_sheet
from pat.evaluation.scoring import EvaluationSet, open_evaluation_set, spread_rows
from pat.model.attention_maps import attention_maps
from pat.model.images import to_images
from pat.model.transformer import PartAwareTransformer

TABLE, FIGURE, EXAMPLES = "table.md", "figure.png", "examples.png"
COLUMNS = (
    "part", "attribute", "images", "people", "chance, %", "global feature, %", "part, %",
    "part - global, 95 % interval",
)  # fmt: skip
OVER_MODELS = ("over models, 95 % interval", "p (Holm)")
"""Columns where there are several."""


@dataclass(frozen=True)
class Seen:
    """What one model makes of the images."""

    bands: list[tuple[float, float]]
    """Top and bottom of each part's band as shares of the height."""
    others: list[Neighbours]
    """Of each part, other people's images; the global feature's last."""
    anybody: list[Neighbours]
    """The same where one's own images are neighbours too."""
    maps: np.ndarray
    """What the tokens look at, f32 [N, 1 + P, R, C]."""


@dataclass(frozen=True)
class Agreements:
    """What the neighbours say; means over the models."""

    models: int
    bands: list[tuple[float, float]]
    table: list[Agreement]
    same_person: list[float]
    """Of each part, where one's own images are neighbours too; the global feature's last."""
    chance_of_person: float
    bins: list[Bin]
    looks: list[Look]


def run(given: LabelsArguments, command: str, progress: Progress) -> None:
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
            if opened.model is None or not opened.model.parts:
                raise UserError(f"{path} has no part tokens to look at; train with --model.parts 3")
            images = open_evaluation_set(given.data.target[0], opened.image_size, given.data, progress)
            pixels, samples = _chosen(images, given.images)
            facts, size = facts_of(samples, labels.COLUMNS), size_of(samples[0])
            identities = np.array([sample.identity for sample in samples], dtype=np.int64)
            seen.append(_seen(opened.model, opened.device, pixels, identities, given.k, progress))
        if seen[-1].bands != seen[0].bands or seen[-1].maps.shape != seen[0].maps.shape:
            raise UserError(f"{path} has other part tokens than {given.models[0]}; their means say nothing")
    found = _found(seen, facts, size, identities)
    write_text(given.out / TABLE, markdown(found, given, len(samples), command))
    write_image(_figure(found), given.out / FIGURE)
    write_image(_examples(pixels, seen[-1]), given.out / EXAMPLES)
    progress.say(f"wrote {given.out / TABLE}")
    print(_table(found))


def _chosen(images: EvaluationSet, most: int) -> tuple[np.ndarray, list[Sample]]:
    """Pixels u8 [N, H, W, 3] and samples of people, without junk, evenly over query and gallery."""
    sides = (images.query, images.gallery)
    places = [(side, row) for side in sides for row, sample in enumerate(side.samples) if sample.identity != JUNK]
    kept = [places[row] for row in spread_rows(len(places), most)]
    return np.stack([side.pixels[row] for side, row in kept]), [side.samples[row] for side, row in kept]


@torch.no_grad()
def _seen(
    model: PartAwareTransformer,
    device: str,
    pixels: np.ndarray,
    identities: np.ndarray,
    k: int,
    progress: Progress,
) -> Seen:
    features, maps = [], []
    with progress.bar("embed", len(pixels)) as advance:
        for start in range(0, len(pixels), 64):
            images = to_images(pixels[start : start + 64], device)
            plain, parts = model.features(images)
            plain = torch.nn.functional.normalize(plain.float(), dim=1)
            features.append(torch.cat([parts.float(), plain[:, None]], dim=1).cpu())  # [B, P + 1, D]
            maps.append(attention_maps(model, images).cpu())
            advance(len(plain))
    vectors = torch.cat(features).transpose(0, 1).contiguous().numpy()
    others, anybody = (labels.neighbours(vectors, k, people) for people in (identities, None))
    bands = model.host_bands.reshape(-1, 4)[:, :2].double() / model.grid[0]
    return Seen([(top, bottom) for top, bottom in bands.tolist()], others, anybody, torch.cat(maps).numpy())


def _found(
    seen: Sequence[Seen], facts: Sequence[Facts], size: tuple[int, int], identities: np.ndarray
) -> Agreements:
    """What the models say together. Raises UserError where the images show too little."""
    bands, images = seen[0].bands, len(identities)
    of_parts, of_global = [each.others[:-1] for each in seen], [each.others[-1] for each in seen]
    table = labels.agreements(facts, size[0], bands, of_parts, of_global, identities)
    if not table:
        few = f"no attribute is shown by {labels.FEWEST} of these {images} images"
        raise UserError(f"{few}; take more with --images")
    people = np.unique(identities, return_counts=True)[1]
    by_luck = float((people * (people - 1)).sum() / (images * (images - 1)))
    own = [[labels.same_person(near, identities) for near in each.anybody] for each in seen]
    guessed = [calibration.guesses(each.anybody[:-1], identities) for each in seen]
    confidence, right = (np.concatenate(each) for each in zip(*guessed, strict=True))
    bins = reliability(confidence, right, np.tile(identities, len(seen)))
    looked = looks(np.mean([each.maps for each in seen], axis=0), facts, size, bands, identities)
    return Agreements(len(seen), bands, table, np.mean(own, axis=0).tolist(), by_luck, bins, looked)


def _part_name(found: Agreements, part: int) -> str:
    top, bottom = found.bands[part]
    return f"{part + 1} ({100 * top:.0f} to {100 * bottom:.0f} % of the height)"


def _table(found: Agreements) -> str:
    body = []
    for row in found.table:
        shares = [f"{100 * share:.1f}" for share in (row.chance, row.by_global, row.by_part)]
        change = f"{100 * (row.by_part - row.by_global):+.1f} {_interval(row.low, row.high)}"
        name = _part_name(found, row.part)
        cells = [name, row.attribute, str(row.images), str(row.people), *shares, change]
        if row.over_models is not None and row.p is not None:
            cells += [_interval(row.over_models.low, row.over_models.high), f"{row.p:.3f}"]
        body.append(cells)
    return _lines((*COLUMNS, *OVER_MODELS) if found.models > 1 else COLUMNS, body)


def _interval(low: float, high: float) -> str:
    return f"[{100 * low:+.1f}, {100 * high:+.1f}]"


def _lines(columns: Sequence[str], body: Iterable[Sequence[str]]) -> str:
    return "\n".join(markdown_table(columns, body))


def markdown(found: Agreements, given: LabelsArguments, images: int, command: str) -> str:
    """The page: tables with what they count."""
    better, worse = sum(row.low > 0 for row in found.table), sum(row.high < 0 for row in found.table)
    over_models = once_each = ""
    if found.models > 1:
        certain = sum(row.p is not None and row.p < LEVEL for row in found.table)
        over_models = (
            f"\nOver {found.models} models, corrected by Holm over the rows: {certain} rows below "
            f"{100 * LEVEL:.0f} %. All shares are means over the models."
        )
        once_each = "An image counts once for each model.\n\n"
    names = [*(_part_name(found, part) for part in range(len(found.bands))), "global feature"]
    own_person = zip(names, (f"{100 * share:.1f}" for share in found.same_person), strict=True)
    return f"""\
# labels

Do the neighbours of a part feature wear what the part shows?

{_table(found)}

Of {len(found.table)} rows the part's neighbours agree more than the global feature's in {better}, less in {worse},
and in the others the interval holds 0; no correction for their number.{over_models}

Neighbours: the {given.k} nearest images of other people among {images}. An image counts where the thing is visible
and lies in the part's region by {100 * labels.INSIDE:.0f} % of its height. Chance: the share of all other people's
images. The interval is a bootstrap's over people.

![Share of neighbours that agree]({FIGURE})

![A query and its neighbours in each part, then by the global feature]({EXAMPLES})

## Neighbours that show the image's own person, % (chance {100 * found.chance_of_person:.2f})

{_lines(("part", "own person"), own_person)}

Here an image's own person may be found, as CSL and PSD do unless `loss.other_identities` is set.

## Soft labels: is the commonest person among an image's neighbours the right one?

{_lines(calibration.COLUMNS, map(calibration.cells, found.bins))}

{once_each}The neighbours of all parts together, one's own images among them, as PSD counts them. A calibrated soft
label is right as often as its share says; here share and truth are {100 * expected_error(found.bins):.1f} points
apart, mean over images (expected calibration error).

## What the tokens look at

{_lines(attention.COLUMNS, map(attention.cells, found.looks))}

Attention of the last block to the patches of a token's region, mean over heads, against the share of that region
that the thing's box covers: what a token that looks everywhere alike would give.

## How it was made

`{command}`
"""


def _figure(found: Agreements) -> Image.Image:
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
    titles = [f"the image, then its neighbours in part {part}" for part in range(1, len(seen.others))]
    titles.append("by the global feature")
    rows = {}
    for number, row in enumerate(spread_rows(len(pixels), 4)[1:3], 1):
        for title, band, found in zip(titles, [*seen.bands, (0.0, 1.0)], seen.others, strict=True):
            near = [row, *(each for each in found[row][:7] if each >= 0)]
            rows[f"{number}: {title}"] = _faded(pixels[near], band)
    return contact_sheet(rows)


def _faded(images: np.ndarray, band: tuple[float, float]) -> np.ndarray:
    """The images u8 [n, H, W, 3], pale but for a band of their height."""
    height = images.shape[1]
    faded = 160 + (images.astype(np.int16) - 160) // 4
    rows = slice(round(band[0] * height), round(band[1] * height))
    faded[:, rows] = images[:, rows]
    return faded.astype(np.uint8)
