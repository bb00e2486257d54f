"""deploy.detect.fetch: a published detector comes whole and unchanged, or not at all."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from deploy.detect import fetch, open_detector
from deploy.detect.__main__ import main
from deploy.detect.fetch import PUBLISHED, Published
from export.manifest import sha256


@pytest.fixture
def server(tmp_path) -> Iterator[tuple[Path, str, list[str]]]:
    """A folder served over HTTP, its address, and what was asked for."""
    folder, asked = tmp_path / "served", []
    folder.mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments, **options) -> None:
            super().__init__(*arguments, directory=str(folder), **options)

        def log_message(self, *words) -> None:
            asked.append(self.path)

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        yield folder, f"http://127.0.0.1:{running.server_port}", asked
        running.shutdown()
        thread.join()


@pytest.fixture
def published(server, monkeypatch, detector_file) -> Published:
    folder, address, _ = server
    file = detector_file(folder / "small.onnx")
    known = Published(f"{address}/small.onnx", file.stat().st_size, sha256(file), "yolox", "Apache-2.0")
    monkeypatch.setitem(PUBLISHED, "small", known)
    return known


@pytest.fixture
def detector_file():
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    def make(path: Path) -> Path:
        nobody = numpy_helper.from_array(np.zeros((1, 84, 8), np.float32), "rows")
        graph = helper.make_graph(
            [helper.make_node("Identity", ["rows"], ["output"])],
            "detector",
            [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, 64, 64])],
            [helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, 84, 8])],
            [nobody],
        )
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
        return path

    return make


def test_what_was_fetched_opens(published, server, tmp_path, capsys):
    assert main(["fetch", "small", "--out", str(tmp_path / "out")]) == 0
    told = capsys.readouterr()
    assert published.sha256 in told.err
    assert open_detector(str(tmp_path / "out" / "small.onnx")).manifest.licence == "Apache-2.0"
    assert main(["fetch", "small", "--out", str(tmp_path / "out")]) == 0
    assert server[2].count("/small.onnx") == 1  # the second time it was there


def test_another_file_is_not_kept(published, monkeypatch, tmp_path, capsys):
    for wrong in (replace(published, sha256="0" * 64), replace(published, bytes=published.bytes - 1)):
        monkeypatch.setitem(PUBLISHED, "small", wrong)
        assert main(["fetch", "small", "--out", str(tmp_path / "out")]) == 1
        message = capsys.readouterr().err
        assert "nothing was kept" in message
        assert list((tmp_path / "out").iterdir()) == []


def test_an_endless_answer_is_cut_off(published, server, tmp_path, capsys):
    (server[0] / "small.onnx").write_bytes(bytes(published.bytes + 3 * fetch.CHUNK))
    assert main(["fetch", "small", "--out", str(tmp_path / "out")]) == 1
    assert "more than" in capsys.readouterr().err


def test_a_file_that_is_there_is_not_overwritten(published, tmp_path, capsys):
    (tmp_path / "small.onnx").write_bytes(b"mine")
    assert main(["fetch", "small", "--out", str(tmp_path)]) == 2
    assert "is another file" in capsys.readouterr().err
    assert (tmp_path / "small.onnx").read_bytes() == b"mine"


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["large"], 2, "there are yolox-nano, yolox-tiny, yolox-s"),
        (["small", "--url", "file:///etc/passwd"], 2, "is no http(s) address"),
        (["small", "--url", "http://127.0.0.1:9/x"], 1, "cannot be fetched"),
    ],
)
def test_a_mistake_is_one_line(published, words, code, says, tmp_path, capsys):
    assert main(["fetch", *words, "--out", str(tmp_path / "out")]) == code
    assert says in capsys.readouterr().err.splitlines()[-1]


def test_a_missing_file_is_told(published, server, tmp_path, capsys):
    assert main(["fetch", "small", "--out", str(tmp_path / "out"), "--url", f"{server[1]}/none.onnx"]) == 1
    assert "not found" in capsys.readouterr().err


def test_every_published_detector_has_an_address_and_a_whole_hash():
    for known in PUBLISHED.values():
        assert known.url.startswith("https://")
        assert len(bytes.fromhex(known.sha256)) == 32
        assert known.licence == "Apache-2.0"
