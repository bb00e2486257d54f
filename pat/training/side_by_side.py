"""Several runs at once, each in a process of its own with its share of the machine.

A small network gains little from a second thread, and loses much when another program takes a core from it; so on
a CPU runs share the cores, and on several GPUs each has one.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing import connection, forkserver, resource_tracker
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import torch

from pat.base.errors import Failure, UserError
from pat.base.progress import Progress
from pat.config import TrainConfig
from pat.processes import cores, follow_parent
from pat.training import run_folder
from pat.training.job import stop_flag


class Named(Protocol):
    """A run by the name under which it is shown; its folder's log tells how far it is."""

    @property
    def name(self) -> str: ...

    @property
    def config(self) -> TrainConfig: ...


Task = TypeVar("Task", bound=Named)


@dataclass(frozen=True)
class Lane:
    """Where one of several runs goes."""

    device: str
    threads: int


def lanes(device: torch.device, asked: str, processes: int | None = None) -> list[Lane]:
    """Where runs can go at the same time on `device`, which `asked` ("auto", "cuda", "cuda:1", "cpu") led to.

    A GPU takes one run; every GPU is used unless one was named. A CPU takes `processes`, by default one a core.
    No run takes more threads than this process may: OMP_NUM_THREADS counts.
    """
    if processes is not None and processes < 1:
        raise UserError(f"--processes must be at least 1, not {processes}")
    if device.type != "cuda":
        devices, count = [str(device)], processes or cores()
    else:
        named = [str(device)] if ":" in asked else None
        devices = named or [f"cuda:{index}" for index in range(torch.cuda.device_count())]
        count = processes or len(devices)
    threads = max(1, min(cores() // count, torch.get_num_threads()))
    return [Lane(devices[number % len(devices)], threads) for number in range(count)]


def side_by_side(
    work: Callable[[Task, str], object],
    jobs: Sequence[Task],
    where: Sequence[Lane],
    progress: Progress,
    label: str = "epochs",
) -> None:
    """Call `work(job, device)` for every job, as many at a time as there are lanes, under one progress bar.

    `work` is a function at the top of a module: each job has a process of its own. Ctrl-C, SIGTERM or the first
    error stops the other runs, which save their state as `train` does, and is raised once they have.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([work.__module__])  # imported once, not by every process
    _start_server()
    waiting, free, running = list(jobs), list(where), list[_Running[Task]]()
    with stop_flag() as stop, progress.bar(label, sum(job.config.epochs for job in jobs)) as advance:
        shown, finished = 0, 0
        try:
            while waiting or running:
                while waiting and free:
                    running.append(_Running(context, work, waiting.pop(0), free.pop(0)))
                connection.wait([each.outcome for each in running], timeout=1)
                for each in [each for each in running if each.outcome.poll()]:
                    running.remove(each)
                    each.end()
                    free.append(each.lane)
                    finished += each.job.config.epochs
                logs = {each.job.name: epochs_of(each.job.config.out) for each in running}
                epochs = finished + sum(map(len, logs.values()))
                advance(epochs - shown, "  ".join(_state(name, log) for name, log in logs.items()))
                shown = epochs
                if stop():
                    raise KeyboardInterrupt("stopped; every run saved its state")
        except BaseException:
            _stop([each.process for each in running])
            raise


def _start_server() -> None:
    """Start what forks the runs with SIGINT blocked, which it and they inherit.

    A Ctrl-C reaches them all in a terminal: while the server still imports, or a run has not left the terminal's
    process group yet, each would end with a traceback. The parent alone decides what becomes of a run.
    """
    resource_tracker.ensure_running()  # the server asks for it, and it would unblock SIGINT when it starts
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _stop(processes: Sequence[BaseProcess]) -> None:
    """Ask runs to save their state and stop, and wait until they have; a second Ctrl-C ends them as they are."""
    for process in processes:
        process.terminate()  # `train` takes it for Ctrl-C
    try:
        for process in processes:
            process.join()
    except KeyboardInterrupt:
        for process in processes:
            process.kill()
        raise


class _Running(Generic[Task]):
    """A job in its process."""

    def __init__(self, context: ForkServerContext, work: Callable[[Task, str], object], job: Task, lane: Lane):
        self.job, self.lane = job, lane
        self.outcome, sender = context.Pipe(duplex=False)
        self.process = context.Process(target=_in_lane, args=(work, job, lane, sender))
        self.process.start()
        sender.close()

    def end(self) -> None:
        """Raises what the job raised, or Failure when its process was killed."""
        try:
            error = self.outcome.recv()
        except EOFError:
            error = Failure(f"{self.job.name}: its process ended early (killed, or out of memory); start again")
        self.process.join()
        if error is not None:
            raise error


def _in_lane(work: Callable[[Task, str], object], job: Task, lane: Lane, outcome: connection.Connection) -> None:
    # Ctrl-C in a terminal reaches a whole process group; the parent alone decides what becomes of a run.
    os.setpgrp()
    follow_parent()
    torch.set_num_threads(lane.threads)
    if lane.device.startswith("cuda"):
        torch.cuda.set_device(lane.device)
    try:
        work(job, lane.device)
    except (UserError, Failure, KeyboardInterrupt) as error:
        outcome.send(error)
    except Exception as error:
        traceback.print_exc()
        outcome.send(Failure(f"{job.name}: {type(error).__name__}: {error}"))
    else:
        outcome.send(None)


def _state(name: str, epochs: Sequence[Mapping[str, float]]) -> str:
    return f"{name} loss {epochs[-1]['loss']:.2f}" if epochs else name


def epochs_of(folder: Path) -> list[dict[str, float]]:
    """The epochs that the log of a run in `folder` tells of so far."""
    log = folder / run_folder.LOG
    if not log.exists():
        return []
    whole = [line for line in log.read_text(encoding="utf-8").splitlines(keepends=True) if line.endswith("\n")]
    return [json.loads(line) for line in whole if line.startswith('{"event": "epoch"')]  # most are of steps
