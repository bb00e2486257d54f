"""Is a graph what its manifest says, and does it compute what it should?"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from deploy.runtime.crops import Pixels, prepared
from deploy.runtime.onnxruntime import open_session
from export.check_set import Vectors, compare
from export.manifest import Manifest
from pat.base.errors import Failure, UserError

WORST_COSINE = 0.99999
"""Between ONNX Runtime and PyTorch, both in fp32."""
LARGEST_DIFFERENCE = 1e-3
"""Of any number of a unit-length embedding, both in fp32."""

_TYPES = {"uint8": onnx.TensorProto.UINT8, "float32": onnx.TensorProto.FLOAT}


def read_graph(path: str) -> onnx.ModelProto:
    """Read an ONNX file and check it fully. Raises UserError for one that is empty, truncated or not valid."""
    try:
        with open(path, "rb") as file:
            content = file.read()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    if not content:
        raise UserError(f"{path} is empty; copy or export it again")
    try:
        graph = onnx.load_model_from_string(content)
        onnx.checker.check_model(graph, full_check=True)
    except Exception as error:  # protobuf, checker and shape inference raise types of their own
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{path} is no complete ONNX model ({reason}); copy or export it again") from error
    if not graph.graph.output:  # an empty message is valid protobuf
        raise UserError(f"{path} is an ONNX file without outputs; export it again")
    return graph


def check_graph(graph: onnx.ModelProto, manifest: Manifest) -> None:
    """ONNX's own checker, then names, types and shapes of input and output against the manifest.

    Raises Failure in one line for the first thing that is wrong.
    """
    try:
        onnx.checker.check_model(graph, full_check=True)
    except Exception as error:  # the checker and shape inference raise types of their own
        raise Failure(f"the graph is not valid ONNX: {' '.join(str(error).split())[:300]}") from error
    wanted = manifest.input
    size = [3, wanted.height, wanted.width] if wanted.layout == "NCHW" else [wanted.height, wanted.width, 3]
    expected = [
        ("input", wanted.name, _TYPES[wanted.dtype], ["batch", *size]),
        ("output", manifest.output.name, onnx.TensorProto.FLOAT, ["batch", manifest.output.size]),
    ]
    found = [
        (kind, value.name, value.type.tensor_type.elem_type, _shape(value))
        for kind, values in (("input", graph.graph.input), ("output", graph.graph.output))
        for value in values
    ]
    if found != expected:
        raise Failure(f"the graph has {found}, expected {expected}")


def check_numbers(
    graph: onnx.ModelProto,
    manifest: Manifest,
    embed: Callable[[Pixels], Vectors],
    images: Pixels,
    batches: Sequence[int],
    advance: Callable[..., object],
) -> list[str]:
    """ONNX Runtime against `embed` at each batch size, on noise and on `images`; a line each for the manifest.

    Raises Failure when they differ by more than fp32 rounding explains.
    """
    run = runner(graph, manifest)
    count = sum(batches)
    noise = np.random.default_rng(0).integers(0, 256, (count, *images.shape[1:]), dtype=np.uint8)
    lines = []
    for name, pixels in (("noise", noise), ("images", images[np.arange(count) % len(images)])):
        begin, worst, difference = 0, 1.0, 0.0
        for batch in batches:
            part = pixels[begin : begin + batch]
            begin += batch
            expected, found = embed(part), run(part)
            worst = min(worst, compare(expected, found).worst)
            difference = max(difference, float(np.abs(expected - found).max()))
            advance(batch, total=2 * count)
        sizes = ", ".join(map(str, batches))
        line = f"ONNX Runtime against PyTorch, {name}, batch {sizes}: worst cosine {worst:.7f}"
        if not (worst >= WORST_COSINE and difference <= LARGEST_DIFFERENCE):
            raise Failure(f"{line}, largest difference {difference:.1e}: the graph is not the model")
        lines.append(f"{line}, largest difference {difference:.1e}")
    return lines


def runner(
    graph: onnx.ModelProto, manifest: Manifest, *, threads: int = 0, optimise: bool = True
) -> Callable[[Pixels], NDArray[np.float32]]:
    """The graph in ONNX Runtime on the CPU: uint8 [N, H, W, 3] -> float32 [N, D].

    Raises UserError when ONNX Runtime cannot run it here.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    if not optimise:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = open_session(graph.SerializeToString(), ("CPUExecutionProvider",), options)

    def run(pixels: Pixels) -> NDArray[np.float32]:
        (vectors,) = session.run([manifest.output.name], {manifest.input.name: prepared(pixels, manifest)})
        return np.asarray(vectors, dtype=np.float32)

    return run


def _shape(value: onnx.ValueInfoProto) -> list[int | str]:
    return [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
