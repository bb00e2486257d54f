"""`kill -9` of the service or of the camera process, again and again, while cameras and clients write.

    python -m bench kills service --times 50 runs/street-1
    python -m bench kills camera --times 50 runs/street-1

Four cameras look at filmed streets; four clients name people, make one of two, take that back and forget, over
HTTP (service) or as another process that has the gallery open (camera). After each kill a copy of the folder,
without SQLite's shared memory, must open whole and hold what was acknowledged.
"""

from __future__ import annotations

import contextlib
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import MISSING, dataclass, field, replace
from pathlib import Path

import httpx
import numpy as np

from bench.children import LIVE, PAGE, Child, check_numbers, opened, settle, sources
from bench.commands import exit_status, option
from bench.losses import Events, audited, copied, stored, whole
from bench.writers import GUESTS, Client, InGallery, OverHttp
from deploy.gallery import Gallery
from deploy.shipped import shipped_bundle
from pat.base.errors import Failure

CLIENTS = 4
PATIENCE = 10.0
"""Seconds that a kill waits for a track to be stored."""
LONGEST = 3.0
"""Seconds at most from the first track that is told as stored to the kill, which comes at random."""
QUICK_TIMES = 3


@dataclass(frozen=True)
class Options:
    kind: str = option(MISSING, "whose process is killed", positional=True, choices=("service", "camera"))
    streets: Sequence[Path] = option((), "folders of `pat synth street`; by default one is filmed",
                                     positional=True, nargs="*")  # fmt: skip
    times: int = option(50, "default: %(default)s")
    seed: int = option(0, "of the moments and of what clients do")
    bundle: Path | None = option(None, "default: the model in the box")
    threshold: str = option("", "as --gallery.threshold; default: the bundle's own")
    quick: bool = option(False, "a short try, with numbers of its own")
    out: Path = option(Path("runs"), "for what is made; default: %(default)s")
    flags: Sequence[str] = ()
    """More settings of the process."""


@dataclass
class Outcome:
    """What the kills came to."""

    kills: int = 0
    acknowledged: Counter[str] = field(default_factory=Counter)
    """Changes of clients, by action."""
    stored: int = 0
    """Tracks that were told as stored."""
    events: int = 0
    torn: int = 0
    """Lines that were cut off."""
    unkept: int = 0
    """Events in the file that the service had not kept yet when it was killed."""
    starts: list[float] = field(default_factory=list)
    """Seconds until it answered, or the first camera was live."""
    problems: list[str] = field(default_factory=list)

    def lines(self) -> Iterator[str]:
        """As a person reads it."""
        done = ", ".join(f"{action} {count}" for action, count in sorted(self.acknowledged.items()))
        yield f"{self.kills} kills; acknowledged: {done}; tracks told as stored: {self.stored}"
        yield f"events in the file: {self.events}; torn lines: {self.torn}; not kept by the service: {self.unkept}"
        low, middle, high = np.percentile(self.starts, [0, 50, 100])
        yield f"start: {low:.1f} s at least, {middle:.1f} s in the middle, {high:.1f} s at most"
        yield from (f"PROBLEM: {each}" for each in self.problems)


def main(options: Options) -> int:
    """Kill and print what it came to; the exit status: 1 when something acknowledged was lost, 2 for a mistake."""

    def measured() -> int:
        outcome = run(replace(options, times=QUICK_TIMES) if options.quick else options)
        print(*outcome.lines(), sep="\n")
        return 1 if outcome.problems else 0

    return exit_status(measured)


def run(options: Options) -> Outcome:
    """The kills, each checked. Raises UserError for a mistake, Failure when the process does not start."""
    check_numbers(options, "times")
    bundle = options.bundle or shipped_bundle()
    options.out.mkdir(parents=True, exist_ok=True)
    cameras = sources(options.streets, options.out)
    outcome, moments = Outcome(), random.Random(options.seed)
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=options.out)))
        events = Events(folder / "events.jsonl")
        words = [str(bundle), *cameras, "--camera.loop", "--camera.pace", "--runtime.threads", "1"]
        words += ["--track.decide-after", "1", "--track.every", "0.3"]
        words += ["--gallery.path", str(folder / "gallery"), "--gallery.threshold", options.threshold]
        words += ["--output.events", str(events.path), "--output.rotate-megabytes", "0.02"]
        words += ["--output.keep", "9999", "--output.metrics-port", "0"]
        words += ["--port", "0"] if options.kind == "service" else []
        words += options.flags
        with opened(folder / "gallery", bundle) as gallery:
            some = [settle(gallery, 2 * GUESTS + 2 * options.times, entries=1) for _ in range(CLIENTS)]
        clients = [Client(people, options.seed + number) for number, people in enumerate(some)]
        shared = stack.enter_context(opened(folder / "gallery", bundle)) if options.kind == "camera" else None
        buried: set[str] = set()
        for number in range(options.times):
            after = moments.uniform(0, LONGEST)
            command, until = ("serve", PAGE) if shared is None else ("camera", LIVE)
            with Child(command, *words, until=until) as child:
                shown = killed(child, clients, shared, after, events, outcome.events)
            found = events.read()
            new = found[outcome.events :]
            with copied(folder / "gallery") as (connection, content):
                problems = [*events.problems, *whole(connection, buried), *stored(connection, new)]
                for client in clients:
                    problems += [*client.check(connection, content), *client.refused]
                    client.refused.clear()
                if shared is None:
                    problems += audited(connection, sum((each.acknowledged for each in clients), Counter()))
                    ids = {row[0] for row in connection.execute("SELECT id FROM service_events")}
                    problems += [f"the event {each} was shown, and is gone" for each in shown - ids]
                    outcome.unkept += sum(each["id"] not in ids for each in new)
            problems += child.traces
            outcome.problems += [f"kill {number + 1}: {problem}" for problem in problems]
            outcome.kills += 1
            outcome.starts.append(child.seconds)
            outcome.stored += len({each["track"] for each in new if each.get("stored")})
            outcome.events, outcome.torn = len(found), events.torn
            sys.stderr.write(
                f"{number + 1} of {options.times}: start {child.seconds:.1f} s, {len(new)} events, "
                f"{len(problems)} problems\n" + "".join(f"    {problem}\n" for problem in problems)
            )
        outcome.acknowledged = sum((each.acknowledged for each in clients), Counter())
    return outcome


def killed(
    child: Child, clients: Sequence[Client], shared: Gallery | None, seconds: float, events: Events, old: int
) -> set[str]:
    """Let clients write, and kill the process so many seconds after the first track was stored.

    `old` events are of the runs before. The events that the service had shown.
    """
    stopping, shown = threading.Event(), set()
    with ThreadPoolExecutor(len(clients)) as pool:
        desks = [OverHttp(child.found) if shared is None else InGallery(shared) for _ in clients]
        writing = [
            pool.submit(client.write, desk, stopping) for client, desk in zip(clients, desks, strict=True)
        ]
        try:
            until = time.monotonic() + PATIENCE
            while time.monotonic() < until and not any(each.get("stored") for each in events.read()[old:]):
                time.sleep(0.2)
            time.sleep(seconds)
            if shared is None:
                answer = httpx.get(f"{child.found}api/v1/events", params={"limit": 200}, timeout=60)
                shown = {each["id"] for each in answer.json()["items"]}
            events.expect()
            code = child.end(signal.SIGKILL)
        finally:
            stopping.set()
        for each in writing:
            each.result()
    if code != -signal.SIGKILL:
        raise Failure(f"the process ended by itself: {''.join(child.said[-20:])}")
    return shown
