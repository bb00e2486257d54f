"""Everything an operator can set for the service, beside the camera process's own settings."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from deploy.cluster.settings import ClusterSettings
from deploy.settings import Count, Positive
from pat.base.mapping import Within


@dataclass(frozen=True)
class AccessSettings:
    """Who may ask, and how much."""

    loopback: Literal["open", "token"] = "open"
    """Whether requests from this machine to a loopback address go without a token. Say "token" behind a proxy."""
    hosts: tuple[str, ...] = ()
    """Names under which the page is reached, beside localhost and the --host given; others are refused."""
    requests_per_second: Positive = 200.0
    """Of one client, on average; twice as many in a burst."""
    session_hours: Positive = 12.0
    """After which whoever signed in on the page is asked for the token again."""
    tls_certificate: Path | None = None
    """PEM file; with it the service speaks https alone."""
    tls_key: Path | None = None
    """PEM file of the certificate's key, where it is in a file of its own."""
    upload_megabytes: Positive = 12.0
    """Largest photo that is taken."""
    upload_megapixels: Positive = 24.0
    """Largest image in it, told before it is decoded."""


@dataclass(frozen=True)
class KeepSettings:
    """What the service keeps beside vectors."""

    views: Literal["none", "best"] = "none"
    """Images of people: none, or the best crop of each entry, which lives as long as the entry."""
    events: Count = 100_000
    """Events kept for the page and for consumers that are away; the oldest leave first."""
    audit_days: Positive = 365.0
    """How long it is kept who did what."""


@dataclass(frozen=True)
class MqttSettings:
    """Where events are published; the password is in the environment (PAT_MQTT_PASSWORD)."""

    broker: str = ""
    """HOST, HOST:PORT, or mqtts://HOST:PORT for TLS; "" publishes nothing."""
    user: str = ""
    topic: str = "pat"
    """First part of every topic; also the name of this site."""
    discovery: str = "homeassistant"
    """First part of Home Assistant's discovery topics; "" announces nothing."""
    ca: Path | None = None
    """PEM file of the authority that signed the broker's certificate; by default the system's."""


@dataclass(frozen=True)
class WebhookSettings:
    """Who is told of events by HTTP; signed with the secret in the environment (PAT_WEBHOOK_SECRET)."""

    urls: tuple[str, ...] = ()
    """Addresses that every event is posted to; retried for as long as the event is kept."""
    events: tuple[str, ...] = ("recognised", "new", "revised", "left", "elsewhere", "forgotten")
    """Kinds of events that are posted."""
    timeout: Positive = 10.0
    """Seconds that one delivery may take."""


@dataclass(frozen=True)
class NeighbourSettings(ClusterSettings):
    """A Qdrant server or cluster that sites share; its API key is in the environment (PAT_CLUSTER_KEY)."""

    threshold: Annotated[float, Within(-1, 1)] | None = None
    """Least cosine at which somebody is said to have been seen at another site; by default the gallery's."""


@dataclass(frozen=True)
class ServiceSettings:
    """The service."""

    access: AccessSettings = field(default_factory=AccessSettings)
    keep: KeepSettings = field(default_factory=KeepSettings)
    mqtt: MqttSettings = field(default_factory=MqttSettings)
    webhook: WebhookSettings = field(default_factory=WebhookSettings)
    cluster: NeighbourSettings = field(default_factory=NeighbourSettings)
