"""A real MQTT broker (Debian's mosquitto), and somebody who listens to it."""

from __future__ import annotations

import getpass
import shutil
import socket
import subprocess
import time
from collections import defaultdict

import paho.mqtt.client as paho
import pytest

needs_broker = pytest.mark.skipif(
    shutil.which("mosquitto", path="/usr/sbin:/usr/bin:/usr/local/sbin") is None,
    reason="mosquitto is not installed: apt-get install mosquitto",
)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


class Broker:
    """A mosquitto on a port of its own, that can be stopped and started again."""

    def __init__(self, folder, *lines: str) -> None:
        self.port = free_port()
        self.config = folder / "mosquitto.conf"
        whoever = f"user {getpass.getuser()}"  # started by root, it would become a user who may not read tmp_path
        self.config.write_text(
            "\n".join([f"listener {self.port} 127.0.0.1", "persistence false", whoever, *lines, ""])
        )
        self.start()

    def start(self) -> None:
        program = shutil.which("mosquitto", path="/usr/sbin:/usr/bin:/usr/local/sbin")
        self.process = subprocess.Popen(
            [program, "-c", self.config], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        until = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                assert time.monotonic() < until
                time.sleep(0.05)

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(timeout=20)


class Listener:
    """Hears everything that is published."""

    def __init__(self, broker: Broker) -> None:
        self.heard = defaultdict(list)
        self._client = paho.Client(paho.CallbackAPIVersion.VERSION2)
        self._client.on_connect = lambda client, *rest: client.subscribe("#", qos=1)
        self._client.on_message = lambda client, data, message: self.heard[message.topic].append(
            message.payload.decode()
        )
        self._client.connect("127.0.0.1", broker.port)
        self._client.loop_start()

    def until(self, topic: str, count: int = 1) -> list[str]:
        end = time.monotonic() + 20
        while len(self.heard[topic]) < count:
            assert time.monotonic() < end, dict(self.heard)
            time.sleep(0.02)
        return self.heard[topic]

    def close(self) -> None:
        self._client.loop_stop()
        self._client.disconnect()
