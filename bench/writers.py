"""Clients that change people and remember what was acknowledged, over HTTP or in the gallery itself."""

from __future__ import annotations

import contextlib
import random
import sqlite3
import threading
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import httpx

from deploy.gallery import Gallery, changes
from pat.base.errors import Failure, UserError

GUESTS = 16
"""People that a client is left with at least."""
PAUSE = 0.02
"""Seconds between two changes of a client."""
MERGED = 6
"""Merges that a client leaves as they are, before it takes back the last."""
GONE = ""
"""In place of the name of somebody who was forgotten."""


class Desk(Protocol):
    """Where clients change people, who are named by their keys; what returns is acknowledged."""

    def rename(self, key: str, name: str) -> None: ...
    def merge(self, key: str, into: str) -> int: ...
    def undo(self, change: int) -> None: ...
    def forget(self, key: str) -> None: ...


class OverHttp:
    """The service's API. Raises httpx.TransportError when the service is gone, Failure when it refuses."""

    def __init__(self, address: str) -> None:
        self._client = httpx.Client(base_url=f"{address}api/v1/", timeout=60)

    def rename(self, key: str, name: str) -> None:
        self._ask("PATCH", f"people/{key}", {"name": name})

    def merge(self, key: str, into: str) -> int:
        return int(self._ask("POST", f"people/{key}/merge", {"into": into})["change"])

    def undo(self, change: int) -> None:
        self._ask("POST", f"changes/{change}/undo")

    def forget(self, key: str) -> None:
        self._ask("DELETE", f"people/{key}")

    def _ask(self, method: str, path: str, body: Mapping[str, str] | None = None) -> Any:
        answer = self._client.request(method, path, json=body)
        if not answer.is_success:
            raise Failure(f"{method} {path}: {answer.status_code} {answer.text}")
        return answer.json() if answer.content else None


class InGallery:
    """The gallery itself, open in this process beside the cameras'."""

    def __init__(self, gallery: Gallery) -> None:
        self._gallery = gallery

    def rename(self, key: str, name: str) -> None:
        self._gallery.merge(self._name(key), name)

    def merge(self, key: str, into: str) -> int:
        change = self._gallery.merge(self._name(key), self._name(into))
        assert change is not None
        return change.number

    def undo(self, change: int) -> None:
        self._gallery.undo(change)

    def forget(self, key: str) -> None:
        self._gallery.forget(self._name(key))

    def _name(self, key: str) -> str:
        person = self._gallery.person(key)
        if person is None:
            raise Failure(f"nobody has the key {key} any more")
        return person.name


class Client:
    """Changes people of its own, and knows what each may be called: one name, or two if an answer never came."""

    def __init__(self, people: Mapping[str, str], seed: int) -> None:
        self._random = random.Random(seed)
        self.allowed = {key: {name} for key, name in people.items()}
        """Names by key; of somebody who was merged the other's."""
        self._bore = {key: [name] for key, name in people.items()}
        """Every name that was given to a key."""
        self._merged: list[tuple[int, Sequence[str], str]] = []
        """Number, keys and former name of merges that stand, the last one last."""
        self.acknowledged: Counter[str] = Counter()
        self.refused: list[str] = []

    def write(self, desk: Desk, stopping: threading.Event) -> None:
        """Change one after the other until the process is gone or `stopping` is set."""
        while not stopping.wait(PAUSE):
            try:
                self._change(desk)
            except httpx.TransportError:
                return
            except (UserError, Failure) as error:
                self.refused.append(str(error))

    def _change(self, desk: Desk) -> None:
        sure = {name for names in self.allowed.values() if len(names) == 1 for name in names} - {GONE}
        name, other = self._random.sample(sorted(sure), 2)
        keys: Sequence[str]
        keys, others = ([key for key, names in self.allowed.items() if names == {each}] for each in (name, other))
        turn = self._random.random()
        if turn < 0.02 and len(sure) > GUESTS:
            self._merged = [each for each in self._merged if not {*each[1]} & {*keys}]
            with self._told(keys, GONE, "forget_person"):
                desk.forget(keys[0])
        elif turn < 0.5:
            new = f"guest {uuid.uuid4().hex}"
            for key in keys:
                self._bore[key].append(new)
            with self._told(keys, new, "rename_person"):
                desk.rename(keys[0], new)
        elif len(self._merged) < MERGED:
            with self._told(keys, other, "merge_people"):
                change = desk.merge(keys[0], others[0])
            self._merged.append((change, keys, name))
        else:
            change, keys, name = self._merged.pop()
            with self._told(keys, name, "undo_change"):
                desk.undo(change)

    @contextlib.contextmanager
    def _told(self, keys: Sequence[str], name: str, action: str) -> Iterator[None]:
        """These people may have another name from now on, and have it at the end."""
        for key in keys:
            self.allowed[key] = {*self.allowed[key], name}
        yield
        for key in keys:
            self.allowed[key] = {name}
        self.acknowledged[action] += 1

    def check(self, connection: sqlite3.Connection, content: bytes) -> Iterator[str]:
        """What contradicts an acknowledged change; what was uncertain is as it is found from here on."""
        names = dict(
            connection.execute(
                f"""{changes.OWNERS} SELECT identities.key, person.name FROM owners
                JOIN identities ON identities.id = owners.id JOIN identities person ON person.id = owner"""
            )
        )
        buried = {row[0] for row in connection.execute("SELECT key FROM tombstones")}
        borne = {row[0] for row in connection.execute("SELECT name FROM identities")}
        for key, allowed in self.allowed.items():
            name = names.get(key, GONE)
            if name not in allowed or (name == GONE) != (key in buried):
                yield f"{key} is {name or 'gone'}, which should be one of {allowed}; tombstone: {key in buried}"
            theirs = [each for each in self._bore[key] if each not in borne]  # not by somebody merged for a while
            if allowed == {GONE} and (left := [each for each in theirs if each.encode() in content]):
                yield f"{key} was forgotten, and its names are on the disk: {left}"
            self.allowed[key] = {name}
