"""Video files, network streams and V4L2 devices, read by PyAV (libav)."""

from __future__ import annotations

import errno
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import av
import numpy as np
from av.codec.context import Flags
from av.container import InputContainer
from av.error import (
    ArgumentError,
    ExitError,
    FFmpegError,
    HTTPForbiddenError,
    HTTPUnauthorizedError,
    InvalidDataError,
    ProtocolNotFoundError,
)

from deploy.frames import Pixels
from deploy.sources.base import Source, SourceLost
from deploy.sources.names import shown
from deploy.sources.timing import StreamClock, Thinner
from pat.base.errors import Failure, UserError

PATIENCE = 250
"""Packets in a row that may be broken (10 s at 25 per second) before the source counts as lost."""

LIVE_OPTIONS = {
    "analyzeduration": "2000000",  # microseconds; the default of 5 s makes every reconnect slow
    "rtsp_transport": "tcp",  # UDP loses packets under load, and what is missing looks like a person melting
}
DEVICE_OPTIONS = {"size": "video_size", "rate": "framerate", "format": "input_format"}
"""Words of a v4l2 URL and libav's names for them."""


class Video(Source):
    """The best video stream of an opened container."""

    def __init__(self, container: InputContainer, name: str, *, live: bool, rate: float) -> None:
        super().__init__(name, live=live)
        self._container = container
        stream = container.streams.best("video")
        if stream is None and live and not container.streams:
            raise SourceLost(f"{name}: nothing came that could be told to be an image")
        if stream is None:
            raise UserError(f"{name}: has no image in it, only {_kinds(container)}; choose the video stream")
        if stream.codec_context is None:
            raise UserError(f"{name}: PyAV has no decoder for its video; use H.264, H.265 or MJPEG")
        self._stream = stream
        self._thinner = Thinner(rate)
        self._clock = StreamClock(float(stream.average_rate or 0))
        # Threads over frames are fastest, but hold back as many images as there are threads.
        stream.codec_context.thread_type = "SLICE" if live else "AUTO"
        if live:
            stream.codec_context.flags |= Flags.low_delay
        # Every image by itself: one that is not wanted need not even be decoded.
        self._skips_packets = live and stream.codec_context.codec.intra_only
        self._broken_in_row = 0

    def __iter__(self) -> Iterator[tuple[Pixels, float]]:
        start = time.monotonic()
        for packet in self._packets():
            self.heard = time.monotonic()
            if self._skips_packets and packet.size and not self._thinner.keeps(self.heard - start):
                continue
            for frame in self._decoded(packet):
                self.heard = time.monotonic()
                seconds = self.heard - start if self.live else self._clock.seconds(frame.time)
                if not self._skips_packets and not self._thinner.keeps(seconds):
                    continue
                yield as_rgb(frame), seconds
        if self.live and not self.stopping:
            raise SourceLost(f"{self.name}: the stream ended")

    def _packets(self) -> Iterator[av.Packet]:
        """Video packets, then an empty one that flushes the decoder."""
        while not self.stopping:
            try:
                # Of all streams, so that `stop` is seen when sound goes on and the image does not.
                for packet in self._container.demux():
                    if self.stopping:
                        return
                    if packet.stream_index == self._stream.index:
                        yield packet
                return
            except InvalidDataError:
                self._count_broken()  # and read on behind it
            except FFmpegError as error:
                raise self._lost(error) from None

    def _decoded(self, packet: av.Packet) -> list[av.VideoFrame]:
        try:
            frames = [frame for frame in packet.decode() if isinstance(frame, av.VideoFrame)]
        except FFmpegError:
            self._count_broken()
            return []
        sound = [frame for frame in frames if not frame.is_corrupt]
        self.broken += len(frames) - len(sound)
        if sound:
            self._broken_in_row = 0
        return sound

    def _count_broken(self) -> None:
        self.broken += 1
        self._broken_in_row += 1
        if self._broken_in_row >= PATIENCE:
            text = f"{self.name}: {PATIENCE} packets in a row cannot be decoded"
            raise SourceLost(text) if self.live else Failure(f"{text}; the file is damaged from here on")

    def _lost(self, error: FFmpegError) -> Failure:
        what = error.strerror
        if isinstance(error, ExitError):
            what = "no data came in time"
        elif error.errno == errno.EIO and self.live:  # so some demuxers report the end
            what = "the connection was closed"
        return (SourceLost if self.live else Failure)(f"{self.name}: reading stopped: {what}")

    def close(self) -> None:
        self._container.close()


def as_rgb(frame: av.VideoFrame) -> Pixels:
    """[H, W, 3], turned upright where the recording says how it was held."""
    pixels = frame.to_ndarray(format="rgb24")
    quarter_turns = round(frame.rotation / 90) % 4  # counter-clockwise, as in rot90
    return np.ascontiguousarray(np.rot90(pixels, quarter_turns) if quarter_turns else pixels, dtype=np.uint8)


def open_file(path: str, *, rate: float, live: bool | None) -> Source:
    name = shown(path)
    try:
        container = av.open(path, metadata_errors="replace")
    except InvalidDataError:
        raise UserError(f"{name}: is no video that can be read; is it complete, and of that kind?") from None
    except FFmpegError as error:
        raise UserError(f"{name}: cannot be opened as a video: {error.strerror}") from None
    return _wrapped(container, name, live=bool(live), rate=rate)


def open_network(url: str, *, rate: float, live: bool | None, timeout: tuple[float, float]) -> Source:
    name = shown(url)
    _check_url(url, name)
    begin = time.monotonic()
    try:
        container = av.open(url, metadata_errors="replace", timeout=timeout, options=LIVE_OPTIONS)
    except FFmpegError as error:
        raise _unopened(name, error, late=time.monotonic() - begin >= timeout[0]) from None
    if live is None:
        # A recording behind a web server tells its length, a stream does not; rtsp is for cameras.
        live = url.lower().startswith("rtsp") or container.duration is None
    return _wrapped(container, name, live=live, rate=rate)


def _check_url(url: str, name: str) -> None:
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018  raises where it is no number
    except ValueError:  # its text may hold a piece of the password
        raise UserError(f"{name}: is not a URL; in a password write @ : / ? # as %40 %3A %2F %3F %23") from None
    if not parts.netloc:
        raise UserError(f"{name}: the URL names no host; write rtsp://host:port/path")


def _unopened(name: str, error: FFmpegError, *, late: bool) -> UserError | SourceLost:
    if isinstance(error, (HTTPUnauthorizedError, HTTPForbiddenError)):
        # Cameras answer so while they boot, too: it is tried again, and said meanwhile.
        return SourceLost(f"{name}: the server refuses user or password; correct them in the URL (%40 for an @)")
    if isinstance(error, ProtocolNotFoundError):
        known = "rtsp, http, https, udp, rtp, tcp, v4l2, gst or a path"
        return UserError(f"{name}: PyAV knows no such kind of source; use {known}")
    if isinstance(error, ArgumentError):
        return UserError(f"{name}: libav does not understand this URL; check host, port and options")
    if isinstance(error, ExitError) or late:  # interrupted demuxers return errors of all kinds
        return SourceLost(f"{name}: no answer in time; is the camera on, and this its address?")
    if isinstance(error, InvalidDataError):
        return SourceLost(f"{name}: what comes is no video that can be read; is this the path of the stream?")
    return SourceLost(f"{name}: cannot be opened now: {error.strerror}")


def open_device(url: str, *, rate: float, live: bool | None, timeout: tuple[float, float]) -> Source:
    name = shown(url)
    parts = urlsplit(url)
    options = {}
    for word, value in parse_qsl(parts.query):
        if word not in DEVICE_OPTIONS:
            raise UserError(f"{name}: unknown option {shown(word)!r}; there are {', '.join(DEVICE_OPTIONS)}")
        options[DEVICE_OPTIONS[word]] = value
    path = Path(parts.path)
    try:
        container = av.open(str(path), format="v4l2", timeout=timeout, options=options)
    except FileNotFoundError:
        raise UserError(f"{name}: no such device; `v4l2-ctl --list-devices` lists those that are") from None
    except PermissionError:
        raise UserError(f"{name}: permission denied; add the user of this process to the group video") from None
    except ArgumentError:
        raise UserError(f"{name}: has no such size, rate or format; see `v4l2-ctl --list-formats-ext`") from None
    except FFmpegError as error:
        if error.errno == errno.ENOTTY:
            raise UserError(f"{name}: is no camera; `v4l2-ctl --list-devices` lists those that are") from None
        # In use by another process, or being plugged in.
        raise SourceLost(f"{name}: cannot be opened now: {error.strerror}") from None
    return _wrapped(container, name, live=True if live is None else live, rate=rate)


def _wrapped(container: InputContainer, name: str, *, live: bool, rate: float) -> Source:
    try:
        return Video(container, name, live=live, rate=rate)
    except BaseException:
        container.close()
        raise


def _kinds(container: InputContainer) -> str:
    return " and ".join(sorted({stream.type for stream in container.streams})) or "an empty stream"
