"""`pat export`: a model file becomes an ONNX bundle, in fp32 or a lower precision."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from export.crop_kernels import chosen_architectures
from export.integrations.deepstream import write_deepstream
from export.labelled import RATE, Decide
from export.lowering.calibration import Method, Settings
from export.manifest import BackendName
from export.merged import Merge
from export.precision import Request, summary
from export.precisions import PrecisionName
from pat.base.errors import UserError
from pat.base.garbage import uncollected
from pat.base.progress import TerminalProgress
from pat.commands.arguments import parse


@dataclass(frozen=True)
class Arguments:
    """Export a model to a bundle folder: model.onnx, check_set.npz and manifest.json.

    Pixels go in as they are and unit-length float32 embeddings come out: division by 255, mean, standard
    deviation and the length are inside the graph. It is compared with PyTorch before anything is written.
    """

    checkpoint: Positional[Path]
    """A model file (.safetensors) or the folder of a finished run."""
    out: Positional[Path]
    """The bundle folder to write; a bundle that is there is replaced."""
    opset: Literal[18, 23] = 18
    """ONNX operator set: 18 for TensorRT from 10.3 on (JetPack 6); 23, with Attention nodes, from 10.14 on."""
    input: Literal["uint8", "float32"] = "uint8"
    """uint8 crops [N, H, W, 3], or float32 [N, 3, H, W]; values run from 0 to 255 in both."""
    parts: bool = False
    """cls and part tokens concatenated instead of cls alone."""
    precision: PrecisionName = "fp32"
    """Types inside the graph; export/precision.py converts an fp32 bundle later, without PyTorch."""
    backend: Annotated[BackendName, arg(name="for")] = "tensorrt"
    """What is to run an int8 graph: it is written in another form for each. fp32 is for all three."""
    merge: int = 0
    """Patch tokens to merge in each block, the most alike (ToMe, arXiv 2210.09461): faster, less accurate. The
    graph must come as close to the model that merges none as an int8 graph must, or as --gate says."""
    merge_from: int = 1
    """First block that merges, counted from 1."""
    mirror: bool = False
    """Embed the mirror image of every crop, too, and give the mean: more accurate, in twice the time."""
    check_images: Path | None = None
    """Crops for the check set, up to 32, which become part of the bundle; synthetic people if not given."""
    calibration: Path | None = None
    """Person crops, a few hundred, that the ranges of int8 and fp8 are measured on."""
    method: Method = "percentile"
    """How a range follows from the numbers seen in calibration."""
    gate_images: Path | None = None
    """Crops that a lower precision, or --merge, is judged on, 256 of them; those of --calibration that were left
    over, if not given."""
    gate: tuple[str, ...] = ()
    """Limits other than those of the precision, as NAME=NUMBER: centred_worst, centred_p1, same_first, decisions,
    points."""
    data: str | None = None
    """A labelled data set to compare rank-1, mAP and decisions on, before and after lowering the precision."""
    decision: str | None = None
    """A labelled data set to choose the threshold on from which two images show one person: a camera starts with
    it. A lower precision gets its own."""
    false_match_rate: float = RATE
    """The share of the pairs of different people in --decision that may match."""
    half_weights: bool = False
    """Round the weights of an fp32 graph to float16 and keep them so: half the bytes, the same speed."""
    trainable: bool = False
    """Put the model file into the bundle, too: `pat train --weights BUNDLE` trains on from it."""
    deepstream: Path | None = None
    """A folder to write for DeepStream, too: the bundle with a float input, and the settings of its tracker and of
    a secondary model. export/integrate.py does this later, and for other programs."""
    kernels: tuple[str, ...] = ("all",)
    """GPU architectures, like sm_87 sm_90, for which the bundle gets the kernel that cuts people out of frames (20
    to 30 KB each); "all" that Triton compiles for here, or "none"."""


def main(arguments: Sequence[str]) -> None:
    """Export the model and print what was checked."""
    given = parse(Arguments, arguments, "export")
    _check(given)
    with uncollected(for_good="export.to_onnx" not in sys.modules):
        from export.to_onnx import export_bundle  # here: the help does without PyTorch
        from pat.model.model_file import file_at

    checkpoint = file_at(given.checkpoint)
    progress = TerminalProgress()
    architectures, why_none = chosen_architectures(given.kernels)
    if why_none:
        progress.say(f"the bundle gets no kernels to cut crops on a GPU: {why_none}")
    decide = Decide(given.decision, given.false_match_rate) if given.decision is not None else None
    manifest = export_bundle(
        checkpoint, given.out, opset=given.opset, input_type=given.input, parts=given.parts,
        check_images=given.check_images, lower=_lower(given, decide), decision=decide,
        merge=Merge(given.merge, given.merge_from, given.gate, given.gate_images) if given.merge else None,
        mirror=given.mirror, kernels=architectures, half_weights=given.half_weights, trainable=given.trainable,
        progress=progress,
    )  # fmt: skip
    print("\n".join(summary(manifest)))
    if given.deepstream is not None:
        found = write_deepstream(given.out, given.deepstream)
        print(f"wrote {given.deepstream} for DeepStream: {found.sentence()}")


def _check(given: Arguments) -> None:
    """Raise UserError for an option that says how to do what no other one asks for."""
    for name, other, asked in (
        ("merge_from", "--merge TOKENS", given.merge != 0),
        ("method", "--calibration CROPS", given.calibration is not None),
        ("false_match_rate", "--decision DATA", given.decision is not None),
    ):
        if not asked and getattr(given, name) != getattr(Arguments, name):
            raise UserError(f"--{name.replace('_', '-')} says how, and nothing asks for it; give {other}, too")
    if given.precision == "fp32" and given.backend != Arguments.backend:
        raise UserError("fp32 takes no --for: it is for all three")


def _lower(given: Arguments, decide: Decide | None) -> Request | None:
    """What the options ask of a lower precision. Raises UserError for those that fp32 has no use for."""
    if given.precision == "fp32":
        for name in ("calibration", "data") if given.merge else ("calibration", "gate_images", "gate", "data"):
            if getattr(given, name):
                raise UserError(f"fp32 takes no --{name.replace('_', '-')}; it is for a lower --precision")
        return None
    settings = Settings(given.calibration, given.method) if given.calibration is not None else None
    return Request(
        given.precision, given.backend, settings, given.gate, given.gate_images, given.data, decide
    )
