"""Identities and their vectors, found again by likeness: `Gallery.open(path_or_url, dimension=..., model=...)`.

A path is a folder kept by Qdrant Edge inside this process; http(s):// is a Qdrant server or cluster.
"""

from deploy.gallery.entries import Identity, Match, Record
from deploy.gallery.facts import Facts
from deploy.gallery.gallery import Gallery

__all__ = ["Facts", "Gallery", "Identity", "Match", "Record"]
