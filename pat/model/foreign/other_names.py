"""Plain ViTs under the names of Hugging Face's transformers and of torchvision, brought to timm's."""

from __future__ import annotations

from collections.abc import Collection

from pat.model.foreign.checkpoint import (
    IMAGENET,
    Checkpoint,
    Hints,
    StateDict,
    packed_attention,
    translated,
)
from pat.model.foreign.timm_vit import from_timm

_LAYER = r"(?:encoder\.layer|layers)\.(\d+)\."
_ATTENTION = r"(?:encoder\.layer|layers)\.\d+\.attention\.(?:attention\.)?"
_PROJECTIONS = (("query", "key", "value"), ("q_proj", "k_proj", "v_proj"))
"""In files on offer, and in the models of transformers 5."""
_HUGGING_FACE = (  # ViT, DINO, MAE, MSN, DINOv2; those of distilled DeiT in order to be refused as such
    (r"embeddings\.(cls_token|mask_token|register_tokens)", r"\1"),
    (r"embeddings\.distillation_token", "dist_token"),
    (r"embeddings\.position_embeddings", "pos_embed"),
    (r"embeddings\.patch_embeddings\.projection", "patch_embed.proj"),
    (_LAYER + r"attention\.(?:attention\.)?qkv", r"blocks.\1.attn.qkv"),
    (_LAYER + r"attention\.(?:output\.dense|o_proj)", r"blocks.\1.attn.proj"),
    (_LAYER + r"(?:layernorm_before|norm1)", r"blocks.\1.norm1"),
    (_LAYER + r"(?:layernorm_after|norm2)", r"blocks.\1.norm2"),
    (_LAYER + r"(?:intermediate\.dense|mlp\.fc1)", r"blocks.\1.mlp.fc1"),
    (_LAYER + r"(?:output\.dense|mlp\.fc2)", r"blocks.\1.mlp.fc2"),
    (_LAYER + r"layer_scale([12])\.lambda1", r"blocks.\1.ls\2.gamma"),
    (r"layernorm", "norm"),
)
_ENCODER = r"encoder\.layers\.encoder_layer_(\d+)\."
_TORCHVISION = (
    (r"class_token", "cls_token"),
    (r"conv_proj", "patch_embed.proj"),
    (r"encoder\.pos_embedding", "pos_embed"),
    (r"encoder\.ln", "norm"),
    (_ENCODER + r"ln_([12])", r"blocks.\1.norm\2"),
    (_ENCODER + r"self_attention\.in_proj_(weight|bias)", r"blocks.\1.attn.qkv.\2"),
    (_ENCODER + r"self_attention\.out_proj", r"blocks.\1.attn.proj"),
    (_ENCODER + r"mlp\.(?:0|linear_1)", r"blocks.\1.mlp.fc1"),
    (_ENCODER + r"mlp\.(?:3|linear_2)", r"blocks.\1.mlp.fc2"),
)


def hugging_face_prefix(keys: Collection[str]) -> str | None:
    """What stands before Hugging Face's names of a ViT, or None where there is none."""
    mark = "embeddings.patch_embeddings.projection.weight"
    prefixes = (key.removesuffix(mark) for key in keys if key.endswith(mark))
    tokens = ("embeddings.cls_token", "embeddings.position_embeddings")
    return next((each for each in prefixes if {f"{each}{token}" for token in tokens} <= set(keys)), None)


def is_torchvision(keys: Collection[str]) -> bool:
    return {"class_token", "conv_proj.weight", "encoder.pos_embedding"} <= set(keys)


def from_hugging_face(state: StateDict, where: str, prefix: str, hints: Hints) -> Checkpoint:
    """Rename a ViT of Hugging Face's transformers; the result has no part tokens."""
    inside = {key.removeprefix(prefix): tensor for key, tensor in state.tensors.items()}
    for projections in _PROJECTIONS:
        inside = packed_attention(inside, _ATTENTION, projections, "qkv")
    tensors = {translated(key, _HUGGING_FACE) or key: tensor for key, tensor in inside.items()}
    origin = ("a ViT of Hugging Face's transformers", None, False)
    return from_timm(state._replace(tensors=tensors), where, "", hints, origin)


def from_torchvision(state: StateDict, where: str, hints: Hints) -> Checkpoint:
    """Rename a ViT of torchvision; the result has no part tokens."""
    tensors = {translated(key, _TORCHVISION) or key: tensor for key, tensor in state.tensors.items()}
    return from_timm(state._replace(tensors=tensors), where, "", hints, ("a ViT of torchvision", IMAGENET, True))
