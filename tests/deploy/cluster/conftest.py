"""A cluster for some sites: in this process, or another one behind a socket."""

from __future__ import annotations

import pytest

from cluster_sites import Server, Site
from deploy.cluster.client import connect
from deploy.cluster.settings import ClusterSettings


@pytest.fixture(scope="session")
def server():
    """One for all tests: it takes seconds to start."""
    found = Server()
    yield found
    found.stop()


@pytest.fixture(params=["local", "socket"])
def sites(request, tmp_path):
    """Makes sites on one cluster, in qdrant-client's local mode and over a socket."""
    made = []
    if request.param == "local":
        from qdrant_client import QdrantClient

        client, where = QdrantClient(":memory:"), ""
    else:
        server = request.getfixturevalue("server")
        where = server.url
        client = connect(ClusterSettings(url=where, site="any"))
        server.empty()

    def make(name: str, **more) -> Site:
        made.append(Site(tmp_path, client, name, where, **more))
        return made[-1]

    yield make
    for each in made:
        each.close()
    client.close()
