"""A recipe taken apart: each arm changes one thing, most take it away."""

from __future__ import annotations

from pat.ablation.study import Arm, Study, require
from pat.config import TrainConfig

NO_PHOTOMETRIC = {"color_jitter": 0.0, "color_cast": 0.0, "low_resolution": 0.0, "blur": 0.0}


def recipe(base: TrainConfig) -> Study:
    """What each part of a recipe that learns from scratch is worth. Raises UserError where `base` lacks one."""
    lacking = {
        "loss.contrastive": base.loss.contrastive,
        "model.cosine_scale": base.model.cosine_scale,
        "optim.classifier_lr": base.optim.classifier_lr,
        "augment.erasing": base.augment.erasing,
        "augment.color_jitter": base.augment.color_jitter,
        "spread_cameras": base.spread_cameras,
    }
    require("recipe", lacking, "start from --config recipes/rendered.toml")
    return Study(
        "recipe",
        "What is each part of the recipe worth, when the others stay?",
        (
            Arm("recipe", "the recipe"),
            Arm("no-contrastive", "no contrastive loss", {"loss": {"contrastive": 0.0}}),
            Arm("triplet", "triplet, not contrastive", {"loss": {"contrastive": 0.0, "triplet": 1.0}}),
            Arm("no-identity", "no identity loss", {"loss": {"identity": 0.0}}),
            Arm("linear", "linear classifier, BNNeck", {"model": {"cosine_scale": 0.0}}),
            Arm("one-rate", "no rate of the classifier's own", {"optim": {"classifier_lr": 0.0}}),
            Arm("cls", "cls alone, no mean of patches", {"model": {"pooling": "cls"}}),
            Arm("projection", "stem of one projection", {"model": {"stem": "projection"}}),
            Arm("no-photometric", "no photometric changes", {"augment": NO_PHOTOMETRIC}),
            Arm("no-erasing", "no erasing", {"augment": {"erasing": 0.0}}),
            Arm("blur", "blur, too", {"augment": {"blur": 0.2}}),
            Arm("any-cameras", "cameras of a batch not spread", {"spread_cameras": False}),
            Arm("whole-images", "whole images throughout", {"small_images": [0.0, 0.0]}),
            Arm("per-epoch", "rate set once an epoch", {"optim": {"per_step": False}}),
            Arm("layer-decay", "layer-wise decay 0.75", {"optim": {"layer_decay": 0.75}}),
            Arm("ema", "average of the weights, 0.99", {"ema": 0.99}),
        ),
    )
