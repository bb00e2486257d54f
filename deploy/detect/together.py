"""What several threads ask of one model at the same time, answered in one batch."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.float32]
Outputs = Mapping[str, NDArray[Any]]


class Together:
    """Calls `run` with images [n, 3, h, w], n up to `most`; safe to call from any thread.

    Nobody waits for company: whoever finds the model free takes along what came while it was busy. Outputs have a
    row for each image. Where a batch fails each of its images is tried alone, so that one cannot spoil the others.
    """

    def __init__(self, run: Callable[[Image], Outputs], most: int) -> None:
        self._run, self._most = run, most
        self._asked = threading.Lock()  # of the list
        self._running = threading.Lock()  # of the model
        self._waiting: list[tuple[Image, Future[Outputs]]] = []

    def __call__(self, image: Image) -> Outputs:
        """The outputs, one row each, for an image [1, 3, h, w]. Raises Failure when the model breaks."""
        answer: Future[Outputs] = Future()
        with self._asked:
            self._waiting.append((image, answer))
        with self._running:
            while not answer.done():
                with self._asked:
                    batch = self._waiting[: self._most]
                    del self._waiting[: self._most]
                self._serve(batch)
        return answer.result()

    def _serve(self, batch: list[tuple[Image, Future[Outputs]]]) -> None:
        try:
            found = self._run(np.concatenate([image for image, _ in batch]))
        except Exception as error:  # whatever a driver or a library raises, nobody may wait for ever
            if len(batch) == 1:
                batch[0][1].set_exception(error)
                return
            for each in batch:
                self._serve([each])
            return
        for row, (_, answer) in enumerate(batch):
            answer.set_result({role: values[row : row + 1] for role, values in found.items()})
