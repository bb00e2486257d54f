"""detector.json: how an ONNX detector is fed and what its outputs mean. It lies beside the model.

    {"format": "pat-detector/1", "family": "yolox", "model": "yolox_s.onnx", "sha256": "...",
     "input": {"name": "images", "height": 640, "width": 640, "colour": "BGR", "resize": "letterbox",
               "divide_by": 1.0, "mean": [0, 0, 0], "std": [1, 1, 1]},
     "outputs": {"predictions": "output"}, "boxes": "raw", "classes": 80, "person": 0,
     "threshold": 0.3, "overlap": 0.45, "licence": "Apache-2.0"}

`python -m deploy.detect describe MODEL.onnx --family yolox` writes it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from deploy.detect.families import FAMILIES, BoxCoding, Colour, FamilyName, Resize, Triple
from export.manifest import sha256
from pat.base.errors import UserError
from pat.base.mapping import Within, from_mapping, read_mapping, to_mapping

FORMAT = "pat-detector/1"
MANIFEST = "detector.json"

Side = Annotated[int, Within(1, 8192)]
Positive = Annotated[float, Within(above=0)]
Share = Annotated[float, Within(above=0, most=1)]


@dataclass(frozen=True)
class DetectorInput:
    """The one input, float32 [1, 3, height, width]: (pixel / divide_by - mean) / std, mean and std by channel in
    the order of `colour`."""

    name: str
    height: Side
    width: Side
    colour: Colour
    resize: Resize
    """squash: both sides to the input's size; letterbox: at the upper left corner with its shape kept, the rest
    grey (114)."""
    divide_by: Positive
    mean: Triple
    std: tuple[Positive, Positive, Positive]


@dataclass(frozen=True)
class DetectorManifest:
    """What detector.json says. `path` is where it was read from."""

    family: FamilyName
    model: str
    """Name of the ONNX file in the same folder."""
    sha256: str
    input: DetectorInput
    outputs: Mapping[str, str]
    """Role, as the family calls it -> the name of the output."""
    boxes: BoxCoding
    """"raw" as the network gives them (a yolox: offsets in grid cells), or "decoded" in the graph."""
    classes: Annotated[int, Within(1, 100_000)]
    person: Annotated[int, Within(0)]
    """Index of the class that stands for people."""
    threshold: Share
    """Least score, 0 to 1."""
    overlap: Share
    """Boxes that overlap a surer one by more (IoU) are left out; 1 keeps all."""
    licence: str = ""
    """Of the weights; nothing checks it."""
    path: Path = Path(MANIFEST)

    @classmethod
    def load(cls, what: str | Path) -> DetectorManifest:
        """The manifest of MODEL.onnx, of a folder, or the JSON file itself; `model_file` checks the model.

        Raises UserError when there is none, or it does not say what it must.
        """
        path = _find(Path(what))
        values = read_mapping(path, remedy=_REMEDY)
        if values.pop("format", None) != FORMAT:
            raise UserError(f"{path} does not have the format {FORMAT!r}; {_REMEDY}")
        manifest = from_mapping(cls, {**values, "path": path}, str(path), remedy=_REMEDY, ignore_unknown=True)
        manifest._check()
        if Path(what).suffix == ".onnx" and manifest.model != Path(what).name:
            raise UserError(f"{path} describes {manifest.model}, not {Path(what).name}; {_REMEDY}")
        return manifest

    def _check(self) -> None:
        """What one field says of another. Raises UserError."""
        family = FAMILIES[self.family]
        wrong = (
            f"model: {self.model!r} is not the name of a file in the same folder"
            if Path(self.model).name != self.model
            else f"person = {self.person} is not one of {self.classes} classes"
            if self.person >= self.classes
            else f"outputs: the family {self.family} needs {', '.join(family.outputs)}"
            if not set(family.outputs) <= set(self.outputs)
            else f"boxes = {self.boxes!r}: those of the family {self.family} are {' or '.join(family.codings)}"
            if self.boxes not in family.codings
            else ""
        )
        if wrong:
            raise UserError(f"{self.path}: {wrong}; {_REMEDY}")

    def model_file(self) -> Path:
        """The ONNX file, after its hash was compared. Raises UserError when it is missing or another."""
        file = self.path.parent / self.model
        if not file.is_file():
            raise UserError(f"{file}, which {self.path.name} describes, is missing; copy both files")
        found = sha256(file)
        if found != self.sha256:
            raise UserError(
                f"{file} is not the model that {self.path.name} describes: its SHA-256 is {found[:12]}..., "
                f"expected {self.sha256[:12]}...; copy it again, or {_REMEDY}"
            )
        return file

    def to_json(self) -> str:
        """The text of detector.json."""
        values = to_mapping(self)
        del values["path"]
        return json.dumps({"format": FORMAT, **values}, indent=2) + "\n"


_REMEDY = f"write it with `python -m deploy.detect describe MODEL.onnx --family {'|'.join(FAMILIES)}`"


def _find(what: Path) -> Path:
    if what.is_dir():
        candidates = [what / MANIFEST]
    elif not what.exists():
        raise UserError(f'there is no detector {what}; give "rendered", "hog", an .onnx file or its folder')
    elif what.suffix == ".json":
        candidates = [what]
    elif what.suffix == ".onnx":
        candidates = [what.with_suffix(".json"), what.with_name(MANIFEST)]
    else:
        raise UserError(f'{what} is no ONNX detector; give "rendered", "hog", an .onnx file or its folder')
    for path in candidates:
        if path.is_file():
            return path
    raise UserError(f"{what} has no manifest {' or '.join(path.name for path in candidates)}; {_REMEDY}")
