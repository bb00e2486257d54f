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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast, get_args

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from export.bundle import check_target, write_bundle
from export.check import check_graph, read_graph, runner
from export.check_set import gate_of, read_check_set, read_identities, thresholds_of
from export.command import run
from export.crop_kernels import carried
from export.crops import Pixels, check_images, evenly, find_images, read_images, unseen
from export.judge import Embed, Images, Judge
from export.labelled import RATE, Decide, rank_both, ranking_words
from export.lowering.calibration import FEW, Calibration, Method, Settings, Tool, calibrate
from export.lowering.cast import BF16_CONVOLUTIONS, LowName
from export.lowering.emulate import emulated
from export.lowering.methods import FORMS, EightBits, Form, Lowering, SixteenBits, backends_for
from export.lowering.quantise import QuantisedName
from export.lowering.search import Lowered, find_graph
from export.lowering.share import share_in
from export.manifest import MODEL, BackendName, Manifest, Precision
from export.precisions import ENOUGH_IMAGES, MOST_HIGHER, PRECISIONS, Gate, Lower
from export.storage import restore_weights
from pat.base.errors import Failure, UserError
from pat.base.files import named_path
from pat.base.parser import OneLineParser
from pat.base.progress import SILENT, Progress, TerminalProgress

RANKED_WITH = 16
"""Images that the sensitivity of a layer is measured on."""
BATCH = 16


@dataclass(frozen=True)
class Request:
    """A lower precision, and what it is made and judged with."""

    precision: Lower
    backend: BackendName = "tensorrt"
    """What is to run it; int8 is written in another form for each."""
    calibration: Settings | None = None
    """For int8 and fp8, and for them alone."""
    gate: Sequence[str] = ()
    """Limits other than the precision's own, as NAME=NUMBER."""
    gate_images: Path | None = None
    """Crops to judge on; None: what is left over in the folder of the calibration."""
    labelled: str | None = None
    """A data set to compare rank-1 and mAP on."""
    decision: Decide | None = None
    """A data set to choose this graph's own threshold on; None: it follows from that of fp32."""

    def check(self) -> None:
        """Raise UserError for settings that do not go together and crops that cannot be read, before any work."""
        name = self.precision
        if (self.calibration is None) == PRECISIONS[name].calibrated:
            need = "needs" if self.calibration is None else "takes no"
            raise UserError(f"{name} {need} --calibration, a folder of person crops")
        if name != "int8" and self.backend not in backends_for(name, self.backend):
            raise UserError(f"{name} is not for {self.backend}, which runs fp32 as fast; take fp32, or int8")
        if self.calibration is not None:
            self.calibration.check()
        if self.decision is not None:
            self.decision.check()
        self.limits()
        check_images([*(self.calibration.chosen() if self.calibration is not None else ()), *self.judged_on()])

    def limits(self) -> Gate:
        return PRECISIONS[self.precision].gate.changed(self.gate)

    def judged_on(self) -> list[Path]:
        """The crops to judge on beside the check set: the user's, or those that the calibration left over."""
        settings = self.calibration
        if self.gate_images is not None:
            paths = find_images(self.gate_images)
            if settings is not None:
                paths = unseen(paths, settings.chosen())
                if not paths:
                    raise UserError(f"every image in {self.gate_images} was calibrated on; give others")
        elif settings is not None:
            paths = unseen(find_images(settings.folder), settings.chosen())
        else:
            paths = []
        return evenly(paths, ENOUGH_IMAGES)


def lower_graph(
    graph: onnx.ModelProto,
    manifest: Manifest,
    inputs: Pixels,
    embeddings: NDArray[np.float32],
    request: Request,
    progress: Progress = SILENT,
) -> tuple[onnx.ModelProto, Manifest]:
    """The fp32 `graph` in a lower precision, and its manifest: judged against fp32, checked, described.

    `inputs` and `embeddings` are the check set; `request` has been checked. Raises UserError for a bundle that it
    does not fit, Failure when the gate cannot be passed, or only with too many multiply-adds left in a higher
    precision.
    """
    if manifest.precision.name != "fp32":
        raise UserError(f"the bundle is in {manifest.precision.name}; convert the fp32 bundle it was made from")
    name = request.precision
    limits = request.limits()
    if manifest.precision.gate is not None:  # that of merged tokens
        limits = limits.wider(manifest.precision.gate)
    measured = calibrate(graph, manifest, request.calibration, progress) if request.calibration else None
    lowering: Lowering
    if measured is not None:
        form = FORMS[request.backend]
        lowering = eight_bits(graph, cast(QuantisedName, name), measured.ranges, form, progress)
    else:
        lowering = SixteenBits(graph, cast(LowName, name))
    fp32 = batched(runner(graph, manifest))
    # Where tokens are merged, the check set is the full model's; what the crops expect is this graph's.
    full, own = thresholds_of(manifest) or (None, None)
    sets = [Images("check set", inputs, embeddings, full)]
    if crops := request.judged_on():
        sets.append(dataclasses.replace(crops_to_judge(crops, manifest, fp32, progress), threshold=own))
    judge = Judge(sets, limits)
    quick = judge.sample(RANKED_WITH)
    found = find_graph(
        lowering,
        lambda candidate: judge(as_declared(candidate, manifest)),
        lambda candidate: quick(as_declared(candidate, manifest)),
        progress,
        always_rank=measured is not None,
    )
    share = share_in(found.graph, name)
    if share < 1 - MOST_HIGHER:
        raise Failure(
            f"only {share:.0%} of the multiply-adds would be in {name}, {1 - MOST_HIGHER:.0%} must be for a graph "
            f"of that name: {_why_higher(found, request.precision, manifest.opset)}"
        )
    described = _described(manifest, found, request, limits, share, measured)
    check_graph(found.graph, described)
    lines = [*found.verdict.sentences(), *_as_it_stands(judge, found, described)]
    if request.labelled is not None or request.decision is not None:
        low = as_declared(found.graph, described)
        described, more = _labelled(request, fp32, low, manifest, described, progress)
        lines += more
    return found.graph, dataclasses.replace(described, checks=(*manifest.checks, *lines))


def eight_bits(
    graph: onnx.ModelProto, name: QuantisedName, ranges: Mapping[str, float], form: Form, progress: Progress
) -> EightBits:
    """The form asked for, or with the convolutions where the graph could not have its name without them."""
    lowering = EightBits(graph, name, ranges, form)
    if not form.convolutions and share_in(lowering.build(()), name) < 1 - MOST_HIGHER:
        progress.say(f"too much of this model is convolutions for them to stay in fp32: they are {name}, too")
        lowering = dataclasses.replace(lowering, form=dataclasses.replace(form, convolutions=True))
    return lowering


def lower_bundle(bundle: str | Path, out: str | Path, request: Request, progress: Progress = SILENT) -> Manifest:
    """Read an fp32 bundle and write one in a lower precision, whole or not at all; errors as in `lower_graph`."""
    out = check_target(out)
    request.check()
    manifest = Manifest.load(bundle)
    graph = read_graph(str(manifest.file(MODEL)))
    restore_weights(graph)
    inputs, embeddings = read_check_set(manifest)
    lowered, described = lower_graph(graph, manifest, inputs, embeddings, request, progress)
    content, identities = lowered.SerializeToString(), read_identities(manifest)
    return write_bundle(out, described, content, inputs, embeddings, carried(manifest), identities)


def batched(run: Embed) -> Embed:
    """`run` on BATCH images at a time."""

    def embed(pixels: Pixels) -> NDArray[np.float32]:
        return np.concatenate([run(pixels[begin : begin + BATCH]) for begin in range(0, len(pixels), BATCH)])

    return embed


def as_declared(graph: onnx.ModelProto, manifest: Manifest) -> Embed:
    """The graph on this CPU, every tensor rounded to the type it declares (see `emulate`)."""
    return batched(runner(emulated(graph), manifest, optimise=False))


def crops_to_judge(paths: Sequence[Path], manifest: Manifest, embed: Embed, progress: Progress) -> Images:
    """The images, and what `embed` says to them. Raises UserError for a broken one."""
    with progress.bar("crops to judge on", len(paths)) as advance:
        pixels = read_images(paths, (manifest.input.height, manifest.input.width), advance)
    return Images("crops", pixels, embed(pixels))


def _described(
    manifest: Manifest,
    found: Lowered,
    request: Request,
    limits: Gate,
    share: float,
    measured: Calibration | None,
) -> Manifest:
    """The fp32 manifest with what is different now."""
    precision = Precision(
        name=request.precision,
        tool=measured.tool if measured is not None else "",
        calibration=measured.facts if measured is not None else {},
        excluded=found.excluded,
        share=round(share, 4),
        sensitivity=tuple(dataclasses.asdict(each) for each in found.sensitivity),
        gate=limits,
        measured=found.verdict.summary(),
    )
    decision = manifest.decision
    if decision is not None and found.verdict.threshold is not None:
        decision = dataclasses.replace(
            decision, threshold=found.verdict.threshold, fp32_threshold=decision.reference
        )
    opset = next(each.version for each in found.graph.opset_import if each.domain == "")
    tools = {**manifest.tools, "onnx": onnx.__version__, "onnxruntime": onnxruntime.__version__}
    backends = backends_for(request.precision, request.backend)
    return dataclasses.replace(
        manifest, precision=precision, decision=decision, opset=opset, tools=tools, backends=backends
    )


def _why_higher(found: Lowered, precision: Lower, opset: int) -> str:
    """What keeps so much of the graph in a higher precision, and what to do about it."""
    if precision == "bf16" and opset < BF16_CONVOLUTIONS:
        return (
            f"ONNX has no bf16 convolution below opset {BF16_CONVOLUTIONS}, and this graph is of {opset}; "
            "export it with --opset 23, or choose fp16"
        )
    return (
        f"{', '.join(found.excluded)} had to be excluded to pass the gate; choose a higher precision, other crops "
        "to calibrate on, or a wider gate with --gate"
    )


def _labelled(
    request: Request, fp32: Embed, low: Embed, manifest: Manifest, described: Manifest, progress: Progress
) -> tuple[Manifest, list[str]]:
    """The threshold and the ranking on labelled images. Raises Failure when they miss the gate."""
    size = (manifest.input.height, manifest.input.width)
    precision, decision, lines = described.precision, described.decision, []
    if request.decision is not None:
        fp32_threshold = manifest.decision.reference if manifest.decision is not None else None
        decision = request.decision.choose(low, size, progress)
        decision = dataclasses.replace(decision, fp32_threshold=fp32_threshold)
        described = dataclasses.replace(described, decision=decision)
    if request.labelled is not None:
        ranked = rank_both(request.labelled, size, {"fp32": fp32, precision.name: low}, progress)
        thresholds = None
        if manifest.decision is not None and decision is not None:
            thresholds = (manifest.decision.threshold, decision.threshold)
        agreement, gate = ranked.agreement(thresholds), gate_of(described)
        missed = agreement.misses(gate) or ranked.misses(gate)
        if missed:
            raise Failure(f"{precision.name} misses the gate on {request.labelled}: {missed}; nothing was written")
        before, after = ranked.facts(thresholds)
        precision = dataclasses.replace(
            precision,
            measured={**precision.measured, "labelled": agreement.summary()},
            ranking={"fp32": before, precision.name: after},
        )
        lines.append(f"labelled images, {agreement.sentence()}")
    return dataclasses.replace(described, precision=precision), lines


def _as_it_stands(judge: Judge, found: Lowered, manifest: Manifest) -> list[str]:
    """The graph run by ONNX Runtime without any emulation, in words that do not claim more than was run."""
    name = manifest.precision.name
    try:
        direct = judge(batched(runner(found.graph, manifest)))
    except UserError as error:
        return [f"{name} graph as it stands: not run, this ONNX Runtime cannot ({str(error)[:160]})"]
    missed = f"; warning: it misses the gate on this machine: {direct.misses}" if direct.misses else ""
    return [f"{name} graph as it stands in ONNX Runtime: {direct.telling.sentence()}{missed}"]


def _arguments(given: Sequence[str] | None) -> argparse.Namespace:
    parser = OneLineParser("precision.py", description="Convert an fp32 bundle to a lower precision.")
    add = parser.add_argument
    add("bundle", type=Path, help="an fp32 bundle, made by pat export")
    add("out", type=named_path, help="the bundle folder to write")
    add("--precision", choices=get_args(Lower), required=True)
    add(
        "--for", dest="backend", choices=get_args(BackendName), default="tensorrt",
        help="what is to run it: int8 is written in another form for each (default: tensorrt)",
    )  # fmt: skip
    add("--calibration", type=Path, metavar="DIR", help="person crops, a few hundred (int8, fp8)")
    add("--method", choices=get_args(Method), default="percentile")
    add("--percentile", type=float, default=99.99, help="for --method percentile")
    add("--most", type=int, default=300, help="crops taken from --calibration")
    add("--tool", choices=get_args(Tool), help="measures the ranges; default: what is installed")
    add(
        "--gate-images", type=Path, metavar="DIR",
        help="crops to judge on, 256 are taken; default: those of --calibration that were not taken",
    )  # fmt: skip
    add("--gate", nargs="+", default=(), metavar="NAME=NUMBER", help=f"other limits: {_limits_in_words()}")
    add("--data", metavar="FOLDER", help="labelled data set to compare rank-1, mAP and decisions on")
    add("--decision", metavar="FOLDER", help="labelled data set to choose the threshold of this graph on")
    add("--false-match-rate", type=float, default=RATE, help="for --decision (default: %(default)s)")
    return parser.parse_args(given)


def _limits_in_words() -> str:
    """The limits of the gates for the help."""
    by_bits = {facts.bits: facts.gate for facts in PRECISIONS.values()}
    names = [each.name for each in dataclasses.fields(Gate)]
    return "; ".join(
        f"{name} ({', '.join(f'{getattr(by_bits[bits], name):g} in {bits} bits' for bits in (16, 8))})"
        for name in names
    )


def _convert(given: argparse.Namespace) -> int:
    settings = None
    if given.calibration is not None:
        settings = Settings(given.calibration, given.method, given.percentile, given.most, given.tool)
    request = Request(
        given.precision, given.backend, settings, given.gate, given.gate_images, given.data,
        Decide(given.decision, given.false_match_rate) if given.decision is not None else None,
    )  # fmt: skip
    manifest = lower_bundle(given.bundle, given.out, request, TerminalProgress())
    print("\n".join(summary(manifest)))
    return 0


def summary(manifest: Manifest) -> list[str]:
    """What was made, in a few lines for the reader."""
    precision = manifest.precision
    lines = list(manifest.checks)
    if precision.calibration:
        facts = ", ".join(f"{name} {value}" for name, value in precision.calibration.items() if name != "sha256")
        lines.append(f"{precision.tool}; {facts}")
        if precision.calibration["images"] < FEW:
            lines.append("warning: so few images say little about the ranges; take a few hundred")
    if precision.sensitivity:
        worst = ", ".join(f"{each['layer']} {each['centred']:.4f}" for each in precision.sensitivity[:5])
        lines.append(f"most sensitive (mean centred cosine alone): {worst}")
    if precision.excluded:
        lines.append(f"left in a higher precision: {', '.join(precision.excluded)}")
    if precision.name != "fp32":
        lines.append(f"{precision.share:.0%} of the multiply-adds in {precision.name}")
    lines += [f"{name}: {ranking_words(values)}" for name, values in precision.ranking.items()]
    if manifest.decision is not None:
        decision = manifest.decision
        lines.append(
            f"one person from the cosine {decision.threshold:.6f} on: {decision.false_match_rate:.3%} of the "
            f"pairs of different people reach it ({decision.chosen_on})"
        )
    size = manifest.files[MODEL].bytes / 1e6
    return [
        *lines,
        f"wrote {manifest.folder}: {precision.name}, opset {manifest.opset}, {size:.1f} MB, for "
        f"{', '.join(manifest.backends)}",
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """The script: convert and print; returns the exit code."""
    return run("precision.py", _convert, _arguments, arguments)


if __name__ == "__main__":
    sys.exit(main())
