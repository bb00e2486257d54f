"""What each component of the paper adds, from a plain ViT to all of them."""

from __future__ import annotations

from pat.ablation.study import Arm, Study, require
from pat.config import TrainConfig
from pat.evaluation.kinds import Kind

KINDS = (Kind(), Kind(flip=True), Kind(parts=True), Kind(rerank="re-ranked"))


def require_losses(study: str, base: TrainConfig) -> None:
    """Raises UserError where `base` trains without part tokens, CSL or PSD."""
    values = {"model.parts": base.model.parts, "loss.csl": base.loss.csl, "loss.psd": base.loss.psd}
    require(study, values, "give --model.parts 3 --loss.csl 1 --loss.psd 0.5")


def components(base: TrainConfig) -> Study:
    """What each component of the paper adds. Raises UserError where `base` turns one of them off."""
    require_losses("components", base)
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
