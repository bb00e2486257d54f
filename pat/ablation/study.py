"""What a study compares: arms, each the study's configuration with some settings of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pat.base.errors import UserError
from pat.base.mapping import overlay
from pat.config import TrainConfig
from pat.evaluation.kinds import Kind

Settings = Mapping[str, Mapping[str, Any]]

CLS = Kind().named()
KINDS = (Kind(), Kind(flip=True), Kind(parts=True), Kind(rerank=True))



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


def components(base: TrainConfig) -> Study:
    """What each component of the paper adds. Raises UserError where `base` turns one of them off."""
    off = {"model.parts": base.model.parts, "loss.csl": base.loss.csl, "loss.psd": base.loss.psd}
    for name, value in off.items():
        if not value:
            raise UserError(f"{name} is 0, and components compares with and without it; leave it above 0")
    if base.loss.other_identities:
        raise UserError("loss.other_identities is an arm of components; leave it off")
    nothing = {"csl": 0.0, "psd": 0.0}
    return Study(
        "components",
        "What do part tokens, cross-ID similarity learning (CSL) and self-distillation (PSD) add on cameras that "
        "no training saw?",
        (
            Arm("plain-vit", "plain ViT", {"model": {"parts": 0}, "loss": nothing}),
            Arm("parts", "PAT, no CSL, no PSD", {"loss": nothing}),
            Arm("csl", "PAT + CSL", {"loss": {"psd": 0.0}}),
            Arm("csl-psd", "PAT + CSL + PSD", kinds=KINDS),
            Arm("other-identities", "PAT, other identities", {"loss": {"other_identities": True}}),
        ),
    )


STUDIES: Mapping[str, Callable[[TrainConfig], Study]] = {"components": components}
