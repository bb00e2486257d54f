"""The cluster behind a network that fails in every way it can, and a sender that is killed."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import cluster_sites
from cluster_sites import MODEL, SIZE, Site, unit
from deploy.cluster import client as connection
from deploy.cluster.client import connect
from deploy.cluster.cluster import ENTRIES
from deploy.cluster.settings import ClusterSettings
from deploy.gallery import Gallery
from pat.base.errors import Failure, UserError
from pat.commands.gallery import main

ROOT = Path(__file__).resolve().parents[3]
FAULTS = {
    "refuse": "reset|disconnected|refused", "cut": "reset|disconnected|broken|Write", "hang": "timed out",
    "error": "answered 500: Service internal error", "busy": "too many", "lost": "reset|disconnected",
    "half": "peer closed|reset|incomplete", "garbage": "no good answer", "drip": "no whole answer",
}  # fmt: skip
SLOW = ("hang", "drip")


@pytest.fixture
def site(server, tmp_path, monkeypatch, request):
    if "kind" in request.fixturenames and request.getfixturevalue("kind") in SLOW:
        monkeypatch.setattr(connection, "SILENCE", 1.0)
        monkeypatch.setattr(connection, "WITHIN", 1.0)
    server.empty()
    client = connect(ClusterSettings(url=server.url, site="harbour"))
    found = Site(tmp_path, client, "harbour", server.url)
    yield found
    server.fault("", 0, 0)
    found.close()
    client.close()


def settled(site) -> None:
    """Rounds until one goes through: a busy machine is a slow network too."""
    until = time.monotonic() + 120
    while True:
        try:
            return site.sync.round()
        except Failure:
            assert time.monotonic() < until


def agree(site) -> None:
    """The cluster has what the gallery has, and nothing else."""
    points, _ = site.cluster._client.scroll(ENTRIES + MODEL, limit=10_000, with_vectors=True)
    with site.database.reading() as db:
        entries = dict(db.execute("SELECT uuid, vector FROM entries"))
        keys = dict(db.execute("SELECT uuid, key FROM entries JOIN identities ON identities.id = identity"))
        forgotten = {row[0] for row in db.execute("SELECT key FROM tombstones")}
    assert {str(each.id) for each in points} == set(entries)
    for each in points:
        np.testing.assert_allclose(each.vector, np.frombuffer(entries[str(each.id)], "<f4"), atol=1e-5)
        assert each.payload["person"] == keys[str(each.id)]
    assert site.cluster.forgotten(forgotten) == forgotten
    assert site.sync.waiting() == 0


@pytest.mark.parametrize("kind", FAULTS)
def test_a_round_that_fails_is_said_and_made_good_by_the_next(site, server, kind):
    site.meet("anna", 1)
    settled(site)
    moments = random.Random(kind)
    # Of these requests: collections, tombstones, orders, people, entries, deletes.
    for turn, after in enumerate(moments.sample(range(12), 1 if kind in SLOW else 3)):
        first = site.meet(f"p{turn}", 10 * turn + 2)
        site.meet(f"q{turn}", 10 * turn + 3)
        server.fault(kind, after)
        with contextlib.suppress(Failure):
            site.sync.round()
        site.gallery.forget(f"q{turn}")
        site.gallery.remove([first])
        site.meet("anna", 10 * turn + 4)
        with contextlib.suppress(Failure):
            site.sync.round()
        server.fault("", 0, 0)
        settled(site)
        agree(site)
    server.fault(kind)
    with pytest.raises(Failure, match=FAULTS[kind]) as said:
        site.sync.round()
    assert server.url in str(said.value)
    assert "\n" not in str(said.value)


def test_days_away_end_in_bounded_requests(site, server):
    site.sync.round()
    server.fault("refuse", 0, 10**9)
    entries = [site.meet(f"p{n}", n) for n in range(20)]
    vectors = np.random.default_rng(0).normal(size=(2000, SIZE)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    site.gallery.add(vectors, identity=[f"crowd {n % 200}" for n in range(2000)], camera="gate", time=time.time())
    with pytest.raises(Failure):
        site.sync.round()
    site.gallery.remove(entries[:10])
    assert site.sync.waiting() > 2000
    server.fault("", 0, 0)
    site.sync.round()
    agree(site)
    assert server.asked()["largest"] < 200_000


def test_the_command_sends_a_gallery_once(server, tmp_path, capsys):
    server.empty()
    with Gallery.open(tmp_path / "hall", dimension=SIZE, model=MODEL) as gallery:
        gallery.add(unit(1)[None], identity="anna", camera="gate", time=time.time())
    given = ["sync", str(tmp_path / "hall"), "--cluster.site", "hall", "--cluster.url"]
    main([*given, server.url])
    said = capsys.readouterr()
    assert "sent 1 entries" in said.err
    assert "still to forget" in said.out
    main([*given, server.url])
    assert "sent 0 entries" in capsys.readouterr().err
    with pytest.raises(Failure, match="refused"):
        main([*given, "http://127.0.0.1:9"])
    with pytest.raises(UserError, match=r"--cluster\.site"):
        main(["sync", str(tmp_path / "hall")])
    with pytest.raises(UserError, match="does not exist"):
        main(["sync", str(tmp_path / "nowhere"), *given[2:], server.url])


def test_nobody_listens(server, tmp_path):
    client = connect(ClusterSettings(url="http://127.0.0.1:9", site="harbour"))
    away = Site(tmp_path, client, "harbour", "http://127.0.0.1:9")
    with pytest.raises(Failure, match="refused"):
        away.sync.round()
    away.close()


def test_an_answer_without_an_end_is_cut_off(site, server, monkeypatch):
    for n in range(30):
        site.meet(f"p{n}", n)
    site.sync.round()
    monkeypatch.setattr(connection, "MOST_BYTES", 1000)
    with pytest.raises(Failure, match="more than 1,000 bytes"):
        site.cluster.held(None)


@pytest.mark.parametrize(
    ("settings", "key", "said"),
    [
        (ClusterSettings("cluster:6333", "here"), "", "is no https://HOST"),
        (ClusterSettings("http://me:secret@cluster", "here"), "", "PAT_CLUSTER_KEY"),
        (ClusterSettings("http://cluster:port", "here"), "", "is no https://HOST"),
        (ClusterSettings("http://cluster.example", "here"), "key", "in the clear"),
        (ClusterSettings("https://cluster.example", "here", ca=Path("/no/such/file")), "", "cannot be used"),
    ],
)
def test_settings_are_checked(settings, key, said, monkeypatch):
    monkeypatch.setenv(connection.KEY, key)
    with pytest.raises(UserError, match=said):
        connect(settings)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_kill_9_in_the_middle_of_sending_loses_nothing_and_doubles_nothing(site, server, tmp_path):
    moments = random.Random(3)
    site.close()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    met = sent = 0
    for kill in range(int(os.environ.get("PAT_KILLS", "10"))):
        child = subprocess.Popen(
            [sys.executable, cluster_sites.__file__, server.url, str(tmp_path), str(kill)], cwd=ROOT,
            env=environment, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert child.stdout is not None
        lines = moments.randrange(5, 20)  # after the fifth the first round begins
        said = "".join(child.stdout.readline() for _ in range(lines))
        time.sleep(moments.uniform(0, 0.1))
        child.send_signal(signal.SIGKILL)
        said += child.stdout.read()
        assert child.wait() == -signal.SIGKILL
        met, sent = met + said.count("met"), sent + said.count("sent")
        if kill % 3 == 2:
            server.fault(moments.choice(["half", "lost", "cut"]), moments.randrange(10))
    client = connect(ClusterSettings(url=server.url, site="harbour"))
    after = Site(tmp_path, client, "harbour", server.url)
    server.fault("", 0, 0)
    after.sync.round()
    agree(after)
    print(f"{kill + 1} kills, {met} entries met, {sent} rounds, {after.gallery.count()} entries left: all agree")
    after.close()
