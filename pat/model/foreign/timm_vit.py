"""Plain ViTs under timm's names: timm, DeiT, DINO, DINOv2, TransReID, and TransReID-SSL with either stem."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection

from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

from pat.model.foreign.architecture import check_shapes, infer, is_upright, without_parts
from pat.model.foreign.checkpoint import Checkpoint, Hints, LeftOut, StateDict, rename
from pat.model.foreign.clip import activation_of

PREFIXES = ("", "backbone.", "base.", "visual.trunk.")
"""Where the backbone lies: bare, beside DINO's head, under TransReID's classifier, in open_clip's timm tower."""

_BACKBONE = (
    "cls_token", "pos_embed", "reg_token", "register_tokens", "patch_embed.", "norm_pre.", "blocks.", "norm.",
)  # fmt: skip
Normalisation = tuple[tuple[float, float, float], tuple[float, float, float]]
"""Mean and standard deviation."""
_HEAD = ("classifier.weight", "bottleneck.")


def vit_prefix(keys: Collection[str]) -> str | None:
    """What stands before the names of a ViT's backbone, or None where there is none."""
    core = ("cls_token", "pos_embed", "patch_embed.proj.weight")
    return next((each for each in PREFIXES if {f"{each}{name}" for name in core} <= set(keys)), None)


def from_timm(state: StateDict, where: str, prefix: str, hints: Hints) -> Checkpoint:
    """Rename a plain ViT; the result has no part tokens (`parts=0`).

    The classifier and BNNeck of a TransReID model ("base.") come along where they stand on the cls token itself.
    """
    width = state.tensors[f"{prefix}cls_token"].shape[-1:]
    necks = [tensor for key, tensor in state.tensors.items() if key.startswith(_HEAD) and tensor.ndim]
    same_width = all(tensor.shape[-1:] == width for tensor in necks)

    def name_of(key: str) -> str | LeftOut:
        if prefix == "base." and key.startswith(_HEAD):
            return key if same_width else LeftOut("they stand on a feature of another width")
        if not key.startswith(prefix):
            return LeftOut(outside(key))
        name = key.removeprefix(prefix)
        if name == "sie_embed":
            return LeftOut("embeddings of the training cameras: features of others are as of no camera")
        if not name.startswith(_BACKBONE):
            return LeftOut(outside(name))
        return "register_tokens" if name == "reg_token" else name

    tensors, left_out = rename(state.tensors, name_of, where)
    check_shapes(tensors, where)
    special = without_parts(tensors)
    clip = "norm_pre.weight" in tensors
    activation, chosen = activation_of(state, where, hints) if clip else (None, "")
    config = infer(tensors, where, special, parts=0, hints=hints, clip_activation=activation)
    upright = is_upright(tensors["pos_embed"].shape[1] - special)
    kind, mean_and_std = _origin(state, prefix, config.stem, upright and not clip)
    report = [f"weights: {where}, {kind}", *left_out, *([chosen] if chosen else [])]
    if mean_and_std is not None:
        config = dataclasses.replace(config, mean=mean_and_std[0], std=mean_and_std[1])
    return Checkpoint(tensors, config, report)


def outside(name: str) -> str:
    """Why a name beside the backbone's has no place in the model."""
    of_dino = name.startswith(("head.mlp", "head.last_layer"))
    return "the head of the self-supervised training" if of_dino else "no part of the backbone"


def _origin(state: StateDict, prefix: str, stem: str, upright: bool) -> tuple[str, Normalisation | None]:
    """Where a file comes from, as far as it gives away, and how inputs were normalised there, if that is known."""
    ibn = " with the convolutional stem" if stem == "convolution" else ""
    if prefix == "base.":
        return f"a ViT trained by TransReID{ibn}", ((0.5,) * 3, (0.5,) * 3)
    imagenet: Normalisation = (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD)
    if state.wrapper in ("teacher", "student"):
        return f"the {state.wrapper} of a self-distilled ViT{ibn} (DINO, TransReID-SSL, SOLIDER)", imagenet
    if prefix == "backbone." or ibn:
        return f"a self-distilled ViT{ibn} (DINO, TransReID-SSL, SOLIDER)", imagenet
    if upright and prefix == "":  # timm's own are square
        return "a timm state dict of upright pictures, taken for one of TransReID-SSL", imagenet
    return "a timm state dict", None
