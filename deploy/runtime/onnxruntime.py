"""A bundle run by ONNX Runtime: the default where there is no GPU."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from deploy.runtime.crops import Pixels, prepared
from export.manifest import MODEL, ExportError, Manifest


class Session:
    """An ONNX Runtime session on a bundle's model.onnx.

    `providers` are ONNX Runtime's execution providers; one that does not load is an error, not a quiet move to
    the CPU. `threads` 0 leaves their number to ONNX Runtime.
    """

    def __init__(
        self,
        bundle: str | Path,
        *,
        providers: Sequence[str] = ("CPUExecutionProvider",),
        threads: int = 0,
        batch_size: int = 64,
    ) -> None:
        if batch_size < 1:
            raise ExportError(f"batch_size is {batch_size}; it must be at least 1")
        self.manifest = Manifest.load(bundle)
        self.batch_size = batch_size
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        path = self.manifest.file(MODEL)
        self._session: onnxruntime.InferenceSession | None = open_session(path, providers, options)
        self._check_names(path)

    def embed(self, crops: Pixels) -> NDArray[np.float32]:
        """Crops uint8 [N, h, w, 3] RGB of any one size -> float32 [N, D], unit length."""
        if self._session is None:
            raise ValueError("the session is closed")
        feed = prepared(crops, self.manifest)
        vectors = np.empty((len(feed), self.manifest.output.size), dtype=np.float32)
        for begin in range(0, len(feed), self.batch_size):
            batch = feed[begin : begin + self.batch_size]
            (vectors[begin : begin + len(batch)],) = self._session.run(
                [self.manifest.output.name], {self.manifest.input.name: batch}
            )
        return vectors

    def close(self) -> None:
        self._session = None

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _check_names(self, path: Path) -> None:
        assert self._session is not None
        inputs = [each.name for each in self._session.get_inputs()]
        outputs = [each.name for each in self._session.get_outputs()]
        wanted = ([self.manifest.input.name], [self.manifest.output.name])
        if (inputs, outputs) != wanted:
            raise ExportError(
                f"{path} takes {inputs} and gives {outputs}, the manifest says {wanted[0]} and {wanted[1]}"
            )


def open_session(
    model: Path | bytes, providers: Sequence[str], options: onnxruntime.SessionOptions
) -> onnxruntime.InferenceSession:
    """An inference session with exactly the providers asked for (the CPU may come after them).

    Raises ExportError when the model does not load, or a provider is absent or did not start.
    """
    name = str(model) if isinstance(model, Path) else "the graph"
    missing = [each for each in providers if each not in onnxruntime.get_available_providers()]
    if missing:
        raise ExportError(
            f"this onnxruntime has no {missing[0]}; it has {', '.join(onnxruntime.get_available_providers())}"
        )
    try:
        source = str(model) if isinstance(model, Path) else model
        session = onnxruntime.InferenceSession(source, options, providers=list(providers))
    except Exception as error:  # its exception types share no base of their own
        reason = " ".join(str(error).split())[:300]
        raise ExportError(f"ONNX Runtime cannot load {name}: {reason}") from error
    absent = [each for each in providers if each not in session.get_providers()]
    if absent:
        raise ExportError(
            f"{absent[0]} did not start, ONNX Runtime fell back to {', '.join(session.get_providers())}; "
            "check the GPU driver and CUDA libraries, or ask for CPUExecutionProvider"
        )
    return session
