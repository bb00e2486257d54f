"""Work shared out among processes."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from typing import TypeVar

from pat.base.errors import Failure, UserError
from pat.processes import cores, follow_parent

Task = TypeVar("Task")
Result = TypeVar("Result")


def checked_workers(workers: int | None) -> int:
    """So many processes, one for each core if None. Raises UserError for fewer than one."""
    if workers is not None and workers < 1:
        raise UserError(f"workers must be at least 1, not {workers}")
    return workers or cores()


def in_processes(work: Callable[[Task], Result], tasks: Iterable[Task], workers: int) -> Iterator[Result]:
    """Results in any order, with no more than a few tasks under way. Raises Failure when a worker dies."""
    if workers == 1:
        yield from map(work, tasks)
        return
    waiting = iter(tasks)
    context = multiprocessing.get_context("spawn")  # a fork would copy the locks of torch's threads
    pool = ProcessPoolExecutor(workers, context, initializer=follow_parent)
    try:
        running: set[Future[Result]] = {pool.submit(work, task) for task in islice(waiting, 2 * workers)}
        while running:
            ready, running = wait(running, return_when=FIRST_COMPLETED)
            running |= {pool.submit(work, task) for task in islice(waiting, len(ready))}
            for future in ready:
                yield future.result()
    except BrokenProcessPool as error:
        raise Failure("a process that draws people ended early; run the same command again") from error
    finally:
        pool.shutdown(cancel_futures=True)
