"""What a request passes before the application sees it: name, caller, origin, rate, size; what is noted."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
from collections.abc import AsyncIterator, Sequence
from typing import Any

from anyio import to_thread
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect, Request, cookie_parser

from deploy.service.access import Caller, Rate
from deploy.service.api.problems import problem
from deploy.service.site import Site

log = logging.getLogger(__name__)

COOKIE = "pat_session"
OPEN = ("/healthz", "/readyz", "/api/v1/session", "/api/v1/openapi.json")
"""Paths that anybody may ask."""
REST_BYTES, REST_WITHIN = 32 << 20, 5.0
"""Bytes and seconds of a body that is too large that are still read."""
BODY_WITHIN = 20.0
"""Seconds in which a body must have arrived."""
SMALL_BODY = 100_000
"""Bytes of a body that is no photo."""
SAFE = ("GET", "HEAD", "OPTIONS")
PROXIED = ("forwarded", "x-forwarded-for", "x-real-ip", "via")
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    "manifest-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}


class Guard:
    """ASGI middleware. The caller is `scope["state"]["caller"]` afterwards; None on the paths open to all."""

    def __init__(self, app: Any, site: Site, hosts: Sequence[str]) -> None:
        self._app, self._site = app, site
        access = site.settings.access
        self._hosts = {each.lower() for each in (*hosts, *access.hosts, "localhost") if each}
        self._open_loopback = access.loopback == "open"
        self._rate = Rate(access.requests_per_second, 2 * access.requests_per_second)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers, path = Headers(scope=scope), scope["path"]
        address = scope["client"][0] if scope.get("client") else "local socket"
        status = 0

        async def answer(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                out = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    out.setdefault(name, value)
                if path.startswith(("/api/", "/metrics", "/healthz", "/readyz")):
                    out.setdefault("cache-control", "no-store")
            await send(message)

        async def refuse(code: int, detail: str, **more: Any) -> None:
            await problem(code, detail, **more)(scope, receive, answer)

        if not self._known_host(_host(headers)):
            return await refuse(421, "ask for localhost, an address, or a name given with --access.hosts")
        if wait := self._rate.wait(address):
            return await refuse(429, "slow down", headers={"Retry-After": str(max(1, round(wait)))})
        caller: Caller | None = None
        if path.startswith(("/api/", "/metrics")):
            if _foreign(headers, scope):
                return await refuse(403, "another site may not ask in a visitor's name")
            caller, wrong = self._caller(headers, scope, address)
            if wrong and (wait := self._site.wrong_tokens.wait(address)):
                return await refuse(
                    429, "too many wrong tokens", headers={"Retry-After": str(max(1, round(wait)))}
                )
            if caller is None and path not in OPEN:
                return await refuse(
                    401, "the token is wrong" if wrong else "send a token: Authorization: Bearer TOKEN",
                    headers={"WWW-Authenticate": "Bearer"},
                )  # fmt: skip
        scope.setdefault("state", {})["caller"] = caller
        if scope["method"] in SAFE:
            await self._app(scope, receive, answer)
            return
        most = self._site.photos.most_bytes if path == "/api/v1/search" else SMALL_BODY
        chunks = Request(scope, receive).stream()
        try:
            told = int(headers.get("content-length") or 0)
            body = None if told > most else await asyncio.wait_for(_body(chunks, most), BODY_WITHIN)
        except ClientDisconnect:
            return
        except asyncio.TimeoutError:
            detail = f"the body did not arrive within {BODY_WITHIN:.0f} s"
            return await refuse(408, detail, headers={"Connection": "close"})
        if body is None:
            await _rest(chunks)
            return await refuse(413, f"{most:,} bytes are the most here", headers={"Connection": "close"})
        asked = caller or Caller("nobody", "view", address)

        async def noted(message: Any) -> None:
            """What was done is in the audit log before anybody hears of it, whatever happens to the process."""
            if message["type"] == "http.response.start" and path.startswith("/api/"):
                await to_thread.run_sync(self._note, scope, asked, message["status"])
            await answer(message)

        try:
            await self._app(scope, _given(body, receive), noted)
        finally:
            if not status and path.startswith("/api/"):  # nothing was answered
                await to_thread.run_sync(self._note, scope, asked, status)

    def _known_host(self, name: str) -> bool:
        """Whether the request names this service; a name that was pointed here (DNS rebinding) is another."""
        return name in self._hosts or _address(name) is not None

    def _caller(self, headers: Headers, scope: Any, address: str) -> tuple[Caller | None, bool]:
        """Who asks, and whether a wrong token was shown."""
        found, shown = None, False
        kind, _, token = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer":
            found, shown = self._site.tokens.whose(token.strip()), True
        elif cookie := cookie_parser(headers.get("cookie", "")).get(COOKIE):
            found = self._site.sessions.whose(cookie)
        if found is not None:
            return Caller(found[0], found[1], address), False
        if not shown and self._is_local(headers, address):
            return Caller("local", "erase", address), False
        return None, shown

    def _is_local(self, headers: Headers, address: str) -> bool:
        if not self._open_loopback or any(name in headers for name in PROXIED):
            return False
        return is_loopback(address) and (_host(headers) == "localhost" or is_loopback(_host(headers)))

    def _note(self, scope: Any, caller: Caller, status: int) -> None:
        try:
            route = scope.get("route")
            subject = "/".join(str(each) for each in scope.get("path_params", {}).values())
            self._site.audit.note(caller, getattr(route, "name", "unknown"), subject[:200], status)
        except Exception:  # a full disk must not turn an answer into an error
            log.exception("the audit log could not be written")


def _foreign(headers: Headers, scope: Any) -> bool:
    """Whether a browser says that another site's page makes this request."""
    if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return True
    origin = headers.get("origin")
    return origin is not None and origin.lower() != f"{scope['scheme']}://{headers.get('host', '')}".lower()


def _host(headers: Headers) -> str:
    """What the request calls this service, without a port."""
    host = headers.get("host", "").lower()
    return host if host.endswith("]") else host.rsplit(":", 1)[0]


def is_loopback(name: str) -> bool:
    """Whether an address, as it may stand in a URL, is one of this machine alone."""
    address = _address(name)
    return address is not None and address.is_loopback


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(name.strip("[]").partition("%")[0])
    except ValueError:
        return None


async def _rest(chunks: AsyncIterator[bytes]) -> None:
    """Read on, within bounds, what is too much: a client whose connection ends while it sends hears no answer."""

    async def read() -> None:
        taken = 0
        async for chunk in chunks:
            taken += len(chunk)
            if taken >= REST_BYTES:
                return

    with contextlib.suppress(asyncio.TimeoutError, ClientDisconnect):
        await asyncio.wait_for(read(), REST_WITHIN)


async def _body(chunks: AsyncIterator[bytes], most: int) -> bytes | None:
    """The whole body; None when it is larger than `most`."""
    body = bytearray()
    async for chunk in chunks:
        body += chunk
        if len(body) > most:
            return None
    return bytes(body)


def _given(body: bytes, receive: Any) -> Any:
    """A `receive` that hands out the body once, and then what comes."""
    done = False

    async def again() -> Any:
        nonlocal done
        if done:
            return await receive()
        done = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again
