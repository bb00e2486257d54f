"""A bundle in another form, and whether it still says the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnxruntime

from export.check import read_graph
from export.check_set import Agreement, compare, gate_of, read_check_set, thresholds_of
from export.integrations.float_input import Pixels, Scaling, with_float_input
from export.manifest import MODEL, Manifest
from pat.base.errors import Failure


def check_same(manifest: Manifest, embed: Callable[[Pixels], Any], what: str) -> Agreement:
    """Compare `embed` on the check set of the bundle. Raises Failure where it misses the bundle's gate."""
    images, expected = read_check_set(manifest)
    found = compare(expected, np.asarray(embed(images), np.float32), thresholds_of(manifest))
    missed = found.misses(gate_of(manifest))
    if missed:
        raise Failure(f"{what} does not say what {manifest.folder} says: {missed}; nothing was written")
    return found


def float_graph(
    manifest: Manifest, name: str, scaling: Scaling, program: str
) -> tuple[onnx.ModelProto, Agreement]:
    """The bundle's graph with the float input `name` for a program that scales pixels so, run on the check set.

    Raises as `read_graph` and `check_same`.
    """
    graph = with_float_input(read_graph(str(manifest.file(MODEL))), manifest, name, scaling)
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    found = check_same(
        manifest, lambda pixels: session.run(None, {name: scaling.planes(pixels)})[0], f"the graph for {program}"
    )
    return graph, found
