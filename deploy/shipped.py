"""The model in the box: the bundle that comes with the project."""

from __future__ import annotations

from pathlib import Path

from pat.base.errors import UserError

MODELS = Path(__file__).resolve().parent.parent / "models"
"""Beside the packages, in a clone as in an installed wheel."""


def shipped_bundle(name: str = "pat-people") -> Path:
    """The folder of a shipped bundle. Raises UserError where the installation has none."""
    folder = MODELS / name
    if not (folder / "manifest.json").is_file():
        raise UserError(
            f"this installation holds no model: {folder / 'manifest.json'} is missing; give a BUNDLE, "
            "the folder that `pat export` writes"
        )
    return folder
