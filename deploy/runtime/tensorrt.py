"""An engine run by TensorRT or TensorRT for RTX, with PyCUDA for the memory."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from deploy.frames import Boxes, Pixels
from deploy.runtime.crops import rows_shape
from deploy.runtime.cuda import Gpu, drop_frames
from deploy.runtime.engine import Engine
from deploy.runtime.gpu_crops import GpuCrops, KernelFile
from deploy.runtime.plan import EnginePlan
from deploy.runtime.session import Cutter, Runtime, Vectors
from deploy.runtime.trt_library import FlavourName, Library, load_library
from export.manifest import Manifest
from pat.base.errors import Failure, UserError

log = logging.getLogger(__name__)


class Session(Runtime):
    """A plan that was built from a bundle, on one GPU.

    `plan` is model.plan of the bundle unless given; engine.json beside it says for what it was built. `preprocess`
    says who cuts boxes out of frames: the "gpu" with the bundle's compiled kernel, or the "cpu" with Pillow.
    Host and device memory for the largest batch of the engine's profiles is allocated once.
    """

    def __init__(
        self,
        bundle: str | Path,
        *,
        plan: str | Path | None = None,
        flavour: FlavourName | None = None,
        preprocess: Literal["gpu", "cpu"] = "gpu",
        device: int = 0,
    ) -> None:
        """Raises UserError for a plan of another bundle, TensorRT or GPU, with the reason and the remedy."""
        super().__init__(Manifest.load(bundle))
        if preprocess not in ("gpu", "cpu"):
            raise UserError(f"preprocess is {preprocess!r}; choose gpu or cpu")
        self._engine: Engine | None = None
        self._crops: GpuCrops | None = None
        found = EnginePlan.find(self.manifest, Path(plan) if plan is not None else None)
        library = load_library(flavour or found.facts["flavour"])
        found.check_library(library)
        self._gpu = Gpu(device)
        try:
            with self._gpu:
                self._open(found, library, self._gpu, preprocess)
        except BaseException as error:
            drop_frames(error)
            with contextlib.suppress(Failure):  # the first thing that broke is what matters
                self._release()
            raise
        version = ".".join(library.version.split(".")[:2])
        name = "TensorRT for RTX" if library.name == "tensorrt-rtx" else "TensorRT"
        self.name = f"{name} {version}, {self._gpu.name} sm_{self._gpu.capability}, crops on {preprocess.upper()}"
        if not found.facts.get("checked", {}).get("passed"):
            log.warning("%s was not checked when it was built: run the self test before you use it", found.path)

    def _open(self, plan: EnginePlan, library: Library, gpu: Gpu, preprocess: str) -> None:
        plan.check_gpu(gpu.name, gpu.capability)
        kernel = KernelFile.find(self.manifest, gpu.capability) if preprocess == "gpu" else None
        self._engine = Engine(library, plan, self.manifest, gpu.stream, gpu.allocate)
        largest = self._engine.largest
        self._rows = gpu.host_array(rows_shape(self.manifest, largest), self.manifest.input.dtype)
        self._vectors = gpu.host_array((largest, self.manifest.output.size), np.float32)
        self._input, self._output = gpu.allocate(self._rows.nbytes), gpu.allocate(self._vectors.nbytes)
        gpu.upload(self._input, self._rows)  # a batch below the profile's minimum computes on rows nobody wrote
        self._engine.bind(self._input, self._output)
        if kernel is not None:
            self._crops = GpuCrops(gpu, kernel, largest, self._rows[0].nbytes, self._input)
        gpu.synchronise()

    def embed(self, crops: Pixels) -> Vectors:
        self._check_use()
        with self._gpu:
            return super().embed(crops)

    def embed_boxes(self, frames: Sequence[Pixels], boxes: Sequence[Boxes]) -> Vectors:
        self._check_use()
        with self._gpu:
            return super().embed_boxes(frames, boxes)

    def close(self) -> None:
        if not self._closed:
            self._check_use()  # another thread cannot free this one's context
        super().close()

    def _run(self, count: int) -> Vectors:
        self._gpu.upload(self._input, self._rows[:count])
        return self._infer(count)

    def _infer(self, count: int) -> Vectors:
        """The embeddings of the first rows of the input on the GPU."""
        assert self._engine is not None
        self._engine.run(count, self._rows.shape[1:])
        self._gpu.download(self._vectors[:count], self._output)
        self._gpu.synchronise()
        return self._vectors[:count]

    def _cutter(self) -> Cutter:
        return super()._cutter() if self._crops is None else _GpuCutter(self._crops, self._infer)

    def _release(self) -> None:
        """TensorRT's objects first, then kernel, memory, stream and context."""
        self._rows = self._vectors = np.empty((0, 0), np.float32)
        try:
            with self._gpu:
                if self._engine is not None:
                    self._engine.close()
                self._crops = self._engine = None
        finally:
            self._gpu.close()


class _GpuCutter(Cutter):
    """Cuts on the GPU; the rows never come to the host."""

    def __init__(self, crops: GpuCrops, infer: Callable[[int], Vectors]) -> None:
        self.show, self.cut, self.run = crops.show, crops.cut, infer  # type: ignore[assignment,method-assign]
