"""The constants of CSL and PSD, one at a time around the configuration."""

from __future__ import annotations

from pat.ablation.search import SCALE
from pat.ablation.studies.components import require_losses
from pat.ablation.study import Arm, Study
from pat.config import TrainConfig


def sweep(base: TrainConfig) -> Study:
    """How much the losses' constants matter. Raises UserError where `base` trains without the losses."""
    require_losses("sweep", base)
    s, weight = base.loss.scale or SCALE, base.loss.csl
    other = 0.0 if base.loss.scale else SCALE
    return Study(
        "sweep",
        "How much do the temperature s, lambda, w and the weight of CSL matter?",
        (
            Arm("base", "as configured"),
            Arm("s-low", f"s = {s / 4:g}", {"loss": {"scale": s / 4}}),
            Arm("s-high", f"s = {s * 4:g}", {"loss": {"scale": s * 4}}),
            Arm("s-other", f"s = {other:g}" if other else "s measured", {"loss": {"scale": other}}),
            Arm("lambda-0.25", "lambda = 0.25", {"loss": {"psd_mix": 0.25}}),
            Arm("lambda-0.75", "lambda = 0.75", {"loss": {"psd_mix": 0.75}}),
            Arm("w-0.25", "w = 0.25", {"loss": {"psd": 0.25}}),
            Arm("w-0.75", "w = 0.75", {"loss": {"psd": 0.75}}),
            Arm("csl-low", f"weight of CSL {weight / 4:g}", {"loss": {"csl": weight / 4}}),
            Arm("csl-high", f"weight of CSL {weight * 4:g}", {"loss": {"csl": weight * 4}}),
        ),
    )
