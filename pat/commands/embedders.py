"""From a path on the command line to something that embeds images: a model file, or an exported bundle."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from deploy import runtime
from deploy.shipped import bundle_and_rest, is_bundle
from export.manifest import MANIFEST, Decision
from pat.base.errors import UserError
from pat.base.progress import Progress
from pat.evaluation.extract import Embed

if TYPE_CHECKING:
    from deploy.runtime.session import Runtime
    from pat.model import PartAwareTransformer


ENGINE = (".plan", ".engine")
SUFFIXES = (*ENGINE, ".safetensors", ".onnx", ".pth", ".pt")
"""Of files that are meant as a model, even where they are refused as one."""
MODEL = "model.safetensors"
SHIPPED = "(default: the model in the box)"
"""How the help of a command says what it takes where no model is named."""


@dataclass(frozen=True)
class OpenedModel:
    """A trained model, ready to embed uint8 images [n, H, W, 3] of its own size."""

    path: Path
    image_size: tuple[int, int]
    cls: Embed
    """The embedding that the model gives by itself; a bundle was exported with one kind."""
    with_parts: Embed | None
    """cls and part tokens together, where the model can give them."""
    model: PartAwareTransformer | None = None
    """The network, where it is PyTorch's: for images of its attention."""
    device: str = "cpu"
    """Where a ranking should run."""
    kind: str = "cls"
    """What `cls` really is: a bundle may have been exported with part tokens too."""
    decision: Decision | None = None
    """The threshold that the bundle decides by."""

    def embedder(self, parts: bool = False) -> Embed:
        """The embedding asked for. Raises UserError when the model has no part tokens to give."""
        if not parts:
            return self.cls
        if self.with_parts is None:
            raise UserError(f"{self.path} gives no part tokens; leave out --parts")
        return self.with_parts


def model_or_shipped(given: Path, progress: Progress) -> Path:
    """The model that was named, or the one in the box. Raises UserError where the installation has none."""
    return model_and_rest((), progress)[0] if given == Path() else given


def model_and_rest(words: Sequence[Path], progress: Progress) -> tuple[Path, tuple[Path, ...]]:
    """The model that the first word names and the other words, or the model in the box and all words.

    A model is a file of one (by its suffix), a bundle, or a folder that holds a model file. Raises UserError where
    the installation has no model.
    """
    model, rest, shipped = bundle_and_rest([str(word) for word in words], _is_model)
    if shipped:
        progress.say(f"no model is named: the model in the box, {model}")
    return model, tuple(Path(word) for word in rest)


def _is_model(path: Path) -> bool:
    return path.suffix in SUFFIXES or is_bundle(path) or (path / MODEL).is_file()


@contextlib.contextmanager
def opened_model(path: Path, device: str, attention: str, progress: Progress) -> Iterator[OpenedModel]:
    """The model at `path`: a model file, a finished run's folder, or a bundle folder or an engine in it (which
    need no PyTorch).

    Raises UserError when there is none.
    """
    if is_bundle(path) or path.suffix in ENGINE:
        with _session(path) as session:
            manifest = session.manifest
            kind = manifest.output.kind + ", mirrored" * manifest.output.mirrored
            progress.say(f"{path}: {manifest.precision.name} bundle, {kind}; {session.name}")
            size = (manifest.input.height, manifest.input.width)
            yield OpenedModel(path, size, session.embed, None, kind=kind, decision=manifest.decision)
        return
    if path.suffix == ".onnx":
        raise UserError(f"{path} is part of a bundle; give the folder that holds it with its {MANIFEST}")
    file = path / MODEL if path.is_dir() else path
    if path.is_dir() and not file.exists():
        raise UserError(f"the folder {path} holds no {MODEL} and no {MANIFEST}; give a model or bundle")
    yield _torch_model(file, device, attention, progress)


def check_device(path: Path, device: str) -> None:
    """Raises UserError where `device` was asked of a bundle, which only a model file can follow."""
    if is_bundle(path) and device not in ("auto", "cpu"):
        raise UserError(
            f"{path} is a bundle, and --device {device} is of model files alone; "
            "`python -m deploy.runtime pick` chooses what runs a bundle"
        )


def _session(path: Path) -> Runtime:
    """What runs a bundle, or an engine that lies in its bundle."""
    if path.suffix in ENGINE:
        return runtime.open(path.parent, "tensorrt", plan=path, preprocess="cpu")
    return runtime.open(path)


def _torch_model(file: Path, device: str, attention: str, progress: Progress) -> OpenedModel:
    import pat
    from pat.config import ModelConfig
    from pat.device import choose_device, describe, resolve_model
    from pat.model.images import embedder

    chosen = choose_device(device)
    implementation = resolve_model(ModelConfig(attention=attention), chosen).attention  # type: ignore[arg-type]
    model = pat.load(file, implementation).to(chosen)
    words = f"{model.config.backbone}, {model.parts} parts; {describe(chosen)}; attention: {implementation}"
    progress.say(f"{file}: {words}")

    with_parts = embedder(model, chosen, parts=True) if model.parts else None
    return OpenedModel(file, model.config.image_size, embedder(model, chosen), with_parts, model, str(chosen))
