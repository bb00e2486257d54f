"""Metrics: served on loopback, quantiles from histograms, one state a camera."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
import urllib.request
from typing import get_args

import pytest
from prometheus_client.parser import text_string_to_metric_families

from deploy.metrics import CLIENTS, Metrics
from deploy.status import State
from pat.base.errors import UserError


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_they_are_served_on_loopback_alone():
    metrics, port = Metrics(), free_port()
    metrics.frames.labels("gate").inc(3)
    metrics.embedded(4, 0.02, 0.005)
    with metrics.served(port):
        text = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10).read().decode()
        families = {family.name: family for family in text_string_to_metric_families(text)}
        assert families["pat_frames"].samples[0].value == 3
        assert {sample.name for sample in families["pat_stage_seconds"].samples} >= {"pat_stage_seconds_bucket"}
        with socket.socket() as other:
            other.settimeout(2)
            assert other.connect_ex(("127.0.0.2", port)) != 0
    with pytest.raises(OSError, match=r"."):
        urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=2)


def test_a_taken_port_is_named():
    port = free_port()
    words = f"127.0.0.1:{port}.*metrics-port"
    with Metrics().served(port), pytest.raises(UserError, match=words), Metrics().served(port):
        pass


@pytest.mark.parametrize("port", [-1, 70000])
def test_a_port_that_is_none(port):
    with pytest.raises(UserError), Metrics().served(port):
        pass


def test_a_camera_is_in_one_state():
    metrics = Metrics()
    metrics.set_state("gate", "live")
    metrics.set_state("gate", "stale")
    states = {state: metrics.value("pat_camera_state", camera="gate", state=state) for state in get_args(State)}
    assert [state for state, value in states.items() if value] == ["stale"]


def test_clients_that_ask_for_nothing_are_cut_off_and_few(monkeypatch):
    monkeypatch.setattr("deploy.metrics.PATIENCE", 0.3)
    metrics, port = Metrics(), free_port()
    with metrics.served(port), contextlib.ExitStack() as stack:
        before = threading.active_count()
        silent = [stack.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(60)]
        silent[0].settimeout(10)
        assert silent[0].recv(1) == b""  # after its patience the server has closed it
        assert threading.active_count() <= before + CLIENTS
        for each in silent[1:]:
            each.settimeout(10)
            with contextlib.suppress(ConnectionResetError):
                assert each.recv(1) == b""
        until = time.monotonic() + 10
        while True:  # the last of them may be going
            with contextlib.suppress(OSError):
                assert urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10).status == 200
                break
            assert time.monotonic() < until
