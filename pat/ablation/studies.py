"""The studies that train: each a function from a configuration to its arms.

Each raises UserError where the configuration turns off what it compares.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pat.ablation.search import SCALE
from pat.ablation.study import Arm, Settings, Study, require
from pat.config import TrainConfig
from pat.evaluation.kinds import Kind

NO_LOSSES: Settings = {"csl": 0.0, "psd": 0.0}
PLAIN: Settings = {"model": {"parts": 0}, "loss": NO_LOSSES}

STRONG = {"color_jitter": 0.5, "erasing": 0.5}
"""What BAU changes its second view by, without RandAugment, which is not in this code."""

BAU = {"alignment": 1.5, "uniformity": 1.0, "domain_uniformity": 1.0}

METHODS: tuple[Arm, ...] = (
    Arm("mix-style", "MixStyle", {"augment": {"mix_style": 0.5}}),
    Arm("camera-adversary", "camera adversary", {"loss": {"camera": 0.1}}),
    Arm("strong", "BAU's changes alone", {"augment": STRONG}),
    Arm("bau", "BAU", {"augment": STRONG, "loss": BAU}),
    Arm("graph", "graph sampling", {"sampling": "graph"}),
    Arm("cameras", "cameras of a batch spread", {"spread_cameras": True}),
    Arm("renorm", "batch renormalisation", {"model": {"neck": "renorm"}}),
)
"""Of the field, each named by what it adds to the plain ViT."""

COSINES: Settings = {"model": {"cosine_scale": 16.0}, "optim": {"classifier_lr": 3e-3}}
"""A classifier of cosines, faster than the network."""

NO_PHOTOMETRIC = {"color_jitter": 0.0, "color_cast": 0.0, "low_resolution": 0.0, "blur": 0.0}


def components(base: TrainConfig) -> Study:
    """What each component of the paper adds, from a plain ViT to all of them."""
    _require_csl("components", base)
    require("components", {"loss.psd": base.loss.psd}, "give --loss.psd 0.5 --loss.identity 1")
    kinds = (Kind(), Kind(flip=True), Kind(parts=True), Kind(rerank="re-ranked"))
    return Study(
        "components",
        "What do part tokens, cross-ID similarity learning (CSL) and self-distillation (PSD) add on cameras that "
        "no training saw?",
        (
            Arm("plain-vit", "plain ViT", PLAIN),
            Arm("parts", "PAT, no CSL, no PSD", {"loss": NO_LOSSES}),
            Arm("csl", "PAT + CSL", {"loss": {"psd": 0.0}}),
            Arm("csl-psd", "PAT + CSL + PSD", kinds=kinds),
            Arm("other-identities", "PAT, other identities", {"loss": {"other_identities": True}}),
        ),
    )


def field(base: TrainConfig) -> Study:
    """Methods of the field beside PAT's, each by itself on the plain ViT: the comparison at equal settings."""
    _require_csl("field", base)
    kinds = (Kind(), Kind(rerank="re-ranked"), Kind(rerank="re-ranked by camera"))
    arms = [
        Arm("plain-vit", "plain ViT", PLAIN, kinds),
        Arm("parts", "PAT, no CSL, no PSD", {"loss": NO_LOSSES}),
        Arm("pat", "PAT + CSL + PSD" if base.loss.psd else "PAT + CSL"),
    ]
    for arm in METHODS:  # what the plain ViT changes in the same group stays
        both = {group: {**PLAIN[group], **arm.settings[group]} for group in PLAIN if group in arm.settings}
        arms.append(Arm(arm.key, arm.name, {**PLAIN, **arm.settings, **both}))
    return Study(
        "field",
        "Do PAT's losses help where other methods of the field are compared, at equal settings?",
        tuple(arms),
    )


def recipe(base: TrainConfig) -> Study:
    """A recipe that learns from scratch taken apart: each arm changes one thing, most take it away.

    The identity loss, which the recipe leaves out, is added.
    """
    lacking = {
        "loss.contrastive": base.loss.contrastive,
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
            Arm("identity", "identity loss of cosines, too", {"loss": {"identity": 0.5}, **COSINES}),
            Arm("linear", "identity loss, BNNeck, too", {"loss": {"identity": 0.5}}),
            Arm("triplet", "triplet, not contrastive", {"loss": {"contrastive": 0.0, "triplet": 1.0}}),
            Arm("cls", "cls alone, no mean of patches", {"model": {"pooling": "cls"}}),
            Arm("projection", "stem of one projection", {"model": {"stem": "projection"}}),
            Arm("no-photometric", "no photometric changes", {"augment": NO_PHOTOMETRIC}),
            Arm("no-erasing", "no erasing", {"augment": {"erasing": 0.0}}),
            Arm("blur", "blur, too", {"augment": {"blur": 0.2}}),
            Arm("any-cameras", "cameras of a batch not spread", {"spread_cameras": False}),
            Arm("random", "people of a batch at random", {"sampling": "random"}),
            Arm("whole-images", "whole images throughout", {"small_images": [0.0, 0.0]}),
            Arm("per-epoch", "rate set once an epoch", {"optim": {"per_step": False}}),
            Arm("layer-decay", "layer-wise decay 0.75", {"optim": {"layer_decay": 0.75}}),
            Arm("ema", "average of the weights, 0.99", {"ema": 0.99}),
        ),
    )


def memory(base: TrainConfig) -> Study:
    """The memory bank's settings, one at a time: what is lost, what a step costs, how many bytes it holds."""
    _require_csl("memory", base)
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
            Arm("late", f"begun with epoch {late}", {"loss": {"csl_start": late}}),
            Arm("update-after", "moved after the loss", {"loss": {"bank_update": "after"}}),
        ),
        economical=True,
    )


def sweep(base: TrainConfig) -> Study:
    """The constants of CSL, and of PSD where it is on, one at a time around the configuration."""
    _require_csl("sweep", base)
    s, weight = base.loss.scale or SCALE, base.loss.csl
    other = 0.0 if base.loss.scale else SCALE
    of_psd = (
        Arm("lambda-0.25", "lambda = 0.25", {"loss": {"psd_mix": 0.25}}),
        Arm("lambda-0.75", "lambda = 0.75", {"loss": {"psd_mix": 0.75}}),
        Arm("w-0.25", "w = 0.25", {"loss": {"psd": 0.25}}),
        Arm("w-0.75", "w = 0.75", {"loss": {"psd": 0.75}}),
    )
    return Study(
        "sweep",
        "How much do the temperature s, lambda, w and the weight of CSL matter?",
        (
            Arm("base", "as configured"),
            Arm("s-low", f"s = {s / 4:g}", {"loss": {"scale": s / 4}}),
            Arm("s-high", f"s = {s * 4:g}", {"loss": {"scale": s * 4}}),
            Arm("s-other", f"s = {other:g}" if other else "s measured", {"loss": {"scale": other}}),
            *(of_psd if base.loss.psd else ()),
            Arm("csl-low", f"weight of CSL {weight / 4:g}", {"loss": {"csl": weight / 4}}),
            Arm("csl-high", f"weight of CSL {weight * 4:g}", {"loss": {"csl": weight * 4}}),
        ),
    )


STUDIES: Mapping[str, Callable[[TrainConfig], Study]] = {
    study.__name__: study for study in (components, field, recipe, memory, sweep)
}


def _require_csl(study: str, base: TrainConfig) -> None:
    """Raises UserError where `base` trains without part tokens or CSL."""
    values = {"model.parts": base.model.parts, "loss.csl": base.loss.csl}
    require(study, values, "give --model.parts 3 --loss.csl 1")
