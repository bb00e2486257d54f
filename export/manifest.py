"""The contract between export and deploy: what a bundle folder holds and how its model is fed.

A bundle is a folder with `model.onnx`, `check_set.npz` and `manifest.json`, which describes them. Nothing
but `pat.base` is imported: cameras that have no ONNX and no PyTorch read it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from export.precisions import Gate, PrecisionName
from pat.base.errors import UserError
from pat.base.mapping import Within, from_mapping, read_mapping, to_mapping

FORMAT = "pat-reid-bundle/2"
MANIFEST = "manifest.json"
MODEL = "model.onnx"
CHECK_SET = "check_set.npz"
CHECKPOINT = "model.safetensors"
"""The model file, in bundles that carry it: training can go on from it."""
REMEDY = "give the bundle's folder, or export the bundle again"

BackendName = Literal["onnxruntime", "openvino", "tensorrt"]


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
    mirrored: bool = False
    """Averaged with the embedding of the mirror image, inside the graph."""
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
    """Layers left in a higher precision so that the gate is passed."""
    share: float = 1.0
    """Of the multiply-adds, what is done in this precision."""
    sensitivity: tuple[Mapping[str, Any], ...] = ()
    """What each layer in this precision alone costs: `layer`, worst `cosine` and mean `centred` cosine."""
    gate: Gate | None = None
    """What every comparison with fp32 must reach; None: what `export.precisions` says of this precision."""
    measured: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """Figures of the comparison by the names of the gate, for each set of images: "check set", and "crops" or
    "labelled" where some were given, none of them used for calibration."""
    ranking: Mapping[str, Any] = field(default_factory=dict)
    """Rank-1 and mAP before and after on a labelled folder, where one was given, and the queries that changed."""


@dataclass(frozen=True)
class Merged:
    """Patch tokens that the graph merges on its way (`pat export --merge`). The check set is that of the model
    that merges none, and so is what `precision.gate` compares with."""

    per_block: int
    first_block: int
    left: tuple[int, ...]
    """Patch tokens after each block."""
    measured: Mapping[str, Mapping[str, float]]
    """Against the model that merges none, as `precision.measured` is against fp32."""


@dataclass(frozen=True)
class FileFact:
    """A file of the bundle, so that a changed or truncated one is noticed."""

    sha256: str
    bytes: int


@dataclass(frozen=True)
class Decision:
    """From which cosine on two embeddings of this graph are taken for the same person."""

    threshold: Annotated[float, Within(-1, 1)]
    false_match_rate: float
    """Share of pairs of different people at or above it, on what it was chosen on."""
    chosen_on: str
    fp32_threshold: float | None = None
    """In a lower precision, or with merged tokens: the threshold of the fp32 model in full, whose decisions this
    graph's are compared with."""

    @property
    def reference(self) -> float:
        """The threshold on the embeddings of the check set."""
        return self.threshold if self.fp32_threshold is None else self.fp32_threshold


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
    backends: tuple[BackendName, ...] = get_args(BackendName)
    """What runs this graph fast; on another backend the same graph may be slower than fp32 there."""
    resize: Resize = Resize()
    precision: Precision = Precision()
    merged: Merged | None = None
    """None where every patch token goes through the whole network."""
    decision: Decision | None = None
    """The threshold that a camera starts with; None where none was chosen."""
    checks: tuple[str, ...] = ()
    """What was checked before the bundle was written, one line each, with the figures found."""
    check_set: str = CHECK_SET
    """An .npz with `inputs` uint8 [n, H, W, 3] RGB and `embeddings` float32 [n, size] of the PyTorch model."""
    format: str = FORMAT
    folder: Path = field(default=Path(), compare=False)

    @classmethod
    def load(cls, path: str | Path) -> Manifest:
        """Read a bundle folder's manifest (or the manifest.json itself); files are checked by `file`.

        Raises UserError when it is missing, does not parse, or describes another format.
        """
        path = Path(path)
        file = path / MANIFEST if path.is_dir() else path
        if not file.is_file():
            hint = "is no bundle: it holds no manifest.json" if path.is_dir() else "does not exist"
            raise UserError(f"{path} {hint}; make a bundle with `pat export CKPT OUT`")
        values = read_mapping(file, remedy=REMEDY)
        if values.get("format") != FORMAT:
            raise UserError(f"{file} has the format {values.get('format')!r}, not {FORMAT!r}; {REMEDY}")
        if values.pop("sha256", None) != _digest(values):
            raise UserError(f"{file} was edited after it was written (its SHA-256 differs); {REMEDY}")
        # A newer writer may add facts; a reader that does not know them can still feed the model.
        values["folder"] = file.parent
        manifest = from_mapping(cls, values, str(file), remedy=REMEDY, ignore_unknown=True)
        outside = [name for name in manifest.files if Path(name).name != name]
        if outside:
            raise UserError(f"{file}: files: {outside[0]!r} is not the name of a file in the bundle")
        return manifest

    def file(self, name: str) -> Path:
        """The path of a file of the bundle, after its size and SHA-256 were compared with the manifest.

        Raises UserError when it is not listed, missing, or not the file that was exported.
        """
        fact = self.files.get(name)
        if fact is None:
            raise UserError(f"{self.folder / MANIFEST} lists no file {name}; export the bundle again")
        path = self.folder / name
        if not path.is_file():
            raise UserError(f"{path} is missing from the bundle; copy the whole folder, or export it again")
        size = path.stat().st_size
        if size != fact.bytes:
            raise UserError(
                f"{path} has {size} bytes, the manifest says {fact.bytes}; copy the bundle again, whole"
            )
        try:
            found = sha256(path)
        except OSError as error:
            raise UserError(f"cannot read {path}: {error.strerror or error}") from error
        if found != fact.sha256:
            raise UserError(f"{path} is not the file the manifest describes (SHA-256 differs); export it again")
        return path

    def to_json(self) -> str:
        """The text of manifest.json, with a hash of everything in it."""
        values = to_mapping(self)
        del values["folder"]
        return sealed({"format": values.pop("format"), **values})


def sealed(values: Mapping[str, Any]) -> str:
    """The text of a manifest with these values and their hash.

    The hash shows that a manifest was edited or damaged. It is no signature: whoever writes a manifest writes one.
    """
    return json.dumps({**values, "sha256": _digest(values)}, indent=2) + "\n"


def _digest(values: Mapping[str, Any]) -> str:
    text = json.dumps(values, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


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
