"""Image towers of CLIP: OpenAI's and open_clip's names, those of Hugging Face, and CLIP-ReID's."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection

from timm.data import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

from pat.base.errors import UserError
from pat.model.foreign.architecture import check_shapes, infer, without_parts
from pat.model.foreign.checkpoint import (
    HALF,
    Checkpoint,
    Hints,
    LeftOut,
    StateDict,
    Untold,
    packed_attention,
    rename,
    translated,
)

_OPENAI = (
    (r"conv1", "patch_embed.proj"),
    (r"class_embedding", "cls_token"),
    (r"positional_embedding", "pos_embed"),
    (r"ln_pre", "norm_pre"),
    (r"ln_post", "norm"),
    (r"transformer\.resblocks\.(\d+)\.ln_([12])", r"blocks.\1.norm\2"),
    (r"transformer\.resblocks\.(\d+)\.ls_([12])", r"blocks.\1.ls\2"),
    (r"transformer\.resblocks\.(\d+)\.attn\.in_proj_(weight|bias)", r"blocks.\1.attn.qkv.\2"),
    (r"transformer\.resblocks\.(\d+)\.attn\.out_proj", r"blocks.\1.attn.proj"),
    (r"transformer\.resblocks\.(\d+)\.mlp\.c_fc", r"blocks.\1.mlp.fc1"),
    (r"transformer\.resblocks\.(\d+)\.mlp\.c_proj", r"blocks.\1.mlp.fc2"),
)
_HUGGING_FACE = (
    (r"embeddings\.patch_embedding", "patch_embed.proj"),
    (r"embeddings\.class_embedding", "cls_token"),
    (r"embeddings\.position_embedding\.weight", "pos_embed"),
    (r"pre_layrnorm", "norm_pre"),  # spelled so
    (r"post_layernorm", "norm"),
    (r"encoder\.layers\.(\d+)\.layer_norm([12])", r"blocks.\1.norm\2"),
    (r"encoder\.layers\.(\d+)\.self_attn\.qkv_proj", r"blocks.\1.attn.qkv"),
    (r"encoder\.layers\.(\d+)\.self_attn\.out_proj", r"blocks.\1.attn.proj"),
    (r"encoder\.layers\.(\d+)\.mlp\.fc([12])", r"blocks.\1.mlp.fc\2"),
)
_MARKS = {"input_resolution", "context_length", "vocab_size"}
"""What OpenAI's own files hold beside the weights, archives and saved state dicts alike."""

_TEXT = (
    "transformer.", "token_embedding.", "positional_embedding", "ln_final.", "text.", "text_model.",
    "text_encoder.", "prompt_learner.",
)  # fmt: skip


def class_embedding_of(keys: Collection[str]) -> str | None:
    """The key of the tower's class embedding, or None where there is no tower."""
    prefixes = ("visual.", "image_encoder.", "", "vision_model.embeddings.", "embeddings.")
    return next((each for each in (f"{prefix}class_embedding" for prefix in prefixes) if each in keys), None)


def from_clip(state: StateDict, where: str, hints: Hints) -> Checkpoint:
    """Rename a CLIP image tower; the result has no part tokens (`parts=0`). The text tower is left out, and the
    projection into its space: ReID features are those before it.

    BNNeck and classifier of CLIP-ReID on the unprojected feature come along.
    """
    key = class_embedding_of(state.tensors)
    assert key is not None
    hugging_face = key.endswith("embeddings.class_embedding")
    prefix = key.removesuffix("embeddings.class_embedding" if hugging_face else "class_embedding")
    reid = prefix == "image_encoder."
    names = _HUGGING_FACE if hugging_face else _OPENAI

    def name_of(key: str) -> str | LeftOut | None:
        if reid and (key == "classifier.weight" or key.startswith("bottleneck.")):
            return key
        if key.startswith(prefix):
            inside = key.removeprefix(prefix)
            name = translated(inside, names)
            if name is not None:
                return name
            if inside == "embeddings.position_ids":
                return LeftOut("the numbers of the positions")
        return outside_the_tower(key, key.removeprefix(prefix))

    before = r"(?:vision_model\.)?encoder\.layers\.\d+\.self_attn\."
    packed = packed_attention(state.tensors, before, ("q_proj", "k_proj", "v_proj"), "qkv_proj")
    tensors, left_out = rename(packed, name_of, where)
    if "pos_embed" not in tensors:
        raise UserError(f"{where} is a CLIP image tower without position embeddings")
    tensors["cls_token"], tensors["pos_embed"] = tensors["cls_token"][None, None], tensors["pos_embed"][None]
    check_shapes(tensors, where)
    activation, chosen, untold = activation_of(state, where, hints)
    special = without_parts(tensors, where, hints)
    config = infer(tensors, where, special, parts=0, hints=hints, clip_activation=activation)
    if reid:
        config = dataclasses.replace(config, mean=HALF[0], std=HALF[1])
    else:
        config = dataclasses.replace(config, mean=OPENAI_CLIP_MEAN, std=OPENAI_CLIP_STD)
    kind = "a CLIP-ReID model" if reid else "the image tower of a CLIP"
    return Checkpoint(tensors, config, [f"weights: {where}, {kind}", *left_out, chosen], untold)


def activation_of(state: StateDict, where: str, hints: Hints) -> tuple[str, str, frozenset[Untold]]:
    """The activation of a CLIP tower, "gelu" or "quick_gelu", a report line that says how it was found, and
    whether it was only supposed.

    OpenAI trained with x·sigmoid(1.702x), most others with GELU, and weights look the same. Raises UserError where
    nobody says which.
    """
    if hints.activation != "auto":
        return hints.activation, f"  activation: {hints.activation}, as asked for", frozenset()
    if state.tensors.keys() >= _MARKS:
        return "quick_gelu", "  activation: quick_gelu, because the file is OpenAI's own", frozenset()
    if any(key.startswith("image_encoder.") for key in state.tensors):
        return "quick_gelu", "  activation: quick_gelu, as CLIP-ReID has it", frozenset()
    if hints.like is not None:
        activation = "quick_gelu" if "quickgelu" in hints.like.backbone else "gelu"
        chosen = f"  activation: {activation}, as the backbone has it; the file does not say"
        return activation, chosen, frozenset({"activation"})
    raise UserError(
        f"{where} does not state its activation; give --activation quick_gelu (weights of OpenAI, DFN, MetaCLIP) "
        "or --activation gelu (LAION, DataComp, and timm's names without quickgelu)"
    )


def outside_the_tower(key: str, inside: str) -> LeftOut | None:
    """Why a key of a whole CLIP has no place in the model, or None for one that no CLIP is known to hold.

    `inside` is the key without what stands before those of the image tower.
    """
    if key in _MARKS or key in ("logit_scale", "logit_bias"):
        return LeftOut("numbers of the whole CLIP")
    if inside == "proj" or key in ("visual_projection.weight", "text_projection", "text_projection.weight"):
        return LeftOut("the projection into the space of texts")
    if key.startswith(("classifier_proj.", "bottleneck_proj.")):
        return LeftOut("the head on the projected feature")
    if key == "cv_embed":
        return LeftOut("embeddings of the training cameras: features of others are as of no camera")
    return LeftOut("the text tower") if key.startswith(_TEXT) else None
