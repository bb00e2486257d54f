"""Sources on disk: videos of every kind, folders of images, and what is damaged or missing."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

import camera_images
from deploy.sources import open_source, shown
from deploy.sources.folder import natural
from deploy.sources.gstreamer import as_rgb, has_gstreamer
from deploy.sources.names import SourceKind, kind_of
from deploy.sources.timing import StreamClock, Thinner
from pat.base.errors import Failure, UserError

STEP = 6  # of brightness from one frame to the next


def image(number: int, size: tuple[int, int] = (96, 64)) -> np.ndarray:
    """uint8 [H, W, 3]: the number as brightness, a bright square that moves over it."""
    width, height = size
    pixels = np.full((height, width, 3), 20 + STEP * number, dtype=np.uint8)
    left = number * 4 % (width - 16)
    pixels[-16:, left : left + 16] = 250
    return pixels


def number_of(pixels: np.ndarray) -> int:
    """Which `image` this was, after lossy coding."""
    return round((float(pixels[: pixels.shape[0] // 2].mean()) - 20) / STEP)


def write_video(
    path: Path,
    *,
    frames: int = 30,
    codec: str = "libx264",
    pixels: str = "yuv420p",
    rate: int = 25,
    **options: str,
) -> Path:
    """A video of `image`s; `options` are the encoder's."""
    images = map(image, range(frames))
    return camera_images.write_video(path, images, codec=codec, pixels=pixels, rate=rate, options=options)


def read(url: Any, **options: Any) -> tuple[list[int], list[float]]:
    """Numbers of the frames that came, and their seconds."""
    with open_source(str(url), **options) as source:
        frames = [(number_of(pixels), seconds) for pixels, seconds in source]
    return [number for number, _ in frames], [seconds for _, seconds in frames]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.mp4", {}),
        ("b.mkv", {"bf": "2"}),  # images are stored out of order
        ("ten-bit.mkv", {"pixels": "yuv420p10le"}),
        ("interlaced.ts", {"flags": "+ildct+ilme"}),
        ("a.avi", {"codec": "mpeg4", "qmax": "2"}),
        ("full-range.avi", {"codec": "mjpeg", "pixels": "yuvj420p"}),
        ("lossless.mkv", {"codec": "ffv1", "pixels": "bgr0"}),
        ("a name with spaces, ünïcode and 100%.mp4", {}),
    ],
)
def test_a_video_gives_all_its_images_in_order(tmp_path: Path, name: str, options: dict[str, str]) -> None:
    path = write_video(tmp_path / name, **options)  # type: ignore[arg-type]
    with open_source(str(path)) as source:
        frames = list(source)
        assert not source.live
        assert source.broken == 0
    assert [number_of(pixels) for pixels, _ in frames] == list(range(30))
    np.testing.assert_allclose([seconds for _, seconds in frames], np.arange(30) / 25, atol=2e-3)
    for number, (pixels, _) in enumerate(frames):
        assert pixels.shape == (64, 96, 3)
        assert pixels.dtype == np.uint8
        assert pixels.flags.c_contiguous
        assert np.abs(pixels.astype(int) - image(number)).mean() < 4


def test_grey_video_becomes_rgb(tmp_path: Path) -> None:
    path = write_video(tmp_path / "grey.mkv", codec="ffv1", pixels="gray")
    with open_source(str(path)) as source:
        pixels, _ = next(iter(source))
    assert pixels.shape == (64, 96, 3)
    assert (pixels == pixels[:, :, :1]).all()


def test_a_title_in_any_encoding_is_no_hindrance(tmp_path: Path) -> None:
    path = tmp_path / "street.mp4"
    with av.open(str(path), "w", metadata_encoding="latin-1") as container:
        container.metadata["title"] = "Straße"
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for each in map(image, range(3)):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(each, format="rgb24")))
        container.mux(stream.encode())
    assert read(path)[0] == [0, 1, 2]


def test_a_file_url(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a b.mp4", frames=5)
    assert read(path.as_uri())[0] == list(range(5))


@pytest.mark.parametrize("rate", [1.0, 5.0, 10.0, 12.5, 24.0])
def test_fewer_frames_at_even_distances(tmp_path: Path, rate: float) -> None:
    path = write_video(tmp_path / "a.mp4", frames=35, rate=25)
    with open_source(str(path), rate=rate) as source:
        seconds = [seconds for _, seconds in source]
    assert len(seconds) == pytest.approx(35 / 25 * rate, abs=1)
    assert np.abs(seconds - np.arange(len(seconds)) / rate).max() <= 1 / 25 + 1e-3


def test_more_frames_than_there_are_gives_what_there_is(tmp_path: Path) -> None:
    assert read(write_video(tmp_path / "a.mp4"), rate=100.0)[0] == list(range(30))


def test_a_video_held_upright_is_turned(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", frames=3)
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 4 + 20 + 16  # the track's matrix, row by row in 16.16 fixed point
    turned = np.array([0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30], dtype=">i4")
    data[at : at + 36] = turned.tobytes()
    path.write_bytes(data)
    with open_source(str(path)) as source:
        pixels, _ = next(iter(source))
    assert pixels.shape == (96, 64, 3)
    assert pixels.flags.c_contiguous
    # What was the lower edge is at the left: clockwise by a quarter.
    np.testing.assert_allclose(pixels[:, :16].mean(), np.rot90(image(0), -1)[:, :16].mean(), atol=6)


def test_flipped_bytes_cost_images_and_nothing_else(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.avi", frames=35, codec="mjpeg", pixels="yuvj420p")
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    for at in range(middle, middle + len(data) // 10):
        data[at] ^= 0xA5
    path.write_bytes(data)
    with open_source(str(path)) as source:
        numbers = [number_of(pixels) for pixels, _ in source]
        assert source.broken > 0
    # Which images lie in the middle depends on the encoder's threads, and so on the cores.
    assert numbers == sorted(set(numbers))
    assert numbers[:5] == list(range(5))
    assert numbers[-5:] == list(range(30, 35))
    assert 15 < len(numbers) < 35


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_a_cut_recording_gives_what_is_left(tmp_path: Path, share: float) -> None:
    path = write_video(tmp_path / "a.ts", frames=30)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    numbers, _ = read(path)
    assert 0 < len(numbers) <= 30
    assert numbers[:5] == list(range(5))


def test_damage_without_end_is_a_failure_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "a.avi"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuvj420p"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(image(0), format="rgb24")))
        for time in range(1, 400):
            packet = av.Packet(b"\xff\xd8 no image in here")
            packet.stream, packet.pts, packet.dts, packet.time_base = stream, time, time, stream.time_base
            container.mux(packet)
    with open_source(str(path)) as source:
        frames = iter(source)
        next(frames)
        with pytest.raises(Failure, match="250 packets in a row cannot be decoded; the file is damaged"):
            next(frames)
        assert source.broken == 250


def test_a_folder_in_natural_order(tmp_path: Path) -> None:
    for number in (0, 1, 2, 9, 10, 11):
        Image.fromarray(image(number)).save(tmp_path / f"frame{number}.png")
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / ".frame3.png").write_text("hidden")
    (tmp_path / "frame4.jpg").write_bytes(b"damaged")
    (tmp_path / "0.png").mkdir()
    os.mkfifo(tmp_path / "pipe.png")
    with open_source(str(tmp_path)) as source:
        frames = list(source)
        assert source.broken == 3  # the damaged one, and a folder and a pipe that are called like images
    assert [number_of(pixels) for pixels, _ in frames] == [0, 1, 2, 9, 10, 11]
    np.testing.assert_allclose([seconds for _, seconds in frames], np.array([1, 2, 3, 5, 6, 7]) / 25)
    assert read(tmp_path, rate=12.5)[0] == [1, 10]


def test_images_of_every_mode_are_rgb(tmp_path: Path) -> None:
    colour = Image.fromarray(image(10))
    colour.convert("L").save(tmp_path / "1-grey.png")
    colour.convert("RGBA").save(tmp_path / "2-alpha.png")
    colour.convert("P").save(tmp_path / "3-palette.png")
    colour.convert("CMYK").save(tmp_path / "4-print.jpg")
    Image.fromarray(np.asarray(colour.convert("L")).astype(np.uint16) << 8).save(tmp_path / "5-sixteen.png")
    sideways = Image.Exif()
    sideways[0x0112] = 6
    colour.save(tmp_path / "6-turned.jpg", exif=sideways)
    with open_source(str(tmp_path)) as source:
        frames = [pixels for pixels, _ in source]
    assert [frame.shape for frame in frames] == [(64, 96, 3)] * 5 + [(96, 64, 3)]
    for frame in frames[:5]:
        assert number_of(frame) == pytest.approx(10, abs=1)
        assert frame.flags.c_contiguous


def test_one_image(tmp_path: Path) -> None:
    Image.fromarray(image(7)).save(tmp_path / "one.JPG")
    assert read(tmp_path / "one.JPG") == ([7], [0.0])


def test_only_damaged_images_is_a_failure(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n rubbish")
    with open_source(str(tmp_path)) as source, pytest.raises(Failure, match="none of 1 images"):
        list(source)


def test_stop_ends_the_iteration(tmp_path: Path) -> None:
    with open_source(str(write_video(tmp_path / "a.mp4"))) as source:
        count = 0
        for _ in source:
            count += 1
            source.stop()
    assert count < 30


def text(folder: Path) -> Path:
    (folder / "text.mp4").write_text("this is no video\n" * 100)
    return folder / "text.mp4"


def empty(folder: Path) -> Path:
    (folder / "empty.mp4").touch()
    return folder / "empty.mp4"


def sound(folder: Path) -> Path:
    with av.open(str(folder / "sound.wav"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.int16), format="s16", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
    return folder / "sound.wav"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (lambda folder: folder / "none.mp4", "no such file or folder"),
        (lambda folder: folder, "has no images; wanted are .bmp"),
        (text, "is no video that can be read"),
        (empty, "is no video that can be read"),
        (sound, "has no image in it, only audio"),
        (lambda folder: "", "has no source"),
        (lambda folder: "a\0b", "NUL"),
        (lambda folder: "foo://host/x", "no such kind of source; use rtsp"),
        (lambda folder: "rtsp:///x", "names no host"),
        (lambda folder: "http://[::1/x", "is not a URL"),
        (lambda folder: "/dev/video977", "no such device"),
        (lambda folder: "v4l2:///dev/null", "is no camera; `v4l2-ctl"),
        (lambda folder: "v4l2:///dev/video0?zoom=3", "unknown option 'zoom'; there are size, rate, format"),
        (lambda folder: "gst: videotestsrc", "must end in"),
    ],
)
def test_what_can_never_work_is_told_in_one_line(
    tmp_path: Path, source: Callable[[Path], object], message: str
) -> None:
    with pytest.raises(UserError, match=message) as caught:
        open_source(str(source(tmp_path)))
    assert "\n" not in str(caught.value)


@contextmanager
def as_nobody() -> Iterator[None]:
    """root may read everything."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)


def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", frames=1)
    path.chmod(0)
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    with as_nobody(), pytest.raises(UserError, match=r"permission denied"):
        open_source(str(path))


@pytest.mark.skipif(has_gstreamer(), reason="this OpenCV has GStreamer")
def test_without_gstreamer_the_remedy_is_named() -> None:
    with pytest.raises(UserError, match=r"no GStreamer .* JetPack's python3-opencv") as caught:
        open_source("gst: rtspsrc location=rtsp://me:mine@host/x user-pw=mine ! decodebin ! appsink")
    assert "mine" not in str(caught.value)


@pytest.mark.skipif(not has_gstreamer(), reason="needs an OpenCV with GStreamer")
def test_a_gstreamer_pipeline() -> None:
    pipeline = "videotestsrc num-buffers=5 pattern=red ! videoconvert ! video/x-raw,format=BGR ! appsink"
    with open_source(f"gst: {pipeline}", live=False) as source:
        frames = [pixels for pixels, _ in source]
    assert len(frames) == 5
    assert frames[0][0, 0].tolist() == pytest.approx([255, 0, 0], abs=2)


def test_what_an_appsink_gives_becomes_rgb() -> None:
    red = np.zeros((4, 6, 3), np.uint8)
    red[:, :, 2] = 200  # BGR
    assert as_rgb(red)[0, 0].tolist() == [200, 0, 0]
    assert as_rgb(np.dstack([red, red[:, :, :1]]))[0, 0].tolist() == [200, 0, 0]
    assert as_rgb(np.full((4, 6), 9, np.uint8)).shape == (4, 6, 3)


@pytest.mark.parametrize(
    ("url", "wanted"),
    [
        ("rtsp://me:secret@host:554/stream", "rtsp://***@host:554/stream"),
        ("rtsp://me:se@cr/e?t@host/stream", "rtsp://***@host/stream"),
        ("http://host/mjpg?user=me&password=secret#x", "http://host/mjpg?user=***&password=***"),
        ("rtsp://host/user=me&password=secret&channel=1.sdp", "rtsp://host/user=***&password=***&channel=***"),
        ("gst:rtspsrc location=rtsp://me:secret@host/x user-id=me user-pw=secret ! appsink",
         "gst:rtspsrc location=rtsp://***@host/x user-id=*** user-pw=*** ! appsink"),
        ("v4l2:///dev/video0?size=640x480", "v4l2:///dev/video0?size=640x480"),
        ("/videos/a@b.mp4", "/videos/a@b.mp4"),
        ("a\x1b[31m\nb", "a?[31m?b"),
    ],
)  # fmt: skip
def test_what_is_shown_of_a_url(url: str, wanted: str) -> None:
    assert shown(url) == wanted


def test_kinds(tmp_path: Path) -> None:
    (tmp_path / "a.PNG").touch()
    (tmp_path / "a.mp4").touch()
    wanted = {
        str(tmp_path): SourceKind.FOLDER,
        f"{tmp_path}/a.PNG": SourceKind.IMAGE,
        f"{tmp_path}/a.mp4": SourceKind.FILE,
        "rtsp://host/x": SourceKind.NETWORK,
        "/dev/video0": SourceKind.DEVICE,
        "gst: a ! appsink": SourceKind.PIPELINE,
    }
    assert {url: kind_of(url)[0] for url in wanted} == wanted


def test_a_named_pipe_does_not_block_the_check(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match="is a pipe or socket"):
        kind_of(str(tmp_path / "pipe"))


def test_natural_order() -> None:
    names = ["frame10.png", "frame9.png", "a.png", "10.png", "9.png", "Frame1.png"]
    assert sorted(names, key=natural) == ["9.png", "10.png", "a.png", "Frame1.png", "frame9.png", "frame10.png"]


def test_the_stream_clock_never_steps_back() -> None:
    clock = StreamClock(10)
    stamps = [50.0, 50.1, None, 50.3, 50.3, 3.0, 3.1, 90000.0, 90000.1, -5.0]
    seconds = [clock.seconds(stamp) for stamp in stamps]
    np.testing.assert_allclose(seconds, [0, 0.1, 0.2, 0.3, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8])


def test_the_thinner_bears_jitter_and_gaps() -> None:
    random = np.random.default_rng(0)
    thinner = Thinner(10)
    kept = sum(thinner.keeps(time) for time in np.arange(1000) / 10 + random.uniform(-0.01, 0.01, 1000))
    assert kept == 1000
    thinner = Thinner(5)
    kept_of_six = [thinner.keeps(time) for time in (0, 0.1, 0.2, 60.0, 60.1, 60.2)]
    assert kept_of_six == [True, False, True, True, False, True]
