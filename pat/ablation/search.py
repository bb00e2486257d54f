"""A small random search: settings drawn together, so that what they do to each other shows; the best go on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pat.ablation.plan import Run
from pat.ablation.study import Arm
from pat.ablation.summary import heldout_by_rate
from pat.config import TrainConfig

SCALE = 0.02
"""The paper's s, where the configuration has it measured."""

HEADS = {
    "scale": "s",
    "csl": "CSL",
    "psd_mix": "lambda",
    "psd": "w",
    "momentum": "momentum",
    "k": "K",
    "csl_start": "from epoch",
}
"""What a table calls the settings of a candidate."""
PSD = ("psd_mix", "psd")
"""Shares of the identity loss, which stay as they are where there is none."""


def candidates(base: TrainConfig, count: int) -> tuple[Arm, ...]:
    """`count` arms, each with all constants of CSL drawn anew, and of PSD where `base` has it.

    The first ones are the same for any count. Factors are drawn evenly in their logarithm, around `base` or over
    their range; shares evenly.
    """
    loss, rng = base.loss, np.random.default_rng(0)
    arms = []
    for number in range(1, count + 1):
        around = 4.0 ** rng.uniform(-1, 1, 2)
        drawn = {
            "scale": (loss.scale or SCALE) * around[0],
            "csl": loss.csl * around[1],
            "psd_mix": rng.uniform(0.1, 0.9),
            "psd": rng.uniform(0.1, 0.9),
            "momentum": np.exp(rng.uniform(np.log(0.03), np.log(0.5))),
        }
        settings = {name: float(f"{value:.2g}") for name, value in drawn.items() if loss.psd or name not in PSD}
        settings["k"] = int(np.exp(rng.uniform(np.log(3), np.log(31))))
        settings["csl_start"] = int(rng.integers(1, 1 + max(1, base.epochs // 2)))
        arms.append(Arm(f"random-{number:02d}", f"random {number}", {"loss": settings}))
    return tuple(arms)


def by_score(arms: Sequence[Arm], runs: Sequence[Run]) -> list[tuple[Arm, float]]:
    """The arms with their mAP on held-out people of the source, the best first; -inf where one diverged."""
    scores = {key: max(rates.values()) for key, rates in heldout_by_rate(runs).items()}
    return sorted(((arm, scores[arm.key]) for arm in arms), key=lambda pair: -pair[1])


def columns(found: Sequence[tuple[Arm, float]]) -> list[str]:
    """The heads of a table of candidates."""
    return ["arm", *(HEADS[name] for name in found[0][0].settings["loss"]), "held-out mAP, %"]


def cells(arm: Arm, score: float) -> list[str]:
    """A candidate as text."""
    said = "diverged" if score == -np.inf else f"{100 * score:.1f}"
    return [arm.name, *(f"{value:g}" for value in arm.settings["loss"].values()), said]


def correlations(found: Sequence[tuple[Arm, float]]) -> list[str]:
    """Spearman's rank correlation of each setting with the score, as the last row of the table."""
    from scipy import stats

    scores = [score for _, score in found]
    row = ["rank correlation"]
    for name in found[0][0].settings["loss"]:
        values = [arm.settings["loss"][name] for arm, _ in found]
        row.append(f"{stats.spearmanr(values, scores)[0]:+.2f}" if len(set(values)) > 1 else "-")
    return [*row, ""]
