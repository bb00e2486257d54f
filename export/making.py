"""The bundle that an engine is built from, where it has to be made first: of a checkpoint or an fp32 bundle."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from export.manifest import MANIFEST, Manifest
from export.precisions import PRECISIONS, Lower
from pat.base.errors import UserError
from pat.base.progress import say

CHECKPOINTS = (".safetensors", ".pth", ".pt", ".ckpt", ".bin")


def made(given: Path, precision: str | None) -> Path:
    """What to build: `given` itself, or the bundle in `precision` beside it, which is made where it has to be.

    A checkpoint is exported, which needs PyTorch; an fp32 bundle is converted to 16 bits, which needs onnx and
    onnxruntime. Raises UserError where they are missing, and for a precision that needs calibration.
    """
    if not given.exists():
        raise UserError(f"{given} does not exist; give a bundle folder (pat export CKPT OUT) or an ONNX file")
    if given.suffix.lower() in CHECKPOINTS:
        return _exported(given, precision or "fp32")
    bundle = given.parent if given.name == MANIFEST else given
    if precision in (None, "fp32") or not bundle.is_dir():
        return bundle
    manifest = Manifest.load(bundle)
    return bundle if manifest.precision.name != "fp32" else _lowered(manifest, cast(Lower, precision))


def _exported(checkpoint: Path, precision: str) -> Path:
    """The bundle `NAME-fp16` (or another precision) beside a checkpoint, made anew."""
    try:
        from export.precision import Request
        from export.to_onnx import export_bundle
    except ImportError as error:
        raise UserError(
            f"{checkpoint} is a checkpoint, and exporting one needs PyTorch ({error}); run "
            f"`pat export {checkpoint} BUNDLE` on the training machine and give the bundle"
        ) from error
    out = checkpoint.with_name(f"{checkpoint.stem}-{precision}")
    say(f"exporting {checkpoint} to {out}")
    lower = Request(cast(Lower, precision)) if precision != "fp32" else None
    return export_bundle(checkpoint, out, lower=lower).folder


def _lowered(manifest: Manifest, precision: Lower) -> Path:
    """The bundle in a lower precision beside an fp32 bundle."""
    folder = manifest.folder.resolve()
    command = f"python export/precision.py {manifest.folder} OUT --precision {precision}"
    if PRECISIONS[precision].calibrated:
        raise UserError(
            f"{manifest.folder} is in fp32; {precision} has to be calibrated first: {command} --calibration DIR"
        )
    try:
        from export.precision import Request, lower_bundle
    except ImportError as error:
        raise UserError(
            f"{manifest.folder} is in fp32, and converting it needs onnx and onnxruntime ({error}); "
            f"where they are installed run `{command}` and give OUT"
        ) from error
    out = folder.with_name(f"{folder.name}-{precision}")
    if (out / MANIFEST).is_file():
        found = Manifest.load(out)
        if found.precision.name == precision and _made_of(manifest, found):
            return out
    say(f"converting {manifest.folder} to {precision}: {out}")
    return lower_bundle(folder, out, Request(precision)).folder


def _made_of(manifest: Manifest, lowered: Manifest) -> bool:
    """Whether a bundle was made of this export of the model, not of one with other parts, images or threshold."""
    facts = []
    for each in (manifest, lowered):
        threshold = each.decision and each.decision.reference
        check_set = each.files[each.check_set].sha256
        facts.append((each.input, each.output, each.opset, each.weights, each.merged, threshold, check_set))
    return facts[0] == facts[1]
