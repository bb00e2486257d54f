"""What a study compares: arms, each the study's configuration with some settings of its own."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pat.base.errors import UserError
from pat.base.mapping import overlay, read_mapping
from pat.config import TrainConfig
from pat.evaluation.kinds import Kind

Settings = Mapping[str, Any]
"""Nested as a configuration file is."""

CLS = Kind().named()


@dataclass(frozen=True)
class Arm:
    """One side of a comparison."""

    key: str
    """Its folder."""
    name: str
    """What a table calls it."""
    settings: Settings = field(default_factory=dict)
    """Laid over the study's configuration."""
    kinds: tuple[Kind, ...] = (Kind(),)
    """How its models are scored."""

    def configured(self, base: TrainConfig) -> TrainConfig:
        return overlay(base, self.settings, f"the arm {self.name}")


@dataclass(frozen=True)
class Study:
    """Arms to compare; the first is the baseline that the others are tested against."""

    name: str
    question: str
    arms: tuple[Arm, ...]
    economical: bool = False
    """Whether what it costs decides: the report names the smallest arm that loses nothing."""

    def with_arms(self, keys: Sequence[str]) -> Study:
        """The baseline and the arms of `keys`, or all without keys. Raises UserError for a key that is none."""
        known = [arm.key for arm in self.arms]
        if unknown := [key for key in keys if key not in known]:
            raise UserError(f"{self.name} has no arm {unknown[0]}; its arms: {', '.join(known)}")
        if not keys:
            return self
        return replace(self, arms=tuple(arm for arm in self.arms if arm is self.arms[0] or arm.key in keys))

    def with_own(self, files: Sequence[Path]) -> Study:
        """With an arm more for each file of settings, called by its name; its folder changes with what it says.

        Raises UserError for a name that is taken and a file that cannot be read.
        """
        arms = list(self.arms)
        for file in files:
            if file.stem in [arm.name for arm in arms]:
                raise UserError(f"{self.name} has an arm {file.stem} already; call {file} otherwise")
            settings = read_mapping(file, remedy="an arm of your own is a TOML file of settings")
            said = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
            arms.append(Arm(f"{file.stem}-{said[:8]}", file.stem, settings))
        return replace(self, arms=tuple(arms))

    def check(self, base: TrainConfig) -> None:
        """Raises UserError where two arms would be the same training under `base`."""
        configured = [arm.configured(base) for arm in self.arms]
        for number, (arm, config) in enumerate(zip(self.arms, configured, strict=True)):
            if config in configured[:number]:
                same = self.arms[configured.index(config)]
                raise UserError(
                    f'the arm "{arm.name}" is no different from "{same.name}" under these settings; '
                    "name the arms that you want with --arms"
                )


def require(study: str, values: Mapping[str, float | bool], advice: str) -> None:
    """Raises UserError for a setting that is 0 or off where `study` compares with and without it."""
    for name, value in values.items():
        if not value:
            raise UserError(f"{name} is {value}, and {study} compares with and without it; {advice}")
