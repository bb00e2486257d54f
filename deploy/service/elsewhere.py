"""This site beside others: sends its gallery to the cluster, and asks who of its people were seen elsewhere."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Iterator
from dataclasses import asdict

from anyio import CapacityLimiter, to_thread
from prometheus_client import Counter, Gauge

from deploy.clocks import Backoff
from deploy.cluster.client import connect
from deploy.cluster.cluster import Cluster
from deploy.cluster.records import Elsewhere
from deploy.cluster.sync import Sync, alone, node_of
from deploy.events import Event
from deploy.gallery.entries import Floats, checked_name
from deploy.service import models
from deploy.service.journal import Journal, Kept
from deploy.service.settings import NeighbourSettings
from deploy.service.site import Site
from deploy.service.streams import Streams
from pat.base.errors import Failure, UserError

log = logging.getLogger(__name__)

CONSUMER = "cluster"
RETRY = (1.0, 300.0)
"""Shortest and longest wait in seconds before another try."""
LOOK_EVERY = 2.0
"""Seconds between two rounds."""
MOST = 5
"""People of other sites named for one vector."""


def check(settings: NeighbourSettings) -> None:
    """Raise UserError for settings that cannot work; asks nobody."""
    if not settings.url:
        if settings.site or settings.threshold is not None:
            raise UserError("--cluster.site and --cluster.threshold say nothing without --cluster.url")
        return
    if not settings.site:
        raise UserError("--cluster.url needs --cluster.site: what other sites call this one")
    checked_name("site", settings.site)
    connect(settings).close()


class Neighbours:
    """The other sites, as this one knows them; by settings that passed `check`."""

    def __init__(self, settings: NeighbourSettings, site: Site, journal: Journal, streams: Streams) -> None:
        self.url, self.name = settings.url, checked_name("site", settings.site)
        self._threshold, self._site, self._journal, self._streams = settings.threshold, site, journal, streams
        self._client = connect(settings)
        self.cluster = Cluster(
            self._client, site.gallery.facts, node=node_of(site.store), site=self.name, where=settings.url
        )
        self.sync = Sync(site.gallery, site.store, self.cluster, lambda: streams.ending)
        self._limiter = CapacityLimiter(1)  # a cluster that hangs keeps none of the requests' threads
        self.error: str | None = None
        """Why the cluster is away; "" when it is there, None until it was asked."""
        self.since = time.time()
        """Since when that holds."""
        registry = site.parts.metrics.registry
        self._up = Gauge("pat_cluster_up", "1 when the cluster took the last round", registry=registry)
        self._failures = Counter("pat_cluster_failures", "Rounds that failed", registry=registry)
        Gauge("pat_cluster_waiting", "Changes not sent yet", registry=registry).set_function(self.sync.waiting)
        Gauge("pat_cluster_sent", "Entries sent since the start", registry=registry).set_function(
            lambda: self.sync.sent
        )

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """No other process sends this gallery meanwhile."""
        with alone(self._site.store), contextlib.closing(self._client):
            self._journal.cursor(CONSUMER)  # from here on, however long the cluster is away
            yield

    async def run(self) -> None:
        """Send and ask until cancelled; the cluster may be away for days."""
        backoff = Backoff(*RETRY)
        while not self._streams.ending:
            try:
                await to_thread.run_sync(self._round, limiter=self._limiter, abandon_on_cancel=True)
            except Exception as error:  # a defect here must not end what serves the page
                if not isinstance(error, (UserError, Failure)):
                    log.exception("the gallery could not be sent")
                self._failures.inc()
                self._note(str(error))
                await asyncio.sleep(backoff.next())
            else:
                backoff.reset()
                self._note("")
                await asyncio.sleep(LOOK_EVERY)

    def search(self, vector: Floats) -> list[Elsewhere]:
        """People of other sites like a vector [D]. Raises Failure when the cluster is away."""
        if self.error != "":
            raise Failure(self.error or "the cluster was not asked yet; try again")
        return self._search(vector)

    def _search(self, vector: Floats) -> list[Elsewhere]:
        threshold = self._site.parts.recogniser.threshold if self._threshold is None else self._threshold
        return self.cluster.search(vector, MOST, threshold, time.time())

    def state(self) -> models.Cluster:
        """For the API; asks nobody."""
        return models.Cluster(
            url=self.url, site=self.name, node=self.cluster.node, error=self.error,
            since=self.since, waiting=self.sync.waiting(), sent=self.sync.sent,
            sites=self.sync.sites,
        )  # fmt: skip

    def _round(self) -> None:
        self.sync.round()
        seq = self._journal.cursor(CONSUMER)
        while (events := self._journal.after(seq, kinds=("new",))) and not self._streams.ending:
            for event in events:
                self._ask(event)
                seq = event.seq
                self._journal.acknowledge(CONSUMER, seq)

    def _ask(self, event: Kept) -> None:
        """Whether somebody who is new here was seen elsewhere before."""
        of = event.values
        entry = self._site.reviews.entry_at(of.get("key", ""), of["camera"], of["time"])
        found = [] if entry is None else self._search(entry[2])
        if found:
            best = found[0]
            there = {name: value for name, value in asdict(best).items() if name != "score"}
            common = {"track": of.get("track"), "identity": of.get("identity"), "key": of["key"]}
            self._journal.tell(
                Event("elsewhere", of["time"], of["camera"], score=best.score, there=there, **common)
            )

    def _note(self, error: str) -> None:
        if error != self.error:
            (log.warning if error else log.info)("cluster: %s", error or f"{self.url} takes what is sent")
            if self.error is None or bool(error) != bool(self.error):
                self.since = time.time()
        self.error = error
        self._up.set(not error)
