"""`pat evaluate --protocol`: a model on every target of a protocol, one table in the papers' layout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from export.manifest import MANIFEST, Manifest
from pat.base.errors import UserError
from pat.base.files import expanded, write_json
from pat.base.mapping import to_mapping
from pat.base.progress import Progress
from pat.commands.embedders import OpenedModel
from pat.commands.shared import SharedModel
from pat.commands.tables import show_table
from pat.config import EvaluateConfig
from pat.data.layouts import DataSet, find_data_set
from pat.evaluation.protocols import AVERAGE, PUBLISHED, ProtocolTargets, Published, Spread, average
from pat.evaluation.report import Report, versions
from pat.evaluation.scoring import decoded_splits

NOT_YET = "measured here: not yet"

VIPER = {"10": "viper", "20": "viper:20", "40": "viper:40"}
"""Ways to score VIPeR, by the number of splits."""

Results = dict[str, dict[str, Spread]]
"""By kind of embedding or ranking, then by data set."""


@dataclass(frozen=True)
class Outcome:
    """What a run by a protocol found."""

    protocol: str
    plan: ProtocolTargets
    absent: tuple[str, ...]
    results: Results
    divisions: tuple[str, ...] = ()
    """How the targets of several splits were divided, a line each."""


def training_facts(path: Path) -> Mapping[str, Any]:
    """What the model at `path`, a file, a run's folder or a bundle, tells of its training."""
    if (path / MANIFEST).is_file():
        return Manifest.load(path).training
    from pat.model.model_file import file_at, read_description

    return read_description(file_at(path)).training


def evaluate_protocol(
    shared: SharedModel, protocol: str, planned: ProtocolTargets, config: EvaluateConfig, progress: Progress
) -> Outcome:
    """Score the model on the planned targets that are under the root; print the table and write the results.

    Raises UserError where none is there.
    """
    progress = progress if shared.first else Progress()
    for line in planned.warnings:
        progress.say(f"warning: {line}")
    data_sets, absent = _present(planned.targets, config)
    for name in absent:
        progress.say(f"absent: {name} is not under {config.data.root}")
    results: Results = {}
    for data_set in data_sets:
        images = decoded_splits(data_set, shared.opened.image_size, config.data, progress)
        for kind, score in shared.score(images, config, progress).items():
            results.setdefault(kind, {})[data_set.name] = Spread.of(score.results)
    divided = tuple(_division(data_set) for data_set in data_sets if data_set.splits)
    outcome = Outcome(protocol, planned, absent, results, divided)
    if shared.first:
        show_table(f"protocol {outcome.protocol}", *table(outcome))
        print("\n".join(_sources(outcome)))
        _write(outcome, shared.opened, config)
    progress.say(f"wrote {config.out / 'protocol.json'} and report.html")
    return outcome


def _division(data_set: DataSet) -> str:
    """In one line: "viper: mean over 10 splits; cam_a asks"."""
    own = (note.removeprefix(f"{data_set.name}: ") for note in data_set.notes)
    told = [note for note in own if "asks" in note or "ask in turn" in note]
    return "; ".join([f"{data_set.name}: mean over {len(data_set.splits)} splits", *told])


def _present(targets: Sequence[str], config: EvaluateConfig) -> tuple[list[DataSet], tuple[str, ...]]:
    """The data sets under the root, read, and the names of those that are not there."""
    root = expanded(config.data.root)
    if not root.is_dir():
        raise UserError(f"the data root {root} does not exist; --data.root is the folder that holds the data sets")
    found, absent = [], []
    for name in targets:
        try:
            found.append(find_data_set(VIPER[config.viper] if name == "viper" else name, root))
        except UserError:
            absent.append(name)
    if not found:
        names = ", ".join(targets)
        raise UserError(f"none of the targets {names} is under {root}; name their folder by --data.root")
    return [each.read(config.data.on_error) for each in found], tuple(absent)


def table(outcome: Outcome) -> tuple[list[str], list[list[str]]]:
    """Columns and rows: rank-1 / mAP in percent for each target and on average, then the published figures."""
    targets = outcome.plan.targets
    measured = [t for t in targets if t not in outcome.absent]
    of = "" if len(measured) == len(targets) else f" of {len(measured)} of {len(targets)}"
    heads = [f"{target} (absent)" if target in outcome.absent else target for target in targets]
    columns = ["rank-1 / mAP, %", *heads, f"average{of}"]
    rows = []
    for kind, spreads in outcome.results.items():
        mean = average(list(spreads.values()))
        cells = [_cell(spreads[t]) if t in spreads else NOT_YET for t in targets]
        rows.append([kind, *cells, f"{100 * mean[0]:.1f} / {100 * mean[1]:.1f}"])
    for figure in _published(outcome):
        cells = [f"{figure.rank1} / {figure.mAP}" if t == figure.target else "" for t in (*targets, AVERAGE)]
        rows.append([f"published: {figure.method}", *cells])
    return columns, rows


def _cell(spread: Spread) -> str:
    if spread.splits == 1:
        return f"{100 * spread.rank1:.1f} / {100 * spread.mAP:.1f}"
    return (
        f"{100 * spread.rank1:.1f} ± {100 * spread.rank1_deviation:.1f} / "
        f"{100 * spread.mAP:.1f} ± {100 * spread.mAP_deviation:.1f}"
    )


def _sources(outcome: Outcome) -> list[str]:
    """How the measured figures came about, and where the published ones are from, a line each."""
    return [
        *outcome.divisions,
        *outcome.plan.remarks,
        *dict.fromkeys(f"{figure.method.split(', from')[0]}: {figure.source}" for figure in _published(outcome)),
    ]


def _published(outcome: Outcome) -> list[Published]:
    shown = (*outcome.plan.targets, AVERAGE)
    return [figure for figure in PUBLISHED[outcome.protocol] if figure.target in shown]


def _write(outcome: Outcome, opened: OpenedModel, config: EvaluateConfig) -> None:
    columns, rows = table(outcome)
    values = {
        "model": str(opened.path),
        "protocol": outcome.protocol,
        "targets": list(outcome.plan.targets),
        "absent": list(outcome.absent),
        "warnings": list(outcome.plan.warnings),
        "results": {
            kind: {name: vars(spread) for name, spread in spreads.items()}
            for kind, spreads in outcome.results.items()
        },
        "divisions": list(outcome.divisions),
        "remarks": list(outcome.plan.remarks),
        "published_percent": [vars(figure) for figure in _published(outcome)],
        "versions": versions(),
        "settings": to_mapping(config),
    }
    write_json(config.out / "protocol.json", values)
    report = Report(f"Protocol {outcome.protocol}", str(opened.path))
    report.add_table(columns, rows)
    report.add_text("\n\n".join([*outcome.plan.warnings, *_sources(outcome)]))
    report.add_settings("Settings", to_mapping(config))
    report.write(config.out / "report.html")
