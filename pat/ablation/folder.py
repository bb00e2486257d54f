"""The folder of a study: what it was started with, so that nobody adds runs of another configuration to it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pat.base.errors import UserError
from pat.base.files import write_json
from pat.base.mapping import from_mapping, to_mapping
from pat.config import Role, TrainConfig, settings_of
from pat.training.run_folder import differences

STUDY = "study.json"

MAY_CHANGE = (settings_of(Role.PLACE) | settings_of(Role.PACE) | {"optim.lr", "seed"}) - {"data.target", "amp"}
"""Settings that decide where a run is, how it is computed, or which of the runs these are, not what a run is."""


def prepare(folder: Path, study: str, base: TrainConfig, **more: Any) -> None:
    """Note what the study is, or compare it with what is noted. Raises UserError where they differ."""
    facts = {"study": study, **more, "training": to_mapping(base)}
    path = folder / STUDY
    if not path.exists():
        if (folder / "runs").exists():
            raise UserError(f"{folder} holds runs but no {STUDY}; name another folder with --out")
        write_json(path, facts)
        return
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
        # Through the dataclass: a setting that did not exist then has its default.
        before["training"] = to_mapping(from_mapping(TrainConfig, before["training"], str(path)))
        old, now = ({**each.pop("training"), **each} for each in (before, facts))
        changed = differences(old, now, MAY_CHANGE)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is damaged; name another folder with --out") from error
    if changed:
        listed = ", ".join(changed[:4])
        raise UserError(f"{folder} holds a study of other settings ({listed}); name another folder with --out")

