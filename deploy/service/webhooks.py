"""Tells programs of events by HTTP: signed, in order, retried for as long as an event is kept.

Signed as https://www.standardwebhooks.com says: HMAC-SHA256 over id, time and body, so that whoever receives it
can tell that it is from here, whole, and no replay.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import logging
import os
import time
from typing import get_args
from urllib.parse import urlsplit

import httpx
from anyio import to_thread

from deploy.clocks import Backoff
from deploy.events import Kind
from deploy.service.journal import Journal, Kept, acknowledge
from deploy.service.settings import WebhookSettings
from deploy.service.streams import Streams
from deploy.sources.names import shown
from pat.base.errors import UserError

log = logging.getLogger(__name__)

SECRET = "PAT_WEBHOOK_SECRET"
RETRY = (1.0, 600.0)
"""Shortest and longest wait in seconds before another try."""
LOOK_EVERY = 5.0
"""Seconds between two looks at the journal when nothing wakes it: another process may have forgotten somebody."""
SHORTEST_SECRET = 16
KINDS = (*get_args(Kind), "forgotten")
"""Of events: those of cameras, and what the gallery itself tells."""


def check(settings: WebhookSettings) -> None:
    """Raise UserError for addresses, kinds of events or a secret that cannot work."""
    for url in settings.urls:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UserError(f"--webhook.urls {shown(url)} is no address; it begins with http:// or https://")
    if unknown := [each for each in settings.events if each not in KINDS]:
        raise UserError(f"--webhook.events {unknown[0]} is no kind of event; there are {', '.join(KINDS)}")
    if settings.urls and len(os.environ.get(SECRET, "")) < SHORTEST_SECRET:
        raise UserError(f"webhooks are signed: set {SECRET} to a secret of {SHORTEST_SECRET} characters or more")


class Webhook:
    """Delivers to one address, by settings that passed `check`."""

    def __init__(self, url: str, settings: WebhookSettings, journal: Journal, streams: Streams) -> None:
        self._url, self._shown, self._secret = url, shown(url), os.environ[SECRET].encode()
        self._settings, self._journal, self._streams = settings, journal, streams
        self.name = "webhook:" + hashlib.sha256(url.encode()).hexdigest()[:16]
        """Of the cursor; the address may hold a password."""

    async def run(self) -> None:
        """Deliver until cancelled; what was not acknowledged comes again."""
        backoff = Backoff(*RETRY)
        told = True
        async with httpx.AsyncClient(timeout=self._settings.timeout, follow_redirects=False) as client:
            seq = await to_thread.run_sync(self._journal.cursor, self.name)
            async for events in self._streams.follow(self._journal, seq, LOOK_EVERY):
                for event in events:
                    while error := await self._deliver(client, event):
                        if told:
                            log.warning("webhook %s: %s; it is tried again", self._shown, error)
                        told = False
                        await asyncio.sleep(backoff.next())
                    if not told:
                        log.info("webhook %s takes events again", self._shown)
                    told = True
                    backoff.reset()
                    await acknowledge(self._journal, self.name, event.seq)

    async def _deliver(self, client: httpx.AsyncClient, event: Kept) -> str:
        """Why it was not taken; "" when it was, or is of a kind that is not posted."""
        if event.values["event"] not in self._settings.events:
            return ""
        body = json.dumps(dict(event.values)).encode()
        try:
            answer = await client.post(
                self._url, content=body, headers=signed(self._secret, event.values["id"], body)
            )
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            return str(error) or type(error).__name__
        return "" if answer.is_success else f"it answered {answer.status_code}"


def signed(secret: bytes, id: str, body: bytes, now: float | None = None) -> dict[str, str]:
    """The headers of a delivery."""
    stamp = str(int(time.time() if now is None else now))
    mac = hmac.new(secret, f"{id}.{stamp}.".encode() + body, hashlib.sha256).digest()
    return {
        "Content-Type": "application/json",
        "webhook-id": id,
        "webhook-timestamp": stamp,
        "webhook-signature": "v1," + base64.b64encode(mac).decode(),
    }
