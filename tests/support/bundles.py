"""Bundles for tests: the one place that knows what a manifest needs and how a bundle comes to be."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from deploy.runtime.crops import prepared
from export.bundle import write_bundle
from export.manifest import Input, Manifest, Output

ROOT = Path(__file__).resolve().parents[2]
COLOURS = 48
"""16 patches of a crop's middle, three colours each."""


def described(size: tuple[int, int], dim: int, dtype: str = "uint8", **facts: Any) -> Manifest:
    """The manifest of a graph that embeds crops of `size` (height, width) as `dim` numbers; no files yet."""
    layout = "NHWC" if dtype == "uint8" else "NCHW"
    values = {
        "input": Input("crops", dtype, layout, *size), "output": Output("embeddings", dim, "cls"), "opset": 18,
        "files": {}, "model": {}, "training": {}, "weights": {}, "tools": {},
    }  # fmt: skip
    return Manifest(**values | facts)


def graph(
    nodes: Sequence[onnx.NodeProto],
    constants: Mapping[str, np.ndarray],
    size: tuple[int, int],
    dim: int,
    dtype: str = "uint8",
    output: str = "embeddings",
) -> bytes:
    """A checked ONNX file of opset 18 from `crops` to `output`."""
    shape = ["batch", *size, 3] if dtype == "uint8" else ["batch", 3, *size]
    kind = TensorProto.UINT8 if dtype == "uint8" else TensorProto.FLOAT
    made = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("crops", kind, shape)],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["batch", dim])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()


def make_bundle(
    folder: Path,
    manifest: Manifest,
    model: bytes,
    images: np.ndarray | None = None,
    embeddings: np.ndarray | None = None,
    **rest: Any,
) -> Path:
    """Write a bundle. Its check set: four images of noise unless given, and what the model itself says of them.

    `rest` goes to `write_bundle`: kernels, identities of the check set.
    """
    if images is None:
        images = noise(4, manifest.input.height, manifest.input.width, 3)
    if embeddings is None:
        (embeddings,) = onnxruntime.InferenceSession(model).run(None, {"crops": prepared(images, manifest)})
    return write_bundle(folder, manifest, model, images, embeddings, **rest).folder


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    """Bytes, every value as likely."""
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def colour_graph(mix: np.ndarray | None = None) -> bytes:
    """crops u8 [B, 256, 128, 3] -> mean colours of 8 x 2 patches of the middle columns, centred, unit length.

    With `mix` [48, D] the colours are mixed to D numbers before they are brought to unit length.
    """
    constants = {
        "axes": np.array([1], dtype=np.int64),
        "starts": np.array([32], dtype=np.int64),
        "ends": np.array([96], dtype=np.int64),
        "columns": np.array([3], dtype=np.int64),
        "flat": np.array([-1, COLOURS], dtype=np.int64),
    }
    nodes = [
        helper.make_node("Cast", ["crops"], ["wide"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["wide"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Slice", ["planes", "starts", "ends", "columns"], ["middle"]),
        helper.make_node("AveragePool", ["middle"], ["patches"], kernel_shape=[32, 32], strides=[32, 32]),
        helper.make_node("Reshape", ["patches", "flat"], ["colours"]),
        helper.make_node("ReduceMean", ["colours", "axes"], ["mean"], keepdims=1),
        helper.make_node("Sub", ["colours", "mean"], ["centred"]),
    ]
    last, dim = "centred", COLOURS
    if mix is not None:
        nodes.append(helper.make_node("MatMul", ["centred", "mix"], ["mixed"]))
        constants["mix"], last, dim = mix.astype(np.float32), "mixed", mix.shape[1]
    nodes.append(helper.make_node("LpNormalization", [last], ["embeddings"], axis=1, p=2))
    return graph(nodes, constants, (256, 128), dim)


def colours(folder: Path, mix: np.ndarray | None = None) -> Path:
    """A bundle that tells people apart by the colours of their clothes, in milliseconds."""
    weights = {"sha256": ("c0105" if mix is None else "d0105") * 12 + "0000"}
    manifest = described((256, 128), COLOURS if mix is None else mix.shape[1], weights=weights)
    return make_bundle(folder, manifest, colour_graph(mix))


def projection(
    folder: Path,
    dtype: str = "uint8",
    kernels: Mapping[str, bytes] = MappingProxyType({}),
    size: tuple[int, int] = (32, 16),
    dim: int = 8,
) -> Path:
    """A bundle whose graph is a random projection of the pixels."""
    weights = np.random.default_rng(0).normal(size=(*size, 3, dim)).astype(np.float32)
    weights = (weights if dtype == "uint8" else weights.transpose(2, 0, 1, 3)).reshape(-1, dim)
    nodes = [
        helper.make_node("Cast", ["crops"], ["wide"], to=TensorProto.FLOAT),
        helper.make_node("Flatten", ["wide"], ["flat"], axis=1),
        helper.make_node("MatMul", ["flat", "weights"], ["product"]),
        helper.make_node("LpNormalization", ["product"], ["embeddings"], axis=1),
    ]
    model = graph(nodes, {"weights": weights}, size, dim, dtype)
    return make_bundle(folder, described(size, dim, dtype), model, kernels=kernels)


COMPILE = """
import sys
from pathlib import Path
from export.crop_kernels import compile_kernels
from export.manifest import Manifest
for bundle in sys.argv[2:]:
    for name, content in compile_kernels(Manifest.load(bundle), ["sm_87"]).items():
        Path(sys.argv[1], name).write_bytes(content)
"""


def compiled_kernels(out: Path, bundles: Sequence[Path]) -> dict[str, bytes]:
    """The bundles' crop kernels for sm_87, by Triton's real compiler: not in this process, which interprets."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment |= {"PAT_KERNEL_CACHE": str(out / "cache"), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", COMPILE, str(out), *map(str, bundles)]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()}
