"""A service beside other sites: it sends, asks, obeys, and does its own work while the cluster is away."""

from __future__ import annotations

import io
import json
import math
import time

import numpy as np
import pytest
from PIL import Image

import cluster_sites
from deploy import runtime
from deploy.cluster.settings import ClusterSettings
from deploy.cluster.sync import MIRROR
from deploy.service import elsewhere
from deploy.service.service import Service
from deploy.service.settings import NeighbourSettings, ServiceSettings
from pat.base.errors import UserError

from .conftest import running, unit


@pytest.fixture(scope="module")
def server():
    found = cluster_sites.Server()
    yield found
    found.stop()


@pytest.fixture
def harbour(server, tmp_path, colour_bundle, monkeypatch):
    """Another site, which has met anna; the collections are empty before."""
    from deploy.cluster.client import connect
    from deploy.gallery.fingerprint import fingerprint
    from export.manifest import Manifest

    monkeypatch.setattr(elsewhere, "RETRY", (0.1, 0.3))
    monkeypatch.setattr(elsewhere, "LOOK_EVERY", 0.2)
    server.empty()
    client = connect(ClusterSettings(url=server.url))
    model = fingerprint(Manifest.load(colour_bundle))
    found = cluster_sites.Site(tmp_path, client, "harbour", server.url, model=model, dimension=48)
    found.gallery.add(unit(1)[None], identity="anna", camera="pier", time=time.time() - 60, keep_for=math.inf)
    found.sync.round()
    yield found
    server.fault("", 0, 0)
    found.close()
    client.close()


def chosen(server, **more):
    return ServiceSettings(cluster=NeighbourSettings(url=server.url, site="station", **more))


def state(service) -> dict:
    return service.get("/status")["cluster"]


def test_somebody_new_is_known_from_another_site_until_forgotten_there(server, harbour, colour_bundle, tmp_path):
    with running(colour_bundle, tmp_path, service=chosen(server, threshold=0.9)) as service:
        service.settled(lambda: state(service)["error"] == "", 60)
        service.met("gate-1", "gate", unit(5, near=unit(1), cosine=0.95), track=1, new=True)
        service.met("gate-2", "gate", unit(2), track=2, new=True)
        (event,) = service.settled(lambda: service.get("/events", kind="elsewhere")["items"], 60)
        assert (event["identity"], event["there"]["site"], event["there"]["name"]) == ("gate-1", "harbour", "anna")
        assert event["score"] == pytest.approx(0.95, abs=1e-3)
        assert {each["site"] for each in state(service)["sites"]} == {"harbour", "station"}
        service.settled(lambda: state(service)["waiting"] == 0, 60)
        found = harbour.cluster.search(unit(2), 5, 0.9, time.time())
        assert [(each.site, each.name) for each in found] == [("station", "gate-2")]
        crop = np.random.default_rng(0).integers(0, 256, (256, 128, 3), dtype=np.uint8)
        with runtime.open(colour_bundle) as session:
            harbour.gallery.add(session.embed(crop[None]), identity="carl", camera="pier", time=time.time())
        harbour.sync.round()
        png = io.BytesIO()
        Image.fromarray(crop).save(png, "PNG")
        answer = service.api(
            "POST", "/search?whole=true", content=png.getvalue(), headers={"Content-Type": "image/png"}
        ).json()
        assert answer["cluster"] is None
        (seen,) = answer["people"][0]["elsewhere"]
        assert (seen["site"], seen["name"], seen["camera"]) == ("harbour", "carl", "pier")
        metrics = service.client.get("/metrics").text
        assert "pat_cluster_up 1.0" in metrics
        assert "pat_cluster_waiting 0.0" in metrics
        # The harbour forgets anna: nothing here says any more who that was.
        harbour.gallery.forget("anna")
        harbour.sync.round()
        service.settled(lambda: not service.get("/events", kind="elsewhere")["items"], 60)
        assert "anna" not in json.dumps(service.get("/events"))
        # And this site forgets somebody whom the harbour hears of.
        key = service.site.gallery.key_of("gate-2")
        assert service.api("DELETE", f"/people/{key}").status_code == 200
        service.settled(lambda: not harbour.cluster.search(unit(2), 5, 0.9, time.time()), 60)
        assert key in harbour.cluster.orders()


def test_a_cluster_that_is_away_stops_nothing_and_gets_all_of_it_later(server, harbour, colour_bundle, tmp_path):
    server.fault("refuse", 0, 10**9)
    with running(colour_bundle, tmp_path, service=chosen(server)) as service:
        service.settled(lambda: "no good answer" in (state(service)["error"] or ""), 60)
        service.met("gate-1", "gate", unit(1), track=1, new=True)
        assert service.client.get("/readyz").status_code == 200
        assert "pat_cluster_up 0.0" in service.client.get("/metrics").text
        assert state(service)["waiting"] > 0
        server.fault("", 0, 0)
        service.settled(lambda: state(service)["error"] == "", 60)
        assert service.settled(lambda: service.get("/events", kind="elsewhere")["items"], 60)
        node = harbour.node
        assert service.api("DELETE", f"/cluster/nodes/{node}").status_code == 204
        assert service.api("DELETE", f"/cluster/nodes/{state(service)['node']}").status_code == 422
        assert not service.site.gallery.count("anna")
    # Without a cluster nobody waits for the outbox.
    with running(colour_bundle, tmp_path) as service:
        assert state(service) is None
        assert service.api("DELETE", f"/cluster/nodes/{node}").status_code == 404
        with service.site.store.reading() as connection:
            assert not connection.execute("SELECT 1 FROM mirrors WHERE name = ?", (MIRROR,)).fetchone()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (NeighbourSettings(url="http://127.0.0.1:9"), "--cluster.site"),
        (NeighbourSettings(url="http://127.0.0.1:9", site="a", threshold=3.0), "cluster.threshold = 3.0 is not"),
        (NeighbourSettings(url="127.0.0.1:9", site="a"), "is no https"),
        (NeighbourSettings(url="http://127.0.0.1:9", site=" a"), "space"),
        (NeighbourSettings(site="a"), "without --cluster.url"),
        (NeighbourSettings(threshold=0.7), "without --cluster.url"),
    ],
)
def test_settings_are_checked_before_anything_runs(settings, said):
    with pytest.raises(UserError, match=said):
        Service(ServiceSettings(cluster=settings), "127.0.0.1", 0)
