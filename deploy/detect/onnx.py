"""A people detector run by ONNX Runtime, with a manifest that says what its numbers mean."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime
from numpy.typing import NDArray

from deploy.detect.boxes import finite, in_frame, nobody, suppressed
from deploy.detect.families import FAMILIES
from deploy.detect.manifest import DetectorInput, DetectorManifest
from deploy.detect.together import Image, Outputs, Together
from deploy.frames import Boxes, Detections, Pixels
from deploy.runtime.onnxruntime import CPU, open_session
from pat.base.errors import Failure, UserError, one_line

log = logging.getLogger(__name__)

MOST_TOGETHER = 8
"""Images of cameras in one batch, where the graph takes batches."""
GREY = 114
"""What YOLOX is trained to see where a letterboxed image ends."""


class OnnxDetector:
    """The ONNX detector that a manifest describes; safe to use from the threads of all cameras.

    It answers a grey image when it is opened, so that a model that does not fit its manifest is refused then.
    Where the graph leaves the size of a batch open, images of several cameras are looked at together.
    """

    def __init__(
        self,
        manifest: DetectorManifest,
        *,
        threshold: float | None = None,
        providers: Sequence[str] = CPU,
        threads: int = 0,
    ) -> None:
        self.manifest = manifest if threshold is None else replace(manifest, threshold=threshold)
        self._file = manifest.model_file()
        self._session = open_session(self._file, providers, threads)
        self._decode = FAMILIES[manifest.family].decode
        self._check()
        self._outputs = Together(self._run, MOST_TOGETHER) if self._takes_batches() else self._run
        self.name = f"{manifest.family} {manifest.model}, scores from {self.manifest.threshold:g}"
        self.dropped = 0

    def detect(self, pixels: Pixels, regions: Boxes | None = None) -> Detections:
        """People in a frame u8 [H, W, 3] RGB: in all of it, whose size the graph fixes, unless there is no region.

        Raises Failure when the model breaks while it runs.
        """
        height, width = pixels.shape[:2]
        if min(height, width) < 1 or (regions is not None and not len(regions)):
            return nobody()
        image, scale = prepared(pixels, self.manifest.input)
        boxes, scores = self._decode(self._outputs(image), self.manifest)
        likely = ~(scores < self.manifest.threshold)  # NaN too, to be counted
        boxes, scores = boxes[likely] / scale, scores[likely]
        sound = finite(boxes, scores)
        if not sound.all():
            if not self.dropped:
                log.warning("detector %s gives boxes or scores that are not finite; they are left out", self.name)
            self.dropped += int((~sound).sum())
            boxes, scores = boxes[sound], scores[sound]
        if self.manifest.overlap < 1:
            kept = suppressed(boxes, scores, self.manifest.overlap)
            boxes, scores = boxes[kept], scores[kept]
        return in_frame(boxes, scores, height, width)

    def _run(self, images: Image) -> Outputs:
        """The outputs by role for images [n, 3, h, w]."""
        return answer(self._session, self._file, images, self.manifest.outputs)

    def _takes_batches(self) -> bool:
        """Whether the graph answers two images with two rows that are as if each had come alone."""
        if isinstance(self._session.get_inputs()[0].shape[0], int):
            return False
        one = grey(self.manifest.input.height, self.manifest.input.width)
        try:
            alone, both = self._run(one), self._run(np.concatenate((one, one)))
        except Failure:
            return False
        return all(
            len(both[role]) == 2
            and np.allclose(both[role], np.repeat(values, 2, axis=0), 1e-3, 1e-3, equal_nan=True)
            for role, values in alone.items()
        )

    def _check(self) -> None:
        """The graph takes and gives what the manifest says. Raises UserError."""
        file = self._file
        wanted = self.manifest.input
        feed = only_input(self._session, file)
        check_input(feed, (wanted.height, wanted.width), file)
        names = [each.name for each in self._session.get_outputs()]
        missing = [name for name in self.manifest.outputs.values() if name not in names]
        if feed.name != wanted.name or missing:
            raise UserError(
                f"{file} takes {feed.name} and gives {', '.join(names)}; {self.manifest.path.name} expects "
                f"{wanted.name} and {', '.join(self.manifest.outputs.values())}"
            )
        try:
            self._decode(self._run(grey(wanted.height, wanted.width)), self.manifest)
        except (UserError, Failure) as error:
            raise UserError(f"{file}: {error}") from error


def answer(
    opened: onnxruntime.InferenceSession, file: Path, image: Image, names: Mapping[str, str]
) -> dict[str, Any]:
    """The outputs by role for images [n, 3, h, w]. Raises Failure when the graph breaks."""
    try:
        found = opened.run(list(names.values()), {opened.get_inputs()[0].name: image})
    except Exception as error:  # ONNX Runtime's exceptions share no base of their own
        raise Failure(f"the detector {file} failed: {one_line(error)}") from error
    return dict(zip(names, found, strict=True))


def grey(height: int, width: int) -> Image:
    """An image [1, 3, h, w] that any model takes."""
    return np.full((1, 3, height, width), GREY, dtype=np.float32)


def only_input(opened: onnxruntime.InferenceSession, file: Path) -> Any:
    """The graph's only input. Raises UserError when there are more."""
    inputs = opened.get_inputs()
    if len(inputs) != 1:
        raise UserError(f"{file} has {len(inputs)} inputs, a detector has one image")
    return inputs[0]


def check_input(feed: Any, size: tuple[int, int], file: Path) -> None:
    """The input takes float32 [1, 3, *size]; dimensions without a number take any. Raises UserError."""
    wanted = (1, 3, *size)
    fits = len(feed.shape) == 4 and all(
        not isinstance(have, int) or have == want for have, want in zip(feed.shape, wanted, strict=True)
    )
    if feed.type != "tensor(float)" or not fits:
        raise UserError(
            f"{file} takes {feed.name} as {feed.type} {feed.shape}, expected tensor(float) {list(wanted)}"
        )


def prepared(pixels: Pixels, wanted: DetectorInput) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """A frame as the model's input [1, 3, h, w], and input pixels for each pixel of the frame, [4] like a box."""
    height, width = pixels.shape[:2]
    if wanted.resize == "letterbox":
        ratio = min(wanted.height / height, wanted.width / width)
        size = max(int(width * ratio), 1), max(int(height * ratio), 1)
        scale = np.full(4, ratio, dtype=np.float32)
    else:
        size = wanted.width, wanted.height
        scale = np.array([wanted.width / width, wanted.height / height] * 2, dtype=np.float32)
    canvas = np.full((wanted.height, wanted.width, 3), GREY, dtype=np.uint8)
    canvas[: size[1], : size[0]] = cv2.resize(np.ascontiguousarray(pixels), size, interpolation=cv2.INTER_LINEAR)
    planes = cv2.split(canvas)
    image = np.empty((1, 3, wanted.height, wanted.width), dtype=np.float32)
    mean, std = (np.array(each, dtype=np.float32) for each in (wanted.mean, wanted.std))
    for channel, plane in enumerate(reversed(planes) if wanted.colour == "BGR" else planes):
        np.multiply(plane, 1 / (wanted.divide_by * std[channel]), out=image[0, channel])
        image[0, channel] -= mean[channel] / std[channel]
    return image, scale
