"""Plain ViTs under timm's names: timm, DeiT, DINO, DINOv2, TransReID, and TransReID-SSL with either stem."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection

from pat.model.foreign.architecture import check_shapes, infer, is_upright, without_parts
from pat.model.foreign.checkpoint import (
    HALF,
    IMAGENET,
    Checkpoint,
    Hints,
    LeftOut,
    MeanAndStd,
    StateDict,
    rename,
)
from pat.model.foreign.clip import activation_of, outside_the_tower

Origin = tuple[str, MeanAndStd | None, bool]
"""Where a file comes from; how inputs were normalised there, None for as the backbone has it; is that told?"""

PREFIXES = ("", "backbone.", "base.", "visual.trunk.")
"""Where the backbone lies: bare, beside DINO's head, under TransReID's classifier, in open_clip's timm tower."""

_BACKBONE = (
    "cls_token", "pos_embed", "reg_token", "register_tokens", "patch_embed.", "norm_pre.", "blocks.", "norm.",
)  # fmt: skip
_HEAD = ("classifier.weight", "bottleneck.")
_OUTSIDE = (
    (r"head\.(mlp|last_layer)|(dino|ibot)_head\.", "the head of the self-supervised training"),
    (r"mask_token$|masked_embed$|decoder[_.]", "for images with hidden patches, in the self-supervised training"),
    (r"((heads\.|linear_)?head|fc(_norm)?|pre_logits|pooler)\.", "a head for classes, no part of the backbone"),
    (r"(classifier|bottleneck)(_\d+)?\.|fcneck\.", "a head for identities, no part of the backbone"),
    (r"sie_embed$", "embeddings of the training cameras: features of others are as of no camera"),
)
"""What files are known to hold beside the backbone, and what it is. Other keys might change the features."""


def vit_prefix(keys: Collection[str]) -> str | None:
    """What stands before the names of a ViT's backbone, or None where there is none."""
    core = ("cls_token", "pos_embed", "patch_embed.proj.weight")
    return next((each for each in PREFIXES if {f"{each}{name}" for name in core} <= set(keys)), None)


def from_timm(
    state: StateDict, where: str, prefix: str, hints: Hints, origin: Origin | None = None
) -> Checkpoint:
    """Rename a plain ViT; the result has no part tokens (`parts=0`). `origin` is that of a file of other names.

    The classifier and BNNeck of a TransReID model ("base.") come along where they stand on the cls token itself.
    """
    width = state.tensors[f"{prefix}cls_token"].shape[-1:]
    necks = [tensor for key, tensor in state.tensors.items() if key.startswith(_HEAD) and tensor.ndim]
    same_width = all(tensor.shape[-1:] == width for tensor in necks)

    def name_of(key: str) -> str | LeftOut | None:
        if prefix == "base." and key.startswith(_HEAD):
            if "fcneck.weight" in state.tensors:
                return LeftOut("they stand on the cls token after a projection, fcneck")
            return key if same_width else LeftOut("they stand on a feature of another width")
        name = key.removeprefix(prefix)
        if key.startswith(prefix) and name.startswith(_BACKBONE):
            return "register_tokens" if name == "reg_token" else name
        if prefix == "visual.trunk." and not key.startswith(prefix):
            in_space = LeftOut("the projection into the space of texts")
            return in_space if key.startswith("visual.head.") else outside_the_tower(key, key)
        return outside(name)

    tensors, left_out = rename(state.tensors, name_of, where)
    check_shapes(tensors, where)
    special = without_parts(tensors, where, hints)
    clip = "norm_pre.weight" in tensors
    activation, chosen, untold = activation_of(state, where, hints) if clip else (None, "", frozenset())
    config = infer(tensors, where, special, parts=0, hints=hints, clip_activation=activation)
    upright = is_upright(tensors["pos_embed"].shape[1] - special)
    kind, mean_and_std, told = origin or _origin(state, prefix, config.stem, upright and not clip)
    report = [f"weights: {where}, {kind}", *left_out, *([chosen] if chosen else [])]
    if mean_and_std is not None:
        config = dataclasses.replace(config, mean=mean_and_std[0], std=mean_and_std[1])
    # Layer scale is of DeiT III and DINOv2, whose backbones in timm know their normalisation, as CLIP's do.
    if not told and not clip and "blocks.0.ls1.gamma" not in tensors:
        untold |= {"normalisation"}
    return Checkpoint(tensors, config, report, untold)


def outside(name: str) -> LeftOut | None:
    """Why a name beside the backbone's has no place in the model, or None for one that is not known."""
    return next((LeftOut(reason) for pattern, reason in _OUTSIDE if re.match(pattern, name)), None)


def _origin(state: StateDict, prefix: str, stem: str, upright: bool) -> Origin:
    """Where a file under timm's names comes from, as far as it gives away."""
    ibn = " with the convolutional stem" if stem == "convolution" else ""
    if prefix == "base.":
        return f"a ViT trained by TransReID{ibn}", HALF, True
    if state.wrapper in ("teacher", "student"):
        return f"the {state.wrapper} of a self-distilled ViT{ibn} (DINO, TransReID-SSL, SOLIDER)", IMAGENET, True
    if prefix == "backbone." or ibn:
        return f"a self-distilled ViT{ibn} (DINO, TransReID-SSL, SOLIDER)", IMAGENET, True
    if upright and prefix == "":  # timm's own are square
        return "a timm state dict of upright images, taken for one of TransReID-SSL", IMAGENET, False
    return "a timm state dict", None, False
