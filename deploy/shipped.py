"""The models in the box: the bundle that comes with the project, for whoever names none, and its detector."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from deploy.sources.names import IMAGES
from export.manifest import MANIFEST
from pat.base.errors import UserError
from pat.base.files import expanded

MODELS = Path(__file__).resolve().parent.parent / "models"
"""Beside the packages, in a clone as in an installed wheel."""
NAME = "pat-people"
DETECTOR = "pat-detector"

_PARTS = frozenset({".onnx", ".plan", ".engine", ".safetensors", ".pt", ".pth"})
"""Ends of files that lie in bundles and in the folders of runs."""

_SOURCE = re.compile(r"\w[\w.+-]*(=|:)|/dev/video\d")
"""How a source begins that is no path: NAME=SOURCE, a URL, a device."""


def shipped_bundle() -> Path:
    """The folder of the shipped bundle. Raises UserError where the installation has none."""
    folder = MODELS / NAME
    if not is_bundle(folder):
        raise UserError(
            f"this installation holds no model: {folder / MANIFEST} is missing; give a BUNDLE, "
            "the folder that `pat export` writes"
        )
    return folder


def shipped_detector() -> Path:
    """The folder of the shipped person detector. Raises UserError where the installation has none."""
    folder = MODELS / DETECTOR
    if not folder.is_dir():
        raise UserError(f'this installation holds no detector: {folder} is missing; give "hog" or an .onnx file')
    return folder


def is_bundle(path: Path) -> bool:
    """Whether the path is a folder that `pat export` wrote."""
    return os.path.isfile(path / MANIFEST)  # False for a pipeline's text, too long for a name


def bundle_and_rest(
    words: Sequence[str], is_model: Callable[[Path], bool] = is_bundle
) -> tuple[Path, tuple[str, ...], bool]:
    """The model to use, what else was named, and whether it is the shipped bundle because none was named.

    The first word is the model when `is_model` says so, and also when it holds part of one, or, as long as more
    words follow, nothing is there: the mistake is then told as that of a model. Raises UserError where the shipped
    bundle is needed and the installation does not hold it.
    """
    if words and (is_model(Path(words[0])) or _meant_as_model(Path(words[0]))):
        return Path(words[0]), tuple(words[1:]), False
    if len(words) > 1 and not _SOURCE.match(words[0]) and not expanded(words[0]).exists():
        return Path(words[0]), tuple(words[1:]), False
    return shipped_bundle(), tuple(words), True


def _meant_as_model(path: Path) -> bool:
    """Whether a folder, without an image directly in it, holds a part of a bundle or of a training run."""
    if not os.path.isdir(path) or not os.access(path, os.R_OK):
        return False
    files = [file for file in path.iterdir() if file.is_file() and not file.name.startswith(".")]
    parts = any(file.name == "config.json" or file.suffix in _PARTS for file in files)
    return parts and not any(file.suffix.lower() in IMAGES for file in files)
