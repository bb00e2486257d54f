"""The models in the box: the bundle that comes with the project, for whoever names none, and its detector."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from export.manifest import MANIFEST
from pat.base.errors import UserError

MODELS = Path(__file__).resolve().parent.parent / "models"
"""Beside the packages, in a clone as in an installed wheel."""
NAME = "pat-people"
DETECTOR = "pat-detector"

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
    return (path / MANIFEST).is_file()


def bundle_and_rest(
    words: Sequence[str], is_model: Callable[[Path], bool] = is_bundle
) -> tuple[Path, tuple[str, ...], bool]:
    """The model to use, what else was named, and whether it is the shipped bundle because none was named.

    The first word is the model when `is_model` says so. A word for which nothing is there counts as one, too, as
    long as more words follow: the mistake is then told as that of a model. Raises UserError where the shipped
    bundle is needed and the installation does not hold it.
    """
    if words and is_model(Path(words[0])):
        return Path(words[0]), tuple(words[1:]), False
    if len(words) > 1 and not _SOURCE.match(words[0]) and not Path(words[0]).expanduser().exists():
        return Path(words[0]), tuple(words[1:]), False
    return shipped_bundle(), tuple(words), True
