"""`pat camera`: sources in, known people out, for as long as it is left alone."""

from __future__ import annotations

import contextlib
import dataclasses
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from deploy import assembly, pipeline
from deploy.gallery.threshold import read_threshold
from deploy.logs import set_up
from deploy.rates import Rates
from deploy.settings import ProcessSettings
from deploy.shipped import bundle_and_rest
from deploy.sources.names import kind_of
from pat.base.errors import Failure, UserError
from pat.commands.arguments import parse, with_config_file
from pat.commands.embedders import SHIPPED

LOG_EVERY = 30.0
"""Seconds between two lines of figures where standard error is no terminal."""


@dataclass(frozen=True)
class Arguments(ProcessSettings):
    """Find people in camera images, follow them, and say who they are.

    Settings come from the defaults, then --config FILE (.toml or .json), then flags. Events go to --output.events,
    figures and the log to standard error. Ctrl-C or SIGTERM ends it: tracks in view are finished first.
    """

    bundle: Annotated[Positional[str], arg(metavar="[BUNDLE]", help_behavior_hint=SHIPPED)] = ""
    """The bundle folder of `pat export`; for --runtime.backend tensorrt with its engine."""
    sources: Annotated[
        Positional[tuple[str, ...]], arg(metavar="[NAME=]SOURCE...", help_behavior_hint="(at least one)")
    ] = ()
    """NAME=SOURCE or SOURCE: a video file, a folder of images, rtsp://, http://, /dev/video0, or "gst: ...".
    $VARIABLES come from the environment: a password need not stand on the command line."""


def main(arguments: Sequence[str]) -> None:
    """Run the process until its sources end or it is told to stop."""
    given = read_arguments(arguments)
    set_up(given.output.log)
    sources = assembly.named_sources(given.sources)
    bundle, settings = assembly.chosen_way(Path(given.bundle), given)
    threshold, _ = read_threshold(given.gallery.threshold, bundle)
    with stopped_by_signals() as stopping, display() as (look, every):
        summary = pipeline.run(
            bundle, sources, settings, threshold=threshold, stopping=stopping, look=look, look_every=every
        )
    print(
        f"pat camera: {summary.frames} frames, {summary.crops} crops, {summary.events} events "
        f"in {summary.seconds:.1f} s",
        file=sys.stderr,
    )
    if summary.failed and len(summary.failed) == len(sources):
        raise Failure(f"no source could be read: {', '.join(summary.failed)}; the log says why")


def read_arguments(arguments: Sequence[str]) -> Arguments:
    """The settings that the command line asks for, with the shipped bundle where none is named.

    Raises UserError when there is no source.
    """
    default, rest = with_config_file(Arguments(), arguments)
    given = parse(Arguments, rest, "camera", default)
    assert isinstance(given, Arguments)
    if not given.bundle:
        raise UserError("name the sources, after a bundle where it is not the one in the box: [BUNDLE] SOURCE...")
    bundle, sources, shipped = bundle_and_rest((given.bundle, *given.sources))
    if shipped:
        if len(sources) == 1:  # it may be a bundle mistyped: said at once
            kind_of(assembly.named_sources(sources)[0].url)
        print(f"pat camera: no bundle is named: the model in the box, {bundle}", file=sys.stderr)
    return dataclasses.replace(given, bundle=str(bundle), sources=sources)


@contextlib.contextmanager
def stopped_by_signals() -> Iterator[threading.Event]:
    """An event that Ctrl-C and SIGTERM set; a second one ends the process at once."""
    stopping = threading.Event()

    def stop(number: int, frame: object) -> None:
        if stopping.is_set():
            raise KeyboardInterrupt
        stopping.set()

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stopping
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def display() -> Iterator[tuple[pipeline.Look, float]]:
    """Shows the rates: a table that stays in place on a terminal, else a line of the log now and then."""
    if not sys.stderr.isatty():
        import logging

        log = logging.getLogger("deploy.rates")
        yield lambda rates: log.info("%s", rates.line()), LOG_EVERY
        return
    from rich.console import Console
    from rich.live import Live

    with Live(console=Console(stderr=True), auto_refresh=False, redirect_stdout=False) as live:
        yield lambda rates: live.update(table(rates), refresh=True), 1.0


def table(rates: Rates):  # type: ignore[no-untyped-def]
    """The rates as a rich table."""
    from rich.table import Table
    from rich.text import Text

    shown = Table(caption=rates.work(), caption_justify="left", box=None, pad_edge=False)
    for column in ("camera", "state", "frames/s", "frames", "dropped", "people"):
        shown.add_column(column, justify="left" if column in ("camera", "state") else "right")
    colours = {"live": "green", "connecting": "yellow", "stale": "yellow", "failed": "red", "ended": "cyan"}
    for each in rates.cameras:
        state = Text(each.state, style=colours.get(each.state, ""))
        if each.error and each.state != "live":
            state.append(f"  {each.error}", style="dim")
        figures = (f"{each.frames_per_second:.1f}", str(each.frames), str(each.dropped), str(each.people))
        shown.add_row(each.name, state, *figures)
    return shown
