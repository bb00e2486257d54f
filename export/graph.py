"""Small changes to an ONNX graph that make it readable: names of layers, of constants and of the batch."""

from __future__ import annotations

import onnx_ir as ir

BATCH = "batch"
MASK = "part_mask"
PREFIX = "model."
"""Of the weights' names in the traced network."""

_KINDS = {"Attention": "attn", "MatMul": "attn.product", "Softmax": "attn.softmax"}


def name_layers(model: ir.Model) -> None:
    """Name nodes after their place in the model: "blocks.3.mlp.fc1", or for want of weights "blocks.3.mul".

    Reports of TensorRT and the sensitivity list speak these names. Call it before constants are folded, while a
    weight still has the name that it has in the model file.
    """
    taken: dict[str, int] = {}
    place = "input"
    for node in model.graph:
        own = next((name for name in map(_weight_name, node.inputs) if name and name.startswith(PREFIX)), None)
        if own is not None:
            name = own.removeprefix(PREFIX).removesuffix(".weight")
            parts = name.split(".")
            place = ".".join(parts[:2]) if parts[0] == "blocks" else "output" if parts[0] == "norm" else place
        else:
            name = f"{place}.{_KINDS.get(node.op_type, node.op_type.lower())}"
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
    """Call the one symbolic dimension "batch" wherever a shape mentions it, and drop notes of the optimiser."""
    for value in (*model.graph.inputs, *(output for node in model.graph for output in node.outputs)):
        if value.shape is not None:
            value.shape = ir.Shape([BATCH if isinstance(each, ir.SymbolicDim) else each for each in value.shape])
    for value in (*model.graph.inputs, *model.graph.outputs, *model.graph.initializers.values()):
        value.metadata_props.clear()


def name_constants(model: ir.Model) -> None:
    """Call weights after the layer that multiplies by them, and the mask what it is."""
    for node in model.graph:
        mask = node.inputs[3] if node.op_type == "Attention" and len(node.inputs) > 3 else None
        if node.op_type == "Softmax" and node.inputs[0] is not None:
            before = node.inputs[0].producer()
            mask = before.inputs[1] if before is not None and before.op_type == "Add" else None
        if mask is not None and mask.is_initializer() and not str(mask.name).startswith(MASK):
            # The last block may ask for fewer tokens: its mask is then the first rows.
            mask.name = MASK if MASK not in model.graph.initializers else f"{MASK}.{mask.shape[-2]}"
        if node.op_type in ("MatMul", "Gemm"):
            weight = node.inputs[1]
            if weight is not None and weight.is_initializer() and len(weight.uses()) == 1:
                weight.name = f"{node.name}.weight"
