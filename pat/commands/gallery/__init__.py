"""`pat gallery`: the people that cameras recognise: enrolled, listed, looked up, merged, forgotten, moved."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from tyro.conf import subcommand

from pat.base.progress import TerminalProgress
from pat.commands.arguments import parse
from pat.commands.gallery import calibrate, enrol, manage, migrate, sync

Arguments = (
    Annotated[enrol.Enrol, subcommand("enrol")]
    | Annotated[enrol.Search, subcommand("search")]
    | Annotated[manage.List, subcommand("list")]
    | Annotated[manage.Count, subcommand("count")]
    | Annotated[manage.Merge, subcommand("merge")]
    | Annotated[manage.Split, subcommand("split")]
    | Annotated[manage.Aliases, subcommand("aliases")]
    | Annotated[manage.Undo, subcommand("undo")]
    | Annotated[manage.Forget, subcommand("forget")]
    | Annotated[manage.Expire, subcommand("expire")]
    | Annotated[manage.Export, subcommand("export")]
    | Annotated[manage.Backup, subcommand("backup")]
    | Annotated[manage.Restore, subcommand("restore")]
    | Annotated[calibrate.Calibrate, subcommand("calibrate")]
    | Annotated[migrate.Migrate, subcommand("migrate")]
    | Annotated[sync.SyncOnce, subcommand("sync")]
)
"""Each has `run(progress)`."""


def main(arguments: Sequence[str]) -> None:
    """Run one of the subcommands."""
    parse(Arguments, arguments, "gallery").run(TerminalProgress())
