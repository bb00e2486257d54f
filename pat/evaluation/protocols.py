"""The protocols by which the field compares generalisation: what trains, what is tested on, what was published.

    single  one source, its training part; tested on each of the other large data sets
    P1      every image of Market-1501, CUHK02, CUHK03, CUHK-SYSU; tested on PRID, GRID, VIPeR, i-LIDS
    P2      leave one out over Market-1501, MSMT17, CUHK03, CUHK-SYSU: the training parts of the other three
    P3      as P2 with every image of the other three

CUHK-SYSU tells no cameras and is never a target; all of its images train. CUHK03 is the detected one.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pat.base.errors import UserError
from pat.data.layouts import ALL, LAYOUTS
from pat.data.layouts.reading import plain_name
from pat.evaluation.ranking import RankingResult

LARGE = ("market1501", "msmt17", "cuhk03")
SMALL = ("prid", "grid", "viper", "ilids")
LEAVE_ONE_OUT = (*LARGE, "cuhk-sysu")


@dataclass(frozen=True)
class Published:
    """A figure of the literature, in percent."""

    method: str
    target: str
    rank1: float
    mAP: float
    source: str


_PROTOCOL_UNTOLD = "leave-one-out over Market-1501, MSMT17, CUHK03, CUHK-SYSU; whether P2 or P3, see the paper"
_BAU = f"Cho et al., NeurIPS 2024, arXiv 2411.11471; {_PROTOCOL_UNTOLD}"
_LEFT_OUT = (
    Published("BAU", "market1501", 90.4, 77.1, _BAU),
    Published("ReNorm", "market1501", 89.1, 72.7, f"the ReNorm paper; {_PROTOCOL_UNTOLD}"),
    Published("ReNorm", "msmt17", 55.6, 25.6, f"the ReNorm paper; {_PROTOCOL_UNTOLD}"),
)
_QACONV = "the QAConv-GS paper (Liao and Shao, CVPR 2022)"

PUBLISHED: dict[str, tuple[Published, ...]] = {
    "single": (
        Published("QAConv-GS, from MSMT17", "market1501", 79.1, 49.5, _QACONV),
        Published("QAConv-GS, from Market-1501", "msmt17", 45.9, 17.2, _QACONV),
    ),
    "P1": (),
    "P2": _LEFT_OUT,
    "P3": _LEFT_OUT,
}

PROTOCOLS = tuple(PUBLISHED)


def known_protocol(name: str) -> str:
    """The protocol that is meant, whatever its case. Raises UserError naming the nearest for another."""
    for protocol in PROTOCOLS:
        if name.lower() == protocol.lower():
            return protocol
    near = difflib.get_close_matches(name.lower(), [p.lower() for p in PROTOCOLS], n=1, cutoff=0.4)
    meant = next((f"did you mean {p}? " for p in PROTOCOLS if p.lower() in near), "")
    raise UserError(f"unknown protocol {name!r}: {meant}known are {', '.join(PROTOCOLS)}")


def possible_targets(protocol: str) -> tuple[str, ...]:
    """The data sets that a protocol tests on."""
    return SMALL if known_protocol(protocol) == "P1" else LARGE


def training_sources(protocol: str, target: str | None = None) -> tuple[str, ...]:
    """What `--data.source` is for a protocol; P2 and P3 need the data set that is left out.

    Raises UserError for a data set that the protocol has not, and for "single", whose source is one's choice.
    """
    protocol = known_protocol(protocol)
    if protocol == "single":
        raise UserError("the protocol single trains on any one data set; name it with --data.source")
    if protocol == "P1":
        return tuple(name + ALL for name in ("market1501", "cuhk02", "cuhk03", "cuhk-sysu"))
    if target not in LARGE:
        near = difflib.get_close_matches(str(target), LARGE, n=1, cutoff=0.4)
        meant = f"did you mean {near[0]}? " if near else ""
        raise UserError(f"{protocol} has no target {target!r}: {meant}it leaves out one of {', '.join(LARGE)}")
    rest = [name for name in LEAVE_ONE_OUT if name != target]
    return tuple(name + ALL if protocol == "P3" else name for name in rest)


@dataclass(frozen=True)
class Plan:
    """What a model is scored on."""

    targets: tuple[str, ...]
    warnings: tuple[str, ...]


def plan(protocol: str, facts: Mapping[str, Any]) -> Plan:
    """The targets of a model by the `source` among its training facts.

    Raises UserError for a model that was trained on what it would be tested on.
    """
    protocol = known_protocol(protocol)
    targets = possible_targets(protocol)
    specs = facts.get("source") or ()
    if not isinstance(specs, (list, tuple)) or not all(isinstance(spec, str) for spec in specs):
        specs = ()
    if not specs:
        return Plan(targets, ("the model does not tell what it was trained on: the targets may be among it",))
    trained = {spec: layout_of(spec) for spec in specs}
    warnings = [
        f"the model was trained on {spec}, which no known name tells; it may hold a target"
        for spec, layout in trained.items()
        if layout is None
    ]
    known = {layout.removesuffix("-labeled") for layout in trained.values() if layout}
    unseen = tuple(target for target in targets if target not in known)
    seen = [target for target in targets if target in known]
    if not unseen or (protocol == "P1" and seen):
        raise UserError(f"the model was trained on {', '.join(seen)}: a target of {protocol}; no target may train")
    warnings += _other_sources(protocol, unseen, specs, trained)
    return Plan(unseen, tuple(warnings))


def layout_of(spec: str) -> str | None:
    """The layout that a training source names, by its own name or its folder's; None where neither tells."""
    name, _, place = spec.removesuffix(ALL).partition("=")
    for words in (name, place, Path(name).name, Path(place).name):
        for layout, reader in LAYOUTS.items():
            if words and plain_name(words) in {plain_name(each) for each in (layout, *reader.FOLDERS)}:
                return layout
    return None


def _other_sources(
    protocol: str, unseen: Sequence[str], specs: Sequence[str], trained: Mapping[str, str | None]
) -> list[str]:
    """A line where the model was not trained as the protocol asks."""
    has = {f"{trained[s] or s}{ALL if s.endswith(ALL) else ''}" for s in specs}
    whole = {"cuhk-sysu" + ALL: "cuhk-sysu", "cuhk02" + ALL: "cuhk02"}  # these have no test part
    if protocol == "single":
        fits, asked = len(specs) == 1 and not specs[0].endswith(ALL), "the training part of one data set"
    else:
        sources = training_sources(protocol, unseen[0])
        fits = {whole.get(s, s) for s in has} == {whole.get(s, s) for s in sources}
        asked = ", ".join(sources)
    return [] if fits else [f"trained on {', '.join(specs)}, where {protocol} asks for {asked}: not comparable"]


@dataclass(frozen=True)
class Spread:
    """Rank-1 and mAP over the splits of a data set, as shares."""

    rank1: float
    mAP: float
    rank1_deviation: float
    mAP_deviation: float
    """Sample standard deviations; 0 for one split."""
    splits: int

    @classmethod
    def of(cls, results: Sequence[RankingResult]) -> Spread:
        """Mean and sample standard deviation of the scores."""
        values = np.array([[result.cmc[0], result.mAP] for result in results])  # [splits, 2]
        rank1, mAP = values.mean(axis=0).tolist()
        deviations = values.std(axis=0, ddof=1) if len(values) > 1 else np.zeros(2)
        return cls(rank1, mAP, float(deviations[0]), float(deviations[1]), len(values))


def average(spreads: Sequence[Spread]) -> tuple[float, float]:
    """Mean rank-1 and mean mAP over data sets."""
    return float(np.mean([s.rank1 for s in spreads])), float(np.mean([s.mAP for s in spreads]))
