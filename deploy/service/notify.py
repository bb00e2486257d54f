"""Tells systemd that the service is ready, alive, or stopping (sd_notify); without systemd it does nothing."""

from __future__ import annotations

import os
import socket


def notify(state: str) -> bool:
    """Send a state such as "READY=1" to whoever started the process with Type=notify; whether somebody did."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return False
    if address.startswith("@"):  # Linux's abstract names
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
        try:
            channel.sendto(state.encode(), address)
        except OSError:
            return False
    return True


def watchdog_seconds() -> float | None:
    """How often systemd wants to hear that the process is alive; None where it does not."""
    microseconds = os.environ.get("WATCHDOG_USEC", "")
    mine = os.environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
    return int(microseconds) / 1e6 if mine and microseconds.isdigit() else None
