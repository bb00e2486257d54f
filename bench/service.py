"""`pat serve` asked by many clients while four cameras run: answers, their times, memory, frames of the cameras.

    python -m bench service runs/street-1                        # 10,000 requests of 50 clients
    python -m bench service runs/street-1 --rate 60 --frames 5   # on a larger machine

Times with clients and without take turns, so that whatever else the machine does falls on both. The clients read
what the page reads; a few change people: names, merges that they take back, answers to questions.
"""

from __future__ import annotations

import contextlib
import io
import os
import random
import signal
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families

from bench.children import PAGE, Child, check_numbers, opened, settle, sources
from bench.commands import exit_status, option
from deploy.service.store import Store
from deploy.shipped import shipped_bundle
from pat.base.errors import UserError

MIX = {
    "people": 24, "person": 10, "timeline": 14, "entries": 4, "image": 12, "status": 10, "cameras": 5,
    "frame": 8, "events": 6, "metrics": 3, "name": 1.5, "merge": 1, "confirm": 0.5, "photo": 1,
}  # fmt: skip
"""What a client asks next, in percent; a merge is taken back at once, so it is two requests."""
LOOKS = {"status": "status", "cameras": "cameras", "events": "events?limit=50", "metrics": "/metrics"}
"""Where a client looks that needs nothing to choose."""
GROWTH = 32
"""MiB that the service may take in the second half."""

QUICK = {"requests": 200, "clients": 10, "rate": 20.0, "rounds": 2, "people": 100}
"""A short try."""


@dataclass(frozen=True)
class Options:
    streets: Sequence[Path] = option((), "folders of `pat synth street`; by default one is filmed",
                                     positional=True, nargs="*")  # fmt: skip
    requests: int = option(10_000, "default: %(default)s")
    clients: int = option(50, "default: %(default)s")
    rate: float = option(25.0, "requests a second, of all clients together; default: %(default)s")
    frames: float = option(2.0, "a second and camera; default: %(default)s")
    rounds: int = option(10, "times with clients, and as many as long without; default: %(default)s")
    people: int = option(1000, "in the gallery, beside those whom the cameras meet; default: %(default)s")
    bundle: Path | None = option(None, "default: the model in the box")
    threshold: str = option("", "as --gallery.threshold; default: the bundle's own")
    quick: bool = option(False, "a short try, with numbers of its own")
    out: Path = option(Path("runs"), "for what is made; default: %(default)s")
    flags: Sequence[str] = ()
    """More settings of the process."""


class Visitor:
    """One client: asks, notes how long each answer took, and what was wrong with it."""

    def __init__(self, address: str, people: Mapping[str, str], asking: threading.Lock, seed: int) -> None:
        self._client = httpx.Client(base_url=address, timeout=60)
        self._names, self._asking, self._random = dict(people), asking, random.Random(seed)
        self._cursor: str | None = None
        self._keys = [*people]
        self._images: list[str] = []
        self.times: list[tuple[str, float]] = []
        """What was asked, and seconds to the whole answer."""
        self.errors: list[str] = []

    def turn(self) -> None:
        """Ask one thing, or change one and look at it."""
        (kind,) = self._random.choices([*MIX], [*MIX.values()])
        key, own = self._random.choice(self._keys), self._random.choice([*self._names])
        if kind == "people":
            page = self._ask(kind, "GET", "people", params={"limit": 50, "cursor": self._cursor or ""})
            self._cursor = page["next"]
            self._keys = [each["key"] for each in page["items"]] or self._keys
        elif kind in ("person", "timeline"):
            self._ask(kind, "GET", f"people/{key}" + ("/timeline" if kind == "timeline" else ""))
        elif kind == "entries" or (kind == "image" and not self._images):
            entries = self._ask("entries", "GET", f"people/{own}/entries")
            self._images = [each["image"] for each in entries if each["image"]]
        elif kind == "image":
            self._ask(kind, "GET", self._random.choice(self._images))
        elif kind in LOOKS:
            self._ask(kind, "GET", LOOKS[kind])
        elif kind in ("frame", "photo"):
            image = self._ask("frame", "GET", "cameras/gate-0/frame.jpg")
            if kind == "photo":
                self._ask(kind, "POST", "search", content=image, headers={"Content-Type": "image/jpeg"})
        elif kind == "name":
            self._names[own] = f"guest {self._random.randbytes(8).hex()}"
            changed = self._ask(kind, "PATCH", f"people/{own}", json={"name": self._names[own]})
            self._expect(changed["person"]["name"], self._names[own])
        elif kind == "merge":
            into = self._random.choice([each for each in self._names if each != own])
            changed = self._ask(kind, "POST", f"people/{own}/merge", json={"into": into})
            self._expect(changed["person"]["name"], self._names[into])
            self._ask("undo", "POST", f"changes/{changed['change']}/undo")
            self._expect(self._ask("person", "GET", f"people/{own}")["name"], self._names[own])
        else:
            with self._asking:  # two clients shall not answer one question
                asked = self._ask("reviews", "GET", "reviews", params={"limit": 1})["items"]
                for each in asked:
                    self._ask(kind, "PUT", f"reviews/{each['id']}", json={"answer": "same"})

    def _ask(self, kind: str, method: str, path: str, **more: Any) -> Any:
        """The answer: of JSON what it says, else its bytes. Raises httpx.HTTPError for one that is none."""
        begun = time.perf_counter()
        answer = self._client.request(method, path if path[0] == "/" else f"/api/v1/{path}", **more)
        self.times.append((kind, time.perf_counter() - begun))
        if not answer.is_success:
            raise httpx.HTTPError(f"{method} {path}: {answer.status_code} {answer.text[:200]}")
        is_json = answer.content and answer.headers.get("content-type") == "application/json"
        return answer.json() if is_json else answer.content

    def _expect(self, found: str, wanted: str) -> None:
        if found != wanted:
            self.errors.append(f"somebody is called {found}, and was given the name {wanted} before that")


@dataclass(frozen=True)
class Phase:
    """A time with clients, or without."""

    clients: bool
    seconds: float
    frames: float
    """Of all cameras."""
    service: float
    """Seconds of CPU that the service took."""
    asking: float
    """Seconds of CPU that the clients took."""
    free: float
    """Share of the machine that was idle, or busy with what gives way (nice)."""
    load: float
    """The system's load average at the end, over a minute."""
    memory: float
    """MiB of the service at the end."""


@dataclass
class Outcome:
    """What was measured."""

    phases: list[Phase] = field(default_factory=list)
    times: dict[str, list[float]] = field(default_factory=dict)
    """Seconds to the answer, by what was asked."""
    errors: list[str] = field(default_factory=list)

    @property
    def growth(self) -> float:
        """MiB in the second half of the times with clients: in the first, allocators get what they then keep."""
        memory = [phase.memory for phase in self.phases if phase.clients]
        return memory[-1] - memory[(len(memory) - 1) // 2]

    def lines(self) -> Iterator[str]:
        """As a person reads it."""
        everything = [each for times in self.times.values() for each in times]
        for kind, times in [*sorted(self.times.items()), ("all", everything)]:
            p50, p99, most = 1e3 * np.percentile(times, [50, 99, 100])
            yield f"{kind:9} {len(times):6}   p50 {p50:6.1f} ms   p99 {p99:7.1f} ms   longest {most:7.1f} ms"
        cores = os.cpu_count() or 1
        for there in (False, True):
            some = [phase for phase in self.phases if phase.clients == there]
            seconds = sum(each.seconds for each in some)
            service = 100 * sum(each.service for each in some) / cores / seconds
            asking = 100 * sum(each.asking for each in some) / cores / seconds
            yield (
                f"{'with' if there else 'without'} clients: {sum(each.frames for each in some) / seconds:.2f} "
                f"frames/s; of {cores} cores the service took {service:.0f} %, the clients {asking:.0f} %, free: "
                f"{100 * statistics.mean(each.free for each in some):.0f} %; "
                f"load average {min(each.load for each in some):.1f} to {max(each.load for each in some):.1f}"
            )
        ratios = [with_.frames * out.seconds / (out.frames * with_.seconds) for out, with_ in self.pairs()]
        yield f"frame rate with clients / without, round by round: {' '.join(f'{each:.2f}' for each in ratios)}"
        yield f"memory: {' '.join(f'{phase.memory:.0f}' for phase in self.phases if phase.clients)} MiB"
        yield f"errors: {len(self.errors)}"
        yield from self.errors[:20]

    def pairs(self) -> list[tuple[Phase, Phase]]:
        """Each time without clients and the one with them after it."""
        return list(zip(self.phases[::2], self.phases[1::2], strict=True))


def main(options: Options) -> int:
    """Ask and print what was measured; the exit status: 1 for a wrong answer or more memory, 2 for a mistake."""

    def measured() -> int:
        outcome = run(replace(options, **QUICK) if options.quick else options)  # type: ignore[arg-type]
        print(*outcome.lines(), sep="\n")
        return 1 if outcome.errors or outcome.growth > GROWTH else 0

    return exit_status(measured)


def run(options: Options) -> Outcome:
    """The measurement. Raises UserError for a mistake, Failure when the service does not start."""
    check_numbers(options, "requests", "clients", "rate", "frames", "rounds", "people")
    if options.requests < options.rounds or options.people < 2 * options.clients:
        raise UserError("each round needs a request, and each client two --people whom it may change")
    bundle = options.bundle or shipped_bundle()
    options.out.mkdir(parents=True, exist_ok=True)
    cameras = sources(options.streets, options.out)
    outcome = Outcome()
    with tempfile.TemporaryDirectory(dir=options.out) as folder:
        with opened(Path(folder, "gallery"), bundle) as gallery:
            people = settle(gallery, options.people)
        furnish(Path(folder, "gallery"))
        words = [str(bundle), *cameras, "--camera.loop", "--camera.pace", "--camera.rate", str(options.frames)]
        words += ["--gallery.path", f"{folder}/gallery", "--gallery.threshold", options.threshold]
        words += ["--runtime.threads", "1", "--keep.views", "best", "--port", "0", *options.flags]
        with Child("serve", *words, until=PAGE) as child:
            asking, keys = threading.Lock(), [*people]
            visitors = [
                Visitor(child.found, {key: people[key] for key in keys[n :: options.clients]}, asking, n)
                for n in range(options.clients)
            ]
            watch, each = Watch(child), options.requests // options.rounds
            watch.until_live()
            visit(visitors, 2 * options.clients, options.rate)  # what is made once is made by then
            for visitor in visitors:
                visitor.times.clear()
            for number in range(options.rounds):
                with watch.phase(False, outcome.phases):
                    time.sleep(each / options.rate)
                with watch.phase(True, outcome.phases):
                    visit(visitors, each, options.rate)
                sys.stderr.write(f"round {number + 1} of {options.rounds}\n")
            code = child.end(signal.SIGTERM)
        if code or child.traces:
            outcome.errors.append(f"the service ended with {code}: {''.join(child.traces)}")
        for visitor in visitors:
            outcome.errors += visitor.errors
            for kind, seconds in visitor.times:
                outcome.times.setdefault(kind, []).append(seconds)
    return outcome


def visit(visitors: Sequence[Visitor], turns: int, rate: float) -> None:
    """So many turns of the visitors, begun at `rate` a second over all, and each visitor's one after the other."""
    begun = time.monotonic()

    def some(number: int) -> None:
        for turn in range(number, turns, len(visitors)):
            time.sleep(max(0.0, begun + turn / rate - time.monotonic()))
            try:
                visitors[number].turn()
            except httpx.HTTPError as error:
                visitors[number].errors.append(f"{type(error).__name__}: {error}")

    with ThreadPoolExecutor(len(visitors)) as pool:
        list(pool.map(some, range(len(visitors))))


class Watch:
    """Looks at a service before and after a phase."""

    def __init__(self, child: Child) -> None:
        self._address, self._process = child.found, psutil.Process(child.process.pid)

    def until_live(self) -> None:
        """Wait until every camera has given a frame."""
        cameras = f"{self._address}api/v1/cameras"
        while any(each["state"] != "live" for each in httpx.get(cameras, timeout=60).json()):
            time.sleep(0.2)

    @contextlib.contextmanager
    def phase(self, clients: bool, phases: list[Phase]) -> Iterator[None]:
        """Adds what happens inside to `phases`."""
        before = self._look()
        yield
        seconds, frames, service, asking, free, total = (
            after - then for after, then in zip(self._look(), before, strict=True)
        )
        memory = self._process.memory_info().rss / 2**20
        phases.append(
            Phase(clients, seconds, frames, service, asking, free / total, os.getloadavg()[0], memory)
        )

    def _look(self) -> tuple[float, float, float, float, float, float]:
        """The clock, frames, CPU of the service and of this process, the machine's free CPU and all of it."""
        told = httpx.get(f"{self._address}metrics", timeout=60).text
        frames = sum(
            sample.value for family in text_string_to_metric_families(told) for sample in family.samples
            if sample.name == "pat_frames_total"
        )  # fmt: skip
        service, machine = self._process.cpu_times(), psutil.cpu_times()
        free = machine.idle + getattr(machine, "nice", 0.0)
        return time.monotonic(), frames, service.user + service.system, time.process_time(), free, sum(machine)


def furnish(folder: Path) -> None:
    """Give everybody in a gallery sightings and images, as cameras would have."""
    image, out = np.random.default_rng(0).integers(0, 255, (32, 16, 3), dtype=np.uint8), io.BytesIO()
    Image.fromarray(image).resize((128, 256)).save(out, "JPEG", quality=85)
    with Store(folder) as store, store.changing() as connection:
        connection.execute("INSERT INTO service_views SELECT id, 0.5, ? FROM entries", (out.getvalue(),))
        connection.execute("INSERT INTO sightings SELECT identity, camera, time - 5, time, 0.9 FROM entries")
