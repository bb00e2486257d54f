"""What a study compares: arms, each the study's configuration with some settings of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pat.base.errors import UserError
from pat.base.mapping import overlay
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
