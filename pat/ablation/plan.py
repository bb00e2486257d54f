"""The runs that answer a study: every arm, learning rate and seed, each with a folder of its own."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pat.ablation.study import Arm
from pat.base.errors import UserError
from pat.config import TrainConfig

RESULT = "result.json"


@dataclass(frozen=True)
class Run:
    """One training, and where its result lies."""

    arm: Arm
    config: TrainConfig
    purpose: Literal["score", "tune"]
    """Scored on the targets after training on the whole source, or on the part of the source it leaves out."""

    @property
    def name(self) -> str:
        return f"{self.arm.name}, lr {self.rate:g}, seed {self.seed}"

    @property
    def rate(self) -> float:
        return self.config.optim.lr

    @property
    def seed(self) -> int:
        return self.config.seed

    @property
    def folder(self) -> Path:
        return self.config.out

    def result(self) -> Result | None:
        """What came out, or None while it is not finished. Raises UserError when its file is damaged."""
        path = self.folder / RESULT
        if not path.is_file():
            return None
        try:
            return Result(**json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, TypeError) as error:
            raise UserError(f"{path} is damaged; delete the folder {self.folder} to repeat the run") from error


@dataclass(frozen=True)
class Result:
    """What a finished run says."""

    status: Literal["finished", "diverged"]
    seconds: float
    """Of the training, since it was last begun or resumed."""
    heldout: float | None = None
    """mAP on held-out source identities, of a run that tunes."""
    scores: dict[str, dict[str, dict[str, float]]] = dataclasses.field(default_factory=dict)
    """Target -> kind -> mAP, rank1."""
    note: str = ""
    """Why it diverged."""
    step_seconds: float | None = None
    """Of one step, by the clock: the median over epochs."""
    bank_bytes: int = 0
    """Of the memory bank with all that is kept for reading it."""


def scored_run(base: TrainConfig, arm: Arm, rate: float, seed: int) -> Run:
    """Train on the whole source and score on the targets: the last epoch, chosen on nothing."""
    return _run(dataclasses.replace(base, select="last"), arm, rate, seed, "score")


def tuning_runs(
    base: TrainConfig, arms: Sequence[Arm], rates: Sequence[float], seeds: Sequence[int], share: float
) -> list[Run]:
    """Train without `share` of the source's identities and score on them, at every rate."""
    data = dataclasses.replace(base.data, holdout=share, target=())
    held = dataclasses.replace(base, data=data, select="heldout", select_every=base.epochs)
    return [_run(held, arm, rate, seed, "tune") for arm in arms for rate in rates for seed in seeds]


def _run(base: TrainConfig, arm: Arm, rate: float, seed: int, purpose: Literal["score", "tune"]) -> Run:
    config = arm.configured(base)
    config = dataclasses.replace(
        config,
        optim=dataclasses.replace(config.optim, lr=rate),
        seed=seed,
        out=base.out / "runs" / purpose / arm.key / f"lr-{rate:g}" / f"seed-{seed}",
    )
    return Run(arm, config, purpose)
