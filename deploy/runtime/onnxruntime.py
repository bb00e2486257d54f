"""A bundle run by ONNX Runtime: the default where there is no GPU."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from deploy.runtime.session import Runtime, Vectors
from export.manifest import MODEL, Manifest
from pat.base.errors import Failure, UserError, one_line

CPU = ("CPUExecutionProvider",)


class Session(Runtime):
    """An ONNX Runtime session on a bundle's model.onnx.

    `providers` are ONNX Runtime's execution providers; one that does not load is an error, not a quiet move to
    the CPU. `threads` 0 leaves their number to ONNX Runtime. Larger batches than `batch_size` are split.
    """

    def __init__(
        self,
        bundle: str | Path,
        *,
        providers: Sequence[str] = CPU,
        threads: int = 0,
        batch_size: int = 64,
    ) -> None:
        super().__init__(Manifest.load(bundle))
        self._hold(batch_size)
        path = self.manifest.file(MODEL)
        self._session: Any = open_session(path, providers, threads)
        self._check_names(path)
        first = self._session.get_providers()[0].removesuffix("ExecutionProvider")
        self.name = f"ONNX Runtime {onnxruntime.__version__}, {first}"

    def _run(self, count: int) -> Vectors:
        try:
            (vectors,) = self._session.run(
                [self.manifest.output.name], {self.manifest.input.name: self._rows[:count]}
            )
        except Exception as error:  # its exception types share no base of their own
            raise Failure(f"{self.name} cannot run the model: {one_line(error)}") from error
        return np.asarray(vectors, dtype=np.float32)

    def _release(self) -> None:
        self._session = None

    def _check_names(self, path: Path) -> None:
        inputs = [each.name for each in self._session.get_inputs()]
        outputs = [each.name for each in self._session.get_outputs()]
        wanted = ([self.manifest.input.name], [self.manifest.output.name])
        if (inputs, outputs) != wanted:
            raise UserError(
                f"{path} takes {inputs} and gives {outputs}, the manifest says {wanted[0]} and {wanted[1]}"
            )


def open_session(
    model: Path | bytes, providers: Sequence[str] = CPU, threads: int = 0, *, optimise: bool = True
) -> onnxruntime.InferenceSession:
    """An inference session with exactly the providers asked for (the CPU may come after them).

    `threads` 0 leaves their number to ONNX Runtime. Raises UserError when the model does not load, or a provider
    is absent or did not start.
    """
    name = str(model) if isinstance(model, Path) else "the graph"
    missing = [each for each in providers if each not in onnxruntime.get_available_providers()]
    if missing:
        raise UserError(
            f"this onnxruntime has no {missing[0]}; it has {', '.join(onnxruntime.get_available_providers())}"
        )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    if not optimise:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        source = str(model) if isinstance(model, Path) else model
        session = onnxruntime.InferenceSession(source, options, providers=list(providers))
    except Exception as error:  # its exception types share no base of their own
        raise UserError(f"ONNX Runtime cannot load {name}: {one_line(error)}") from error
    absent = [each for each in providers if each not in session.get_providers()]
    if absent:
        raise UserError(
            f"{absent[0]} did not start, ONNX Runtime fell back to {', '.join(session.get_providers())}; "
            "check the GPU driver and CUDA libraries, or ask for CPUExecutionProvider"
        )
    return session
