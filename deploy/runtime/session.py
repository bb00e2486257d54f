"""What an opened model does whatever runs it: batches, checks of what goes in and comes out, the self test."""

from __future__ import annotations

import threading
from abc import abstractmethod
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from deploy.closing import Closing
from deploy.frames import Boxes, Pixels
from deploy.runtime.crops import Rows, checked_boxes, checked_crops, rows_shape, write_boxes, write_crops
from export.check_set import Agreement, compare, gate_of, read_check_set, thresholds_of
from export.manifest import Manifest
from export.precisions import Gate
from pat.base.errors import Failure, UserError

Vectors = NDArray[np.float32]
"""[n, D], unit length."""


class NotFinite(Failure):
    """A model gave numbers that are none. `vectors` [n, D] are all those of the call: other rows may be good."""

    def __init__(self, message: str, vectors: Vectors) -> None:
        super().__init__(message)
        self.vectors = vectors


class Runtime(Closing):
    """An opened model. Backends allocate the largest batch once, as `_rows`, and run its first rows in `_run`."""

    name: str
    _rows: Rows
    """The graph's input for the largest batch, in this process's memory."""

    def __init__(self, manifest: Manifest) -> None:
        self.manifest = manifest
        self._closed = False
        self._thread = threading.get_ident()

    @abstractmethod
    def _run(self, count: int) -> Vectors:
        """The embeddings [count, D] of the first rows of `_rows`; valid until the next call."""

    @abstractmethod
    def _release(self) -> None:
        """Free everything, also what is only half there."""

    def _hold(self, batch_size: int) -> None:
        """Allocate `_rows` for so many crops. Raises UserError for none."""
        if batch_size < 1:
            raise UserError(f"batch_size is {batch_size}; it must be at least 1")
        self._rows = np.zeros(rows_shape(self.manifest, batch_size), dtype=self.manifest.input.dtype)

    def _cutter(self) -> Cutter:
        return Cutter(self)

    def embed(self, crops: Pixels) -> Vectors:
        """Crops uint8 [N, h, w, 3] RGB of any one size -> float32 [N, D], unit length.

        Raises ValueError for what is no batch of crops, Failure when the model breaks, NotFinite when it
        gives numbers that are none.
        """
        self._check_use()
        crops = checked_crops(crops)
        vectors = np.empty((len(crops), self.manifest.output.size), dtype=np.float32)
        for begin in range(0, len(crops), len(self._rows)):
            part = crops[begin : begin + len(self._rows)]
            write_crops(part, self._rows[: len(part)], self.manifest)
            vectors[begin : begin + len(part)] = self._run(len(part))
        return self._finite(vectors)

    def embed_boxes(self, frames: Sequence[Pixels], boxes: Sequence[Boxes]) -> Vectors:
        """Boxes float32 [n_i, 4] of frames uint8 [H, W, 3] RGB -> float32 [sum of n_i, D], frame by frame.

        Frames may differ in size and share batches. Boxes lie inside their frame (`deploy.frames.clipped`).
        Raises ValueError for those that do not or have no area, Failure as `embed`.
        """
        self._check_use()
        boxes = checked_boxes(frames, boxes)
        vectors = np.empty((sum(map(len, boxes)), self.manifest.output.size), dtype=np.float32)
        cutter, done, filled = self._cutter(), 0, 0
        for frame, wanted in zip(frames, boxes, strict=True):
            if len(wanted):
                cutter.show(frame)
            begin = 0
            while begin < len(wanted):
                part = wanted[begin : begin + len(self._rows) - filled]
                cutter.cut(part, filled)
                begin += len(part)
                filled += len(part)
                if filled == len(self._rows):
                    vectors[done : done + filled] = cutter.run(filled)
                    done, filled = done + filled, 0
        if filled:
            vectors[done:] = cutter.run(filled)
        return self._finite(vectors)

    def gate(self) -> Gate:
        """What the embeddings must reach on the check set."""
        return gate_of(self.manifest)

    def agreement(self) -> Agreement:
        """How close the embeddings of the check set, by the camera's own path, come to those of the PyTorch model.

        Raises UserError when the set cannot be read.
        """
        images, expected = read_check_set(self.manifest)
        whole = np.array([[0, 0, self.manifest.input.width, self.manifest.input.height]], dtype=np.float32)
        found = self.embed_boxes(list(images), [whole] * len(images))
        return compare(expected, found, thresholds_of(self.manifest))

    def self_test(self) -> float:
        """The worst cosine to the PyTorch model on the check set that the bundle brings.

        Raises Failure when it misses the gate of the bundle, UserError when the set cannot be read.
        """
        found = self.agreement()
        missed = found.misses(self.gate())
        if missed:
            raise Failure(
                f"{self.name} fails the self test on the {len(found.cosines)} images that {self.manifest.folder} "
                f"brings: {missed}; see export/README.md"
            )
        return found.worst

    def close(self) -> None:
        """Free everything; once more does nothing."""
        if not self._closed:
            self._closed = True
            self._release()
            self._rows = self._rows[:0]

    def _check_use(self) -> None:
        if self._closed:
            raise ValueError("the session is closed")
        if threading.get_ident() != self._thread:
            raise ValueError("the session belongs to the thread that opened it; open one in this thread")

    def _finite(self, vectors: Vectors) -> Vectors:
        bad = ~np.isfinite(vectors).all(axis=1)
        if bad.any():
            raise NotFinite(
                f"{self.name}: the embedding of crop {int(np.argmax(bad))} of {len(vectors)} is not finite "
                "(NaN or infinity); run the self test, and build or export the model again when it fails",
                vectors,
            )
        return vectors


class Cutter:
    """Cuts boxes out of frames into the rows of a batch, and runs the batch; this one does so by Pillow."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def show(self, frame: Pixels) -> None:
        """The frame [H, W, 3] that the next boxes are in."""
        self._frame = frame

    def cut(self, boxes: Boxes, row: int) -> None:
        """Put boxes [n, 4] of the frame into rows `row` to `row + n` of the batch."""
        write_boxes(self._frame, boxes, self._runtime._rows[row : row + len(boxes)], self._runtime.manifest)

    def run(self, count: int) -> Vectors:
        """The embeddings [count, D] of the first rows; valid until the next call."""
        return self._runtime._run(count)
