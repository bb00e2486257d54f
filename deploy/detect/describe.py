"""Writing the manifest of an ONNX detector that a user brings, after trying that it fits its family."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from deploy.detect.families import FAMILIES, Family, FamilyName
from deploy.detect.manifest import DetectorInput, DetectorManifest
from deploy.detect.onnx import OnnxDetector, answer, check_input, grey, only_input
from deploy.runtime.onnxruntime import open_session
from export.manifest import sha256
from pat.base.errors import UserError
from pat.base.files import write_text


def describe(
    model: str | Path,
    family: FamilyName,
    *,
    out: str | Path | None = None,
    size: tuple[int, int] | None = None,
    outputs: Sequence[str] = (),
    person: int | None = None,
    threshold: float | None = None,
    licence: str = "",
) -> DetectorManifest:
    """Write the manifest of an ONNX model: NAME.json beside NAME.onnx unless `out` says otherwise.

    `size` (height, width) is needed where the graph leaves it open. `outputs` names the outputs in the family's
    order (rf-detr: boxes, scores), where they are not called as its own exporter calls them. `person` is the index
    of the class of people; by default that of the published COCO weights.
    Raises UserError when the model does not take or give what a model of the family does.
    """
    file = Path(model)
    if not file.is_file():
        raise UserError(f"there is no file {file}")
    if file.suffix != ".onnx":
        raise UserError(f"{file} is no ONNX file: its name does not end in .onnx")
    path = Path(out) if out else file.with_suffix(".json")
    if path.parent.resolve() != file.parent.resolve():
        raise UserError(f"{path} does not lie beside {file}; a manifest lies in the folder of its model")
    kind = FAMILIES[family]
    opened = open_session(file)
    feed = only_input(opened, file)
    height, width = _size(feed, size, file)
    names = _outputs(opened, kind, outputs, file)
    found = answer(opened, file, grey(height, width), names)
    try:
        classes, boxes = kind.inspect(found, height, width)
    except UserError as error:
        raise UserError(f"{file}: {error}") from error
    person = kind.person if person is None else person
    if not 0 <= person < classes:
        raise UserError(f"{file} has {classes} classes, people cannot be class {person}; name theirs: --person N")
    threshold = kind.threshold if threshold is None else threshold
    if not 0 < threshold < 1:
        raise UserError(f"the threshold is {threshold}; it must lie between 0 and 1, ends excluded")
    wanted = DetectorInput(feed.name, height, width, kind.colour, kind.resize, kind.divide_by, kind.mean, kind.std)
    manifest = DetectorManifest(
        family, file.name, sha256(file), wanted, names, boxes, classes, person, threshold, kind.overlap,
        licence=licence, path=path,
    )  # fmt: skip
    OnnxDetector(manifest)
    write_text(path, manifest.to_json())
    return manifest


def _size(feed: Any, size: tuple[int, int] | None, file: Path) -> tuple[int, int]:
    """Height and width of the input [1, 3, height, width]."""
    if size is None:
        if len(feed.shape) != 4 or not all(isinstance(side, int) for side in feed.shape[2:]):
            raise UserError(
                f"{file} takes {feed.name} {feed.shape}, expected [1, 3, height, width]; "
                "where they are left open, name them: --size HEIGHT WIDTH"
            )
        size = feed.shape[2], feed.shape[3]
    check_input(feed, size, file)
    return size


def _outputs(opened: Any, kind: Family, outputs: Sequence[str], file: Path) -> dict[str, str]:
    """Role -> name of the output."""
    found = [each.name for each in opened.get_outputs()]
    if outputs and len(outputs) != len(kind.outputs):
        raise UserError(f"--outputs names {', '.join(outputs)}; this family has {', '.join(kind.outputs)}")
    only = len(found) == len(kind.outputs) == 1
    names = dict(zip(kind.outputs, outputs or (found if only else kind.outputs.values()), strict=True))
    for role, name in names.items():
        if name not in found:
            raise UserError(
                f"{file} gives {', '.join(found)} and no {name} for {role}; is it of this family? "
                f"If so, name the outputs: --outputs {' '.join(role.upper() for role in kind.outputs)}"
            )
    return names
