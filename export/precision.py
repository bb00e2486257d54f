#!/usr/bin/env python3
"""An fp32 bundle in a lower precision: fp16, bf16, INT8 or FP8, with explicit types.

    python export/precision.py BUNDLE OUT --precision int8 --calibration CROPS

Needs onnx, onnxruntime, numpy and Pillow; no PyTorch. Exit code 0: written; 1: the accuracy target cannot be
reached, or writing failed; 2: something the user can mend; 130: interrupted.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # a script sees its own folder alone

import argparse
import dataclasses
from collections.abc import Callable, Collection, Sequence
from typing import Any, Literal, cast, get_args

import numpy as np
import onnx
from numpy.typing import NDArray

from export.bundle import check_target, read_check_set, write_bundle
from export.calibration import FEW, Calibration, Method, Settings, Tool, calibrate
from export.cast import LowName, cast_graph
from export.check import check_graph, read_graph, runner
from export.command import OneLineParser, run
from export.compare import Agreement, compare
from export.emulate import emulated
from export.labelled import rank_embedders
from export.manifest import MODEL, ExportError, Manifest, Precision, PrecisionName
from export.pictures import Pixels
from export.progress import Bar, say, silent, terminal
from export.quantise import QuantisedName, layers, quantise_graph
from export.search import Found, find_graph

Lower = Literal["fp16", "bf16", "int8", "fp8"]
TARGETS: dict[Lower, float] = {"fp16": 0.999, "bf16": 0.999, "int8": 0.99, "fp8": 0.99}
"""The smallest cosine to fp32 that every check image must reach."""
RANKED_WITH = 8
"""Check images that the sensitivity of a layer is measured on."""
BATCH = 16


@dataclasses.dataclass(frozen=True)
class SixteenBits:
    """Everything in fp16 or bf16; parts to leave out are the patch projection and whole blocks."""

    graph: onnx.ModelProto
    low: LowName

    @property
    def units(self) -> Sequence[str]:
        parts = [node.name.split(".") for node in self.graph.graph.node]
        blocks = dict.fromkeys(f"blocks.{part[1]}" for part in parts if part[0] == "blocks")
        return ["patch_embed", *blocks]

    def build(self, excluded: Collection[str]) -> onnx.ModelProto:
        return cast_graph(self.graph, self.low, keep=excluded)

    def alone(self, unit: str) -> onnx.ModelProto:
        return self.build([each for each in self.units if each != unit])


@dataclasses.dataclass(frozen=True)
class EightBits:
    """Layers with weights in INT8 or FP8, the rest in fp16; parts to leave out are single layers."""

    graph: onnx.ModelProto
    kind: QuantisedName
    calibration: Calibration

    @property
    def units(self) -> Sequence[str]:
        return layers(self.graph)

    def build(self, excluded: Collection[str]) -> onnx.ModelProto:
        chosen = [each for each in self.units if each not in excluded]
        return cast_graph(quantise_graph(self.graph, self.kind, self.calibration.ranges, chosen), "fp16")

    def alone(self, unit: str) -> onnx.ModelProto:
        return quantise_graph(self.graph, self.kind, self.calibration.ranges, [unit])


def lower_graph(
    graph: onnx.ModelProto,
    manifest: Manifest,
    inputs: Pixels,
    embeddings: NDArray[np.float32],
    precision: Lower,
    *,
    calibration: Settings | None = None,
    target: float | None = None,
    labelled: str | None = None,
    bar: Bar = silent,
) -> tuple[onnx.ModelProto, Manifest]:
    """The fp32 `graph` in `precision`, and its manifest: compared with fp32 on the check set, checked, described.

    `calibration` is needed for INT8 and FP8 and for them alone. `labelled` is a data set to compare rank-1 and mAP
    on. Raises ExportError for what does not fit, ExportFailure when the target cannot be reached.
    """
    if manifest.precision.name != "fp32":
        raise ExportError(f"the bundle is in {manifest.precision.name}; convert the fp32 bundle it was made from")
    if (calibration is None) == (precision in ("int8", "fp8")):
        need = "needs" if calibration is None else "takes no"
        raise ExportError(f"{precision} {need} --calibration, a folder of person crops")
    target = TARGETS[precision] if target is None else target
    if not 0 < target <= 1:
        raise ExportError(f"--target {target} must be a cosine between 0 and 1")
    measured = calibrate(graph, manifest, calibration, bar) if calibration is not None else None
    if measured is not None:
        lowering: SixteenBits | EightBits = EightBits(graph, cast(QuantisedName, precision), measured)
    else:
        lowering = SixteenBits(graph, cast(LowName, precision))

    def score(candidate: onnx.ModelProto, count: int | None = None) -> Agreement:
        return compare(embeddings[:count], _as_declared(candidate, manifest)(inputs[:count]))

    found = _search(lowering, score, target, bar)
    described = _described(manifest, found, precision, target, measured)
    check_graph(found.graph, described)
    checks = _checks(found, described, inputs, embeddings)
    ranking = {}
    if labelled is not None:
        size = (manifest.input.height, manifest.input.width)
        embedders = {"fp32": batched(runner(graph, manifest)), precision: batched(_as_declared(found.graph, described))}
        ranking = rank_embedders(labelled, size, embedders, bar)
    final = dataclasses.replace(described.precision, ranking=ranking)
    return found.graph, dataclasses.replace(described, precision=final, checks=(*manifest.checks, *checks))


def lower_bundle(
    bundle: str | Path,
    out: str | Path,
    precision: Lower,
    *,
    calibration: Settings | None = None,
    target: float | None = None,
    labelled: str | None = None,
    bar: Bar = silent,
) -> Manifest:
    """Read an fp32 bundle and write another in `precision`, whole or not at all; errors as in `lower_graph`."""
    out = check_target(out)
    manifest = Manifest.load(bundle)
    graph = read_graph(str(manifest.file(MODEL)))
    inputs, embeddings = read_check_set(manifest)
    lowered, described = lower_graph(
        graph, manifest, inputs, embeddings, precision,
        calibration=calibration, target=target, labelled=labelled, bar=bar,
    )  # fmt: skip
    return write_bundle(out, described, lowered.SerializeToString(), inputs, embeddings)


def batched(run: Callable[[Pixels], NDArray[np.float32]]) -> Callable[[Pixels], NDArray[np.float32]]:
    """`run` on BATCH pictures at a time."""

    def embed(pixels: Pixels) -> NDArray[np.float32]:
        return np.concatenate([run(pixels[begin : begin + BATCH]) for begin in range(0, len(pixels), BATCH)])

    return embed


def _as_declared(graph: onnx.ModelProto, manifest: Manifest) -> Callable[[Pixels], NDArray[np.float32]]:
    """The graph on this CPU, every tensor rounded to the type it declares (see `emulate`)."""
    return batched(runner(emulated(graph), manifest, optimise=False))


def _search(
    lowering: SixteenBits | EightBits, score: Callable[..., Agreement], target: float, bar: Bar
) -> Found:
    """The graph that reaches the target on all check images; the ranking of layers uses a few of them."""

    def ranked_or_whole(candidate: onnx.ModelProto) -> Agreement:
        return score(candidate, RANKED_WITH if ranking else None)

    ranking = False

    @dataclasses.dataclass(frozen=True)
    class _Ranking:
        pass

    raise NotImplementedError
