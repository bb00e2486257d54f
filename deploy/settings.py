"""Everything an operator can set for the camera process, with defaults and limits; a file or flags give values.

Whoever takes settings calls `pat.base.mapping.check_limits` first.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from pat.base.mapping import Within

Share = Annotated[float, Within(0, 1)]
Positive = Annotated[float, Within(above=0)]
FromZero = Annotated[float, Within(0)]
Count = Annotated[int, Within(1)]
Number = Annotated[int, Within(0)]


@dataclass(frozen=True)
class CameraSettings:
    """How the sources are read."""

    live: Literal["auto", "yes", "no"] = "auto"
    """Live sources drop the oldest frame when the process is behind; others wait for it."""
    loop: bool = False
    """Play files again and again."""
    pace: bool = False
    """Play files at their own rate, as a camera would."""
    rate: FromZero = 0.0
    """Frames per second taken from each source at most; 0 takes all."""
    stale_after: Positive = 5.0
    """Seconds without a frame until a live source is opened again."""
    give_up_after: FromZero = 0.0
    """Seconds without success until a source counts as failed; 0 tries for ever."""


@dataclass(frozen=True)
class RuntimeSettings:
    """What embeds the crops."""

    backend: Literal["chosen", "onnxruntime", "openvino", "tensorrt"] = "chosen"
    """"chosen": what `python -m deploy.runtime pick` found to be fastest here; ONNX Runtime before that."""
    providers: tuple[str, ...] = ("CPUExecutionProvider",)
    """ONNX Runtime's execution providers; one that does not load is an error."""
    threads: Number = 0
    """CPU threads of ONNX Runtime and OpenVINO; 0 leaves their number to them."""
    device: str = "CPU"
    """OpenVINO's device: CPU, GPU, NPU."""
    arithmetic: Literal["f32", "bf16", "f16"] = "f32"
    """In which type OpenVINO computes what the graph has in fp32."""
    preprocess: Literal["cpu", "gpu"] = "cpu"
    """Where crops are cut out and resized; "gpu" needs the TensorRT backend and a bundle with kernels."""
    max_batch: Count = 32
    """Crops embedded at once, over all cameras."""
    max_wait: FromZero = 0.01
    """Seconds that a crop waits for those of other cameras, so that they share a batch."""
    give_up_after: FromZero = 300.0
    """Seconds that the engine may be broken until the process ends (exit code 1), to be started afresh."""


@dataclass(frozen=True)
class DetectSettings:
    """What finds people in a frame."""

    detector: str = "rendered"
    """"rendered" is the one in the box, "hog" OpenCV's; or the path of an ONNX detector with its detector.json."""
    threshold: float | None = None
    """Least score of a detection; by default the detector's own."""
    full_look: FromZero = 3.0
    """Seconds between two looks at a whole image. In between people are looked for where something moves and where
    somebody was a moment ago; 0 looks at all of every image."""


@dataclass(frozen=True)
class TrackSettings:
    """How detections become tracks, and which of their views are embedded."""

    lost_seconds: Positive = 2.0
    """A track that was not seen for so long has ended."""
    every: Positive = 1.0
    """Seconds between two embeddings of a track; a clearly better view is embedded sooner."""
    least_quality: Share = 0.2
    """Views of lower quality (size, sharpness, truncation: 0 to 1) are not embedded."""
    decide_after: FromZero = 2.0
    """Seconds that a track is in view until it is looked up; fewer when it ends before."""


@dataclass(frozen=True)
class GallerySettings:
    """Where identities are kept, and when a track is one of them."""

    path: str = "gallery"
    """The folder of the gallery; several processes of one machine may share it."""
    threshold: str = ""
    """Least cosine to a known identity: a number, or the file that `pat gallery calibrate` wrote; by default what
    the bundle was given when it was made."""
    margin: Annotated[float, Within(0, 2)] = 0.05
    """By how much the best identity must be ahead of the second; else the track stays unknown, and nothing of it
    is learned."""
    remember: Literal["all", "known", "nothing"] = "all"
    """Tracks that the gallery takes up: all (a person never seen becomes a new identity), known people's, none."""
    retention_hours: float = 24.0
    """Entries older than this are deleted; people who were enrolled or named keep theirs."""


@dataclass(frozen=True)
class OutputSettings:
    """What the process leaves behind and shows."""

    events: str = "-"
    """File of events, one JSON object a line; "-" is standard output, "" writes none."""
    rotate_megabytes: Positive = 64.0
    """Size at which the events file is put aside as FILE.1, FILE.2, ..."""
    keep: Number = 8
    """Files put aside that are kept; 0 empties the file instead."""
    video: Path | None = None
    """Folder for an annotated video of each camera: it shows the people in the images, and is never deleted."""
    window: bool = False
    """Show the annotated images in a window."""
    metrics_port: int = 9464
    """Prometheus metrics on http://127.0.0.1:PORT/metrics; 0 serves none."""
    log: Literal["text", "json"] = "text"
    """Form of the log on standard error."""


@dataclass(frozen=True)
class ProcessSettings:
    """The camera process: sources -> detection -> tracks -> embeddings -> gallery -> events."""

    camera: CameraSettings = field(default_factory=CameraSettings)
    runtime: RuntimeSettings = field(default_factory=RuntimeSettings)
    detect: DetectSettings = field(default_factory=DetectSettings)
    track: TrackSettings = field(default_factory=TrackSettings)
    gallery: GallerySettings = field(default_factory=GallerySettings)
    output: OutputSettings = field(default_factory=OutputSettings)
