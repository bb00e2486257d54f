"""Small changes to an ONNX graph that make it readable: names of layers, of constants and of the batch."""

from __future__ import annotations

import onnx_ir as ir

BATCH = "batch"


def name_layers(model: ir.Model) -> None:
    """Name nodes with weights after their place in the model ("blocks.3.mlp.fc1"), attention after its block.

    Reports of TensorRT and the sensitivity list speak these names. Call it before constants are folded, while a
    weight still has the name that it has in the model file.
    """
    taken: dict[str, int] = {}
    block = -1
    for node in model.graph:
        if node.op_type not in ("MatMul", "Gemm", "Conv", "Attention", "Softmax"):
            continue
        source = None if node.op_type in ("Attention", "Softmax") else _weight_name(node.inputs[1])
        if source is not None:
            name = source.split("model.", 1)[-1].removesuffix(".weight")
            if name.startswith("blocks."):
                block = int(name.split(".")[1])
        else:
            kind = {"Attention": "attn", "Softmax": "attn.softmax"}.get(node.op_type, "attn.product")
            name = f"blocks.{block}.{kind}"
        taken[name] = taken.get(name, 0) + 1
        node.name = name if taken[name] == 1 else f"{name}.{taken[name]}"


def _weight_name(value: ir.Value | None) -> str | None:
    """The initializer that `value` is cut or turned from, or None when it depends on the input."""
    while value is not None:
        if value.is_initializer():
            return value.name
        node = value.producer()
        if node is None or node.op_type not in ("Transpose", "Slice", "Identity", "Cast"):
            return None
        value = node.inputs[0]
    return None


def rename_batch(model: ir.Model) -> None:
    """Call the one symbolic dimension "batch" wherever a shape mentions it, and weights after their layers."""
    for value in (*model.graph.inputs, *(output for node in model.graph for output in node.outputs)):
        if value.shape is not None:
            value.shape = ir.Shape([BATCH if isinstance(each, ir.SymbolicDim) else each for each in value.shape])
    for node in model.graph:
        if node.op_type in ("MatMul", "Gemm"):
            weight = node.inputs[1]
            if weight is not None and weight.is_initializer() and len(weight.uses()) == 1:
                weight.name = f"{node.name}.weight"
