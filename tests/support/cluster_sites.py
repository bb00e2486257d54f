"""Sites with galleries of their own, the double of a cluster in another process, and a site to be killed."""

from __future__ import annotations

import contextlib
import random
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx

from deploy.cluster.client import connect
from deploy.cluster.cluster import Cluster
from deploy.cluster.settings import ClusterSettings
from deploy.cluster.sync import Sync, node_of
from deploy.gallery import Gallery
from deploy.gallery.database import Database
from pat.base.errors import Failure
from vectors import unit

SIZE, MODEL = 16, "model-1"
DOUBLE = Path(__file__).parent / "qdrant_double.py"


class Site:
    """A gallery and what sends it."""

    def __init__(
        self, folder: Path, client, name: str, where: str = "", model: str = MODEL, dimension: int = SIZE, **more
    ) -> None:
        self.folder = folder / name
        self.gallery = Gallery.open(self.folder, dimension=dimension, model=model, **more)
        self.database = Database(self.folder)
        self.node = node_of(self.database)
        self.cluster = Cluster(client, self.gallery.facts, node=self.node, site=name, where=where)
        self.sync = Sync(self.gallery, self.database, self.cluster)

    def meet(self, name: str, seed: int, camera: str = "gate", ago: float = 10.0, **more) -> str:
        (entry,) = self.gallery.add(unit(seed)[None], identity=name, camera=camera, time=time.time() - ago, **more)
        return entry

    def asks(self, seed: int, threshold: float = 0.9):
        return self.cluster.search(unit(seed), 5, threshold, time.time())

    def close(self) -> None:
        self.database.close()
        self.gallery.close()


class Server:
    """The double in a process of its own."""

    def __init__(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.process = subprocess.Popen(
            [sys.executable, str(DOUBLE), str(self.port)], stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()

    def empty(self) -> None:
        for each in httpx.get(f"{self.url}/collections", timeout=30).json()["result"]["collections"]:
            httpx.delete(f"{self.url}/collections/{each['name']}", timeout=30)

    def fault(self, kind: str, after: int = 0, times: int = 1) -> None:
        httpx.post(f"{self.url}/_fault", json={"kind": kind, "after": after, "times": times}, timeout=30)

    def asked(self) -> dict:
        return httpx.get(f"{self.url}/_asked", timeout=30).json()


def worker(url: str, folder: str, seed: int) -> None:
    """Meets and forgets people and sends that, until it is killed; says what the gallery has acknowledged."""
    client = connect(ClusterSettings(url=url, site="harbour"))
    site, draw = Site(Path(folder), client, "harbour", url), random.Random(seed)
    for turn in range(10**9):
        entry = site.meet(f"p{draw.randrange(40)}", draw.randrange(10**6))
        print("met", entry, flush=True)
        if draw.random() < 0.2:
            name = f"p{draw.randrange(40)}"
            site.gallery.forget(name)
        if turn % 5 == 4:
            with contextlib.suppress(Failure):  # the network fails now and then
                site.sync.round()
                print("sent", flush=True)


if __name__ == "__main__":
    worker(sys.argv[1], sys.argv[2], int(sys.argv[3]))
