"""Is a graph what its manifest says, and does it compute what it should?"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
from numpy.typing import NDArray

from deploy.runtime.crops import Pixels, prepared
from deploy.runtime.onnxruntime import open_session
from export.check_set import Vectors, compare
from export.manifest import Manifest
from pat.base.errors import Failure, UserError
from pat.base.progress import SILENT, Progress

WORST_COSINE = 0.99999
"""Between ONNX Runtime and PyTorch, both in fp32."""
BATCHES = (1, 3, 8)
"""First batches of what is compared, the rest is one more; a graph that holds for these holds for any."""
NOISE = 4
"""Images of noise, which show more of the graph than people do: the first two of these batches."""
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
        outside = next((each for each in graph.graph.initializer if each.external_data), None)
        if outside is not None:
            raise UserError(
                f"{path} keeps weights ({outside.name}, ...) in another file, and a bundle holds them in one: "
                "onnx.save(onnx.load(OLD), NEW) puts them together"
            )
        onnx.checker.check_model(graph, full_check=True)
    except UserError:
        raise
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
    progress: Progress = SILENT,
) -> tuple[list[str], Vectors]:
    """ONNX Runtime against `embed` on noise and on `images`, in batches of one, a few and the rest.

    Returns a line each for the manifest, and what `embed` says to the images. Raises Failure when they differ by
    more than fp32 rounding explains.
    """
    run = runner(graph, manifest)
    noise = np.random.default_rng(0).integers(0, 256, (NOISE, *images.shape[1:]), dtype=np.uint8)
    lines = []
    with progress.bar("ONNX Runtime against PyTorch", len(noise) + len(images)) as advance:
        for name, pixels in (("noise", noise), ("images", images)):
            batches = np.split(pixels, [end for end in np.cumsum(BATCHES).tolist() if end < len(pixels)])
            # The batch sizes are for the graph: to PyTorch, which is slower on a few images, they are nothing new.
            expected, found = embed(pixels), np.concatenate([run(batch) for batch in batches])
            advance(len(pixels))
            agreement, difference = compare(expected, found), float(np.abs(expected - found).max())
            sizes = ", ".join(str(len(batch)) for batch in batches)
            line = f"ONNX Runtime against PyTorch, {name}, batch {sizes}: worst cosine {agreement.worst:.7f}"
            line += f", largest difference {difference:.1e}"
            if not (agreement.worst >= WORST_COSINE and difference <= LARGEST_DIFFERENCE):
                raise Failure(f"{line}: the graph is not the model")
            lines.append(line)
    return lines, expected


def runner(
    graph: onnx.ModelProto, manifest: Manifest, *, threads: int = 0, optimise: bool = True
) -> Callable[[Pixels], NDArray[np.float32]]:
    """The graph in ONNX Runtime on the CPU: uint8 [N, H, W, 3] -> float32 [N, D].

    Raises UserError when ONNX Runtime cannot run it here.
    """
    session = open_session(graph.SerializeToString(), threads=threads, optimise=optimise)

    def run(pixels: Pixels) -> NDArray[np.float32]:
        (vectors,) = session.run([manifest.output.name], {manifest.input.name: prepared(pixels, manifest)})
        return np.asarray(vectors, dtype=np.float32)

    return run


def _shape(value: onnx.ValueInfoProto) -> list[int | str]:
    return [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
