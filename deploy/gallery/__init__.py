"""Identities and their vectors, found again by likeness: `Gallery.open(folder, dimension=..., model=...)`."""

from deploy.gallery.backup import facts_of, restore
from deploy.gallery.entries import Change, Identity, Match, Record
from deploy.gallery.facts import Facts
from deploy.gallery.gallery import Gallery

__all__ = ["Change", "Facts", "Gallery", "Identity", "Match", "Record", "facts_of", "restore"]
