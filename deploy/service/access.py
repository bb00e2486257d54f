"""Who may do what: tokens (hashed at rest), sessions of the page, rates, and a log of who did what."""

from __future__ import annotations

import hashlib
import math
import re
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

from deploy.service.store import Store
from pat.base.errors import UserError

Role = Literal["view", "operate", "erase"]
ROLES: tuple[Role, ...] = get_args(Role)
"""Each may do what those before it may: look; name, merge, answer, set the threshold; forget people, read the
audit log."""
TOKEN_BYTES = 32
CLIENTS = 10_000
"""Whose rate is remembered at most."""
WRONG_TOKENS = 10
"""In a minute and from one address; more are not looked at."""
DAY = 86400.0
_NAME = re.compile(r"[\w.@-]{1,64}")


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks."""

    name: str
    """The token's name; "local" for this machine."""
    role: Role
    address: str

    def may(self, role: Role) -> bool:
        return ROLES.index(self.role) >= ROLES.index(role)


class Tokens:
    """The tokens of a gallery's service: random, so that a plain hash of one is enough at rest."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def add(self, name: str, role: str) -> str:
        """Make a token; it is told this once. Raises UserError for a name that is taken or no name."""
        if not _NAME.fullmatch(name):
            raise UserError(f"{name!r} is no name for a token: 1 to 64 letters, digits, dots, dashes or @")
        if role not in ROLES:
            raise UserError(f"there is no role {role!r}; choose one of {', '.join(ROLES)}")
        token = secrets.token_urlsafe(TOKEN_BYTES)
        insert = "INSERT OR IGNORE INTO service_tokens VALUES (?, ?, ?, ?)"
        if not self._store.change(insert, name, role, _hash(token), time.time()):
            raise UserError(f"there is a token called {name!r} already; remove it first, or choose another name")
        return token

    def remove(self, name: str) -> None:
        """Take a token away, and with it the sessions it opened. Raises UserError when there is none."""
        if not self._store.change("DELETE FROM service_tokens WHERE name = ?", name):
            raise UserError(f"there is no token called {name!r}; `pat serve token list` shows them")

    def all(self) -> list[tuple[str, Role, float]]:
        """Name, role and when it was made."""
        return self._store.rows("SELECT name, role, made FROM service_tokens ORDER BY name")

    def whose(self, token: str) -> tuple[str, Role] | None:
        """Name and role of a token; None where it is none."""
        return self.of_hash(_hash(token))

    def of_hash(self, digest: str) -> tuple[str, Role] | None:
        """The same for a token of which the hash alone is known."""
        return self._store.row("SELECT name, role FROM service_tokens WHERE hash = ?", digest)


class Sessions:
    """Who signed in on the page: a random cookie in place of the token, in memory alone."""

    def __init__(self, tokens: Tokens, hours: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._tokens, self._seconds, self._clock = tokens, 3600 * hours, clock
        self._lock = threading.Lock()
        self._open: OrderedDict[str, tuple[str, float]] = OrderedDict()

    def begin(self, token: str) -> str | None:
        """A cookie for a token; None where it is none."""
        if self._tokens.whose(token) is None:
            return None
        cookie = secrets.token_urlsafe(TOKEN_BYTES)
        with self._lock:
            self._open[_hash(cookie)] = _hash(token), self._clock() + self._seconds
            while len(self._open) > CLIENTS:
                self._open.popitem(last=False)
        return cookie

    def whose(self, cookie: str) -> tuple[str, Role] | None:
        """Name and role of the token behind a cookie, as long as both hold."""
        with self._lock:
            digest, until = self._open.get(_hash(cookie), ("", -math.inf))
        return self._tokens.of_hash(digest) if self._clock() < until else None

    def end(self, cookie: str) -> None:
        """Sign out."""
        with self._lock:
            self._open.pop(_hash(cookie), None)


class Rate:
    """So many requests of one client, on average, and `burst` at once."""

    def __init__(self, per_second: float, burst: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._most, self._clock = per_second, max(1.0, burst), clock
        self._lock = threading.Lock()
        self._clients: OrderedDict[str, tuple[float, float]] = OrderedDict()  # what is left, and when that was

    def wait(self, client: str) -> float:
        """Seconds until the client may ask; 0: now, and it counts."""
        with self._lock:
            now = self._clock()
            left, then = self._clients.pop(client, (self._most, now))
            left = min(self._most, left + (now - then) * self._rate)
            allowed = left >= 1
            self._clients[client] = left - 1 if allowed else left, now
            while len(self._clients) > CLIENTS:
                self._clients.popitem(last=False)
        return 0.0 if allowed else (1 - left) / self._rate


class Audit:
    """Who did what: people by their key, which says nothing once they are forgotten."""

    def __init__(self, store: Store, days: float) -> None:
        self._store, self._days = store, days

    def note(self, caller: Caller, action: str, subject: str, status: int) -> None:
        """Keep a line; what is older than `days` goes."""
        now = time.time()
        with self._store.changing() as connection:
            connection.execute("DELETE FROM service_audit WHERE time < ?", (now - self._days * DAY,))
            connection.execute(
                """INSERT INTO service_audit (time, who, role, address, action, subject, status)
                VALUES (?, ?, ?, ?, ?, ?, ?)""",
                (now, caller.name, caller.role, caller.address, action, subject, status),
            )

    def lines(self, limit: int, before: int | None = None) -> list[tuple]:
        """Number, time, who, role, address, action, subject, status; newest first."""
        return self._store.rows(
            """SELECT id, time, who, role, address, action, subject, status FROM service_audit
            WHERE id < ? ORDER BY id DESC LIMIT ?""",
            2**62 if before is None else before, limit,
        )  # fmt: skip


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
