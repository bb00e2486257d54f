"""What the builder shows while it works, and how Ctrl-C reaches it."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from pat.base.progress import Progress

Show = Callable[[float, str], None]
"""Takes the share done (0 to 1) and the name of the phase."""


@dataclass
class _Phase:
    """A phase of the build: a step of its parent, made of steps itself."""

    parent: str | None
    steps: int
    done: int = 0


class PhaseTree:
    """How far a build is, from the phases that TensorRT opens and closes inside one another."""

    def __init__(self) -> None:
        self._phases: dict[str, _Phase] = {}
        self._reached = 0.0

    def start(self, name: str, parent: str | None, steps: int) -> None:
        self._phases[name] = _Phase(parent, max(steps, 1))

    def step(self, name: str, step: int) -> None:
        if name in self._phases:
            self._phases[name].done = step + 1

    def finish(self, name: str) -> None:
        self._phases.pop(name, None)

    def share(self, name: str) -> float:
        """The share of the whole build that is done when `name` is where it is. It never goes back."""
        share = 0.0
        phase = self._phases.get(name)
        while phase is not None:
            share = min(1.0, (phase.done + share) / phase.steps)
            phase = self._phases.get(phase.parent) if phase.parent else None
        self._reached = max(self._reached, share)
        return self._reached


def progress_monitor(trt: Any, show: Show, stop: threading.Event) -> Any:
    """An `IProgressMonitor` that reports to `show` and ends the build once `stop` is set."""

    class Monitor(trt.IProgressMonitor):
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.tree, self.lock = PhaseTree(), threading.Lock()

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            with self.lock:
                self.tree.start(phase_name, parent_phase, num_steps)
                show(self.tree.share(phase_name), phase_name)

        def step_complete(self, phase_name: str, step: int) -> bool:
            with self.lock:
                self.tree.step(phase_name, step)
                show(self.tree.share(phase_name), phase_name)
            return not stop.is_set()

        def phase_finish(self, phase_name: str) -> None:
            with self.lock:
                self.tree.finish(phase_name)

    return Monitor()


@contextlib.contextmanager
def progress_bar(progress: Progress, label: str) -> Iterator[Show]:
    """A bar in per cent."""
    reached = 0.0
    with progress.bar(label, 100) as advance:

        def show(share: float, phase: str) -> None:
            nonlocal reached
            advance(round(100 * share) - reached, phase)
            reached = round(100 * share)

        yield show


def run_interruptibly(work: Callable[[], Any], stop: threading.Event) -> Any:
    """Run `work` in a thread and return its result; Ctrl-C sets `stop` and, when `work` has ended, is raised.

    The builder runs C++ for minutes. Python would handle the signal only afterwards, or, worse, inside one of the
    builder's callbacks, where an exception ends the process. So the main thread does nothing but wait.
    """
    result: list[Any] = []
    failure: list[BaseException] = []

    def run() -> None:
        try:
            result.append(work())
        except BaseException as error:  # it is raised again in the main thread
            failure.append(error)

    def on_interrupt(*_: object) -> None:
        if not stop.is_set():
            print("stopping the builder (nothing is written)", file=sys.stderr, flush=True)
        stop.set()

    in_main = threading.current_thread() is threading.main_thread()
    previous = signal.signal(signal.SIGINT, on_interrupt) if in_main else None
    try:
        thread = threading.Thread(target=run, name="builder", daemon=True)
        thread.start()
        while thread.is_alive():
            thread.join(0.1)
    finally:
        if in_main:
            signal.signal(signal.SIGINT, previous)
    if stop.is_set():
        raise KeyboardInterrupt
    if failure:
        raise failure[0]
    return result[0]
