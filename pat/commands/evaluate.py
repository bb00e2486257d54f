"""`pat evaluate`: the score of a model on data sets, as a table, JSON, images and a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from tyro.conf import Positional, arg

from pat.base.errors import UserError
from pat.base.files import write_image, write_json
from pat.base.mapping import check_limits, to_mapping
from pat.base.progress import Progress, TerminalProgress
from pat.commands.arguments import parse, writable
from pat.commands.embedders import SHIPPED, OpenedModel, model_or_shipped
from pat.commands.open_set import open_set_facts
from pat.commands.protocol import evaluate_protocol, training_facts
from pat.commands.shared import SharedModel, shared_model
from pat.commands.tables import print_table
from pat.config import EvaluateConfig
from pat.evaluation.curves import cmc_curve
from pat.evaluation.figures import attention_figure, ranked_list_figure
from pat.evaluation.protocols import known_protocol, protocol_targets
from pat.evaluation.report import Report, versions
from pat.evaluation.scoring import EvaluationSet, Score, open_evaluation_set, spread_rows


@dataclass(frozen=True)
class Arguments:
    """Score a model on the query and gallery of data sets: CMC, mAP and mINP.

    Images of the query's own identity and camera are left out, junk too; distractors stay. --data is short for
    --data.target. --protocol scores on the targets of a protocol that are under --data.root.
    """

    model: Annotated[Positional[Path], arg(metavar="[MODEL]", help_behavior_hint=SHIPPED)] = Path()
    """A model file (.safetensors), the folder of a finished run, or an exported bundle."""
    config: Annotated[EvaluateConfig, arg(name="")] = field(default_factory=EvaluateConfig)


def main(arguments: Sequence[str]) -> None:
    """Evaluate, print the table and write the results."""
    short = ["--data.target" + word[6:] if word.split("=")[0] == "--data" else word for word in arguments]
    given = parse(Arguments, short, "evaluate")
    progress = TerminalProgress()
    model = model_or_shipped(given.model, progress)
    if given.config.protocol is None:
        evaluate(model, given.config, progress)
    else:
        _by_protocol(model, given.config, progress)


def _by_protocol(path: Path, config: EvaluateConfig, progress: Progress) -> None:
    """Score the model at `path` on the targets of the protocol in `config`."""
    protocol = known_protocol(config.protocol or "")
    if config.data.target:
        raise UserError("--protocol names its own targets; leave out --data, and give their folder as --data.root")
    if config.open_set:
        raise UserError("--open-set is told for --data; a protocol's table has rank-1 and mAP alone")
    check_limits(config)
    writable(config.out)
    with shared_model(path, config.device, config.attention, progress) as shared:
        evaluate_protocol(shared, protocol, protocol_targets(protocol, training_facts(path)), config, progress)


def evaluate(path: Path, config: EvaluateConfig, progress: Progress | None = None) -> dict[str, dict[str, Score]]:
    """Score the model at `path` on every target; the scores by data set and embedding.

    Under torchrun every process calls it: they share the embedding, and the first one alone ranks, prints and
    writes; the others return nothing.
    """
    progress = progress or TerminalProgress()
    if not config.data.target:
        raise UserError("name what to evaluate on with --data (a layout such as market1501, or a folder)")
    check_limits(config)
    writable(config.out)
    with shared_model(path, config.device, config.attention, progress) as shared:
        return _evaluate(shared, config, progress if shared.first else Progress())


def _evaluate(shared: SharedModel, config: EvaluateConfig, progress: Progress) -> dict[str, dict[str, Score]]:
    opened = shared.opened
    report = Report("Evaluation", str(opened.path))
    scores: dict[str, dict[str, Score]] = {}
    values: dict[str, dict[str, dict[str, Any]]] = {}
    names = set[str]()
    for spec in config.data.target:
        images = open_evaluation_set(spec, opened.image_size, config.data, progress)
        if images.name in names:
            raise UserError(f"two targets are called {images.name}; call one otherwise: --data NAME=PATH")
        names.add(images.name)
        found = shared.score(images, config, progress)
        if not shared.first:
            continue
        scores[images.name] = found
        print_table(images.name, {name: each.result for name, each in found.items()})
        _add_images(report, config, opened, images, found, progress)
        values[images.name] = {kind: each.result.to_mapping() for kind, each in found.items()}
        if config.open_set:
            for kind, facts in open_set_facts(found, opened, config, images.name, report, progress).items():
                values[images.name][kind]["open_set"] = facts
    if not shared.first:
        return {}
    facts = {"model": str(opened.path), "targets": values, "versions": versions(), "settings": to_mapping(config)}
    write_json(config.out / "evaluation.json", facts)
    report.add_settings("Settings", to_mapping(config))
    report.add_settings("Versions", versions())
    report.write(config.out / "report.html")
    progress.say(f"wrote {config.out / 'evaluation.json'} and report.html")
    return scores


def _add_images(
    report: Report,
    config: EvaluateConfig,
    opened: OpenedModel,
    images: EvaluationSet,
    scores: Mapping[str, Score],
    progress: Progress,
) -> None:
    """Table, curve, ranked lists and attention maps of one data set, into the report and as files."""
    folder = config.out / images.name
    results = {name: each.result for name, each in scores.items()}
    report.add_heading(images.name)
    report.add_results(results)
    curve = cmc_curve({name: result.cmc for name, result in results.items()})
    write_image(curve, folder / "cmc.png")
    report.add_figure(curve, "Share of queries with a match among the first answers.")
    found = scores[opened.kind]
    valid = np.flatnonzero(np.isfinite(found.result.average_precision))
    rows = [int(valid[row]) for row in spread_rows(len(valid), config.images)]
    if not rows:
        return
    ranked = ranked_list_figure(images.query.pixels, found.query, images.gallery.pixels, found.gallery, rows)
    write_image(ranked, folder / "ranked.png")
    report.add_figure(ranked, "First answers to some queries. Green: the same person. Red: somebody else.")
    if opened.model is None:
        return
    from pat.model.attention_maps import attention_maps
    from pat.model.images import to_images

    looked = attention_maps(opened.model, to_images(images.query.pixels[rows], opened.device)).cpu().numpy()
    names = ["cls", *(f"part {part}" for part in range(1, opened.model.parts + 1))]
    seen = attention_figure(images.query.pixels[rows], looked, names)
    write_image(seen, folder / "attention.png")
    report.add_figure(seen, "Where the cls token and each part token look in the last block.")
