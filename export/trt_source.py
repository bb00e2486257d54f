"""What the user gave to build_trt.py: a bundle, an ONNX file or a checkpoint."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from export.manifest import MANIFEST, MODEL, ExportError, Manifest

CHECKPOINTS = (".safetensors", ".pth", ".pt", ".ckpt", ".bin")
ENGINES = (".plan", ".engine", ".trt")


@dataclass(frozen=True)
class Source:
    """The ONNX file to build, and the manifest that describes it where there is one."""

    onnx: Path
    manifest: Manifest | None

    def check(self, network: Any, precision: str) -> None:
        """Is the parsed network what the manifest says? Raises ExportError naming the difference."""
        if self.manifest is None:
            return
        wanted = self.manifest.input
        size = (3, wanted.height, wanted.width) if wanted.layout == "NCHW" else (wanted.height, wanted.width, 3)
        tensor, output = network.get_input(0), network.get_output(0)
        found = (tensor.name, tuple(tensor.shape)[1:], output.name, tuple(output.shape)[1:], precision)
        made = self.manifest.output
        expected = (wanted.name, size, made.name, (made.size,), self.manifest.precision.name)
        if self.onnx.name == MODEL and found != expected:
            raise ExportError(f"{self.onnx} holds {found}, its manifest says {expected}; export the bundle again")


def find_source(given: Path, precision: str | None) -> Source:
    """Find the ONNX file that `given` means. A checkpoint is exported first, which needs PyTorch.

    Raises ExportError in one line for anything that is none of the three, or has no graph in this precision.
    """
    if not given.exists():
        raise ExportError(f"{given} does not exist; give a bundle folder (pat export CKPT OUT) or an ONNX file")
    if given.name == MANIFEST:
        given = given.parent
    if given.is_dir():
        return _from_bundle(Manifest.load(given), precision)
    suffix = given.suffix.lower()
    if suffix in ENGINES:
        raise ExportError(f"{given} is an engine already; give the bundle folder or the ONNX file it is made from")
    if suffix in CHECKPOINTS:
        return _from_checkpoint(given, precision)
    if suffix != ".onnx":
        raise ExportError(f"{given} is neither a bundle folder, an ONNX file nor a checkpoint")
    if (given.parent / MANIFEST).is_file():
        manifest = Manifest.load(given.parent)
        if given.name in manifest.files:
            return Source(manifest.file(given.name), manifest)
    return Source(given, None)


def _from_bundle(manifest: Manifest, precision: str | None) -> Source:
    """The bundle's graph in `precision`: model.onnx, or another one that the manifest lists."""
    own = manifest.precision.name
    name = MODEL if precision in (None, own) else f"model.{precision}.onnx"
    if name not in manifest.files and name != MODEL:
        raise ExportError(
            f"{manifest.folder} holds a graph in {own}, none in {precision}; make one where PyTorch or ONNX is "
            f"installed: python export/precision.py {manifest.folder} OUT --precision {precision}"
        )
    return Source(manifest.file(name), manifest)


def _from_checkpoint(checkpoint: Path, precision: str | None) -> Source:
    try:
        from export.to_onnx import export_bundle
    except ImportError as error:
        raise ExportError(
            f"{checkpoint} is a checkpoint, and exporting one needs PyTorch ({error}); run "
            f"`pat export {checkpoint} BUNDLE` on the training machine and give the bundle"
        ) from error
    folder = checkpoint.with_name(f"{checkpoint.stem}.bundle")
    return _from_bundle(export_bundle(checkpoint, folder), precision)
