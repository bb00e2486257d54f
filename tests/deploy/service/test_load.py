"""Many clients at once, kill -9 under load, and requests that a fuzzer makes up."""

from __future__ import annotations

import concurrent.futures
import json
import os
import random
import signal
import threading
import time
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest

from bench.children import PAGE, Child

from .brokers import Broker, Listener, needs_broker
from .conftest import unit

REQUESTS, CLIENTS = int(os.environ.get("PAT_REQUESTS", "1000")), 50
PATHS = ("people", "people?q=gate", "status", "cameras", "events", "reviews", "threshold", "changes")


def ask_all(address: str, requests: int, clients: int, rate: float) -> tuple[list[float], list[int]]:
    """Times in seconds and codes of so many requests of so many clients, begun at `rate` a second over all."""
    begun, times, codes, lock = time.monotonic(), [], [], threading.Lock()

    def client(number: int) -> None:
        mine = random.Random(number)
        with httpx.Client(base_url=address, timeout=60) as asks:
            for turn in range(number, requests, clients):
                time.sleep(max(0.0, begun + turn / rate - time.monotonic()))
                start = time.perf_counter()
                code = asks.get(f"/api/v1/{mine.choice(PATHS)}").status_code
                with lock:
                    times.append(time.perf_counter() - start)
                    codes.append(code)

    with concurrent.futures.ThreadPoolExecutor(clients) as pool:
        list(pool.map(client, range(clients)))
    return times, codes


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_50_clients_get_answers_and_memory_stays_flat(service, people):
    for seed in range(100, 300):
        service.site.gallery.add(unit(seed)[None], identity=f"p{seed}", camera="gate", time=time.time())
    process = psutil.Process()
    ask_all(service.service.address, 200, CLIENTS, 100.0)
    before, threads = process.memory_info().rss, process.num_threads()
    begun = time.monotonic()
    times, codes = ask_all(service.service.address, REQUESTS, CLIENTS, 80.0)
    seconds = time.monotonic() - begun
    grown = (process.memory_info().rss - before) / 2**20
    p50, p99 = np.percentile(times, [50, 99])
    print(
        f"{len(codes)} requests of {CLIENTS} clients in {seconds:.0f} s: p50 {1e3 * p50:.1f} ms, "
        f"p99 {1e3 * p99:.1f} ms, memory {grown:+.1f} MiB"
    )
    assert codes == [200] * REQUESTS
    assert grown < 32
    assert process.num_threads() <= threads + 8


class Process(Child):
    """`pat serve` in a process of its own."""

    def __init__(self, bundle: Path, gallery: Path, *flags: str) -> None:
        words = [str(bundle), "--gallery.path", str(gallery), "--gallery.threshold", "0.8", "--port", "0"]
        words += ["--runtime.threads", "1", "--keep.views", "none", *flags]
        super().__init__("serve", *words, until=PAGE)
        self.address = self.found


def killed(bundle: Path, gallery: Path, kills: int, *flags: str) -> None:
    """Name a person while the process is killed at random moments; what was acknowledged is there after."""
    moments, number, acknowledged = random.Random(5), 0, -1
    for _ in range(kills):
        process, killer = Process(bundle, gallery, *flags), None
        with httpx.Client(base_url=process.address, timeout=30) as client:
            try:
                while True:
                    (person,) = client.get("/api/v1/people", params={"q": "person"}).json()["items"]
                    number += 1
                    change = {"name": f"person {number}"}
                    if client.patch(f"/api/v1/people/{person['key']}", json=change).status_code == 200:
                        acknowledged = number
                        if killer is None:
                            killer = threading.Timer(moments.uniform(0, 0.5), process.process.kill)
                            killer.start()
            except httpx.TransportError:
                pass
        assert process.process.wait(timeout=60) == -signal.SIGKILL, process.said
    last = Process(bundle, gallery, *flags)
    (person,) = httpx.get(f"{last.address}api/v1/people", params={"q": "person"}, timeout=30).json()["items"]
    lines = httpx.get(f"{last.address}api/v1/audit", timeout=30).json()["items"]
    assert last.end(signal.SIGTERM) == 0, last.said
    # The one that was being written when the kill came may be there too.
    assert acknowledged <= int(person["name"].removeprefix("person ")) <= number
    assert lines[0]["action"] == "rename_person"
    assert not [line for line in last.said if "Traceback" in line]
    print(f"{kills} kills, {acknowledged} names, the last acknowledged one was kept")


@pytest.fixture
def gallery(colour_bundle, tmp_path, in_gallery):
    with in_gallery(colour_bundle, tmp_path / "gallery") as opened:
        opened.add(unit(1)[None], identity="person", camera="gate", time=time.time(), keep_for=float("inf"))
    return tmp_path / "gallery"


@pytest.mark.timeout(600)
def test_kill_9_loses_no_name_that_was_acknowledged(colour_bundle, gallery):
    killed(colour_bundle, gallery, 2)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_50_kills(colour_bundle, gallery):
    killed(colour_bundle, gallery, 50)


@needs_broker
@pytest.mark.timeout(300)
def test_a_killed_service_is_offline_by_its_last_will(colour_bundle, gallery, tmp_path):
    broker = Broker(tmp_path, "allow_anonymous true")
    try:
        listener = Listener(broker)
        process = Process(colour_bundle, gallery, "--mqtt.broker", f"127.0.0.1:{broker.port}")
        assert listener.until("pat/available") == ["online"]
        process.end(signal.SIGKILL)
        assert listener.until("pat/available", 2) == ["online", "offline"]
        listener.close()
    finally:
        broker.stop()


def test_made_up_requests_find_no_defect(service, people):
    """schemathesis reads the description and asks whatever it allows, and what it does not."""
    schemathesis = pytest.importorskip("schemathesis")
    from hypothesis import HealthCheck, Phase, given, settings
    from hypothesis import strategies as st

    schema = schemathesis.openapi.from_url(f"{service.service.address}api/v1/openapi.json")
    operations = [
        each.ok()
        for each in schema.get_all_operations()
        if not each.ok().path.endswith(("/stream", "stream.mjpeg"))
    ]
    assert len(operations) > 25
    counts: dict[int, int] = {}

    @settings(
        max_examples=int(os.environ.get("PAT_FUZZ", "80")), deadline=None, database=None,
        suppress_health_check=list(HealthCheck), phases=[Phase.generate], derandomize=True,
    )  # fmt: skip
    @given(data=st.data())
    def fuzz(data):
        operation = data.draw(st.sampled_from(operations))
        case = data.draw(operation.as_strategy())
        if case.method == "DELETE" and "/session" not in case.path and case.path_parameters:
            case.path_parameters = {name: "0" for name in case.path_parameters}  # the people are needed to the end
        answer = case.call(timeout=30)
        counts[answer.status_code] = counts.get(answer.status_code, 0) + 1
        assert answer.status_code < 500, (case.method, case.path, answer.text)
        if answer.status_code >= 400:
            assert answer.headers["content-type"] == ["application/problem+json"], answer.headers
            assert json.loads(answer.text)["type"].startswith("urn:pat-reid:problem:")

    fuzz()
    print(counts)
    assert counts.get(200, 0) > 5
    assert service.client.get("/healthz").status_code == 200
