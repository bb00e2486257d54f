"""What the user gave to build_trt.py: a bundle, an ONNX file or a checkpoint."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from export.manifest import MANIFEST, MODEL, Manifest
from pat.base.errors import UserError
from pat.base.progress import say

CHECKPOINTS = (".safetensors", ".pth", ".pt", ".ckpt", ".bin")
ENGINES = (".plan", ".engine", ".trt")


@dataclass(frozen=True)
class Source:
    """The ONNX file to build, and the manifest that describes it where there is one."""

    onnx: Path
    manifest: Manifest | None

    def check(self, network: Any, precision: str) -> None:
        """Is the parsed network what the manifest says? Raises UserError naming the difference."""
        if self.manifest is None:
            return
        wanted = self.manifest.input
        size = (3, wanted.height, wanted.width) if wanted.layout == "NCHW" else (wanted.height, wanted.width, 3)
        tensor, output = network.get_input(0), network.get_output(0)
        found = (tensor.name, tuple(tensor.shape)[1:], output.name, tuple(output.shape)[1:], precision)
        made = self.manifest.output
        expected = (wanted.name, size, made.name, (made.size,), self.manifest.precision.name)
        if self.onnx.name == MODEL and found != expected:
            raise UserError(f"{self.onnx} holds {found}, its manifest says {expected}; export the bundle again")


def find_source(given: Path, precision: str | None) -> Source:
    """Find the ONNX file that `given` means. A checkpoint is exported first, which needs PyTorch.

    Raises UserError in one line for anything that is none of the three, or has no graph in this precision.
    """
    if not given.exists():
        raise UserError(f"{given} does not exist; give a bundle folder (pat export CKPT OUT) or an ONNX file")
    if given.name == MANIFEST:
        given = given.parent
    if given.is_dir():
        return _from_bundle(Manifest.load(given), precision)
    suffix = given.suffix.lower()
    if suffix in ENGINES:
        raise UserError(f"{given} is an engine already; give the bundle folder or the ONNX file it is made from")
    if suffix in CHECKPOINTS:
        return _from_checkpoint(given, precision)
    if suffix != ".onnx":
        raise UserError(f"{given} is neither a bundle folder, an ONNX file nor a checkpoint")
    if (given.parent / MANIFEST).is_file():
        manifest = Manifest.load(given.parent)
        if given.name in manifest.files:
            return Source(manifest.file(given.name), manifest)
    return Source(given, None)


def _from_bundle(manifest: Manifest, precision: str | None) -> Source:
    """The bundle's graph, or for 16 bits that of the bundle beside it, which is made where it does not exist."""
    own, folder = manifest.precision.name, manifest.folder
    if precision not in (None, own):
        command = f"python export/precision.py {folder} OUT --precision {precision}"
        if own != "fp32":
            raise UserError(f"{folder} is in {own}, not in {precision}; give or convert its fp32 bundle")
        if precision not in ("fp16", "bf16"):
            raise UserError(
                f"{folder} is in fp32; {precision} has to be calibrated first: {command} --calibration DIR"
            )
        manifest = _lowered(manifest, precision, command)
    return Source(manifest.file(MODEL), manifest)


def _lowered(manifest: Manifest, precision: Any, command: str) -> Manifest:
    """The bundle in 16 bits beside an fp32 bundle."""
    try:
        from export.precision import lower_bundle
    except ImportError as error:
        raise UserError(
            f"{manifest.folder} is in fp32, and converting it needs onnx and onnxruntime ({error}); "
            f"where they are installed run `{command}` and give OUT"
        ) from error
    folder = manifest.folder.resolve()
    out = folder.with_name(f"{folder.name}-{precision}")
    if (out / MANIFEST).is_file():
        found = Manifest.load(out)
        if found.precision.name == precision and found.weights == manifest.weights:
            return found
    say(f"converting {manifest.folder} to {precision}: {out}")
    return lower_bundle(folder, out, precision)


def _from_checkpoint(checkpoint: Path, precision: str | None) -> Source:
    """The bundle `NAME-fp16` (or another precision) beside a checkpoint, made anew."""
    try:
        from export.to_onnx import export_bundle
    except ImportError as error:
        raise UserError(
            f"{checkpoint} is a checkpoint, and exporting one needs PyTorch ({error}); run "
            f"`pat export {checkpoint} BUNDLE` on the training machine and give the bundle"
        ) from error
    name: Any = precision or "fp32"
    out = checkpoint.with_name(f"{checkpoint.stem}-{name}")
    say(f"exporting {checkpoint} to {out}")
    manifest = export_bundle(checkpoint, out, precision=name)
    return Source(manifest.file(MODEL), manifest)
