"""What finds people in a frame: the ONNX model in the box, another one by path, or OpenCV's HOG detector."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from deploy.frames import Boxes, Detections, Pixels
from deploy.shipped import shipped_detector
from pat.base.errors import UserError

HOG, RENDERED = "hog", "rendered"


class Detector(Protocol):
    """Finds people; safe to use from the threads of all cameras."""

    def detect(self, pixels: Pixels, regions: Boxes | None = None) -> Detections:
        """People in a frame u8 [H, W, 3] RGB of any size, the surest first; boxes lie inside the frame.

        `regions` [n, 4] inside the frame say where to look: a detector that can leaves out the rest, and none
        looks anywhere when there is no region. They may overlap.
        """


def open_detector(
    what: str,
    *,
    threshold: float | None = None,
    providers: Sequence[str] = ("CPUExecutionProvider",),
    threads: int = 0,
) -> Detector:
    """The detector called "rendered" or "hog", or the ONNX model at a path: MODEL.onnx, or a folder with its
    detector.json.

    "rendered" is the model in the box, which learned from rendered people. "hog:1280" looks at frames resized to
    1280 columns: slower, and finds people farther away.
    `threshold` is the least score of a detection, 0 to 1; by default the detector's own. `providers` and
    `threads` are ONNX Runtime's; HOG takes the threads that OpenCV was given (cv2.setNumThreads).
    Raises UserError for a threshold outside 0 to 1, a model without a manifest, and one that is not what its
    manifest says.
    """
    if threshold is not None and not 0 < threshold < 1:
        raise UserError(f"the detector's threshold is {threshold}; it must lie between 0 and 1, ends excluded")
    name, _, width = what.partition(":")
    if name == HOG:
        if width and not (width.isascii() and width.isdecimal()):
            raise UserError(f'the HOG detector\'s width is {width!r}; it is "hog:" and a number, such as hog:1280')
        from deploy.detect.hog import HogDetector

        return HogDetector(threshold=threshold, **({"width": int(width)} if width else {}))
    from deploy.detect.manifest import DetectorManifest
    from deploy.detect.onnx import OnnxDetector

    manifest = DetectorManifest.load(shipped_detector() if what == RENDERED else what)
    return OnnxDetector(manifest, threshold=threshold, providers=providers, threads=threads)
