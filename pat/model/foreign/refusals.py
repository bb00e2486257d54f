"""Architectures that are recognised in order to be refused by name: part tokens have no place in them."""

from __future__ import annotations

import re
from collections.abc import Iterable

_VISION = r"(^|\.)(visual|image_encoder|vision_model)\."
_REASONS = (
    (
        r"(^|\.)(layers|stages)\.\d+\.blocks\.\d+\..*relative_position_bias_table",
        "a Swin transformer, as SOLIDER's published models are: it attends within windows and has no cls token",
    ),
    (r"relative_position_bias_table", "a transformer with relative position biases (BEiT)"),
    (r"(^|\.)(visual|image_encoder)\.(layer1|attnpool)\.", "CLIP with a ResNet image tower, not a ViT"),
    (r"(^|\.)layer1\.0\.conv1\.weight$", "a ResNet, not a ViT"),
    (r"(^|\.)rope", "a transformer with rotary position embeddings"),
    (r"(^|\.)(dist_token|embeddings\.distillation_token)$", "a distilled transformer with a second class token"),
    (r"(^|\.)patch_embed\.backbone\.", "a hybrid, whose patches come from a ResNet"),
    (r"^b1\.0\.norm1\.weight$", "TransReID with its jigsaw branch, whose last block exists in two copies"),
    (r"(^|\.)vision_model\.head\.attention\.", "SigLIP, which pools its patches and has no cls token"),
)
_TEXT = re.compile(r"(^|\.)(token_embedding|text_model\.embeddings\.token_embedding)\.")


def why_refused(keys: Iterable[str]) -> str | None:
    """What the keys give away as an architecture that does not fit, or None."""
    keys = list(keys)
    for pattern, reason in _REASONS:
        if any(re.search(pattern, key) for key in keys):
            return reason
    timms = {"cls_token", "patch_embed.proj.weight"} <= set(keys) and "pos_embed" not in keys
    tokens = {key.rpartition("embeddings.")[2] for key in keys if "embeddings." in key}
    if timms or ("cls_token" in tokens and "position_embeddings" not in tokens):
        return "a transformer without a table of position embeddings, as DINOv3 is, whose positions are rotary"
    if {"patch_embed.proj.weight", "blocks.0.norm1.weight"} <= set(keys) and "cls_token" not in keys:
        return "a transformer without a cls token, which averages or pools its patches (timm's gap, SigLIP)"
    if any(_TEXT.search(key) for key in keys) and not any(re.search(_VISION, key) for key in keys):
        return "a text tower of CLIP without the image tower"
    return None
