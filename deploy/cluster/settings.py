"""Where the cluster is and what this site is called in it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class ClusterSettings:
    """A Qdrant server or cluster that sites share; its API key is in the environment (PAT_CLUSTER_KEY)."""

    url: str = ""
    """https://HOST or http://HOST, with :PORT where it is not 6333; "" shares nothing. Needs pat-reid[cluster]."""
    site: str = ""
    """Name of this site, as others are told it."""
    ca: Path | None = None
    """PEM file of the authority that signed the cluster's certificate; by default the system's."""
