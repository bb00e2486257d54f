"""What a person watching the process wants to know: what happened since the last look."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from deploy.camera import Camera
from deploy.metrics import STAGES, Metrics


@dataclass(frozen=True)
class CameraRate:
    """One camera since the last look."""

    name: str
    state: str
    frames_per_second: float
    frames: int
    dropped: int
    people: int
    error: str


@dataclass(frozen=True)
class Rates:
    """The process since the last look."""

    cameras: Sequence[CameraRate]
    milliseconds: dict[str, float]
    """Mean time of each stage that ran, for one frame (embed: one batch)."""
    crops_per_second: float
    crops_per_batch: float
    gallery: int

    def line(self) -> str:
        """All of it in one line for a log."""
        cameras = ", ".join(
            f"{each.name} {each.state} {each.frames_per_second:.1f} frames/s {each.people} people"
            + (f" {each.dropped} dropped" if each.dropped else "")
            for each in self.cameras
        )
        return "; ".join(part for part in (cameras, self.work()) if part)

    def work(self) -> str:
        """The part that all cameras share, in a line."""
        stages = ", ".join(f"{stage} {value:.1f} ms" for stage, value in self.milliseconds.items())
        crops = f"{self.crops_per_second:.1f} crops/s in batches of {self.crops_per_batch:.1f}"
        return "; ".join(part for part in (stages, crops, f"gallery {self.gallery}") if part)


class Watch:
    """Differences of the metrics between two looks."""

    def __init__(self, metrics: Metrics, cameras: Sequence[Camera]) -> None:
        self._metrics, self._cameras = metrics, cameras
        self._before = self._counts()

    def look(self) -> Rates:
        """The rates since the last call."""
        before, self._before = self._before, self._counts()
        now = self._before
        seconds = max(1e-6, now["time"] - before["time"])

        def since(key: str) -> float:
            return now[key] - before[key]

        milliseconds = {}
        for stage in STAGES:
            if passes := since(f"{stage} passes"):
                milliseconds[stage] = 1e3 * since(f"{stage} seconds") / passes
        batches = since("batches")
        return Rates(
            cameras=[self._camera(camera, since(f"frames {camera.name}") / seconds) for camera in self._cameras],
            milliseconds=milliseconds,
            crops_per_second=since("crops") / seconds,
            crops_per_batch=since("crops") / batches if batches else 0.0,
            gallery=int(self._metrics.value("pat_gallery_entries")),
        )

    def _camera(self, camera: Camera, frames_per_second: float) -> CameraRate:
        status, value = camera.status(), self._metrics.value
        frames = int(value("pat_frames_total", camera=camera.name))
        people = int(value("pat_people", camera=camera.name))
        return CameraRate(
            camera.name, status.state, frames_per_second, frames, status.dropped, people, status.error
        )

    def _counts(self) -> dict[str, float]:
        value = self._metrics.value
        counts = {
            "time": time.monotonic(),
            "crops": value("pat_batch_crops_sum"),
            "batches": value("pat_batch_crops_count"),
        }
        for camera in self._cameras:
            counts[f"frames {camera.name}"] = value("pat_frames_total", camera=camera.name)
        for stage, (seconds, passes) in self._metrics.stage_totals().items():
            counts[f"{stage} seconds"], counts[f"{stage} passes"] = seconds, passes
        return counts
