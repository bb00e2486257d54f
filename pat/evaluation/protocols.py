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
from pat.data.layouts import ALL, LAYOUTS, msmt17, plain_spec
from pat.data.layouts.reading import plain_name
from pat.evaluation.ranking import RankingResult

LARGE = ("market1501", "msmt17", "cuhk03")
SMALL = ("prid", "grid", "viper", "ilids")
LEAVE_ONE_OUT = (*LARGE, "cuhk-sysu")
AVERAGE = "average"
"""Of a figure over all targets of a protocol."""


@dataclass(frozen=True)
class Published:
    """A figure of the literature, in percent."""

    method: str
    target: str
    """A data set, or AVERAGE."""
    rank1: float
    mAP: float
    source: str


_MEANS = "table of CLIP-FGDI, arXiv 2501.16065: means over the protocol's targets"

_SINGLE = (("Market-1501", "msmt17"), ("MSMT17", "market1501"), ("Market-1501", "cuhk03"))
"""Trained on, target: the columns of the first table below."""

_MUVA = {
    "PAT": ((18.2, 42.8), (47.3, 72.2), (26.0, 25.4)),
    "QAConv-MS": ((19.9, 49.7), (54.5, 83.0), (24.9, 26.6)),
    "DCAC, CLIP": ((23.4, 52.1), (52.1, 77.9), (32.5, 33.2)),
    "MUVA, CLIP and part masks": ((27.6, 56.8), (59.5, 82.7), (38.8, 40.8)),
}
"""mAP and rank-1 of each of _SINGLE."""

_FGDI = {
    "P1": {
        "CLIP-FGDI": (75.5, 82.2),
        "CLIP-ReID": (60.2, 69.8),
        "plain ViT-B": (56.9, 67.7),
        "PAT, re-run by CLIP-FGDI": (54.6, 64.6),
    },
    "P2": {"CLIP-FGDI": (65.1, 51.6), "CLIP-ReID": (59.8, 45.8), "plain ViT-B": (52.3, 38.7)},
    "P3": {"CLIP-FGDI": (67.6, 54.3), "CLIP-ReID": (60.6, 46.4), "plain ViT-B": (54.7, 41.2)},
}
"""Rank-1 and mAP, means over a protocol's targets."""

PUBLISHED: dict[str, list[Published]] = {
    "single": [
        Published(f"{method}, from {source}", target, rank1, mAP, "table of MUVA, arXiv 2603.14012 (2026)")
        for method, figures in _MUVA.items()
        for (source, target), (mAP, rank1) in zip(_SINGLE, figures, strict=True)
    ],
    **{
        protocol: [Published(method, AVERAGE, *figures, _MEANS) for method, figures in methods.items()]
        for protocol, methods in _FGDI.items()
    },
}
"""What is certain. Re-runs disagree with papers by several points, and protocols differ in detail: a figure
stands with the table that it is from, and BAU's and ReNorm's stand nowhere, because whether they are P2's or P3's
is not certain."""

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
class ProtocolTargets:
    """What a model is scored on."""

    targets: tuple[str, ...]
    warnings: tuple[str, ...]
    remarks: tuple[str, ...] = ()
    """What a table has to say of the training."""


def protocol_targets(protocol: str, facts: Mapping[str, Any]) -> ProtocolTargets:
    """The targets of a model by the `source` among its training facts.

    Raises UserError for a model that was trained on what it would be tested on.
    """
    protocol = known_protocol(protocol)
    targets = possible_targets(protocol)
    specs = facts.get("source") or ()
    if not isinstance(specs, (list, tuple)) or not all(isinstance(spec, str) for spec in specs):
        specs = ()
    if not specs:
        unknown = "the model does not tell what it was trained on: the targets may be among it"
        return ProtocolTargets(targets, (unknown,))
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
    return ProtocolTargets(unseen, tuple(warnings), _of_val(trained))


def layout_of(spec: str) -> str | None:
    """The layout that a training source names, by its own name or its folder's; None where neither tells."""
    name, _, place = plain_spec(spec).partition("=")
    for words in (name, place, Path(name).name, Path(place).name):
        for layout, reader in LAYOUTS.items():
            if words and plain_name(words) in {plain_name(each) for each in (layout, *reader.FOLDERS)}:
                return layout
    return None


def _of_val(trained: Mapping[str, str | None]) -> tuple[str, ...]:
    """Whether the validation list of MSMT17 trained: releases differ, and tables seldom tell."""
    specs = [spec for spec, layout in trained.items() if layout == "msmt17"]
    without = f":{msmt17.NO_VAL}"
    told = ("without its list_val" if spec.endswith(without) else "with its list_val" for spec in specs)
    return tuple(f"trained on MSMT17 {how} (2,373 images)" for how in told)


def _other_sources(
    protocol: str, unseen: Sequence[str], specs: Sequence[str], trained: Mapping[str, str | None]
) -> list[str]:
    """A line where the model was not trained as the protocol asks."""
    has = {f"{trained[s] or s}{ALL if s.endswith(ALL) else ''}" for s in specs}  # :no-val is a remark
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
