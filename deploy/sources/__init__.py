"""Where images come from: files, folders, network streams, V4L2 devices, GStreamer pipelines.

PyAV, OpenCV and Pillow are imported when a source needs them.
"""

from __future__ import annotations

from deploy.sources.base import Source, SourceLost
from deploy.sources.names import SourceKind, kind_of, shown

__all__ = ["Source", "SourceLost", "open_source", "shown"]


def open_source(
    url: str,
    *,
    rate: float = 0.0,
    live: bool | None = None,
    timeout: float = 10.0,
    read_timeout: float | None = None,
) -> Source:
    """Opens a source of images.

    Args:
        url: a path of a video, of an image or of a folder of images; `file://`, `rtsp://`, `http://` and what
            else libav reads; `/dev/video0` or `v4l2:///dev/video0?size=1280x720&rate=30&format=mjpeg`;
            `gst: elements ! appsink`.
        rate: images per second that are wanted; those between are not converted to RGB. 0 for all.
        live: whether it goes on without end; None to go by the kind of source.
        timeout: seconds that each of the two steps of opening may take (connecting, learning the format).
        read_timeout: seconds without data after which a stream is lost; `timeout` where it is None.

    Raises:
        UserError: this can never work; says what to do.
        SourceLost: it does not work now, and may work later.
    """
    kind, target = kind_of(url)
    if kind is SourceKind.PIPELINE:
        from deploy.sources.gstreamer import Pipeline

        return Pipeline(target, rate=rate, live=live)
    if kind in (SourceKind.FOLDER, SourceKind.IMAGE):
        from deploy.sources.folder import Images

        return Images(target, rate=rate)
    from deploy.sources.video import open_device, open_file, open_network

    if kind is SourceKind.FILE:
        return open_file(target, rate=rate, live=live)
    waits = (timeout, timeout if read_timeout is None else read_timeout)
    opened = open_device if kind is SourceKind.DEVICE else open_network
    return opened(target, rate=rate, live=live, timeout=waits)
