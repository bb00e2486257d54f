"""The contract between export and deploy: what a bundle folder holds and how its model is fed.

A bundle is a folder with `model.onnx`, `check_set.npz` and `manifest.json`, which describes them. Standard
library only: this module is read on cameras that have no ONNX and no PyTorch.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

FORMAT = "pat-reid-bundle/1"
MANIFEST = "manifest.json"
MODEL = "model.onnx"
CHECK_SET = "check_set.npz"

PrecisionName = Literal["fp32", "fp16", "bf16", "int8", "fp8"]
T = TypeVar("T")


class ExportError(Exception):
    """A mistake that the user of an export or deploy command can mend: one line, exit code 2."""


class ExportFailure(Exception):
    """Something broke while the work was under way, or a check failed: one line, exit code 1."""


@dataclass(frozen=True)
class Input:
    """The one input of the graph. Batch is its only dynamic dimension.

    uint8 crops are [N, H, W, 3] ("NHWC"), float32 crops [N, 3, H, W] ("NCHW"); both hold values from 0 to 255.
    Division by 255, mean and standard deviation are inside the graph: do not apply them again.
    """

    name: str
    dtype: Literal["uint8", "float32"]
    layout: Literal["NHWC", "NCHW"]
    height: int
    width: int
    colour: Literal["RGB"] = "RGB"
    value_range: tuple[int, int] = (0, 255)


@dataclass(frozen=True)
class Resize:
    """How a crop of any size becomes the input's size. It is not inside the graph."""

    method: Literal["bicubic"] = "bicubic"
    antialias: bool = True
    keep_aspect: bool = False


@dataclass(frozen=True)
class Output:
    """The one output of the graph: float32 [N, size], unit length already."""

    name: str
    size: int
    kind: Literal["cls", "cls+parts"]
    dtype: Literal["float32"] = "float32"
    unit_length: bool = True


@dataclass(frozen=True)
class Precision:
    """In which types the graph computes, and how it came to them."""

    name: PrecisionName = "fp32"
    tool: str = ""
    """What made the quantised graph, with its version; empty for fp32, fp16 and bf16."""
    calibration: Mapping[str, Any] = field(default_factory=dict)
    """Method, number of images and a hash of their names and contents (INT8 and FP8)."""
    excluded: tuple[str, ...] = ()
    """Layers left in a higher precision so that the accuracy target holds."""
    sensitivity: tuple[Mapping[str, Any], ...] = ()
    """What each layer in this precision alone costs: `layer`, worst `cosine` and worst `centred` cosine."""
    target: float = 0.0
    """Smallest cosine to fp32 that every check image must reach."""
    cosine: Mapping[str, float] = field(default_factory=dict)
    """Cosine to the fp32 embeddings on the check set: worst, mean and percentiles; `centred_` after their mean was
    subtracted, which tells more where all embeddings point nearly the same way; `same_first`, the share of
    images with the same nearest other image."""
    ranking: Mapping[str, Any] = field(default_factory=dict)
    """Rank-1 and mAP before and after on a labelled folder, where one was given, and the queries that changed."""


@dataclass(frozen=True)
class FileFact:
    """A file of the bundle, so that a changed or truncated one is noticed."""

    sha256: str
    bytes: int


@dataclass(frozen=True)
class Manifest:
    """What manifest.json says. `folder` is where it was read from."""

    input: Input
    output: Output
    opset: int
    files: Mapping[str, FileFact]
    model: Mapping[str, Any]
    """Architecture: the model file's own configuration."""
    training: Mapping[str, Any]
    """Facts of the training or import, as the model file tells them."""
    weights: Mapping[str, Any]
    """File, hash and origin of the weights, and what that means for their licence."""
    tools: Mapping[str, str]
    """Versions of what made the bundle."""
    resize: Resize = Resize()
    precision: Precision = Precision()
    checks: tuple[str, ...] = ()
    """What was checked before the bundle was written, one line each, with the figures found."""
    check_set: str = CHECK_SET
    """An .npz with `inputs` uint8 [n, H, W, 3] RGB and `embeddings` float32 [n, size] of the PyTorch model."""
    format: str = FORMAT
    folder: Path = field(default=Path(), compare=False)

    @classmethod
    def load(cls, path: str | Path) -> Manifest:
        """Read a bundle folder's manifest (or the manifest.json itself); files are checked by `file`.

        Raises ExportError when it is missing, does not parse, or describes another format.
        """
        path = Path(path)
        file = path / MANIFEST if path.is_dir() else path
        if not file.is_file():
            hint = "is no bundle: it holds no manifest.json" if path.is_dir() else "does not exist"
            raise ExportError(f"{path} {hint}; make a bundle with `pat export CKPT OUT`")
        try:
            values = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ExportError(
                f"{file} is no manifest: {error}; give the bundle's folder, or export the bundle again"
            ) from error
        found = values.get("format") if isinstance(values, dict) else None
        if found != FORMAT:
            raise ExportError(f"{file} has the format {found!r}, not {FORMAT!r}; export the bundle again")
        values["folder"] = file.parent
        manifest = _build(cls, values, str(file))
        outside = [name for name in manifest.files if Path(name).name != name]
        if outside:
            raise ExportError(f"{file}: files: {outside[0]!r} is not the name of a file in the bundle")
        return manifest

    def file(self, name: str) -> Path:
        """The path of a file of the bundle, after its size and SHA-256 were compared with the manifest.

        Raises ExportError when it is not listed, missing, or not the file that was exported.
        """
        fact = self.files.get(name)
        if fact is None:
            raise ExportError(f"{self.folder / MANIFEST} lists no file {name}; export the bundle again")
        path = self.folder / name
        if not path.is_file():
            raise ExportError(f"{path} is missing from the bundle; copy the whole folder, or export it again")
        size = path.stat().st_size
        if size != fact.bytes:
            raise ExportError(
                f"{path} has {size} bytes, the manifest says {fact.bytes}; copy the bundle again, whole"
            )
        if sha256(path) != fact.sha256:
            raise ExportError(f"{path} is not the file the manifest describes (SHA-256 differs); export it again")
        return path

    def to_json(self) -> str:
        """The text of manifest.json."""
        values = dataclasses.asdict(self)
        del values["folder"]
        first = {"format": values.pop("format")}
        return json.dumps({**first, **values}, indent=2) + "\n"


def sha256(path: str | Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def fact(path: Path) -> FileFact:
    """Hash and size of a file as it is now."""
    return FileFact(sha256(path), path.stat().st_size)


def _build(kind: type[T], values: Any, where: str) -> T:
    """A dataclass from the plain values of a JSON document; ExportError names the field that does not fit."""
    if not isinstance(values, Mapping):
        raise ExportError(f"{where}: expected a mapping, found {type(values).__name__}; export the bundle again")
    hints = typing.get_type_hints(kind)
    fields = {each.name: each for each in dataclasses.fields(kind)}  # type: ignore[arg-type]
    required = {
        name
        for name, each in fields.items()
        if each.default is dataclasses.MISSING and each.default_factory is dataclasses.MISSING
    }
    missing = sorted(required - set(values))
    if missing:
        raise ExportError(f"{where}: {', '.join(missing)} is missing; export the bundle again")
    # A newer writer may add facts; a reader that does not know them can still feed the model.
    known = {name: value for name, value in values.items() if name in fields}
    return kind(**{name: _convert(hints[name], value, f"{where}: {name}") for name, value in known.items()})


def _convert(hint: Any, value: Any, where: str) -> Any:
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    # Python 3.10 takes tuple[int, int] for a type, which isinstance then refuses: ask for the origin first.
    if hint is Any or (origin is None and hint is not float and isinstance(value, hint)):
        fits = not (hint is int and isinstance(value, bool))
    elif dataclasses.is_dataclass(hint):
        return _build(typing.cast(Any, hint), value, where)
    elif hint is float:
        fits = isinstance(value, (int, float)) and not isinstance(value, bool)
    elif origin is Literal:
        fits = value in inner
    elif origin is tuple and isinstance(value, list):
        kinds = [inner[0]] * len(value) if inner[-1] is Ellipsis else list(inner)
        fits = len(kinds) == len(value)
        if fits:
            return tuple(_convert(each, item, where) for each, item in zip(kinds, value, strict=True))
    elif origin is not None and issubclass(origin, Mapping) and isinstance(value, Mapping):
        return {name: _convert(inner[1], item, f"{where}: {name}") for name, item in value.items()}
    else:
        fits = False
    if not fits:
        allowed = " or ".join(map(repr, inner)) if origin is Literal else getattr(hint, "__name__", str(hint))
        raise ExportError(f"{where}: {value!r} does not fit, expected {allowed}; export the bundle again")
    return value
