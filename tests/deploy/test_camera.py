"""The camera's own work: which frame comes next, its time, its states, and sources that hang or fail."""

from __future__ import annotations

import itertools
import logging
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from camera_images import take, until, write_video
from deploy.camera import MOST_STUCK, Camera
from deploy.clocks import Backoff, FrameClock, RecordedClock
from deploy.frames import Frame, Pixels
from deploy.sources import Source, SourceLost
from pat.base.errors import Failure, UserError

QUICK = {"retry": (0.001, 0.01), "stale_after": 0.4, "timeout": 0.4}


def frame_of(number: int, size: int = 16) -> Pixels:
    return np.full((size, size, 3), number % 256, dtype=np.uint8)


class Scripted(Source):
    """A source whose images come from a generator."""

    def __init__(self, images: Callable[[], Iterator[Pixels]], *, live: bool = True) -> None:
        super().__init__("scripted", live=live)
        self._images = images
        self.closed = False

    def __iter__(self) -> Iterator[tuple[Pixels, float]]:
        for count, pixels in enumerate(self._images()):
            if self.stopping:
                return
            self.heard = time.monotonic()
            yield pixels, count / 10
        if self.live:
            raise SourceLost("the script ended")

    def close(self) -> None:
        self.closed = True


def opens(*sources: Callable[[], Source]) -> Callable[..., Source]:
    """An `open` that makes one source after the other, the last for ever."""
    turns = itertools.chain(sources, itertools.repeat(sources[-1]))
    return lambda url, **options: next(turns)()


def endless(interval: float = 0.002) -> Iterator[Pixels]:
    for number in itertools.count():
        yield frame_of(number)
        time.sleep(interval)


def raises(error: Exception) -> Callable[[], Source]:
    def make() -> Source:
        raise error

    return make


def everything(camera: Camera) -> list[Frame]:
    frames = []
    while not camera.ended:
        if (frame := camera.get(30.0)) is not None:
            frames.append(frame)
    return frames


@pytest.fixture
def video(tmp_path: Path) -> str:
    """Thirty images, 25 per second."""
    images = [frame_of(20 + 6 * number, 64) for number in range(30)]
    return str(write_video(tmp_path / "a.mp4", images))


def test_a_file_gives_every_frame_at_its_time(video: str) -> None:
    with Camera("door", video) as camera:
        frames = everything(camera)
        status = camera.status()
    assert [frame.index for frame in frames] == list(range(30))
    assert {frame.camera for frame in frames} == {"door"}
    np.testing.assert_allclose([frame.time - frames[0].time for frame in frames], np.arange(30) / 25, atol=1e-3)
    np.testing.assert_allclose([frame.pixels.mean() for frame in frames], 20 + 6 * np.arange(30), atol=3)
    assert (status.state, status.frames, status.dropped, status.broken, status.error) == ("ended", 30, 0, 0, "")
    assert status.last_frame == frames[-1].time
    assert not camera.live


def test_a_file_begins_now_when_nothing_else_is_said(video: str) -> None:
    before = time.time()
    with Camera("door", video) as camera:
        (frame,) = take(camera, 1)
    assert before <= frame.time <= time.time()


def test_frames_of_a_file_are_not_lost_by_a_slow_consumer(video: str) -> None:
    with Camera("door", video) as camera:
        frames = []
        while not camera.ended:
            time.sleep(0.01)
            if (frame := camera.get(30.0)) is not None:
                frames.append(frame.index)
    assert frames == list(range(30))


def test_a_loop_goes_on_in_time(video: str) -> None:
    with Camera("door", video, loop=True) as camera:
        frames = take(camera, 100)
        assert camera.state == "live"
        assert camera.status().reconnects == 0
    assert [frame.index for frame in frames] == list(range(100))
    np.testing.assert_allclose([frame.time - frames[0].time for frame in frames], np.arange(100) / 25, atol=1e-2)


def test_a_paced_file_plays_at_its_rate_and_drops_frames(video: str) -> None:
    begin = time.monotonic()
    with Camera("door", video, pace=True) as camera:
        until(lambda: camera.state == "ended")
        assert time.monotonic() - begin >= 29 / 25 - 0.1
        (frame,) = everything(camera)
    assert frame.index == 29
    assert camera.status().dropped == 29


def test_fewer_frames_a_second(video: str) -> None:
    with Camera("door", video, rate=5.0) as camera:
        frames = everything(camera)
    assert [frame.index for frame in frames] == list(range(len(frames)))
    assert 5 <= len(frames) <= 7


def test_a_live_camera_gives_the_newest_frame_and_counts_the_others() -> None:
    read, over = threading.Event(), threading.Event()

    def images() -> Iterator[Pixels]:
        yield from map(frame_of, range(50))
        read.set()
        over.wait()

    with Camera("door", "x", open=opens(lambda: Scripted(images)), stale_after=60.0) as camera:
        assert read.wait(30)
        (frame,) = take(camera, 1)
        assert frame.index == 49
        assert frame.pixels[0, 0, 0] == 49
        assert camera.get(0.01) is None
        assert camera.status().dropped == 49
        assert camera.status().frames == 50
        assert camera.live
        over.set()


@pytest.mark.parametrize("live", [True, False])
def test_memory_is_bounded_when_nobody_takes_frames(live: bool) -> None:
    made: list[weakref.ref[Pixels]] = []

    def images() -> Iterator[Pixels]:
        for number in range(500):
            pixels = frame_of(number, 64)
            made.append(weakref.ref(pixels))
            yield pixels

    with Camera("door", "x", open=opens(lambda: Scripted(images, live=live))) as camera:
        until(lambda: camera.status().frames == (500 if live else 4))
        until(lambda: len(made) == (500 if live else 5))  # of a recording one more waits to be let in
        assert sum(each() is not None for each in made) <= 6
        if not live:
            time.sleep(0.1)
            assert len(made) == 5


def test_a_lost_source_comes_back_and_counting_goes_on() -> None:
    made: list[Scripted] = []

    def short() -> Source:
        made.append(Scripted(lambda: itertools.islice(endless(), 5)))
        return made[-1]

    with Camera("door", "x", open=opens(short), **QUICK) as camera:
        frames = []
        while len(frames) < 30:
            frames += take(camera, 1)
        until(lambda: camera.status().reconnects >= 5)
    indices = [frame.index for frame in frames]
    assert indices == sorted(set(indices))
    assert indices[-1] >= 25
    until(lambda: all(source.closed for source in made))


def test_a_hopeless_source_fails_with_its_reason_and_leaves_others_alone(video: str) -> None:
    with Camera("none", "/no/such.mp4") as broken, Camera("door", video) as camera:
        assert broken.get(30.0) is None
        assert broken.state == "failed"
        assert "no such file" in broken.status().error
        assert not broken.ended
        assert len(everything(camera)) == 30


def test_a_damaged_recording_fails_in_the_end() -> None:
    def images() -> Iterator[Pixels]:
        yield frame_of(1)
        raise Failure("damaged from here on")

    with Camera("door", "x", open=opens(lambda: Scripted(images, live=False))) as camera:
        take(camera, 1)
        assert camera.get(30.0) is None
        assert (camera.state, camera.status().error) == ("failed", "damaged from here on")


@pytest.mark.parametrize("loop", [True, False])
def test_a_recording_without_images_fails(loop: bool) -> None:
    with Camera("door", "x", loop=loop, open=opens(lambda: Scripted(lambda: iter(()), live=False))) as camera:
        assert camera.get(30.0) is None
        assert camera.state == "failed"


@pytest.mark.parametrize("error", [UserError("no such device"), RuntimeError("driver")])
def test_a_live_source_that_worked_once_is_never_given_up(error: Exception) -> None:
    """A device that is unplugged cannot be opened, and may be plugged in again."""

    def first() -> Source:
        return Scripted(lambda: itertools.islice(endless(), 3))

    with Camera("usb", "x", open=opens(first, *[raises(error)] * 5, lambda: Scripted(endless)), **QUICK) as camera:
        until(lambda: camera.status().reconnects == 1)
        take(camera, 3)
        assert camera.state == "live"


def test_giving_up() -> None:
    with Camera("door", "x", open=opens(raises(SourceLost("refused"))), give_up_after=0.2, **QUICK) as camera:
        assert camera.get(30.0) is None
        assert (camera.state, camera.status().error) == ("failed", "refused")


def test_reads_that_hang_are_replaced_and_bounded() -> None:
    release = threading.Event()
    made: list[Scripted] = []

    def hanging() -> Source:
        def images() -> Iterator[Pixels]:
            yield frame_of(0)
            release.wait()
            yield frame_of(1)

        made.append(Scripted(images))
        return made[-1]

    camera = Camera("hangs", "x", open=opens(hanging), **(QUICK | {"stale_after": 0.05})).start()
    until(lambda: len(made) == MOST_STUCK)
    until(lambda: camera.state == "stale")
    readers = [thread for thread in threading.enumerate() if thread.name == "reader of hangs"]
    assert len(readers) == MOST_STUCK
    time.sleep(0.2)  # long enough for several tries, were there no bound
    assert len(made) == MOST_STUCK
    begin = time.monotonic()
    camera.stop()
    assert time.monotonic() - begin < 10  # it has two seconds; the rest is for a busy machine
    frames = camera.status().frames
    release.set()
    until(lambda: not any(thread.is_alive() for thread in readers))
    assert all(source.closed for source in made)
    assert camera.status().frames == frames  # what came too late was refused


def test_opening_that_hangs_is_given_up() -> None:
    release = threading.Event()

    def hanging() -> Source:
        release.wait()
        return Scripted(endless)

    with Camera("door", "x", open=opens(hanging, lambda: Scripted(endless)), **QUICK) as camera:
        take(camera, 3)
        assert camera.state == "live"
    release.set()


def test_time_limits_reach_the_source() -> None:
    told: dict[str, object] = {}

    def open(url: str, **options: object) -> Source:
        told.update(options, url=url)
        return Scripted(endless)

    with Camera("door", "rtsp://host", live=True, rate=3.0, stale_after=2.0, timeout=7.0, open=open) as camera:
        take(camera, 1)
    assert told == {"url": "rtsp://host", "live": True, "rate": 3.0, "timeout": 7.0, "read_timeout": 2.0}


def test_a_source_that_skips_images_is_fresh() -> None:
    """Wanted are fewer images than one in `stale_after`."""

    class Skipping(Scripted):
        def __iter__(self) -> Iterator[tuple[Pixels, float]]:
            yield frame_of(0), 0.0
            begin = time.monotonic()
            while time.monotonic() - begin < 1.0 and not self.stopping:
                self.heard = time.monotonic()
                time.sleep(0.01)
            yield frame_of(1), 1.0

    states = set()
    with Camera("door", "x", open=opens(lambda: Skipping(endless)), **QUICK) as camera:
        take(camera, 1)
        while (status := camera.status()).frames < 2:
            states.add(status.state)
        assert states == {"live"}


def test_the_wall_clock_may_jump() -> None:
    offset = [0.0]
    jumps = itertools.cycle([0.0, 3600.0, -3600.0, -86400.0, 50.0])

    def images() -> Iterator[Pixels]:
        for pixels in endless():
            offset[0] = next(jumps)
            yield pixels

    open = opens(lambda: Scripted(images))
    with Camera("door", "x", open=open, wall=lambda: time.time() + offset[0], **QUICK) as camera:
        frames = take(camera, 50)
        assert camera.state == "live"
    times = [frame.time for frame in frames]
    assert times == sorted(times)


def test_after_a_step_back_the_clock_runs_at_half_speed_until_it_is_right() -> None:
    now = {"wall": 1000.0, "monotonic": 0.0}

    def after(seconds: float, step: float = 0.0) -> float:
        now["wall"] += seconds + step
        now["monotonic"] += seconds
        return clock.now()

    clock = FrameClock(lambda: now["wall"], lambda: now["monotonic"])
    assert after(10) == 1010
    assert after(1, step=-20) == 1010.5
    assert after(10) == 1015.5
    assert after(10) == 1020.5
    assert after(29) == now["wall"] == 1040
    assert after(1, step=500) == now["wall"] == 1541


def test_the_time_of_a_recording_goes_on_in_each_pass() -> None:
    clock = RecordedClock(100.0)
    assert [clock.at(seconds) for seconds in (0.0, 0.5, 1.0)] == [100.0, 100.5, 101.0]
    clock.again()
    assert [clock.at(seconds) for seconds in (0.0, 0.5)] == [101.5, 102.0]
    clock = RecordedClock(0.0)  # of one image
    clock.at(0.0)
    clock.again()
    assert clock.at(0.0) > 0


def test_waits_grow_within_their_bounds_and_differ() -> None:
    backoff = Backoff(0.5, 30.0)
    rounds = []
    for _ in range(200):
        rounds.append([backoff.next() for _ in range(12)])
        backoff.reset()
    waits = np.array(rounds)  # [rounds, tries]
    assert waits.min() >= 0.5
    assert waits.max() <= 30
    assert waits[:, 0].max() <= 1
    assert waits[:, -1].mean() > 5 * waits[:, 0].mean()
    assert waits[:, -1].std() > 5
    assert all(0.5 <= backoff.next() <= 30 for _ in range(3000))


def test_names_and_passwords_in_what_is_shown(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG), Camera("a\x1b[2J\nb", "rtsp://me:secret@127.0.0.1:9/", **QUICK) as camera:
        until(lambda: camera.status().error)
        status = camera.status()
    assert status.name == "a?[2J?b"
    assert "secret" not in repr(status) + caplog.text
    assert "\x1b" not in caplog.text
