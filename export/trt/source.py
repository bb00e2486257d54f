"""What is to be built: a bundle or an ONNX file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from export.manifest import MANIFEST, MODEL, Manifest
from pat.base.errors import UserError

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
    """Find the ONNX file that `given`, a bundle or an ONNX file, means.

    Raises UserError in one line for anything else, and for a bundle in another precision.
    """
    if given.name == MANIFEST or (given.name == MODEL and (given.parent / MANIFEST).is_file()):
        given = given.parent
    if given.is_dir():
        manifest = Manifest.load(given)
        own = manifest.precision.name
        if precision not in (None, own):
            raise UserError(f"{given} is in {own}, not in {precision}; give or convert its fp32 bundle")
        if "tensorrt" not in manifest.backends:
            raise UserError(
                f"{given} was written for {', '.join(manifest.backends)}, not for TensorRT; convert its fp32 "
                f"bundle with export/precision.py --precision {own} --for tensorrt"
            )
        return Source(manifest.file(MODEL), manifest)
    suffix = given.suffix.lower()
    if suffix in ENGINES:
        raise UserError(f"{given} is an engine already; give the bundle folder or the ONNX file it is made from")
    if suffix != ".onnx":
        raise UserError(f"{given} is neither a bundle folder, an ONNX file nor a checkpoint")
    return Source(given, None)
