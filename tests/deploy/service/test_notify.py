"""systemd's side of the line: ready, alive, stopping."""

from __future__ import annotations

import socket

import pytest

from deploy.rates import Rates
from deploy.service import service as service_module
from deploy.service.notify import notify, watchdog_seconds

from .conftest import running


@pytest.fixture
def systemd(tmp_path, monkeypatch):
    """A socket as systemd's; whatever it hears."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.bind(str(tmp_path / "notify"))
        channel.settimeout(20)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "300000")
        monkeypatch.delenv("WATCHDOG_PID", raising=False)
        yield channel


def test_ready_alive_and_stopping(systemd, colour_bundle, tmp_path):
    with running(colour_bundle, tmp_path / "site") as service:
        heard = [systemd.recv(1000).decode() for _ in range(3)]
        assert heard[0] == f"READY=1\nSTATUS={service.service.address}"
        assert heard[1:] == ["WATCHDOG=1", "WATCHDOG=1"]
    while (last := systemd.recv(1000).decode()) == "WATCHDOG=1":
        pass
    assert last == "STOPPING=1"


def test_a_service_that_hangs_is_not_said_to_be_alive(systemd, colour_bundle, tmp_path, monkeypatch):
    with running(colour_bundle, tmp_path / "site") as service:
        monkeypatch.setattr(service_module, "HANGS_AFTER", -1.0)
        systemd.settimeout(1.5)
        assert any(silent(systemd) for _ in range(100))  # what was sent before has been read
        service.service.look(Rates([], {}, 0.0, 0.0, 0))
        assert silent(systemd)


def silent(channel: socket.socket) -> bool:
    """Whether nothing comes."""
    try:
        channel.recv(1000)
    except TimeoutError:
        return True
    return False


def test_without_systemd_nothing_happens(monkeypatch):
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    monkeypatch.delenv("WATCHDOG_USEC", raising=False)
    assert not notify("READY=1")
    assert watchdog_seconds() is None
    monkeypatch.setenv("NOTIFY_SOCKET", "/no/such/socket")
    assert not notify("READY=1")
    monkeypatch.setenv("WATCHDOG_USEC", "60000000")
    monkeypatch.setenv("WATCHDOG_PID", "1")
    assert watchdog_seconds() is None


def test_a_loop_that_died_ends_the_process(colour_bundle, tmp_path):
    def dying():
        with running(colour_bundle, tmp_path) as service:
            service.service._died.set()
            service.process.join(timeout=30)

    with pytest.raises(AssertionError, match="the service has ended"):
        dying()
