"""`pat data`: is a data set whole, its splits written down, its images taken out of a .mat."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg, subcommand

from pat.base.errors import Failure, UserError
from pat.base.files import expanded, write_json, write_text
from pat.base.progress import TerminalProgress, printable
from pat.commands.arguments import parse
from pat.data.check import Finding, check, size_of
from pat.data.layouts import find_data_set, find_data_sets
from pat.data.layouts.cuhk03_mat import extract
from pat.data.layouts.reading import sub_folders
from pat.data.layouts.splits import SPLITS_FILE, splits_text

_SHOWN = 10
"""Lines of one kind printed for a data set; a report in JSON has all."""


@dataclass(frozen=True)
class Check:
    """Say what data sets a folder holds, count them against the published figures, and open every image.

    Ends with 0 when all is well, with 1 when something is missing, broken, doubled or not as many as published.
    """

    root: Positional[Path]
    """A data set, or the folder that holds several."""
    quick: bool = False
    """Look at names alone: open no image and look for no doubles."""
    json: Path | None = None
    """A file for the whole report."""


@dataclass(frozen=True)
class Splits:
    """Write down the random splits that a data set is scored over, to keep, publish or edit."""

    name: Positional[str]
    """A data set as --data.target names it: viper, prid, grid, ilids, or NAME=PATH."""
    out: Path | None = None
    """The file; default: pat-splits.json in the data set's own folder, where it is read again."""
    root: Annotated[Path, arg(name="data.root")] = Path("data")
    """Folder that holds the data sets named by layout."""


@dataclass(frozen=True)
class Extract:
    """Take the images of CUHK03 out of cuhk-03.mat, into the folders images_detected and images_labeled."""

    folder: Positional[Path]
    """The folder of CUHK03."""


Command = (
    Annotated[Check, subcommand("check")] | Annotated[Splits, subcommand("splits")]
    | Annotated[Extract, subcommand("extract")]
)  # fmt: skip


def main(arguments: Sequence[str]) -> None:
    """Run the command that was named."""
    given = parse(Command, arguments, "data")
    if isinstance(given, Check):
        _check(given)
    elif isinstance(given, Splits):
        _write_splits(given)
    else:
        counts = extract(given.folder, TerminalProgress())
        print("\n".join(f"{given.folder / f'images_{kind}'}: {count} images" for kind, count in counts.items()))


def _check(given: Check) -> None:
    progress = TerminalProgress()
    root = expanded(given.root)
    findings = [check(found, progress, given.quick) for found in find_data_sets(root)]
    _print_table(findings)
    for finding in findings:
        _print_lines(finding)
    others = _other_folders(root, findings)
    if others:
        print(f"not recognised in {root}: {', '.join(others)}")
    if given.json:
        write_json(given.json, [finding.to_mapping() for finding in findings])
    wrong = [finding.found.name for finding in findings if finding.wrong]
    if wrong:
        raise Failure(f"{len(wrong)} of {len(findings)} data sets are not as they should be: {', '.join(wrong)}")


def _other_folders(root: Path, findings: Sequence[Finding]) -> list[str]:
    """Folders in `root` that neither are nor hold a data set; none where `root` is one itself."""
    paths = [finding.found.path for finding in findings]
    if root in paths:
        return []
    return [place.name for place in sub_folders(root) if not any(path.is_relative_to(place) for path in paths)]


def _print_table(findings: Sequence[Finding]) -> None:
    """A row for each part: what there is, of what was published."""
    from rich.console import Console
    from rich.table import Column, Table

    numbers = (Column(name, justify="right") for name in ("identities", "images", "cameras"))
    table = Table(Column("data set", overflow="fold"), Column("layout", no_wrap=True), "part", *numbers)
    for finding in findings:
        title = (finding.found.name, finding.found.layout)
        for part, count in finding.parts.items():
            published = size_of(finding.published, part) or (None, None)
            cells = (_of(count.identities, published[0]), _of(count.images, published[1]), str(count.cameras))
            if count.images:
                table.add_row(*title, part, *cells)
                title = ("", "")
        if not finding.parts:
            table.add_row(*title, "unreadable")
        table.add_section()
    Console(file=sys.stdout).print(table)


def _of(count: int, published: int | None) -> str:
    return str(count) if published is None else f"{count} of {published}"


def _print_lines(finding: Finding) -> None:
    for heading, lines in (("wrong", finding.wrong), ("remark", finding.remarks)):
        for line in lines[:_SHOWN]:
            print(printable(f"{finding.found.name}: {heading}: {line}"))
        if len(lines) > _SHOWN:
            print(f"{finding.found.name}: {heading}: and {len(lines) - _SHOWN} more; --json FILE lists all")


def _write_splits(given: Splits) -> None:
    found = find_data_set(given.name, given.root)
    data_set = found.read()
    if not data_set.splits:
        raise UserError(f"{found.name} has one division and no random splits to write down")
    out = given.out or found.path / SPLITS_FILE
    write_text(out, splits_text(data_set, found.path))
    print(f"wrote {len(data_set.splits)} splits of {found.name} to {out}")
