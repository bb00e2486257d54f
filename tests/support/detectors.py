"""Small real graphs in the formats of RF-DETR and YOLOX."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SIDE = 64
CELLS = [(8, 8, 8), (4, 4, 16), (2, 2, 32)]  # rows, columns, pixels of a cell
ANCHORS = sum(rows * columns for rows, columns, _ in CELLS)
CLASSES = 3


def save(path: Path, nodes, outputs, constants=(), side=SIDE, inputs=1, batch=1) -> Path:
    """An ONNX file that takes `images` float32 [batch, 3, side, side]."""
    shape = [batch, 3, side, side]
    graph = helper.make_graph(
        list(nodes),
        "detector",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ["images", "more"][:inputs]],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in dict(constants).items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, path)
    return path


def constant(path: Path, **outputs: np.ndarray) -> Path:
    """A model that gives the same outputs for every image."""
    nodes, constants = [], {}
    for name, value in outputs.items():
        constants[f"{name}_value"] = value.astype(np.float32)
        nodes.append(helper.make_node("Identity", [f"{name}_value"], [name]))
    return save(path, nodes, outputs, constants)


def seeing_yolox(path: Path, channel: int, decoded: bool = False) -> Path:
    """A YOLOX that finds grid cells where one channel of the image is bright: a box as large as the cell."""
    nodes = [helper.make_node("Slice", ["images", "from", "to", "axis"], ["one"])]
    constants = {
        "from": np.array([channel]),
        "to": np.array([channel + 1]),
        "axis": np.array([1]),
        "flat": np.array([1, -1, 1]),
        "brightest": np.array(255, np.float32),
    }
    centres, sizes = [], []
    for rows, columns, side in CELLS:
        nodes += [
            helper.make_node(
                "AveragePool", ["one"], [f"pool{side}"], kernel_shape=[side, side], strides=[side, side]
            ),
            helper.make_node("Reshape", [f"pool{side}", "flat"], [f"level{side}"]),
        ]
        for row in range(rows):
            for column in range(columns):
                centres.append([(column + 0.5) * side, (row + 0.5) * side] if decoded else [0.5, 0.5])
                sizes.append([side, side] if decoded else [0.0, 0.0])
    constants["boxes"] = np.concatenate((centres, sizes), axis=1).astype(np.float32)[None]
    constants["people"] = np.tile(np.array([0.9, 0.2, 0.1], np.float32), (1, ANCHORS, 1))
    nodes += [
        helper.make_node("Concat", [f"level{side}" for _, _, side in CELLS], ["light"], axis=1),
        helper.make_node("Div", ["light", "brightest"], ["objectness"]),
        helper.make_node("Concat", ["boxes", "objectness", "people"], ["output"], axis=2),
    ]
    return save(path, nodes, ["output"], constants)


def seeing_rf_detr(path: Path) -> Path:
    """An RF-DETR whose 16 queries find red in the cells of a 4 x 4 grid. The image arrives normalised."""
    nodes = [
        helper.make_node("Slice", ["images", "from", "to", "axis"], ["red"]),
        helper.make_node("AveragePool", ["red"], ["pool"], kernel_shape=[16, 16], strides=[16, 16]),
        helper.make_node("Reshape", ["pool", "flat"], ["people"]),
        helper.make_node("Concat", ["other", "people"], ["labels"], axis=2),
        helper.make_node("Identity", ["grid"], ["dets"]),
    ]
    grid = [[(column + 0.5) / 4, (row + 0.5) / 4, 0.25, 0.25] for row in range(4) for column in range(4)]
    constants = {
        "from": np.array([0]), "to": np.array([1]), "axis": np.array([1]), "flat": np.array([1, 16, 1]),
        "grid": np.array([grid], np.float32), "other": np.full((1, 16, 1), -9, np.float32),
    }  # fmt: skip
    return save(path, nodes, ["dets", "labels"], constants)
