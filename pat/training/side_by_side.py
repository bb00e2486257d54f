"""Several runs at once, each in a process of its own with its share of the machine.

A small network gains little from a second thread, and loses much when another program takes a core from it; so on
a CPU runs share the cores, and on several GPUs each has one.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

import torch

from pat.config import TrainConfig
from pat.errors import Failure, UserError
from pat.progress import Progress
from pat.training import run_folder
from pat.training.job import stop_flag


class Named(Protocol):
    """A run by the name under which it is shown; its folder's log tells how far it is."""

    @property
    def name(self) -> str: ...

    @property
    def config(self) -> TrainConfig: ...


Job = TypeVar("Job", bound=Named)


@dataclass(frozen=True)
class Place:
    """Where one of several runs goes."""

    device: str
    threads: int


def places(device: torch.device, asked: str, processes: int | None = None) -> list[Place]:
    """Where runs can go at the same time on `device`, which `asked` ("auto", "cuda", "cuda:1", "cpu") led to.

    A GPU takes one run; every GPU is used unless one was named. A CPU takes `processes`, by default one a core.
    """
    if processes is not None and processes < 1:
        raise UserError(f"--processes must be at least 1, not {processes}")
    cores = os.cpu_count() or 1
    if device.type != "cuda":
        count = processes or cores
        return [Place(str(device), max(1, cores // count))] * count
    named = ":" in asked
    gpus = [str(device)] if named else [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    count = processes or len(gpus)
    return [Place(gpus[number % len(gpus)], max(1, cores // count)) for number in range(count)]


def side_by_side(
    work: Callable[[Job, str], object],
    jobs: Sequence[Job],
    where: Sequence[Place],
    progress: Progress,
    label: str = "epochs",
) -> None:
    """Call `work(job, device)` for every job, as many at a time as there are places, under one progress bar.

    `work` is a function at the top of a module: processes are started by "spawn". Ctrl-C, SIGTERM or the first
    error stops the other runs, which save their state as `train` does, and is raised once they have.
    """
    waiting, running = list(jobs), dict[Future[None], tuple[Job, Place]]()
    free = list(where)
    total = sum(job.config.epochs for job in jobs)
    with stop_flag() as stop, _pool(min(len(where), len(jobs))) as pool, progress.bar(label, total) as advance:
        shown, finished = 0, 0
        while waiting or running:
            while waiting and free:
                job, place = waiting.pop(0), free.pop(0)
                running[pool.submit(_in_place, work, job, place)] = (job, place)
            done, _ = wait(running, timeout=1, return_when=FIRST_COMPLETED)
            for future in done:
                job, place = running.pop(future)
                free.append(place)
                future.result()
                finished += job.config.epochs
            epochs = finished + sum(len(epochs_of(job.config.out)) for job, _ in running.values())
            advance(epochs - shown, "  ".join(_state(job) for job, _ in running.values()))
            shown = epochs
            if stop():
                raise KeyboardInterrupt("stopped; every run saved its state")


@contextlib.contextmanager
def _pool(count: int) -> Iterator[ProcessPoolExecutor]:
    """Processes that end with the block: asked to save and stop where an error or Ctrl-C ended it."""
    pool = ProcessPoolExecutor(count, multiprocessing.get_context("spawn"), initializer=_apart)
    before = set(multiprocessing.active_children())
    try:
        yield pool
    except BrokenProcessPool:
        raise Failure("the process of a run ended early (killed, or out of memory); start again") from None
    except BaseException:
        for process in set(multiprocessing.active_children()) - before:
            process.terminate()  # a run takes it for Ctrl-C: it saves its state between two steps
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _apart() -> None:
    """Ctrl-C in a terminal reaches a whole process group; the parent alone is to decide what becomes of a run."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.setpgrp()


def _in_place(work: Callable[[Job, str], object], job: Job, place: Place) -> None:
    torch.set_num_threads(place.threads)
    work(job, place.device)


def _state(job: Named) -> str:
    epochs = epochs_of(job.config.out)
    return f"{job.name} loss {epochs[-1]['loss']:.2f}" if epochs else job.name


def epochs_of(folder: Path) -> list[dict[str, float]]:
    """The epochs that the log of a run in `folder` tells of so far."""
    log = folder / run_folder.LOG
    if not log.exists():
        return []
    whole = [line for line in log.read_text(encoding="utf-8").splitlines(keepends=True) if line.endswith("\n")]
    return [line for line in map(json.loads, whole) if line["event"] == "epoch"]
