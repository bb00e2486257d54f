"""The model in the box: the bundle that comes with the project, for whoever names none."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from export.manifest import MANIFEST
from pat.base.errors import UserError

MODELS = Path(__file__).resolve().parent.parent / "models"
"""Beside the packages, in a clone as in an installed wheel."""
NAME = "pat-people"

_SOURCE = re.compile(r"\w[\w.+-]*(=|:)|/dev/video\d")
"""How a source begins that is no path: NAME=SOURCE, a URL, a device."""


def shipped_bundle() -> Path:
    """The folder of the shipped bundle. Raises UserError where the installation has none."""
    folder = MODELS / NAME
    if not (folder / MANIFEST).is_file():
        raise UserError(
            f"this installation holds no model: {folder / MANIFEST} is missing; give a BUNDLE, "
            "the folder that `pat export` writes"
        )
    return folder


def bundle_and_rest(words: Sequence[str]) -> tuple[Path, tuple[str, ...], bool]:
    """The bundle to use, what else was named, and whether it is the shipped one because none was named.

    The first word is a bundle when it is a folder that holds manifest.json. A word for which nothing is there
    counts as one, too, as long as more words follow: the mistake is then told as that of a bundle. Raises UserError where
    the shipped bundle is needed and the installation does not hold it.
    """
    if words and (Path(words[0]) / MANIFEST).is_file():
        return Path(words[0]), tuple(words[1:]), False
    if len(words) > 1 and not _SOURCE.match(words[0]) and not Path(words[0]).expanduser().exists():
        return Path(words[0]), tuple(words[1:]), False
    return shipped_bundle(), tuple(words), True
