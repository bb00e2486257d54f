"""The way to a Qdrant server: URLs, keys, and servers that refuse, hang or talk nonsense."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import numpy as np
import pytest
from qdrant_client import QdrantClient, models

from deploy.errors import DeployError, DeployFailure
from deploy.gallery import Facts, Gallery
from deploy.gallery import server as server_module
from deploy.gallery.entries import Where
from deploy.gallery.server import ServerStore, connect
from deploy.gallery.store import read_facts


def opened(url: str) -> Gallery:
    return Gallery.open(url, dimension=16, model="model-a")


@contextlib.contextmanager
def answering(status: int, body: bytes) -> Iterator[tuple[str, list[dict[str, str]]]]:
    """A web server that gives one answer to everything; its URL and the headers it was sent."""
    seen: list[dict[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append({name.lower(): value for name, value in self.headers.items()})
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_PUT = do_POST = do_GET

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    running = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=running.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{running.server_port}/people", seen
    finally:
        running.shutdown()
        thread.join()
        running.server_close()


def one_line(error: pytest.ExceptionInfo[BaseException]) -> str:
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_server_that_is_not_there_is_one_line():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/people"
    with pytest.raises(DeployFailure) as caught:
        opened(url)
    assert f"cannot reach the Qdrant server of {url}" in one_line(caught)
    assert "Connection refused" in str(caught.value)


def test_a_server_that_hangs_is_given_up(monkeypatch):
    monkeypatch.setattr(server_module, "TIMEOUT", 1)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        with pytest.raises(DeployFailure, match="timed out") as caught:
            opened(f"http://127.0.0.1:{silent.getsockname()[1]}")
    one_line(caught)


@pytest.mark.parametrize(
    ("status", "kind", "complaint"),
    [
        (401, DeployError, "refuses the key; set the environment variable QDRANT_API_KEY"),
        (403, DeployError, "refuses the key"),
        (500, DeployFailure, "answers 500 Internal Server Error: no space left"),
    ],
)
def test_a_server_that_refuses_is_one_line(status, kind, complaint):
    with answering(status, b"no space\nleft") as (url, _), pytest.raises(kind, match=complaint) as caught:
        opened(url)
    one_line(caught)


@pytest.mark.parametrize("body", [b"<html>hello</html>", b"{}", b'{"result": 7}'])
def test_something_else_that_answers_is_one_line(body):
    with answering(200, body) as (url, _), pytest.raises(DeployFailure) as caught:
        opened(url)
    assert url in one_line(caught)


def test_the_key_comes_from_the_environment(monkeypatch):
    monkeypatch.setenv("QDRANT_API_KEY", "secret")
    body = json.dumps({"result": {"exists": False}, "status": "ok", "time": 0}).encode()
    with answering(200, body) as (url, seen), pytest.raises(DeployError, match="there is no gallery"):
        read_facts(url)
    assert seen[0]["api-key"] == "secret"


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("http://user:secret@host/people", "holds a user, a password or a query"),
        ("http://host/people?api_key=secret", "holds a user, a password or a query"),
        ("http://host:port/people", "could not be cast to integer"),
        ("http://host/two/parts", "give http://host:port/collection"),
        ("http:///people", "give http://host:port/collection"),
        ("postgres://host/people", "not postgres://"),
    ],
)
def test_urls_that_cannot_be_are_refused(url, complaint):
    with pytest.raises(DeployError, match=complaint) as caught:
        opened(url)
    assert "secret" not in one_line(caught)


def test_the_parts_of_a_url():
    for url, name in (
        ("http://host", "http://host:6333/gallery"),
        ("https://host:443/people", "https://host:443/people"),
        ("http://[::1]:7000/people/", "http://::1:7000/people"),
    ):
        client, _, found = connect(url)
        client.close()
        assert found == name


def test_a_key_without_encryption_is_pointed_out(monkeypatch, caplog):
    monkeypatch.setenv("QDRANT_API_KEY", "secret")
    connect("http://example.org/people")[0].close()
    assert "travels unencrypted" in caplog.text


def test_a_collection_of_something_else_is_refused():
    client = QdrantClient(":memory:")
    client.create_collection("people", vectors_config=models.VectorParams(size=16, distance=models.Distance.DOT))
    with pytest.raises(DeployError, match="says nothing about itself: it is no gallery"):
        ServerStore.with_client(client, "people", "the server", Facts(16, "model-a", None))


def test_a_snapshot_moves_a_folder_to_a_server(tmp_path, monkeypatch):
    vectors = np.eye(5, 16, dtype=np.float32)
    names = ["a", "b", "b", "c", "d"]
    with Gallery.open(tmp_path / "gallery", dimension=16, model="model-a", retention=None) as gallery:
        ids = gallery.add(vectors, identity=names, camera="gate", time=1.5)
        gallery.snapshot(tmp_path / "people.npz")
    client = QdrantClient(":memory:")
    client.close = lambda: None
    monkeypatch.setattr(server_module, "connect", lambda url: (client, "people", url))
    assert Gallery.restore(tmp_path / "people.npz", "http://host/people") == 5
    assert read_facts("http://host/people") == Facts(16, "model-a", None)
    store = ServerStore.with_client(client, "people", "the server", Facts(16, "model-a", None))
    found = {record.id: record for page in store.pages(Where(), vectors=True) for record in page}
    assert [found[one].identity for one in ids] == names
    np.testing.assert_allclose([found[one].vector for one in ids], vectors, atol=1e-6)
    with pytest.raises(DeployError, match="holds entries; restore into a new one"):
        Gallery.restore(tmp_path / "people.npz", "http://host/people")
