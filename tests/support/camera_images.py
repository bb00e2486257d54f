"""Videos that tests write, and what they wait for and take from cameras."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path

import av
import numpy as np

from deploy.camera import Camera
from deploy.frames import Frame


def write_video(
    path: Path,
    images: Iterable[np.ndarray],
    *,
    codec: str = "libx264",
    pixels: str = "yuv420p",
    rate: int = 25,
    form: str | None = None,
    movflags: str = "",
    options: dict[str, str] | None = None,
) -> Path:
    """Encodes images uint8 [H, W, 3] of one size; `options` are the encoder's."""
    with av.open(str(path), "w", format=form, options={"movflags": movflags} if movflags else {}) as container:
        stream = container.add_stream(codec, rate=rate, options=options)
        for number, image in enumerate(images):
            if not number:
                (stream.height, stream.width), stream.pix_fmt = image.shape[:2], pixels
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    return path


def until(holds: Callable[[], object], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.002)


def take(camera: Camera, count: int) -> list[Frame]:
    frames = [camera.get(30.0) for _ in range(count)]
    assert all(frame is not None for frame in frames), camera.status()
    return [frame for frame in frames if frame is not None]
