"""Does a bundle in another form still say the same?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnxruntime

from export.check_set import Agreement, compare, gate_of, read_check_set, thresholds_of
from export.integrations.float_input import Pixels
from export.manifest import Manifest
from pat.base.errors import Failure


def check_same(manifest: Manifest, embed: Callable[[Pixels], Any], what: str) -> Agreement:
    """Compare `embed` on the check set of the bundle. Raises Failure where it misses the bundle's gate."""
    images, expected = read_check_set(manifest)
    found = compare(expected, np.asarray(embed(images), np.float32), thresholds_of(manifest))
    missed = found.misses(gate_of(manifest))
    if missed:
        raise Failure(f"{what} does not say what {manifest.folder} says: {missed}; nothing was written")
    return found


def run_graph(graph: onnx.ModelProto, values: np.ndarray) -> np.ndarray:
    """The one output of a graph for the values of its one input, in ONNX Runtime on the CPU."""
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    (result,) = session.run(None, {session.get_inputs()[0].name: values})
    return np.asarray(result)
