"""`pat gallery`: the people that cameras recognise: enrolled, listed, looked up, merged, forgotten, moved."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Protocol

from tyro.conf import Positional, arg, subcommand

from deploy.gallery import Gallery
from deploy.gallery.facts import words
from deploy.gallery.store import read_facts
from export.manifest import ExportError, ExportFailure
from pat.commands.arguments import parse
from pat.commands.gallery_calibrate import Calibrate
from pat.commands.gallery_enrol import Enrol, Search
from pat.commands.gallery_tools import OnGallery, moment, opened, print_table, somebody, write_lines
from pat.errors import Failure, UserError
from pat.progress import Progress, TerminalProgress


@dataclass(frozen=True)
class List(OnGallery):
    """List who is in a gallery: entries, cameras, first and last time."""

    json: bool = False
    """One JSON object a line instead of a table."""

    def run(self, progress: Progress) -> None:
        with opened(self.gallery) as gallery:
            people = list(gallery.identities())
            facts = gallery.facts
        if self.json:
            for each in people:
                values = {"identity": each.identity, "entries": each.vectors, "cameras": each.cameras}
                print(json.dumps({**values, "first": each.first, "last": each.last}, ensure_ascii=False))
            return
        rows = [
            [each.identity, str(each.vectors), ", ".join(each.cameras), moment(each.first), moment(each.last)]
            for each in people
        ]
        print_table(["identity", "entries", "cameras", "first", "last"], rows)
        progress.say(
            f"{len(people)} identities; vectors of {facts.dimension} numbers by the model {facts.model}, "
            f"kept for {words(facts.retention)}"
        )


@dataclass(frozen=True)
class Count(OnGallery):
    """Print the number of entries in a gallery, or of one identity."""

    identity: str | None = None
    """Count the entries of this one alone."""

    def run(self, progress: Progress) -> None:
        with opened(self.gallery) as gallery:
            print(gallery.count(self.identity))


@dataclass(frozen=True)
class Merge(OnGallery):
    """Make one identity of two: the entries of SOURCE become those of TARGET."""

    source: Annotated[Positional[str], arg(metavar="SOURCE")]
    target: Annotated[Positional[str], arg(metavar="TARGET")]

    def run(self, progress: Progress) -> None:
        with opened(self.gallery) as gallery:
            count = somebody(gallery.merge(self.source, self.target), self.source, self.gallery)
        progress.say(f"{count} entries of {self.source} are now {self.target}'s")


@dataclass(frozen=True)
class Forget(OnGallery):
    """Delete identities from a gallery, from the disk too.

    Snapshots and exports that were made before still hold them.
    """

    identities: Annotated[Positional[tuple[str, ...]], arg(metavar="IDENTITY...")]
    """Whom to forget."""

    def run(self, progress: Progress) -> None:
        if not self.identities:
            raise UserError("name at least one identity to forget; `pat gallery list` shows them")
        with opened(self.gallery) as gallery:
            for identity in self.identities:
                count = somebody(gallery.forget(identity), identity, self.gallery)
                progress.say(f"forgot {identity}: {count} entries")


@dataclass(frozen=True)
class Expire(OnGallery):
    """Delete old entries now, without waiting for the gallery's own retention."""

    older_than_hours: float
    """Age from which entries are deleted; 0 deletes all of them."""

    def run(self, progress: Progress) -> None:
        if not 0 <= self.older_than_hours < float("inf"):
            raise UserError(f"--older-than-hours is {self.older_than_hours}; it must be a number from 0 on")
        with opened(self.gallery) as gallery:
            count = gallery.expire(datetime.now().timestamp() - self.older_than_hours * 3600)
        progress.say(f"deleted {count} entries older than {words(self.older_than_hours * 3600)}")


@dataclass(frozen=True)
class Export(OnGallery):
    """Write every entry with its vector to a file, for other programs.

    .jsonl: one object a line, with id, identity, camera, time (seconds since the epoch), note and vector. .npz:
    arrays ids, identities, cameras, times, notes, vectors (float32); the same file as a snapshot.
    """

    out: Annotated[Positional[Path], arg(metavar="FILE")]
    """The file to write: .jsonl or .npz."""

    def run(self, progress: Progress) -> None:
        if self.out.suffix not in (".jsonl", ".npz"):
            raise UserError(f"{self.out} must end in .jsonl or .npz")
        with opened(self.gallery) as gallery:
            if self.out.suffix == ".npz":
                count = gallery.snapshot(self.out)
            else:
                count = write_lines(self.out, gallery.export(), gallery.count(), progress)
        progress.say(f"wrote {self.out}: {count} entries")


@dataclass(frozen=True)
class Snapshot(OnGallery):
    """Write a gallery into one file, from which `pat gallery restore` makes it again, also on a server."""

    out: Annotated[Positional[Path], arg(metavar="FILE")]
    """The file to write (an .npz)."""

    def run(self, progress: Progress) -> None:
        with opened(self.gallery) as gallery:
            count = gallery.snapshot(self.out)
        progress.say(f"wrote {self.out}: {count} entries")


@dataclass(frozen=True)
class Restore:
    """Make a gallery from a snapshot: a new folder, or an empty collection of a server."""

    snapshot: Annotated[Positional[Path], arg(metavar="FILE")]
    """A file of `pat gallery snapshot`."""
    gallery: Annotated[Positional[str], arg(metavar="GALLERY")]
    """The folder to make, or http(s)://host:port/collection."""

    def run(self, progress: Progress) -> None:
        count = Gallery.restore(self.snapshot, self.gallery)
        facts = read_facts(self.gallery)
        progress.say(
            f"made {self.gallery}: {count} entries, kept for {words(facts.retention)} from when they were seen"
        )


class Subcommand(Protocol):
    """What each of the classes above can do."""

    def run(self, progress: Progress) -> None: ...


Arguments = (
    Annotated[Enrol, subcommand("enrol")]
    | Annotated[Search, subcommand("search")]
    | Annotated[List, subcommand("list")]
    | Annotated[Count, subcommand("count")]
    | Annotated[Merge, subcommand("merge")]
    | Annotated[Forget, subcommand("forget")]
    | Annotated[Expire, subcommand("expire")]
    | Annotated[Export, subcommand("export")]
    | Annotated[Snapshot, subcommand("snapshot")]
    | Annotated[Restore, subcommand("restore")]
    | Annotated[Calibrate, subcommand("calibrate")]
)


def main(arguments: Sequence[str]) -> None:
    """Run one of the subcommands."""
    given: Subcommand = parse(Arguments, arguments, "gallery")
    try:
        given.run(TerminalProgress())
    except ExportError as error:
        raise UserError(str(error)) from error
    except ExportFailure as error:
        raise Failure(str(error)) from error
