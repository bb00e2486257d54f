"""Annotated images: boxes where they belong, any name, a video that plays after a kill."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import ImageGrab

from deploy.annotate import Label, VideoFile, View, draw, printable
from deploy.frames import Frame
from deploy.window import Window
from pat.base.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
GREY = np.full((120, 200, 3), 90, dtype=np.uint8)


def label(box, identity="anna", track=1):
    return Label(np.array(box, dtype=np.float32), track, identity, 0.87)


def test_a_box_is_drawn_where_it_is():
    image = draw(GREY, [label([50, 40, 90, 100])])
    changed = np.nonzero((image != GREY).any(2))
    assert changed[0].max() in (99, 100)
    assert abs(int(changed[1].min()) - 50) <= 1
    assert (image[60:90, 60:80] == GREY[60:90, 60:80]).all()
    assert (GREY == 90).all()


@pytest.mark.parametrize(
    "box",
    [[-50, -50, 500, 500], [10, 10, 10, 50], [90, 90, 20, 20], [np.nan, 0, 10, 10], [199, 119, 200, 120]],
)
def test_no_box_is_a_problem(box):
    assert draw(GREY, [label(box)]).shape == GREY.shape


@pytest.mark.parametrize("name", ["Zoë", "王小明", "a\nb\x1b[31m", "x" * 300, ""])
def test_no_name_is_a_problem(name):
    assert draw(GREY, [label([20, 60, 60, 110], name)]).shape == GREY.shape
    assert all(each.isprintable() for each in printable(name))


def write(path, sizes):
    video = VideoFile(path)
    for number, (height, width) in enumerate(sizes):
        image = np.full((height, width, 3), 10 * number, dtype=np.uint8)
        video.put(Frame("gate", number, 100 + number / 10, image), image)
    video.close()


def test_a_video_keeps_time_and_survives_another_size(tmp_path):
    path = tmp_path / "out" / "gate.mp4"
    write(path, [(121, 161)] * 10 + [(60, 90)] * 10)
    with av.open(str(path)) as container:
        frames = [(frame.time, frame.width, frame.height) for frame in container.decode(video=0)]
    assert [size for _, *size in frames] == [[160, 120]] * 20
    np.testing.assert_allclose([time for time, *_ in frames], np.arange(20) / 10, atol=0.002)


def test_a_restart_keeps_the_video_that_is_there(tmp_path):
    path = tmp_path / "gate.mp4"
    for _ in range(3):
        write(path, [(64, 64)] * 3)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["gate-2.mp4", "gate-3.mp4", "gate.mp4"]


def test_nothing_that_is_in_the_folder_is_written_over(tmp_path):
    """Not another's file, nor where a link leads, nor what another process began before the first image came."""
    path = tmp_path / "gate.mp4"
    path.write_text("mine")
    (tmp_path / "gate-2.mp4").symlink_to(tmp_path / "elsewhere")
    waiting = VideoFile(path)
    write(path, [(64, 64)] * 3)
    begun = (tmp_path / "gate-3.mp4").read_bytes()
    waiting.put(Frame("gate", 0, 0.0, GREY), GREY)
    waiting.close()
    assert path.read_text() == "mine"
    assert (tmp_path / "gate-3.mp4").read_bytes() == begun
    assert len(list(tmp_path.iterdir())) == 4


def test_a_camera_that_gave_no_image_leaves_no_video(tmp_path):
    VideoFile(tmp_path / "gate.mp4").close()
    assert not list(tmp_path.iterdir())


def test_a_killed_writer_leaves_a_video_that_plays(tmp_path):
    code = """
import sys, time, numpy as np
from pathlib import Path
from deploy.annotate import VideoFile
from deploy.frames import Frame
video, rng = VideoFile(Path(sys.argv[1])), np.random.default_rng(0)
for number in range(200):
    image = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    video.put(Frame("gate", number, number / 10, image), image)
print("written", flush=True)
time.sleep(60)
"""
    path = tmp_path / "gate.mp4"
    child = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, cwd=ROOT)
    assert child.stdout is not None
    child.stdout.readline()
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    child.stdout.close()
    shown = 0
    with av.open(str(path)) as container, contextlib.suppress(av.error.InvalidDataError):
        for _ in container.decode(video=0):
            shown += 1
    assert shown >= 100


def test_a_video_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file, which is a file; give a folder"):
        VideoFile(tmp_path / "file" / "gate.mp4")
    with pytest.raises(UserError, match=r"gate\.mp4: Not a directory"):
        VideoFile(tmp_path / "file" / "folder" / "gate.mp4")


def test_a_sink_that_fails_is_left_out(caplog):
    class Full:
        def put(self, frame, image):
            raise OSError("No space left on device")

        def close(self): ...

    class Kept(Full):
        images = 0

        def put(self, frame, image):
            self.images += 1

    kept = Kept()
    view = View([Full(), kept])
    for _ in range(2):
        view.show(Frame("gate", 0, 0.0, GREY), [])
    assert kept.images == 2
    assert caplog.text.count("No space left") == 1


def test_no_display_is_said(monkeypatch):
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    with pytest.raises(UserError, match="no display"):
        Window()


@pytest.mark.skipif(shutil.which("Xvfb") is None, reason="Xvfb is not installed")
def test_a_window_shows_the_images(monkeypatch):
    """With PyAV loaded, which this test file does: in one process with it OpenCV's window hangs."""
    read, write = os.pipe()
    # Without -noreset the server starts over, refusing who comes, whenever a screenshot was its only client.
    command = ["Xvfb", "-displayfd", str(write), "-noreset", "-screen", "0", "640x480x24"]
    server = subprocess.Popen(command, pass_fds=[write], stderr=subprocess.DEVNULL)
    os.close(write)
    try:
        with open(read) as numbers:
            display = f":{numbers.readline().strip()}"
        monkeypatch.setenv("DISPLAY", display)
        red = np.zeros((240, 320, 3), dtype=np.uint8)
        red[..., 0] = 255
        with Window() as window:
            deadline = time.monotonic() + 30
            shown = 0
            while shown < 60_000 and time.monotonic() < deadline:
                assert not window.closed
                window.put(Frame("gate", 0, 0.0, red), red)
                time.sleep(0.1)
                screen = np.asarray(ImageGrab.grab(xdisplay=display))
                shown = int((screen[..., :3] == [255, 0, 0]).all(2).sum())
            assert shown >= 60_000
        assert window.closed
    finally:
        server.kill()
        server.wait()
