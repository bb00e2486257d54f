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
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from deploy.errors import DeployError
from export.manifest import sha256

FORMAT = "pat-detector/1"
MANIFEST = "detector.json"

FamilyName = Literal["rf-detr", "yolox"]
Colour = Literal["RGB", "BGR"]
Resize = Literal["squash", "letterbox"]
BoxCoding = Literal["raw", "decoded"]
Triple = tuple[float, float, float]


@dataclass(frozen=True)
class DetectorInput:
    """The one input, float32 [1, 3, height, width]: (pixel / divide_by - mean) / std, mean and std by channel in
    the order of `colour`."""

    name: str
    height: int
    width: int
    colour: Colour
    resize: Resize
    """squash: both sides to the input's size; letterbox: at the upper left corner with its shape kept, the rest
    grey (114)."""
    divide_by: float
    mean: Triple
    std: Triple


@dataclass(frozen=True)
class DetectorManifest:
    """What detector.json says. `path` is where it was read from."""

    family: FamilyName
    model: str
    """Name of the ONNX file in the same folder."""
    sha256: str
    input: DetectorInput
    outputs: Mapping[str, str]
    """Names of the outputs: `boxes` and `scores` of an rf-detr, `predictions` of a yolox."""
    boxes: BoxCoding
    """Of a yolox: "raw" offsets in grid cells, or "decoded" in the graph to pixels. An rf-detr is decoded."""
    classes: int
    person: int
    """Index of the class that stands for people."""
    threshold: float
    """Least score, 0 to 1."""
    overlap: float
    """Boxes that overlap a surer one by more (IoU) are left out; 1 keeps all."""
    licence: str = ""
    """Of the weights; nothing checks it."""
    path: Path = Path(MANIFEST)

    @classmethod
    def load(cls, what: str | Path) -> DetectorManifest:
        """The manifest of MODEL.onnx, of a folder, or the JSON file itself; `model_file` checks the model.

        Raises DeployError when there is none, or it does not say what it must.
        """
        path = _find(Path(what))
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise DeployError(f"{path} cannot be read as JSON: {error}; {_REMEDY}") from error
        fields = _Fields(values, str(path))
        fields.choice("format", (FORMAT,))
        manifest = _read(fields, path)
        if Path(what).suffix == ".onnx" and manifest.model != Path(what).name:
            raise DeployError(f"{path} describes {manifest.model}, not {Path(what).name}; {_REMEDY}")
        return manifest

    def model_file(self) -> Path:
        """The ONNX file, after its hash was compared. Raises DeployError when it is missing or another."""
        file = self.path.parent / self.model
        if not file.is_file():
            raise DeployError(f"{file}, which {self.path.name} describes, is missing; copy both files")
        found = sha256(file)
        if found != self.sha256:
            raise DeployError(
                f"{file} is not the model that {self.path.name} describes: its SHA-256 is {found[:12]}..., "
                f"expected {self.sha256[:12]}...; copy it again, or {_REMEDY}"
            )
        return file

    def to_json(self) -> str:
        """The text of detector.json."""
        values = asdict(self)
        del values["path"]
        return json.dumps({"format": FORMAT, **values}, indent=2) + "\n"


_REMEDY = "write it with `python -m deploy.detect describe MODEL.onnx --family yolox|rf-detr`"


def _find(what: Path) -> Path:
    if what.is_dir():
        candidates = [what / MANIFEST]
    elif not what.exists():
        raise DeployError(f'there is no detector {what}; give "hog", an .onnx file or its folder')
    elif what.suffix == ".json":
        candidates = [what]
    elif what.suffix == ".onnx":
        candidates = [what.with_suffix(".json"), what.with_name(MANIFEST)]
    else:
        raise DeployError(f'{what} is no ONNX detector; give "hog", an .onnx file or its folder')
    for path in candidates:
        if path.is_file():
            return path
    raise DeployError(f"{what} has no manifest {' or '.join(path.name for path in candidates)}; {_REMEDY}")


def _read(fields: _Fields, path: Path) -> DetectorManifest:
    family: FamilyName = fields.choice("family", ("rf-detr", "yolox"))
    feed = fields.inner("input")
    roles = ("boxes", "scores") if family == "rf-detr" else ("predictions",)
    outputs = fields.inner("outputs")
    classes = fields.whole("classes", 1, 100_000)
    model = fields.text("model")
    if Path(model).name != model:
        raise DeployError(f"{path}: model: {model!r} is not the name of a file in the same folder")
    return DetectorManifest(
        family=family,
        model=model,
        sha256=fields.text("sha256"),
        input=DetectorInput(
            name=feed.text("name"),
            height=feed.whole("height", 1, 8192),
            width=feed.whole("width", 1, 8192),
            colour=feed.choice("colour", ("RGB", "BGR")),
            resize=feed.choice("resize", ("squash", "letterbox")),
            divide_by=feed.positive("divide_by"),
            mean=feed.triple("mean"),
            std=feed.triple("std", positive=True),
        ),
        outputs={role: outputs.text(role) for role in roles},
        boxes=fields.choice("boxes", ("raw", "decoded") if family == "yolox" else ("decoded",)),
        classes=classes,
        person=fields.whole("person", 0, classes - 1),
        threshold=fields.share("threshold"),
        overlap=fields.share("overlap"),
        licence=fields.text("licence", empty=True),
        path=path,
    )


class _Fields:
    """Reads the values of one JSON object; a DeployError names the field that does not fit."""

    def __init__(self, values: Any, where: str) -> None:
        if not isinstance(values, Mapping):
            raise DeployError(f"{where}: expected an object, found {type(values).__name__}; {_REMEDY}")
        self._values = values
        self._where = where

    def inner(self, name: str) -> _Fields:
        return _Fields(self._values.get(name, {}), f"{self._where}: {name}")

    def text(self, name: str, *, empty: bool = False) -> str:
        value = self._values.get(name, "" if empty else None)
        return self._checked(name, value, isinstance(value, str) and (empty or value != ""), "a text")

    def choice(self, name: str, options: tuple[str, ...]) -> Any:
        value: Any = self._values.get(name)
        return self._checked(name, value, value in options, " or ".join(map(repr, options)))

    def whole(self, name: str, least: int, most: int) -> int:
        value: Any = self._values.get(name)
        fits = isinstance(value, int) and not isinstance(value, bool) and least <= value <= most
        return self._checked(name, value, fits, f"a whole number from {least} to {most}")

    def share(self, name: str) -> float:
        value: Any = self._values.get(name)
        return float(self._checked(name, value, _number(value) and 0 < value <= 1, "a number above 0, at most 1"))

    def positive(self, name: str) -> float:
        value: Any = self._values.get(name)
        return float(self._checked(name, value, _number(value) and value > 0, "a number above 0"))

    def triple(self, name: str, *, positive: bool = False) -> Triple:
        value: Any = self._values.get(name)
        fits = isinstance(value, list) and len(value) == 3 and all(map(_number, value))
        fits = fits and not (positive and min(value) <= 0)
        red, green, blue = self._checked(name, value, fits, "three numbers" + " above 0" * positive)
        return float(red), float(green), float(blue)

    def _checked(self, name: str, value: Any, fits: bool, expected: str) -> Any:
        if not fits:
            found = "is missing" if value is None else f"is {value!r}"
            raise DeployError(f"{self._where}: {name} {found}, expected {expected}; {_REMEDY}")
        return value


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < float("inf")
