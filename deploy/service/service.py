"""Puts the service together beside the cameras: `deploy.pipeline.run(..., companion=Service(...))`."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Iterator, Sequence

from deploy.annotate import Label
from deploy.assembly import new_detector
from deploy.cluster.sync import no_mirror
from deploy.events import Event
from deploy.frames import Frame
from deploy.gallery.threshold import NOT_MEASURED, ErrorRates
from deploy.pipeline import Parts
from deploy.rates import Rates
from deploy.service import elsewhere, webhooks
from deploy.service.api.app import Task, make_app
from deploy.service.api.guard import is_loopback
from deploy.service.elsewhere import Neighbours
from deploy.service.journal import Journal
from deploy.service.live import Live
from deploy.service.mqtt import CONSUMER, Mqtt, broker_of
from deploy.service.notify import notify, watchdog_seconds
from deploy.service.photos import Photos
from deploy.service.server import listen, serving
from deploy.service.settings import ServiceSettings
from deploy.service.site import Site
from deploy.service.store import Store
from deploy.service.streams import Streams
from deploy.tls import check_certificate
from pat.base.errors import Failure, UserError
from pat.base.mapping import check_limits

log = logging.getLogger(__name__)

HANGS_AFTER = 20.0
"""Seconds without a sign of life from what serves requests, after which systemd hears none from the process."""


class Service:
    """One site's service; see `deploy.pipeline.Companion`. `error_rates` are those of its cameras' threshold.

    Raises UserError for settings that cannot work.
    """

    def __init__(
        self, settings: ServiceSettings, host: str, port: int, error_rates: ErrorRates = NOT_MEASURED
    ) -> None:
        check_limits(settings)
        access = settings.access
        if access.tls_key is not None and access.tls_certificate is None:
            raise UserError("--access.tls-key needs --access.tls-certificate")
        if access.tls_certificate is not None:
            check_certificate(access.tls_certificate, access.tls_key)
        webhooks.check(settings.webhook)
        if settings.mqtt.broker:
            broker_of(settings.mqtt)
        elsewhere.check(settings.cluster)
        listen(host, port).close()  # whether it can, before a model is loaded
        self._settings, self._host, self._port, self._error_rates = settings, host, port, error_rates
        self._live = Live(crops=settings.keep.views == "best")
        self._journal: Journal | None = None
        self._site: Site | None = None
        self._died = threading.Event()
        self._watchdog = watchdog_seconds()
        self._patted = self._beat = 0.0
        self.address = ""
        """Where the page is, once it runs."""

    def tell(self, event: Event) -> None:
        if self._journal is not None:
            self._journal.tell(event)

    def see(self, frame: Frame, labels: Sequence[Label]) -> None:
        self._live.see(frame, labels)

    def look(self, rates: Rates) -> None:
        if self._site is not None:
            self._site.rates = rates
        now = time.monotonic()
        alive = now - self._beat < HANGS_AFTER
        if self._watchdog is not None and alive and now - self._patted >= self._watchdog / 3:
            self._patted = now
            notify("WATCHDOG=1")
        if self._died.is_set():
            raise Failure("the service has ended; the process ends too, to be started afresh")

    @contextlib.contextmanager
    def running(self, parts: Parts) -> Iterator[None]:
        settings, access, streams = self._settings, self._settings.access, Streams()
        with contextlib.ExitStack() as stack:
            channel = listen(self._host, self._port)
            stack.callback(channel.close)
            store = stack.enter_context(Store(parts.settings.gallery.path))
            photos = Photos(
                parts.gallery, new_detector(parts.settings), parts.embedder,
                most_bytes=int(access.upload_megabytes * 1e6), most_pixels=int(access.upload_megapixels * 1e6),
            )  # fmt: skip
            site = self._site = Site(parts, settings, store, self._live, photos, self._error_rates)
            if not is_loopback(channel.getsockname()[0]) and not site.tokens.all():
                raise UserError(
                    f"--host {self._host} can be reached from other machines, and there is no token: make one by "
                    f"`pat serve token add {parts.settings.gallery.path} NAME --role erase`"
                )
            journal = self._journal = Journal(
                store, most=settings.keep.events, before=site.enrich, woken=streams.wake
            )
            stack.enter_context(journal)
            if settings.cluster.url:
                neighbours = Neighbours(settings.cluster, site, journal, streams)
                stack.enter_context(neighbours.running())
            else:
                neighbours = None
                no_mirror(store)
            app = make_app(
                site, journal, streams, neighbours, hosts=[self._host],
                tasks=self._tasks(site, journal, streams, neighbours),
            )  # fmt: skip
            stack.enter_context(serving(app, channel, access, streams, self._died.set))
            self.address = f"http{'s' if access.tls_certificate else ''}://{_shown(*channel.getsockname()[:2])}/"
            log.info("the page is at %s", self.address)
            notify(f"READY=1\nSTATUS={self.address}")
            try:
                yield
            finally:
                notify("STOPPING=1")

    def _tasks(self, site: Site, journal: Journal, streams: Streams, neighbours: Neighbours | None) -> list[Task]:
        """What tells others of events, and the heartbeat."""
        chosen = self._settings
        consumers: dict[str, Task] = {}
        for url in chosen.webhook.urls:
            webhook = webhooks.Webhook(url, chosen.webhook, journal, streams)
            consumers[webhook.name] = webhook.run
        if chosen.mqtt.broker:
            consumers[CONSUMER] = Mqtt(chosen.mqtt, site, journal, streams).run
        if neighbours is not None:
            consumers[elsewhere.CONSUMER] = neighbours.run
        journal.keep_consumers(consumers)
        return [self._beats, *consumers.values()]

    async def _beats(self) -> None:
        """Says that requests are served: a loop that hangs does not."""
        while True:
            self._beat = time.monotonic()
            await asyncio.sleep(1.0)


def _shown(host: str, port: int) -> str:
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
