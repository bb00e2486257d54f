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
from collections.abc import Callable, Sequence
from typing import Literal, cast, get_args

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from deploy.runtime.check_set import read_check_set
from export.bundle import check_target, write_bundle
from export.check import check_graph, read_graph, runner
from export.command import OneLineParser, run
from export.compare import Agreement, compare
from export.crop_kernels import carried
from export.crops import Pixels
from export.labelled import rank_embedders
from export.lowering.calibration import FEW, Calibration, Method, Settings, Tool, calibrate
from export.lowering.cast import LowName
from export.lowering.emulate import emulated
from export.lowering.methods import EightBits, Lowering, SixteenBits
from export.lowering.quantise import QuantisedName
from export.lowering.search import Found, find_graph
from export.manifest import MODEL, Manifest, Precision, PrecisionName
from export.storage import restore_weights
from pat.base.errors import UserError
from pat.base.progress import SILENT, Progress, TerminalProgress

Lower = Literal["fp16", "bf16", "int8", "fp8"]
TARGETS: dict[Lower, float] = {"fp16": 0.999, "bf16": 0.999, "int8": 0.99, "fp8": 0.99}
"""The smallest cosine to fp32 that every check image must reach."""
RANKED_WITH = 8
"""Check images that the sensitivity of a layer is measured on."""
BATCH = 16


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
    progress: Progress = SILENT,
) -> tuple[onnx.ModelProto, Manifest]:
    """The fp32 `graph` in `precision`, and its manifest: compared with fp32 on the check set, checked, described.

    `calibration` is needed for INT8 and FP8 and for them alone. `labelled` is a data set to compare rank-1 and mAP
    on. Raises UserError for what does not fit, Failure when the target cannot be reached.
    """
    if manifest.precision.name != "fp32":
        raise UserError(f"the bundle is in {manifest.precision.name}; convert the fp32 bundle it was made from")
    check_request(precision, calibration, target)
    target = TARGETS[precision] if target is None else target
    measured = calibrate(graph, manifest, calibration, progress) if calibration is not None else None
    lowering: Lowering
    if measured is not None:
        lowering = EightBits(graph, cast(QuantisedName, precision), measured.ranges)
    else:
        lowering = SixteenBits(graph, cast(LowName, precision))

    def score(candidate: onnx.ModelProto, count: int | None = None) -> Agreement:
        return compare(embeddings[:count], as_declared(candidate, manifest)(inputs[:count]))

    def rough(candidate: onnx.ModelProto) -> Agreement:
        return score(candidate, RANKED_WITH)

    found = find_graph(lowering, score, rough, target, progress, always_rank=measured is not None)
    described = _described(manifest, found, precision, target, measured)
    check_graph(found.graph, described)
    checks = _checks(found, described, inputs, embeddings)
    ranking = {}
    if labelled is not None:
        size = (manifest.input.height, manifest.input.width)
        embedders = {"fp32": batched(runner(graph, manifest)), precision: as_declared(found.graph, described)}
        ranking = rank_embedders(labelled, size, embedders, progress)
    final = dataclasses.replace(described.precision, ranking=ranking)
    return found.graph, dataclasses.replace(described, precision=final, checks=(*manifest.checks, *checks))


def check_request(precision: PrecisionName, calibration: Settings | None, target: float | None) -> None:
    """Raise UserError for settings that do not go together, before any work is done."""
    if (calibration is None) == (precision in ("int8", "fp8")):
        need = "needs" if calibration is None else "takes no"
        raise UserError(f"{precision} {need} --calibration, a folder of person crops")
    if calibration is not None:
        calibration.check()
    if target is not None and not 0 < target <= 1:
        raise UserError(f"--target {target} must be a cosine between 0 and 1")


def lower_bundle(
    bundle: str | Path,
    out: str | Path,
    precision: Lower,
    *,
    calibration: Settings | None = None,
    target: float | None = None,
    labelled: str | None = None,
    progress: Progress = SILENT,
) -> Manifest:
    """Read an fp32 bundle and write another in `precision`, whole or not at all; errors as in `lower_graph`."""
    out = check_target(out)
    manifest = Manifest.load(bundle)
    graph = read_graph(str(manifest.file(MODEL)))
    restore_weights(graph)
    inputs, embeddings = read_check_set(manifest)
    lowered, described = lower_graph(
        graph, manifest, inputs, embeddings, precision,
        calibration=calibration, target=target, labelled=labelled, progress=progress,
    )  # fmt: skip
    return write_bundle(out, described, lowered.SerializeToString(), inputs, embeddings, carried(manifest))


def batched(run: Callable[[Pixels], NDArray[np.float32]]) -> Callable[[Pixels], NDArray[np.float32]]:
    """`run` on BATCH images at a time."""

    def embed(pixels: Pixels) -> NDArray[np.float32]:
        return np.concatenate([run(pixels[begin : begin + BATCH]) for begin in range(0, len(pixels), BATCH)])

    return embed


def as_declared(graph: onnx.ModelProto, manifest: Manifest) -> Callable[[Pixels], NDArray[np.float32]]:
    """The graph on this CPU, every tensor rounded to the type it declares (see `emulate`)."""
    return batched(runner(emulated(graph), manifest, optimise=False))


def _described(
    manifest: Manifest, found: Found, name: Lower, target: float, measured: Calibration | None
) -> Manifest:
    """The fp32 manifest with what is different now."""
    precision = Precision(
        name=name,
        tool=measured.tool if measured is not None else "",
        calibration=measured.facts if measured is not None else {},
        excluded=found.excluded,
        sensitivity=tuple(dataclasses.asdict(each) for each in found.sensitivity),
        target=target,
        cosine=found.agreement.summary(),
    )
    opset = next(each.version for each in found.graph.opset_import if each.domain == "")
    tools = {**manifest.tools, "onnx": onnx.__version__, "onnxruntime": onnxruntime.__version__}
    return dataclasses.replace(manifest, precision=precision, opset=opset, tools=tools)


def _checks(found: Found, manifest: Manifest, inputs: Pixels, embeddings: NDArray[np.float32]) -> list[str]:
    """What was compared and how, in words that do not claim more than was run."""
    name = manifest.precision.name
    lines = [
        f"{name} graph, computed in fp32 with every declared rounding, against PyTorch: worst cosine "
        f"{found.agreement.worst:.7f}, same nearest image {found.agreement.same_first:.1%}"
    ]
    try:
        direct = compare(embeddings, batched(runner(found.graph, manifest))(inputs))
    except UserError as error:
        lines.append(f"{name} graph as it stands: not run, this ONNX Runtime cannot ({str(error)[:160]})")
    else:
        lines.append(
            f"{name} graph as it stands in ONNX Runtime, against PyTorch: worst cosine {direct.worst:.7f}"
        )
    return lines


def _arguments(given: Sequence[str] | None) -> argparse.Namespace:
    parser = OneLineParser("precision.py", description="Convert an fp32 bundle to a lower precision.")
    parser.add_argument("bundle", type=Path, help="an fp32 bundle, made by pat export")
    parser.add_argument("out", type=Path, help="the bundle folder to write")
    parser.add_argument("--precision", choices=get_args(Lower), required=True)
    parser.add_argument("--calibration", type=Path, metavar="DIR", help="person crops, a few hundred (int8, fp8)")
    parser.add_argument("--method", choices=get_args(Method), default="percentile")
    parser.add_argument("--percentile", type=float, default=99.99, help="for --method percentile")
    parser.add_argument("--most", type=int, default=300, help="crops taken from --calibration")
    parser.add_argument("--tool", choices=get_args(Tool), help="measures the ranges; default: what is installed")
    parser.add_argument("--target", type=float, help="smallest cosine to fp32 (0.999 in 16 bits, 0.99 in 8)")
    parser.add_argument("--data", metavar="FOLDER", help="labelled data set to compare rank-1 and mAP on")
    return parser.parse_args(given)


def _convert(given: argparse.Namespace) -> int:
    settings = None
    if given.calibration is not None:
        settings = Settings(given.calibration, given.method, given.percentile, given.most, given.tool)
    manifest = lower_bundle(
        given.bundle, given.out, given.precision,
        calibration=settings, target=given.target, labelled=given.data, progress=TerminalProgress(),
    )  # fmt: skip
    for line in summary(manifest):
        print(line)
    return 0


def summary(manifest: Manifest) -> list[str]:
    """What was made, in a few lines for the reader."""
    precision = manifest.precision
    cosine = precision.cosine
    lines = [*manifest.checks[-2:]]
    if precision.calibration:
        facts = ", ".join(f"{name} {value}" for name, value in precision.calibration.items() if name != "sha256")
        lines.append(f"{precision.tool}; {facts}")
        if precision.calibration["images"] < FEW:
            lines.append("warning: so few images say little about the ranges; take a few hundred")
    if precision.sensitivity:
        worst = ", ".join(f"{each['layer']} {each['centred']:.4f}" for each in precision.sensitivity[:5])
        lines.append(f"most sensitive (centred cosine alone): {worst}")
    if precision.excluded:
        lines.append(f"left in a higher precision: {', '.join(precision.excluded)}")
    if cosine:
        shown = ", ".join(f"{name} {cosine[name]:.6f}" for name in ("worst", "p1", "p10", "median"))
        lines.append(f"cosine to fp32: {shown}; centred: worst {cosine['centred_worst']:.4f}")
    for name, values in precision.ranking.items():
        changed = f" ({values['gained']} queries gained, {values['lost']} lost)" if name != "fp32" else ""
        lines.append(f"{name}: rank-1 {values['rank1']:.2%}{changed}, mAP {values['mAP']:.2%}")
    size = manifest.files[MODEL].bytes / 1e6
    return [*lines, f"wrote {manifest.folder}: {precision.name}, opset {manifest.opset}, {size:.1f} MB"]


def main(arguments: Sequence[str] | None = None) -> int:
    """The script: convert and print; returns the exit code."""
    return run("precision.py", _convert, _arguments, arguments)


if __name__ == "__main__":
    sys.exit(main())
