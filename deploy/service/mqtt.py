"""Publishes events over MQTT, as Frigate's users know them: TOPIC/events with type, before and after.

TOPIC/available is "online", and "offline" by the broker's hand when the connection breaks. TOPIC/CAMERA/people is
the number of people in view. Home Assistant finds both by itself. An event is published with quality of service 1;
what the broker has not acknowledged comes again, also after days.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import ssl
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import aiomqtt
from anyio import to_thread

from deploy.clocks import Backoff
from deploy.service.journal import Journal, acknowledge
from deploy.service.settings import MqttSettings
from deploy.service.site import Site
from deploy.service.streams import Streams
from deploy.tls import trusting
from pat.base.errors import UserError

log = logging.getLogger(__name__)

PASSWORD = "PAT_MQTT_PASSWORD"
CONSUMER = "mqtt"
RETRY = (1.0, 60.0)
TELL_EVERY = 1.0
"""Seconds between two looks at who is in view."""
TYPES = {"recognised": "new", "new": "new", "unknown": "new", "revised": "update", "left": "end"}
"""Our kinds of events in Frigate's words; others are told on topics of their own."""
REMEMBERED = 5000
"""Tracks whose last state is remembered, for `before`."""


@dataclass(frozen=True)
class Broker:
    """Where events are published."""

    host: str
    port: int
    tls: ssl.SSLContext | None


def broker_of(settings: MqttSettings) -> Broker:
    """The broker of the settings; asks nobody. Raises UserError for settings that cannot work."""
    parts = urlsplit(settings.broker if "://" in settings.broker else f"mqtt://{settings.broker}")
    try:
        host, port = parts.hostname or "", parts.port
    except ValueError:
        host, port = "", None
    if parts.scheme not in ("mqtt", "mqtts") or not host or parts.path not in ("", "/"):
        raise UserError(f"--mqtt.broker {settings.broker!r} is no HOST, HOST:PORT or mqtts://HOST:PORT")
    if parts.username or parts.password:
        raise UserError(f"give the broker's user with --mqtt.user and its password in {PASSWORD}")
    if not settings.topic or re.search(r"[#+\0]", settings.topic) or settings.topic.startswith(("/", "$")):
        raise UserError(f"--mqtt.topic {settings.topic!r} is no topic to publish under")
    if parts.scheme == "mqtt":
        return Broker(host, port or 1883, None)
    return Broker(host, port or 8883, trusting(settings.ca, "--mqtt.ca"))


class Mqtt:
    """Publishes one site's events. Raises UserError for settings that cannot work."""

    def __init__(self, settings: MqttSettings, site: Site, journal: Journal, streams: Streams) -> None:
        self._settings, self._site, self._journal, self._streams = settings, site, journal, streams
        self._broker = broker_of(settings)
        self._tracks: OrderedDict[int, Mapping[str, Any]] = OrderedDict()
        self._counts: dict[str, int] = {}

    async def run(self) -> None:
        """Publish until cancelled; the broker may be away for as long as it likes."""
        backoff, told = Backoff(*RETRY), True
        while not self._streams.ending:
            try:
                async with self._client() as client:
                    log.info("MQTT: connected to %s:%d", self._broker.host, self._broker.port)
                    told = True
                    backoff.reset()
                    await self._publish(client)
            except (aiomqtt.MqttError, OSError, ValueError) as error:
                if told:
                    log.warning(
                        "MQTT broker %s:%d: %s; it is tried again", self._broker.host, self._broker.port, error
                    )
                told = False
                await asyncio.sleep(backoff.next())

    def _client(self) -> aiomqtt.Client:
        topic = self._settings.topic
        return aiomqtt.Client(
            self._broker.host, self._broker.port, username=self._settings.user or None,
            password=os.environ.get(PASSWORD) or None,
            identifier=f"pat-{topic.replace('/', '-')}", tls_context=self._broker.tls, timeout=10, keepalive=20,
            will=aiomqtt.Will(f"{topic}/available", "offline", qos=1, retain=True),
        )  # fmt: skip

    async def _publish(self, client: aiomqtt.Client) -> None:
        topic = self._settings.topic
        await self._announce(client)
        await client.publish(f"{topic}/available", "online", qos=1, retain=True)
        self._counts.clear()
        seq = await to_thread.run_sync(self._journal.cursor, CONSUMER)
        try:
            async for events in self._streams.follow(self._journal, seq, TELL_EVERY):
                for event in events:
                    await client.publish(*self._message(event.values), qos=1)
                if events:
                    await acknowledge(self._journal, CONSUMER, events[-1].seq)
                await self._tell_counts(client)
        finally:  # the will is for connections that break; this one ends in order
            await asyncio.shield(client.publish(f"{topic}/available", "offline", qos=1, retain=True))

    def _message(self, values: Mapping[str, Any]) -> tuple[str, str]:
        topic, track = self._settings.topic, values.get("track")
        kind = TYPES.get(values["event"])
        if kind is None or track is None:
            return f"{topic}/{'cameras' if values['event'] == 'camera' else values['event']}", json.dumps(
                dict(values)
            )
        after = as_frigate(values)
        before = self._tracks.pop(track, after)
        if kind != "end":
            self._tracks[track] = after
            while len(self._tracks) > REMEMBERED:
                self._tracks.popitem(last=False)
        return f"{topic}/events", json.dumps({"type": kind, "before": before, "after": after})

    async def _tell_counts(self, client: aiomqtt.Client) -> None:
        for camera in self._site.parts.cameras:
            seen = self._site.live.newest(camera.name)
            count = len(seen.labels) if seen and camera.state == "live" else 0
            if self._counts.get(camera.name) != count:
                self._counts[camera.name] = count
                await client.publish(
                    f"{self._settings.topic}/{slug(camera.name)}/people", str(count), qos=0, retain=True
                )

    async def _announce(self, client: aiomqtt.Client) -> None:
        """Home Assistant's discovery: a sensor of people in view for each camera, and who was recognised last."""
        if not (first := self._settings.discovery):
            return
        topic = self._settings.topic
        site = slug(topic)
        common = {
            "availability_topic": f"{topic}/available",
            "device": {"identifiers": [f"pat_{site}"], "name": f"PAT {topic}", "manufacturer": "pat-reid"},
        }
        sensors = {
            f"{slug(camera.name)}_people": {
                "name": f"People at {camera.name}", "state_topic": f"{topic}/{slug(camera.name)}/people",
                "state_class": "measurement", "icon": "mdi:account-group",
            }
            for camera in self._site.parts.cameras
        }  # fmt: skip
        sensors["last_person"] = {
            "name": "Last person", "state_topic": f"{topic}/events", "icon": "mdi:account-search",
            "value_template": "{{ value_json.after.sub_label or 'unknown' }}",
            "json_attributes_topic": f"{topic}/events",
            "json_attributes_template": "{{ value_json.after | tojson }}",
        }  # fmt: skip
        for name, sensor in sensors.items():
            unique = f"pat_{site}_{name}"
            content = {**common, **sensor, "unique_id": unique, "object_id": unique}
            await client.publish(f"{first}/sensor/{unique}/config", json.dumps(content), qos=1, retain=True)


def as_frigate(values: Mapping[str, Any]) -> dict[str, Any]:
    """An event's fields under Frigate's names, and all of ours under `pat`."""
    ended = values["event"] == "left"
    return {
        "id": f"{values['camera']}-{values['track']}", "camera": values["camera"], "frame_time": values["time"],
        "label": "person", "sub_label": values.get("identity"), "score": values.get("score"),
        "box": values.get("box"), "end_time": values["time"] if ended else None, "has_snapshot": "view" in values,
        "pat": dict(values),
    }  # fmt: skip


def slug(name: str) -> str:
    """A name as a level of a topic."""
    return re.sub(r"[^\w-]+", "_", name.strip(), flags=re.ASCII) or "_"
