"""Who may ask for what: tokens, roles, sessions, foreign sites, names, rates, the audit log, slow clients."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time

import httpx
import pytest

from deploy.service import server
from deploy.service.access import Rate, Tokens
from deploy.service.api.guard import Guard
from deploy.service.service import Service
from deploy.service.settings import AccessSettings, ServiceSettings
from pat.base.errors import UserError

from .conftest import running


@pytest.fixture
def closed(colour_bundle, tmp_path):
    """A service that wants a token of everybody; with one of each role."""
    chosen = ServiceSettings(access=AccessSettings(loopback="token"))
    with running(colour_bundle, tmp_path, service=chosen) as found:
        tokens = Tokens(found.site.store)
        found.tokens = {role: tokens.add(f"{role}er", role) for role in ("view", "operate", "erase")}
        yield found


def asked(service, method, path, token=None, **headers):
    if token:
        headers["Authorization"] = f"Bearer {token}"
    more = {"json": {"name": "x"}} if method == "PATCH" else {}
    return httpx.request(method, f"{service.service.address}{path.lstrip('/')}", headers=headers, **more)


def test_without_a_token_only_health_and_the_page(closed):
    assert asked(closed, "GET", "/healthz").status_code == 200
    assert asked(closed, "GET", "/readyz").status_code == 200
    assert asked(closed, "GET", "/").status_code == 200
    for path in ("/api/v1/people", "/api/v1/status", "/metrics", "/api/v1/events/stream", "/api/v1/nothing"):
        answer = asked(closed, "GET", path)
        assert answer.status_code == 401
        assert answer.headers["WWW-Authenticate"] == "Bearer"
        assert answer.json()["type"] == "urn:pat-reid:problem:no-token"


def test_each_role_may_do_what_those_before_it_may(closed):
    allowed = {
        role: [
            asked(closed, method, path, token).status_code
            for method, path in (
                ("GET", "/api/v1/people"), ("PATCH", "/api/v1/people/abcd"), ("DELETE", "/api/v1/people/abcd"),
                ("GET", "/api/v1/audit"),
            )
        ]
        for role, token in closed.tokens.items()
    }  # fmt: skip
    assert allowed == {
        "view": [200, 403, 403, 403], "operate": [200, 404, 403, 403], "erase": [200, 404, 404, 200],
    }  # fmt: skip


def test_tokens_are_hashed_and_can_be_taken_away(closed):
    token = closed.tokens["view"]
    files = [each.read_bytes() for each in (closed.folder / "gallery").iterdir() if each.is_file()]
    assert not any(token.encode() in content for content in files)
    assert asked(closed, "GET", "/api/v1/people", token).status_code == 200
    Tokens(closed.site.store).remove("viewer")
    assert asked(closed, "GET", "/api/v1/people", token).status_code == 401


def test_wrong_tokens_are_not_looked_at_for_ever(closed):
    codes = [asked(closed, "GET", "/api/v1/people", "x" * 43).status_code for _ in range(14)]
    assert codes[0] == 401
    assert codes[-1] == 429
    assert asked(closed, "GET", "/api/v1/people", closed.tokens["view"]).status_code == 200


def test_signing_in_and_out(closed):
    with httpx.Client(base_url=closed.service.address) as client:
        assert client.get("/api/v1/session").json() == {"caller": None, "role": None}
        assert client.post("/api/v1/session", json={"token": "wrong"}).status_code == 401
        done = client.post("/api/v1/session", json={"token": closed.tokens["operate"]})
        assert done.json() == {"caller": "operateer", "role": "operate"}
        cookie = done.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "samesite=strict" in cookie.lower()
        assert client.get("/api/v1/people").status_code == 200
        kept = dict(client.cookies)
        assert client.delete("/api/v1/session").status_code == 204
        client.cookies.update(kept)
        assert client.get("/api/v1/people").status_code == 401


def test_a_session_ends_with_its_token(closed):
    with httpx.Client(base_url=closed.service.address) as client:
        client.post("/api/v1/session", json={"token": closed.tokens["view"]})
        Tokens(closed.site.store).remove("viewer")
        assert client.get("/api/v1/people").status_code == 401


def test_another_site_may_not_ask_in_a_visitors_name(service):
    for headers in (
        {"Origin": "https://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ):  # fmt: skip
        assert asked(service, "DELETE", "/api/v1/people/abcd", **headers).status_code == 403
        assert asked(service, "GET", "/api/v1/people", **headers).status_code == 403
    own = service.service.address.rstrip("/")
    assert asked(service, "GET", "/api/v1/people", Origin=own).status_code == 200


def test_a_name_that_was_pointed_here_is_refused(service):
    port = service.service.address.rsplit(":", 1)[1].rstrip("/")
    assert asked(service, "GET", "/api/v1/people", Host=f"evil.example:{port}").status_code == 421
    assert asked(service, "GET", "/", Host="evil.example").status_code == 421
    for name in (f"localhost:{port}", f"127.0.0.1:{port}", f"[::1]:{port}", "[::1]", "LocalHost"):
        assert asked(service, "GET", "/api/v1/people", Host=name).status_code == 200


@pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded", "Via", "X-Real-IP"])
def test_who_comes_through_a_proxy_is_not_local(service, header):
    assert asked(service, "GET", "/api/v1/people", **{header: "10.0.0.9"}).status_code == 401


def test_an_outside_name_is_not_local(service):
    assert asked(service, "GET", "/api/v1/people", Host="10.0.0.1").status_code == 401


def test_every_answer_says_what_the_page_may_do(service):
    for path in ("/", "/api/v1/people", "/api/v1/nothing"):
        answer = asked(service, "GET", path)
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "http" not in policy
        assert "frame-ancestors 'none'" in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
    assert asked(service, "GET", "/api/v1/people").headers["cache-control"] == "no-store"


def test_rates_are_of_each_client():
    now = [0.0]
    rate = Rate(10, 20, clock=lambda: now[0])
    assert [rate.wait("a") for _ in range(20)] == [0.0] * 20
    assert rate.wait("a") == pytest.approx(0.1)
    assert rate.wait("b") == 0.0
    now[0] = 0.1
    assert rate.wait("a") == 0.0


def test_too_many_requests_are_refused(colour_bundle, tmp_path):
    chosen = ServiceSettings(access=AccessSettings(requests_per_second=1))
    with running(colour_bundle, tmp_path, service=chosen) as service:
        answers = [service.api("GET", "/session") for _ in range(6)]
        assert [each.status_code for each in answers][-1] == 429
        assert int(answers[-1].headers["retry-after"]) >= 1


def test_what_was_done_is_noted_without_names(service, people):
    key = people["gate-1"]["key"]
    service.api("PATCH", f"/people/{key}", json={"name": "bob"})
    service.api("DELETE", f"/people/{key}")
    asked(service, "DELETE", f"/api/v1/people/{key}")
    lines = service.get("/audit")["items"]
    assert len(lines) == 3
    assert [(each["action"], each["subject"], each["status"], each["who"]) for each in lines] == [
        ("forget_person", key, 404, "local"), ("forget_person", key, 200, "local"),
        ("rename_person", key, 200, "local"),
    ]  # fmt: skip


def test_what_was_done_is_noted_before_anybody_hears_of_it(service, people, monkeypatch):
    """Who was told that it is done may be told the last thing before a kill."""
    noted, note = [], service.site.audit.note

    def slowly(*what):
        time.sleep(0.3)
        note(*what)
        noted.append(what[1])

    monkeypatch.setattr(service.site.audit, "note", slowly)
    service.api("PATCH", f"/people/{people['gate-1']['key']}", json={"name": "bob"})
    assert noted == ["rename_person"]


def test_others_can_only_reach_it_with_a_token(colour_bundle, tmp_path):
    with pytest.raises(UserError, match="pat serve token add"), running(colour_bundle, tmp_path, host="0.0.0.0"):
        pass


def test_a_port_that_is_taken(service):
    port = int(service.service.address.rsplit(":", 1)[1].rstrip("/"))
    with pytest.raises(UserError, match="--port"):
        server.listen("127.0.0.1", port)
    with pytest.raises(UserError, match=r"no\.host"):
        server.listen("no.host.example.invalid", 0)
    for wrong in (port, 70000, -1):
        with pytest.raises(UserError, match="--port"):  # before a model is loaded
            Service(ServiceSettings(), "127.0.0.1", wrong)


def connected(service) -> socket.socket:
    host, port = service.service.address.removeprefix("http://").rstrip("/").rsplit(":", 1)
    return socket.create_connection((host, int(port)), timeout=30)


def ended(channel: socket.socket) -> bool:
    try:
        return channel.recv(100) == b""
    except ConnectionError:
        return True


def refused(channel: socket.socket, ask: bytes) -> bool:
    """Whether the connection is gone, a moment after asking."""
    try:
        channel.sendall(ask)
    except ConnectionError:
        return True
    time.sleep(0.05)
    return False


def test_clients_that_do_not_ask_are_cut_off(service, monkeypatch):
    monkeypatch.setattr(server, "ASK_WITHIN", 0.3)
    with connected(service) as silent, connected(service) as half:
        half.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Slow: ")
        begun = time.monotonic()
        assert ended(silent)
        assert ended(half)
        assert time.monotonic() - begun < 10
    with connected(service) as idle:
        idle.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b"200" in idle.recv(1000)
        while not ended(idle):
            pass


def test_900_half_open_requests_take_no_threads_and_keep_nobody_out(service):
    threads = threading.active_count()
    with contextlib.ExitStack() as stack:
        for _ in range(900):
            channel = stack.enter_context(connected(service))
            with contextlib.suppress(ConnectionError):
                channel.sendall(b"GET /healthz HTTP/1.1\r\n")
        assert service.client.get("/healthz").status_code == 200
        assert threading.active_count() <= threads + server.STOP_WITHIN


def test_clients_that_do_not_listen_are_cut_off(service, people, monkeypatch):
    monkeypatch.setattr(server, "LISTEN_WITHIN", 0.5)
    served = service.site.parts
    with connected(service) as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        ask = b"GET /api/v1/openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n"
        with contextlib.suppress(ConnectionError):
            for _ in range(200):
                deaf.sendall(ask)
        time.sleep(2)
        assert any(refused(deaf, ask) for _ in range(50))
    assert served.embedder.broken_for == 0
    assert service.client.get("/healthz").status_code == 200


def test_a_body_that_comes_too_slowly(service, monkeypatch):
    from deploy.service.api import guard

    monkeypatch.setattr(guard, "BODY_WITHIN", 0.3)
    with connected(service) as slow:
        slow.sendall(
            b"POST /api/v1/search HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/jpeg\r\n"
            b"Content-Length: 1000\r\n\r\nabc"
        )
        assert b" 408 " in slow.recv(1000)


def test_a_body_that_is_cut_short_does_nothing(service):
    """What came of it may make sense by itself."""
    scope = {
        "type": "http", "method": "PATCH", "path": "/api/v1/people/ab", "scheme": "http", "query_string": b"",
        "headers": [(b"host", b"localhost"), (b"content-length", b"100")], "client": ("127.0.0.1", 1),
    }  # fmt: skip
    came = iter(
        [{"type": "http.request", "body": b'{"name": "bob"}', "more_body": True}, {"type": "http.disconnect"}]
    )
    reached, sent = [], []

    async def app(scope, receive, send):
        reached.append(scope)

    async def receive():
        return next(came)

    async def send(message):
        sent.append(message)

    asyncio.run(Guard(app, service.site, [])(scope, receive, send))
    assert (reached, sent) == ([], [])
    assert service.get("/audit")["items"] == []


def test_names_and_roles_of_tokens_are_checked(service):
    tokens = Tokens(service.site.store)
    tokens.add("desk", "view")
    for name, role, said in (("desk", "view", "already"), ("a b", "view", "no name"), ("x", "root", "no role")):
        with pytest.raises(UserError, match=said):
            tokens.add(name, role)
    with pytest.raises(UserError, match="no token"):
        tokens.remove("nobody")
