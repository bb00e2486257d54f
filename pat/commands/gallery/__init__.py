"""`pat gallery`: the people that cameras recognise: enrolled, listed, looked up, merged, forgotten, moved."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Protocol

from tyro.conf import subcommand

from pat.base.progress import Progress, TerminalProgress
from pat.commands.arguments import parse
from pat.commands.gallery.calibrate import Calibrate
from pat.commands.gallery.enrol import Enrol, Search
from pat.commands.gallery.manage import (
    Aliases,
    Backup,
    Count,
    Expire,
    Export,
    Forget,
    List,
    Merge,
    Restore,
    Split,
    Undo,
)
from pat.commands.gallery.migrate import Migrate
from pat.commands.gallery.sync import SyncOnce


class Subcommand(Protocol):
    """What each of the classes above can do."""

    def run(self, progress: Progress) -> None: ...


Arguments = (
    Annotated[Enrol, subcommand("enrol")]
    | Annotated[Search, subcommand("search")]
    | Annotated[List, subcommand("list")]
    | Annotated[Count, subcommand("count")]
    | Annotated[Merge, subcommand("merge")]
    | Annotated[Split, subcommand("split")]
    | Annotated[Aliases, subcommand("aliases")]
    | Annotated[Undo, subcommand("undo")]
    | Annotated[Forget, subcommand("forget")]
    | Annotated[Expire, subcommand("expire")]
    | Annotated[Export, subcommand("export")]
    | Annotated[Backup, subcommand("backup")]
    | Annotated[Restore, subcommand("restore")]
    | Annotated[Calibrate, subcommand("calibrate")]
    | Annotated[Migrate, subcommand("migrate")]
    | Annotated[SyncOnce, subcommand("sync")]
)


def main(arguments: Sequence[str]) -> None:
    """Run one of the subcommands."""
    given: Subcommand = parse(Arguments, arguments, "gallery")
    given.run(TerminalProgress())
