"""Operators of a trace in ONNX: those that PyTorch's exporter knows only decomposed, or writes at length."""

from __future__ import annotations

from collections.abc import Callable

import torch
from onnxscript import opset18 as op


def translations(opset: int) -> dict[Callable, Callable]:
    """What `torch.onnx.export` takes as `custom_translation_table`."""
    aten = torch.ops.aten
    table: dict[Callable, Callable] = {
        aten.to.dtype: _to,
        aten.batch_norm.default: _batch_norm,
        aten.__and__.Tensor: _and,
    }
    if opset < 23:
        table[aten.scaled_dot_product_attention.default] = _attention
    return table


# Parameters are those of PyTorch's operators; the exporter takes those with a type for attributes.


def _to(self, dtype: int, non_blocking: bool = False, copy: bool = False, memory_format: str = ""):
    return op.Cast(self, to=dtype)


def _batch_norm(
    input, weight, bias, running_mean, running_var, training: bool, momentum: float, eps: float,
    cudnn_enabled: bool = False,
):  # fmt: skip
    return op.BatchNormalization(input, weight, bias, running_mean, running_var, epsilon=eps)


def _and(self, other):
    """Of truth values."""
    return op.And(self, other)


def _attention(
    query, key, value, attn_mask=None, dropout_p: float = 0.0, is_causal: bool = False, scale: float = 0.0,
    enable_gqa: bool = False,
):  # fmt: skip
    """As four nodes and the sum with the mask. The exporter's own way scales queries and keys by the root each."""
    scores = op.MatMul(op.Mul(query, scale), op.Transpose(key, perm=[0, 1, 3, 2]))
    if attn_mask is not None:
        scores = op.Add(scores, attn_mask)
    return op.MatMul(op.Softmax(scores, axis=-1), value)
