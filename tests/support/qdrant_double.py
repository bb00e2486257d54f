"""A process that speaks the part of Qdrant's REST API that sites use, over a socket, and fails as networks do.

`python qdrant_double.py PORT`. Behind it is qdrant-client's local mode; every body is checked with
`qdrant_client.http.models`, which allow no unknown field. `POST /_fault {"kind": ..., "after": M, "times": N}`
lets M requests pass and spoils N:

    refuse   the connection is closed before the request is read
    hang     no answer
    cut      the request is read in part, then the connection is reset
    error    500 without doing anything
    lost     the request is carried out, and the answer never sent
    half     the request is carried out, and half of the answer sent
    garbage  the request is carried out, and something that is no JSON sent
    drip     the answer comes a byte at a time
    busy     429 with Retry-After

`GET /_asked` tells how many requests of each kind were carried out and the largest body.
"""

from __future__ import annotations

import contextlib
import json
import re
import socket
import struct
import sys
import threading
import time
import warnings
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from pydantic import TypeAdapter, ValidationError
from qdrant_client import QdrantClient
from qdrant_client.http import models as q

NAME = r"(?P<name>[^/]+)"


class Double:
    def __init__(self) -> None:
        warnings.simplefilter("ignore")  # the local mode says that it has no indexes
        self.client = QdrantClient(":memory:")
        self.lock = threading.Lock()
        self.fault, self.after, self.times = "", 0, 0
        self.asked: dict[str, int] = {}
        self.largest = 0

    def take_fault(self) -> str:
        with self.lock:
            self.after -= 1
            if self.after >= 0 or self.times <= 0:
                return ""
            self.times -= 1
            return self.fault

    def answer(self, method: str, path: str, body: bytes):
        with self.lock:
            for wanted, pattern, model, handle in ROUTES:
                if wanted == method and (match := re.fullmatch(pattern, path)):
                    given = TypeAdapter(model).validate_json(body, strict=False) if model else None
                    result = handle(self.client, match.groupdict().get("name"), given)
                    self.asked[f"{method} {pattern.replace(NAME, 'NAME')}"] = (
                        self.asked.get(f"{method} {pattern.replace(NAME, 'NAME')}", 0) + 1
                    )
                    self.largest = max(self.largest, len(body))
                    return result
        raise LookupError(path)


def plain(value):
    if isinstance(value, list):
        return [plain(each) for each in value]
    return value.model_dump(mode="json") if hasattr(value, "model_dump") else value


def upsert(client, name, given):
    assert isinstance(given, q.PointsList)
    return client.upsert(name, given.points)


def delete(client, name, given):
    if isinstance(given, q.PointIdsList):
        return client.delete(name, given)
    return client.delete(name, given.filter)


def scroll(client, name, given):
    points, following = client.scroll(
        name, given.filter, limit=given.limit, offset=given.offset, with_payload=given.with_payload,
        with_vectors=given.with_vector or False,
    )  # fmt: skip
    return {"points": plain(points), "next_page_offset": following}


ROUTES = [
    ("GET", "/collections", None, lambda c, n, g: c.get_collections()),
    ("GET", f"/collections/{NAME}", None, lambda c, n, g: c.get_collection(n)),
    ("PUT", f"/collections/{NAME}", q.CreateCollection,
     lambda c, n, g: c.create_collection(n, vectors_config=g.vectors)),
    ("DELETE", f"/collections/{NAME}", None, lambda c, n, g: c.delete_collection(n)),
    ("PUT", f"/collections/{NAME}/index", q.CreateFieldIndex,
     lambda c, n, g: c.create_payload_index(n, g.field_name, field_schema=g.field_schema)),
    ("PUT", f"/collections/{NAME}/points", q.PointInsertOperations, upsert),
    ("POST", f"/collections/{NAME}/points", q.PointRequest,
     lambda c, n, g: c.retrieve(n, g.ids, with_payload=g.with_payload)),
    ("POST", f"/collections/{NAME}/points/delete", q.PointsSelector, delete),
    ("POST", f"/collections/{NAME}/points/payload", q.SetPayload,
     lambda c, n, g: c.set_payload(n, g.payload, points=g.points or g.filter, key=g.key)),
    ("POST", f"/collections/{NAME}/points/scroll", q.ScrollRequest, scroll),
    ("POST", f"/collections/{NAME}/points/count", q.CountRequest, lambda c, n, g: c.count(n, g.filter)),
    ("POST", f"/collections/{NAME}/points/query/groups", q.QueryGroupsRequest,
     lambda c, n, g: c.query_points_groups(n, g.group_by, query=g.query, query_filter=g.filter, limit=g.limit,
                                           group_size=g.group_size, score_threshold=g.score_threshold,
                                           with_payload=g.with_payload)),
]  # fmt: skip


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    double: Double

    def do(self) -> None:
        path = self.path.partition("?")[0]
        length = int(self.headers.get("Content-Length") or 0)
        if path.startswith("/_"):
            return self.control(path, self.rfile.read(length))
        fault = self.double.take_fault()
        if fault == "refuse":
            return self.reset()
        if fault == "hang":
            time.sleep(60)
            return self.reset()
        if fault == "cut":
            self.rfile.read(length // 2)
            return self.reset()
        body = self.rfile.read(length)
        if fault == "error":
            return self.send(500, {"status": {"error": "Service internal error"}, "time": 0})
        if fault == "busy":
            return self.send(429, {"status": {"error": "too many"}, "time": 0}, {"Retry-After": "1"})
        try:
            result = self.double.answer(self.command, path, body)
        except (ValidationError, AssertionError) as error:
            return self.send(400, {"status": {"error": f"Format error in JSON body: {error}"}, "time": 0})
        except (LookupError, ValueError) as error:
            return self.send(404, {"status": {"error": f"Not found: {error}"}, "time": 0})
        self.send(200, {"result": plain(result), "status": "ok", "time": 0.001}, fault=fault)

    def send(self, status: int, values, more=(), *, fault: str = "") -> None:
        body = json.dumps(values).encode()
        if fault == "lost":
            return self.reset()
        if fault == "garbage":
            body = b"<html>a proxy's page</html>"
        self.send_response(status)
        for name, value in dict(more).items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if fault == "half":
            self.wfile.write(body[: len(body) // 2])
            return self.reset()
        if fault == "drip":
            for at in range(len(body)):
                self.wfile.write(body[at : at + 1])
                self.wfile.flush()
                time.sleep(0.2)
            return None
        self.wfile.write(body)

    def reset(self) -> None:
        """RST in place of FIN, as a broken line does."""
        self.wfile.flush()
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True

    def control(self, path: str, body: bytes) -> None:
        if path == "/_fault":
            given = json.loads(body)
            self.double.fault, self.double.after, self.double.times = given["kind"], given["after"], given["times"]
        self.send(200, {"asked": self.double.asked, "largest": self.double.largest})

    do_GET = do_PUT = do_POST = do_DELETE = do

    def log_message(self, *rest) -> None:
        pass

    def handle(self) -> None:
        with contextlib.suppress(OSError, ValueError):  # the other side is gone, or we are
            super().handle()


def main() -> None:
    Handler.double = Double()
    server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler)
    server.daemon_threads = True
    print("ready", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
