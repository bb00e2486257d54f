"""Small changes to an ONNX graph that make it readable: names of layers, of constants and of the batch."""

from __future__ import annotations

import onnx_ir as ir

BATCH = "batch"
MASK = "part_mask"
PREFIX = "model."
"""Of the weights' names in the traced network."""

_VIEWS = ("Transpose", "Slice", "Identity", "Cast")
_KINDS = {"Attention": "attn", "MatMul": "attn.product", "Softmax": "attn.softmax"}


def name_layers(model: ir.Model) -> None:
    """Name nodes after their place in the model: "blocks.3.mlp.fc1", or for want of weights "blocks.3.mul".

    Reports of TensorRT and the sensitivity list speak these names. Call it before constants are folded, while a
    weight still has the name that it has in the model file.
    """
    taken: dict[str, int] = {}
    place = "input"
    for node in model.graph:
        if node.op_type in _VIEWS and _weight_name(node.inputs[0]) is not None:
            continue  # a weight turned or cut: folded away later
        name = _layer(node)
        if name is not None:
            parts = name.split(".")
            place = ".".join(parts[:2]) if parts[0] == "blocks" else "output" if parts[0] == "norm" else place
        else:
            name = f"{place}.{_KINDS.get(node.op_type, node.op_type.lower())}"
        taken[name] = taken.get(name, 0) + 1
        node.name = name if taken[name] == 1 else f"{name}.{taken[name]}"


def _layer(node: ir.Node) -> str | None:
    """The layer whose weight enters the node, by its name in the model."""
    names = (name for name in map(_weight_name, node.inputs) if name and not name.endswith(MASK))
    own = next((name for name in names if name.startswith(PREFIX)), None)
    return None if own is None else own.removeprefix(PREFIX).removesuffix(".weight")


def _weight_name(value: ir.Value | None) -> str | None:
    """The initializer that `value` is cut or turned from, or None when it depends on the input."""
    while value is not None:
        if value.is_initializer():
            return value.name
        node = value.producer()
        if node is None or node.op_type not in _VIEWS:
            return None
        value = node.inputs[0]
    return None


def rename_batch(model: ir.Model) -> None:
    """Call the input's symbolic dimension "batch" wherever a shape has it, and drop notes of the optimiser."""
    shape = model.graph.inputs[0].shape
    assert shape is not None, "the exporter writes the shapes of inputs"
    symbol = str(shape[0])
    for value in (*model.graph.inputs, *(output for node in model.graph for output in node.outputs)):
        if value.shape is not None:
            value.shape = ir.Shape(
                [each if isinstance(each, int) else str(each).replace(symbol, BATCH) for each in value.shape]
            )
    for value in (*model.graph.inputs, *model.graph.outputs, *model.graph.initializers.values()):
        value.metadata_props.clear()


def finish_names(model: ir.Model) -> None:
    """After optimisation: name new nodes after their place, weights after their layer, and the mask what it is."""
    place, count = "input", 0
    for node in model.graph:
        parts = str(node.name).split(".")
        layer = _layer(node) if node.op_type == "Conv" else None
        if layer is not None:
            node.name = layer  # the optimiser makes new ones of those without a bias
        elif str(node.name).startswith("node_"):
            count += 1
            node.name = f"{place}.{node.op_type.lower()}_{count}"
        elif parts[0] in ("blocks", "output"):
            place = ".".join(parts[:2]) if parts[0] == "blocks" else "output"
        if node.op_type in ("MatMul", "Gemm"):
            weight = node.inputs[1]
            if weight is not None and weight.is_initializer() and len(weight.uses()) == 1:
                weight.name = f"{node.name}.weight"
        mask = _mask(node)
        if mask is not None and mask.is_initializer() and not str(mask.name).startswith(MASK):
            # The last block may ask for fewer tokens: its mask is then the first rows.
            mask.name = MASK if MASK not in model.graph.initializers else f"{MASK}.last"


def _mask(node: ir.Node) -> ir.Value | None:
    """What is added to the scores before this softmax, or inside this Attention node."""
    if node.op_type == "Attention":
        return node.inputs[3] if len(node.inputs) > 3 else None
    before = node.inputs[0].producer() if node.op_type == "Softmax" and node.inputs[0] is not None else None
    return before.inputs[1] if before is not None and before.op_type == "Add" else None
