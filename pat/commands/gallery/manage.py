"""Subcommands of `pat gallery` that look at a gallery and change it: listed, merged, forgotten, moved."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from deploy.gallery import facts_of, restore
from deploy.gallery.facts import words
from pat.base.errors import UserError
from pat.base.progress import Progress
from pat.commands.gallery.tools import (
    OnGallery,
    moment,
    of_somebody,
    opened,
    print_table,
    write_arrays,
    write_lines,
)


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
            f"those of whom cameras meet are kept for {words(facts.retention)}"
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
    """Make one identity of two: the entries of SOURCE become those of TARGET, now and later.

    A TARGET that nobody is called yet is a name for SOURCE, who is then kept until forgotten.
    """

    source: Annotated[Positional[str], arg(metavar="SOURCE")]
    target: Annotated[Positional[str], arg(metavar="TARGET")]

    def run(self, progress: Progress) -> None:
        with opened(self.gallery) as gallery:
            change = of_somebody(gallery.merge(self.source, self.target), self.source, self.gallery)
        progress.say(f"{change.entries} entries of {self.source} are now {self.target}'s")


@dataclass(frozen=True)
class Split(OnGallery):
    """Give entries, by the ids that `pat gallery export` shows, to another identity."""

    identity: Annotated[Positional[str], arg(metavar="IDENTITY")]
    """To whom."""
    entries: Annotated[Positional[tuple[str, ...]], arg(metavar="ENTRY...")]
    """Which entries."""

    def run(self, progress: Progress) -> None:
        with opened(self.gallery) as gallery:
            change = gallery.split(self.entries, self.identity)
        if change is None:
            raise UserError(f"none of these entries is in {self.gallery}; `pat gallery export` shows their ids")
        progress.say(f"{change.entries} entries are now {self.identity}'s")


@dataclass(frozen=True)
class Aliases(OnGallery):
    """List merges and splits, newest first, with the numbers that `pat gallery undo` takes."""

    def run(self, progress: Progress) -> None:
        with opened(self.gallery) as gallery:
            rows = gallery.aliases()
        print_table(
            ["number", "what", "when", "from", "to"],
            [[str(number), kind, moment(when), source, target] for number, kind, when, source, target in rows],
        )


@dataclass(frozen=True)
class Undo(OnGallery):
    """Take back a merge or a split."""

    number: Annotated[Positional[int], arg(metavar="NUMBER")]
    """As `pat gallery aliases` lists it."""

    def run(self, progress: Progress) -> None:
        with opened(self.gallery) as gallery:
            if not gallery.undo(self.number):
                raise UserError(f"there is no merge or split {self.number}; `pat gallery aliases` lists them")
        progress.say(f"took back {self.number}")


@dataclass(frozen=True)
class Forget(OnGallery):
    """Delete identities from a gallery, from the disk too, also while cameras use it.

    Tracks in view do not bring them back. Backups and exports that were made before still hold them.
    """

    identities: Annotated[Positional[tuple[str, ...]], arg(metavar="IDENTITY...")]
    """Whom to forget."""

    def run(self, progress: Progress) -> None:
        if not self.identities:
            raise UserError("name at least one identity to forget; `pat gallery list` shows them")
        with opened(self.gallery) as gallery:
            for identity in self.identities:
                count = of_somebody(gallery.forget(identity), identity, self.gallery)
                progress.say(f"forgot {identity}: {count} entries")


@dataclass(frozen=True)
class Expire(OnGallery):
    """Delete old entries now, without waiting for the gallery's own retention.

    People who were enrolled or named stay: `pat gallery forget` deletes them.
    """

    older_than_hours: float
    """Age from which entries are deleted; 0 deletes those of everybody who was only seen."""

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
    arrays ids, identities, cameras, times, notes, vectors (float32).
    """

    out: Annotated[Positional[Path], arg(metavar="FILE")]
    """The file to write: .jsonl or .npz."""

    def run(self, progress: Progress) -> None:
        if self.out.suffix not in (".jsonl", ".npz"):
            raise UserError(f"{self.out} must end in .jsonl or .npz")
        with opened(self.gallery) as gallery:
            if self.out.suffix == ".npz":
                count = write_arrays(self.out, list(gallery.export()))
            else:
                count = write_lines(self.out, gallery.export(), gallery.count(), progress)
        progress.say(f"wrote {self.out}: {count} entries")


@dataclass(frozen=True)
class Backup(OnGallery):
    """Write a whole gallery into one file, also while cameras use it; `pat gallery restore` makes it again."""

    out: Annotated[Positional[Path], arg(metavar="FILE")]
    """The file to write (SQLite)."""

    def run(self, progress: Progress) -> None:
        with opened(self.gallery) as gallery:
            count = gallery.backup(self.out)
        progress.say(f"wrote {self.out}: {count} entries")


@dataclass(frozen=True)
class Restore:
    """Make a gallery from a backup."""

    backup: Annotated[Positional[Path], arg(metavar="FILE")]
    """A file of `pat gallery backup`."""
    gallery: Annotated[Positional[str], arg(metavar="GALLERY")]
    """The folder to make."""

    def run(self, progress: Progress) -> None:
        count = restore(self.backup, self.gallery)
        kept = words(facts_of(self.gallery).retention)
        progress.say(f"made {self.gallery}: {count} entries, kept for {kept} from when they were seen")
