"""The memory bank's settings, one at a time: what is lost, what a step costs, how many bytes it holds."""

from __future__ import annotations

from pat.ablation.studies.components import require_losses
from pat.ablation.study import Arm, Study
from pat.config import TrainConfig


def memory(base: TrainConfig) -> Study:
    """Which bank is the smallest that loses nothing. Raises UserError where `base` trains without one."""
    require_losses("memory", base)
    batch = base.identities_per_batch * base.images_per_identity
    read = "float32" if base.loss.bank_read == "bfloat16" else "bfloat16"  # which it is by default on a GPU
    late = 1 + max(1, round(base.epochs / 3))
    return Study(
        "memory",
        "Which memory bank is the smallest that loses nothing?",
        (
            Arm("base", "the bank as configured"),
            Arm(read, f"read in {read}", {"loss": {"bank_read": read}}),
            Arm("other-identities", "other identities alone", {"loss": {"other_identities": True}}),
            Arm("quota-4", "4 images of each identity", {"loss": {"bank_quota": 4}}),
            Arm("quota-1", "1 image of each identity", {"loss": {"bank_quota": 1}}),
            Arm("queue-8", "the last 8 batches", {"loss": {"bank_queue": 8 * batch}}),
            Arm("queue-2", "the last 2 batches", {"loss": {"bank_queue": 2 * batch}}),
            Arm("k-3", "K = 3", {"loss": {"k": 3}}),
            Arm("k-30", "K = 30", {"loss": {"k": 30}}),
            Arm("momentum-0.03", "momentum 0.03", {"loss": {"momentum": 0.03}}),
            Arm("momentum-0.3", "momentum 0.3", {"loss": {"momentum": 0.3}}),
            Arm("momentum-1", "momentum 1: the last feature", {"loss": {"momentum": 1.0}}),
            Arm("fill-train", "filled in training mode", {"loss": {"bank_fill": "train"}}),
            Arm("refill", "filled anew every epoch", {"loss": {"bank_refill": 1}}),
            Arm("late", f"CSL and PSD from epoch {late}", {"loss": {"csl_start": late}}),
            Arm("update-after", "moved after the loss", {"loss": {"bank_update": "after"}}),
        ),
        economical=True,
    )
