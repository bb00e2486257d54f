"""`pat serve`: the camera process with a page for people and an API for programs."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated

from tyro.conf import Positional, arg, subcommand

from deploy import assembly, pipeline
from deploy.gallery import facts_of
from deploy.gallery.threshold import read_threshold
from deploy.logs import set_up
from deploy.rates import Rates
from deploy.service.access import Role, Tokens
from deploy.service.service import Service
from deploy.service.settings import ServiceSettings
from deploy.service.store import Store
from deploy.settings import OutputSettings, ProcessSettings
from deploy.shipped import bundle_and_rest
from pat.commands.arguments import parse, with_config_file
from pat.commands.camera import display, stopped_by_signals
from pat.commands.embedders import SHIPPED
from pat.commands.gallery.tools import OnGallery, moment, print_table

LOOK_EVERY = 2.0
"""Seconds between two looks at the rates, which the page shows."""


@dataclass(frozen=True)
class Arguments(ServiceSettings, ProcessSettings):
    """Find people in camera images, follow them, say who they are; on a page, by an API, over MQTT and webhooks.

    All settings of `pat camera`, and the service's. They come from the defaults, then --config FILE (.toml or
    .json), then flags. From this machine no token is needed; `pat serve token --help` tells how others get one.
    Ctrl-C or SIGTERM ends it.
    """

    bundle: Annotated[Positional[str], arg(metavar="[BUNDLE]", help_behavior_hint=SHIPPED)] = ""
    """The bundle folder of `pat export`; for --runtime.backend tensorrt with its engine."""
    sources: Annotated[Positional[tuple[str, ...]], arg(metavar="[NAME=]SOURCE...", help_behavior_hint="")] = ()
    """As `pat camera` takes them; without any, the page shows the gallery and searches it."""
    host: str = "127.0.0.1"
    """Address to listen on; one that others reach needs a token."""
    port: int = 8470
    """Port to listen on; 0 takes a free one."""
    output: OutputSettings = field(default_factory=lambda: OutputSettings(events="", metrics_port=0))
    """As for `pat camera`; by default the page has the events, and /metrics the metrics."""


def main(arguments: Sequence[str]) -> None:
    """Run the service until it is told to stop, or manage its tokens."""
    if arguments and arguments[0] == "token":
        parse(Token, arguments[1:], "serve token").run()
        return
    default, rest = with_config_file(Arguments(), arguments)
    given: Arguments = parse(Arguments, rest, "serve", default)
    bundle, named, shipped = bundle_and_rest([word for word in (given.bundle, *given.sources) if word])
    if shipped:
        print(f"pat serve: no bundle is named: the model in the box, {bundle}", file=sys.stderr)
    set_up(given.output.log)
    sources = assembly.named_sources(named, none=True)
    bundle, settings = assembly.chosen_way(bundle, given)
    threshold, rates = read_threshold(given.gallery.threshold, bundle)
    with stopped_by_signals() as stopping, display() as (look, every):
        pipeline.run(
            bundle, sources, settings, threshold=threshold, stopping=stopping, look=seldom(look, every),
            look_every=min(every, LOOK_EVERY), companion=Service(given, given.host, given.port, rates),
        )  # fmt: skip


def seldom(look: pipeline.Look, every: float) -> pipeline.Look:
    """`look`, called no more often than `every` seconds."""
    due = 0.0

    def called(rates: Rates) -> None:
        nonlocal due
        if time.monotonic() >= due:
            due = time.monotonic() + every
            look(rates)

    return called


@dataclass(frozen=True)
class _OnGallery(OnGallery):
    gallery: Annotated[Positional[str], arg(metavar="GALLERY")]
    """The folder of the gallery that the service uses."""

    def store(self) -> Store:
        facts_of(self.gallery)
        return Store(self.gallery)


@dataclass(frozen=True)
class Add(_OnGallery):
    """Make a token and print it, this once; the service takes it at once."""

    name: Annotated[Positional[str], arg(metavar="NAME")]
    """Who will use it; stands in the audit log."""
    role: Role = "view"
    """view: look and search; operate: also name, merge, answer, set the threshold; erase: also forget people."""

    def run(self) -> None:
        with self.store() as store:
            print(Tokens(store).add(self.name, self.role))
        print("keep it well: only a hash of it is stored", file=sys.stderr)


@dataclass(frozen=True)
class Remove(_OnGallery):
    """Take a token away."""

    name: Annotated[Positional[str], arg(metavar="NAME")]

    def run(self) -> None:
        with self.store() as store:
            Tokens(store).remove(self.name)


@dataclass(frozen=True)
class List(_OnGallery):
    """List the tokens: names, roles, when they were made."""

    def run(self) -> None:
        with self.store() as store:
            rows = [[name, role, moment(made)] for name, role, made in Tokens(store).all()]
        print_table(["name", "role", "made"], rows)


Token = (
    Annotated[Add, subcommand("add")]
    | Annotated[Remove, subcommand("remove")]
    | Annotated[List, subcommand("list")]
)
