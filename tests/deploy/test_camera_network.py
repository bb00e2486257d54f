"""Cameras over real connections: MJPEG and MPEG-TS by HTTP, H.264 by RTSP, from servers that fail on command."""

from __future__ import annotations

import io
import itertools
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, suppress
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import psutil
import pytest
from PIL import Image

from camera_images import take, until, write_video
from deploy.camera import Camera
from deploy.sources import SourceLost, open_source

LEVELS = 40  # brightness tells an image's number up to here
PERIOD = 0.02  # seconds between the images that a server sends
QUICK = {"retry": (0.01, 0.05), "stale_after": 0.6, "timeout": 2.0}


def image(number: int, size: tuple[int, int] = (96, 64)) -> np.ndarray:
    return np.full((size[1], size[0], 3), 20 + 5 * (number % LEVELS), dtype=np.uint8)


def number_of(pixels: np.ndarray) -> int:
    return round((float(pixels.mean()) - 20) / 5)


def jpeg(number: int, size: tuple[int, int] = (96, 64)) -> bytes:
    data = io.BytesIO()
    Image.fromarray(image(number, size)).save(data, "JPEG")
    return data.getvalue()


def h264() -> list[bytes]:
    """LEVELS images, each with its start codes; every tenth can be decoded without those before it."""
    codec = av.CodecContext.create("libx264", "w")
    codec.width, codec.height, codec.pix_fmt, codec.time_base = 96, 64, "yuv420p", Fraction(1, 25)
    codec.options = {"tune": "zerolatency", "g": "10", "preset": "ultrafast"}
    frames = [av.VideoFrame.from_ndarray(image(number), format="rgb24") for number in range(LEVELS)]
    return [bytes(packet) for frame in [*frames, None] for packet in codec.encode(frame)]


class Server:
    """A port of this machine; each connection is served by `talk` in a thread.

    `stop` closes the port and all connections, `start` opens the same port again.
    """

    def __init__(self, talk: Callable[[Server, socket.socket], None]) -> None:
        self.talk = talk
        self.port = 0
        self.served = 0
        self.start()

    def start(self) -> None:
        self.stopping = threading.Event()
        self.connections: list[socket.socket] = []
        self.listener = socket.create_server(("127.0.0.1", self.port))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, args=(self.listener,), daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            self.connections.append(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        self.served += 1
        with connection, suppress(OSError):  # the other side may leave
            self.talk(self, connection)

    def stop(self) -> None:
        self.stopping.set()
        for each in (self.listener, *self.connections):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)  # wakes the thread that waits in it
            each.close()

    close = stop


def request(connection: socket.socket) -> bytes:
    data = b""
    while not data.endswith(b"\r\n\r\n"):
        more = connection.recv(4096)
        if not more:
            raise ConnectionResetError
        data += more
    return data


def http(kind: str, chunks: Callable[[], Iterable[bytes]]) -> Callable[[Server, socket.socket], None]:
    """Sends one chunk every PERIOD until it is stopped or out of chunks."""

    def talk(server: Server, connection: socket.socket) -> None:
        request(connection)
        connection.sendall(f"HTTP/1.0 200 OK\r\nContent-Type: {kind}\r\n\r\n".encode())
        for chunk in chunks():
            connection.sendall(chunk)
            if server.stopping.wait(PERIOD):
                return

    return talk


def multipart(images: Callable[[], Iterable[bytes]]) -> Callable[[Server, socket.socket], None]:
    def parts() -> Iterator[bytes]:
        for data in images():
            yield b"--cut\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n%s\r\n" % (len(data), data)

    return http("multipart/x-mixed-replace; boundary=cut", parts)


mjpeg = multipart(lambda: map(jpeg, itertools.count()))


def silent(server: Server, connection: socket.socket) -> None:
    server.stopping.wait()


def stalling(after: int) -> Callable[[Server, socket.socket], None]:
    """Falls silent after some images, and keeps the connection."""

    def talk(server: Server, connection: socket.socket) -> None:
        multipart(lambda: map(jpeg, range(after)))(server, connection)
        server.stopping.wait()

    return talk


class Rtsp:
    """H.264 in RTP, interleaved in the RTSP connection (RFC 2326 section 10.12, RFC 6184), as cameras send it."""

    SDP = (
        "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=test\r\nt=0 0\r\nm=video 0 RTP/AVP 96\r\n"
        "a=rtpmap:96 H264/90000\r\na=fmtp:96 packetization-mode=1\r\na=control:track\r\n"
    )

    def __init__(self, *, refuse: str = "", damage: bool = False) -> None:
        self.refuse, self.damage = refuse, damage
        self.images = h264()

    def __call__(self, server: Server, connection: socket.socket) -> None:
        while True:
            method, *_ = (lines := request(connection).decode().split("\r\n"))[0].split()
            fields = dict(line.split(": ", 1) for line in lines[1:] if ": " in line)
            self._answer(connection, method, fields)
            if method == "PLAY":
                return self._play(server, connection)

    def _answer(self, connection: socket.socket, method: str, fields: dict[str, str]) -> None:
        extra = {
            "OPTIONS": "Public: DESCRIBE, SETUP, PLAY\r\n",
            "DESCRIBE": f"Content-Type: application/sdp\r\nContent-Length: {len(self.SDP)}\r\n",
            "SETUP": f"Transport: {fields.get('Transport', '')}\r\nSession: 1\r\n",
        }.get(method, "Session: 1\r\n")
        status = self.refuse if self.refuse and method == "DESCRIBE" else "200 OK"
        if self.refuse:
            extra = ""
        body = self.SDP if method == "DESCRIBE" and not self.refuse else ""
        connection.sendall(f"RTSP/1.0 {status}\r\nCSeq: {fields['CSeq']}\r\n{extra}\r\n{body}".encode())

    def _play(self, server: Server, connection: socket.socket) -> None:
        sequence = itertools.count()
        for number in itertools.count():
            units = self.images[number % LEVELS].replace(b"\0\0\0\1", b"\0\0\1").split(b"\0\0\1")[1:]
            for unit in units:
                if self.damage and number % 5 == 3:
                    unit = unit[:3] + bytes(255 - byte for byte in unit[3:])
                for payload, last in fragments(unit):
                    mark = 0x80 if last and unit is units[-1] else 0
                    header = struct.pack(">BBHII", 0x80, 96 | mark, next(sequence) & 0xFFFF, number * 3600, 7)
                    packet = header + payload
                    connection.sendall(struct.pack(">cBH", b"$", 0, len(packet)) + packet)
            if server.stopping.wait(PERIOD):
                return


def fragments(unit: bytes, size: int = 400) -> Iterator[tuple[bytes, bool]]:
    """RTP payloads of one NAL unit (whole, or as FU-A), and whether each is the last."""
    if len(unit) <= size:
        yield unit, True
        return
    for at in range(1, len(unit), size):
        last = at + size >= len(unit)
        head = bytes([unit[0] & 0xE0 | 28, unit[0] & 0x1F | (0x80 if at == 1 else 0) | (0x40 if last else 0)])
        yield head + unit[at : at + size], last


def transport_stream(path: Path) -> Callable[[], Iterator[bytes]]:
    """The images of `h264` in MPEG-TS, over and over; time stamps jump back at each seam."""
    images, options = map(image, range(LEVELS)), {"tune": "zerolatency", "g": "10"}
    data = write_video(path, images, form="mpegts", options=options).read_bytes()
    return lambda: (data[at : at + 1316] for at in itertools.cycle(range(0, len(data), 1316)))


@pytest.fixture(params=["mjpeg", "mpegts", "rtsp"])
def stream(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Server, str]]:
    """A server of each kind, and its URL with a password."""
    talk = {
        "mjpeg": lambda: mjpeg,
        "mpegts": lambda: http("video/mp2t", transport_stream(tmp_path / "a.ts")),
        "rtsp": Rtsp,
    }[request.param]()
    scheme = "rtsp" if request.param == "rtsp" else "http"
    with closing(Server(talk)) as server:
        yield server, f"{scheme}://me:secret@127.0.0.1:{server.port}/stream?token=secret"


def test_a_stream_is_stopped_and_restarted(stream: tuple[Server, str]) -> None:
    server, url = stream
    with Camera("gate", url, **QUICK) as camera:
        before = take(camera, 10)
        assert camera.state == "live"
        server.stop()
        until(lambda: camera.state == "stale")
        status = camera.status()
        assert status.error
        assert "secret" not in repr(status)
        server.start()
        until(lambda: camera.status().reconnects)
        after = take(camera, 10)
        assert camera.state == "live"
        assert camera.status().error == ""
    frames = before + after
    numbers = [number_of(frame.pixels) for frame in frames]
    assert all(0 <= number < LEVELS for number in numbers)
    assert len(set(numbers)) > 5  # it moves
    indices = [frame.index for frame in frames]
    assert indices == sorted(set(indices))
    assert [frame.time for frame in frames] == sorted(frame.time for frame in frames)
    assert abs(frames[-1].time - time.time()) < 30
    assert frames[0].pixels.shape == (64, 96, 3)


def test_images_of_a_stream_keep_their_order(stream: tuple[Server, str]) -> None:
    _, url = stream
    with open_source(url) as source:
        assert source.live
        numbers = [number_of(pixels) for pixels, _ in itertools.islice(source, 30)]
    steps = {(after - before) % LEVELS for before, after in itertools.pairwise(numbers)}
    assert steps == {1}


def test_a_thinned_stream(stream: tuple[Server, str]) -> None:
    _, url = stream
    with open_source(url, rate=10.0) as source:
        seconds = [seconds for _, seconds in itertools.islice(source, 8)]
    # Late images may follow one another closely; none is kept before its turn, by more than a quarter of a period.
    assert all(now - seconds[0] > (turn - 0.25) / 10.0 - 1e-9 for turn, now in enumerate(seconds))


def test_a_silent_server_costs_the_time_limit_only() -> None:
    with closing(Server(silent)) as server, pytest.raises(SourceLost, match="no answer in time"):
        open_source(f"http://127.0.0.1:{server.port}/", timeout=0.3)
    with closing(Server(silent)) as server, pytest.raises(SourceLost, match="no answer in time"):
        open_source(f"rtsp://127.0.0.1:{server.port}/", timeout=0.3)


def test_a_camera_at_a_silent_server_goes_on_connecting_and_stops_at_once() -> None:
    with closing(Server(silent)) as server:
        camera = Camera("dumb", f"rtsp://127.0.0.1:{server.port}/", **(QUICK | {"timeout": 0.2})).start()
        until(lambda: server.served >= 3)
        assert camera.get(0.01) is None
        assert camera.state == "connecting"
        assert "no answer in time" in camera.status().error
        camera.stop()
        assert camera.state == "ended"


def test_stopping_does_not_wait_for_a_connection() -> None:
    with closing(Server(silent)) as server:
        camera = Camera("dumb", f"rtsp://127.0.0.1:{server.port}/", timeout=60.0).start()
        until(lambda: server.served)
        begin = time.monotonic()
        camera.stop()
        assert time.monotonic() - begin < 10  # it has two seconds; the rest is for a busy machine
        assert camera.state == "ended"


def test_a_stream_that_stalls_is_stale_and_connected_again() -> None:
    with (
        closing(Server(stalling(after=5))) as server,
        Camera("stalls", f"http://127.0.0.1:{server.port}/", **QUICK) as camera,
    ):
        take(camera, 1)
        until(lambda: camera.state == "stale")
        assert camera.status().last_frame is not None
        server.talk = mjpeg
        until(lambda: camera.status().reconnects == 1)
        until(lambda: camera.state == "live")
        take(camera, 20)
        assert camera.status().reconnects == 1


def test_a_stream_that_ends_is_lost() -> None:
    with (
        closing(Server(multipart(lambda: map(jpeg, range(4))))) as server,
        open_source(f"http://127.0.0.1:{server.port}/") as source,
        pytest.raises(SourceLost, match=r"ended|closed"),
    ):
        list(source)


def test_images_may_change_their_size() -> None:
    sizes = [(96, 64), (96, 64), (64, 96), (160, 120), (32, 32)]
    images = multipart(lambda: (jpeg(number, size) for number, size in enumerate(itertools.cycle(sizes))))
    with closing(Server(images)) as server, open_source(f"http://127.0.0.1:{server.port}/") as source:
        frames = [pixels for pixels, _ in itertools.islice(source, 20)]
    shapes = [(frame.shape[1], frame.shape[0]) for frame in frames]
    at = sizes.index(shapes[2]) - 2 if shapes[2] != (96, 64) else 0
    assert shapes == list(itertools.islice(itertools.cycle(sizes), at, at + 20))
    assert all(frame.flags.c_contiguous for frame in frames)


def test_damaged_images_in_a_stream_are_counted() -> None:
    def images() -> Iterator[bytes]:
        for number in itertools.count():
            yield b"\xff\xd8 no image" if number % 3 == 2 else jpeg(number)

    with closing(Server(multipart(images))) as server, open_source(f"http://127.0.0.1:{server.port}/") as source:
        assert len(list(itertools.islice(source, 12))) == 12
        assert source.broken >= 4


def test_damaged_packets_of_rtsp_do_not_end_it() -> None:
    with closing(Server(Rtsp(damage=True))) as server, open_source(f"rtsp://127.0.0.1:{server.port}/") as source:
        assert len(list(itertools.islice(source, 60))) == 60


@pytest.mark.parametrize("scheme", ["rtsp", "http"])
def test_a_wrong_password_is_said(scheme: str) -> None:
    def talk(server: Server, connection: socket.socket) -> None:
        request(connection)
        connection.sendall(b"HTTP/1.0 401 Unauthorized\r\nWWW-Authenticate: Basic realm=x\r\n\r\n")

    with closing(Server(Rtsp(refuse="401 Unauthorized") if scheme == "rtsp" else talk)) as server:
        with pytest.raises(SourceLost, match="refuses user or password") as caught:
            open_source(f"{scheme}://me:secret@127.0.0.1:{server.port}/")
        assert "secret" not in str(caught.value)


@pytest.mark.parametrize(("answer", "told"), [("401 Unauthorized", "refuses user"), ("404 Not Found", "404")])
def test_a_camera_that_refuses_while_it_boots_is_tried_again(answer: str, told: str) -> None:
    with (
        closing(Server(Rtsp(refuse=answer))) as server,
        Camera("booting", f"rtsp://me:secret@127.0.0.1:{server.port}/", **QUICK) as camera,
    ):
        until(lambda: told in camera.status().error)
        assert camera.state == "connecting"
        server.talk = Rtsp()
        take(camera, 3)
        assert camera.status().reconnects == 0  # it was never there before


def test_a_camera_that_never_comes_up_leaves_the_others_alone() -> None:
    with closing(Server(silent)) as dead, closing(Server(mjpeg)) as well:
        down = Camera("down", f"rtsp://127.0.0.1:{dead.port}/", give_up_after=0.5, **QUICK)
        up = Camera("up", f"http://127.0.0.1:{well.port}/", **QUICK)
        with down, up:
            until(lambda: down.state == "failed")
            assert down.status().error
            take(up, 10)
            assert up.state == "live"
            assert up.status().reconnects == 0


def test_a_recording_behind_a_web_server_ends(tmp_path: Path) -> None:
    data = write_video(tmp_path / "a.mp4", map(image, range(LEVELS)), movflags="faststart").read_bytes()

    def talk(server: Server, connection: socket.socket) -> None:
        request(connection)
        connection.sendall(b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(data), data))

    with closing(Server(talk)) as server, Camera("a", f"http://127.0.0.1:{server.port}/a.mp4", **QUICK) as camera:
        assert [number_of(frame.pixels) for frame in take(camera, LEVELS)] == list(range(LEVELS))
        until(lambda: camera.ended)


def test_thirty_reconnects_leave_nothing_behind() -> None:
    process = psutil.Process()
    with (
        closing(Server(multipart(lambda: map(jpeg, range(3))))) as server,
        Camera("flaps", f"http://127.0.0.1:{server.port}/", **QUICK) as camera,
    ):
        until(lambda: camera.status().reconnects >= 3)
        before = process.num_fds(), threading.active_count()
        until(lambda: camera.status().reconnects >= 33)
        # Now and then one connection more is open or being closed.
        until(lambda: process.num_fds() <= before[0] + 2 and threading.active_count() <= before[1] + 2)
    until(lambda: not [each for each in threading.enumerate() if "flaps" in each.name])
