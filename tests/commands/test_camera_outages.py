"""What an operator meets in months: the camera goes away, the process is killed. Nothing acknowledged is lost."""

from __future__ import annotations

import http.server
import io
import json
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import av
import pytest
from PIL import Image

from deploy.gallery import Gallery
from deploy.gallery.fingerprint import fingerprint
from deploy.recognise import VIEWS
from export.manifest import Manifest

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.timeout(900)  # a stream that stays silent would be read for ever


def start(bundle, source, gallery, threshold, *flags):
    command = [sys.executable, "-m", "pat.cli", "camera", str(bundle), f"gate={source}", *flags]
    command += ["--gallery.threshold", threshold, "--gallery.path", str(gallery), "--runtime.threads", "1"]
    command += ["--output.metrics-port", "0", "--detect.detector", "hog:540", "--track.every", "0.3"]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def killed_runs(bundle, video, gallery, kills, seed):
    """Start, kill at a random moment after the first acknowledged write, start again; the acknowledged writes."""
    moments = random.Random(seed)
    acknowledged: Counter[str] = Counter()
    flags = ("--camera.loop", "--camera.rate", "5", "--track.decide-after", "1")
    for _ in range(kills):
        with start(bundle, video, gallery, "0.8", *flags) as child:
            assert child.stdout is not None
            killer, written = None, set()
            for line in child.stdout:
                try:
                    event = json.loads(line)
                except ValueError:
                    assert not line.endswith("\n")  # cut by the kill
                    break
                if event["event"] == "revised" and event["track"] in written:  # somebody known after all
                    written.discard(event["track"])
                    acknowledged[event["before"]] -= 1
                # A track is written once: when it becomes an identity, or when it leaves as a known one.
                if event.get("stored") and event["track"] not in written:
                    written.add(event["track"])
                    acknowledged[event["identity"]] += 1
                    if killer is None:
                        killer = threading.Timer(moments.uniform(0, 1.0), child.kill)
                        killer.start()
            child.wait(timeout=60)
            assert killer is not None, child.stderr and child.stderr.read()
            assert child.returncode == -signal.SIGKILL
    return acknowledged


def check_kept(bundle, gallery, acknowledged):
    manifest = Manifest.load(bundle)
    with Gallery.open(gallery, dimension=manifest.output.size, model=fingerprint(manifest)) as opened:
        kept = {identity: opened.count(identity) for identity in acknowledged}
    # What was written and not told yet may be there too; of one person the most different views are kept.
    assert all(kept[who] >= min(count, VIEWS) for who, count in acknowledged.items()), (kept, acknowledged)


def test_kill_9_loses_nothing_that_was_acknowledged(colour_bundle, street, tmp_path):
    acknowledged = killed_runs(colour_bundle, street / "camera-1.mp4", tmp_path / "gallery", kills=2, seed=0)
    assert sum(acknowledged.values()) >= 2
    check_kept(colour_bundle, tmp_path / "gallery", acknowledged)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_nothing_is_lost_after_50_kills(colour_bundle, tmp_path):
    """On a street of rendered people."""
    from pat.synthetic.people.street import film_people

    film_people(tmp_path / "street", cameras=1, people=5, seed=1)
    video = tmp_path / "street" / "camera-1.mp4"
    acknowledged = killed_runs(colour_bundle, video, tmp_path / "gallery", kills=50, seed=1)
    assert sum(acknowledged.values()) >= 50
    check_kept(colour_bundle, tmp_path / "gallery", acknowledged)
    print(f"50 kills, {sum(acknowledged.values())} acknowledged writes, none lost")


class Stream:
    """A camera's MJPEG stream over HTTP, that can be switched off and on again at the same address."""

    def __init__(self, video: Path) -> None:
        with av.open(str(video)) as container:
            images = [frame.to_image() for frame in container.decode(video=0)]
        self.images = [_jpeg(image) for image in images[20:120:2]]
        self.port = 0
        self.on()

    def on(self) -> None:
        stream, self.running = self, threading.Event()
        self.running.set()

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
                self.end_headers()
                number = 0
                running = stream.running
                while running.is_set():
                    image = stream.images[number % len(stream.images)]
                    head = b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(image)
                    try:
                        self.wfile.write(head + image + b"\r\n")
                    except OSError:
                        return
                    number += 1
                    time.sleep(0.1)

            def log_message(self, *words) -> None: ...

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_port
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def off(self) -> None:
        self.running.clear()
        self.server.shutdown()
        self.server.server_close()


def _jpeg(image: Image.Image) -> bytes:
    out = io.BytesIO()
    image.save(out, "JPEG", quality=90)
    return out.getvalue()


def test_a_camera_that_goes_away_and_comes_back(colour_bundle, street, tmp_path):
    stream = Stream(street / "camera-1.mp4")
    url, flags = f"http://127.0.0.1:{stream.port}/video", ("--camera.stale-after", "1")
    with start(colour_bundle, url, tmp_path / "gallery", "0.9", *flags) as child:
        try:
            assert child.stdout is not None
            seen = []
            lives = 0
            for line in child.stdout:
                event = json.loads(line)
                seen.append(event)
                if event.get("state") == "live":
                    lives += 1
                    if lives == 2:
                        break
                    stream.off()
                elif event.get("state") == "stale" and lives == 1:
                    stream.on()
        finally:
            child.send_signal(signal.SIGTERM)
            _, err = child.communicate(timeout=60)
            stream.off()
    states = [event["state"] for event in seen if event["event"] == "camera"]
    assert states[0] in ("connecting", "live")  # it may be connected before its worker looks for the first time
    assert "stale" in states
    assert states[-1] == "live"
    assert child.returncode == 0, err
    assert "Traceback" not in err
