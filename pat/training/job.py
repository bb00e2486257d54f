"""How the processes of a run find each other, and how the run ends when one of them cannot go on.

`torchrun` starts one process for each GPU. They meet in its key-value store, which also outlives any of them: a
rank that leaves writes there why, so that one speaks for all and names the rank whose fault it was.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta

import torch
import torch.distributed as dist

from pat.base.errors import Failure, UserError
from pat.device import choose_device
from pat.training.distributed import Group, RankLost, Ranks, exchange

PATIENCE = 3.0
"""Seconds in which all ranks say why they leave; those that say nothing are gone."""

POLL = 0.05
"""Seconds between looks into the store."""

_meetings = itertools.count()


@contextlib.contextmanager
def stop_flag() -> Iterator[Callable[[], bool]]:
    """Whether Ctrl-C or SIGTERM has come, or the terminal has gone: the run then stops between two steps.

    A second signal stops at once. Under nohup the terminal may go.
    """
    asked = False

    def ask(number: int, frame: object) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True

    try:
        before = {
            number: signal.signal(number, ask)
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
            if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN
        }
    except ValueError:  # not the main thread: nobody can press Ctrl-C on this run alone
        before = {}
    try:
        yield lambda: asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def joined(device: str, timeout: float) -> Iterator[Ranks]:
    """The ranks of this run, for as long as the context lasts: those that torchrun started, or this process alone.

    `timeout` is how many seconds a rank waits in an exchange for the others. Where several ranks end with an
    error, the first to have one raises it, under its name, and the others leave without a word (SystemExit).
    Raises UserError for a device that is not there, Failure when a rank is lost.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        chosen = choose_device(device)
        if chosen.type == "cuda":
            torch.cuda.set_device(chosen)  # what names no device means this one
        yield Ranks(chosen)
        return
    try:
        meeting = _Meeting(timeout)
    except RankLost as error:
        raise Failure(f"the ranks cannot meet at MASTER_ADDR:MASTER_PORT: {error}") from error
    try:
        ranks = meeting.group(device, timeout)
        yield ranks
    except BaseException as error:
        parting = meeting.parting(error)
        if parting is error:
            raise
        raise parting from error
    dist.destroy_process_group()


class _JoinedGroup(Group):
    """A rank that met the others in the launcher's store."""

    def __init__(self, device: torch.device, meeting: _Meeting) -> None:
        super().__init__(device, meeting.rank, meeting.count)
        self.meeting = meeting

    def agree(self, facts: Callable[[], Mapping[str, str]], stop: Callable[[], bool]) -> None:
        self.meeting.agree(facts(), stop)


class _Meeting:
    """The ranks' notes to each other, in the launcher's store."""

    def __init__(self, timeout: float) -> None:
        missing = [name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
        if missing:
            raise UserError(
                f"WORLD_SIZE is set but {', '.join(missing)} is not; start several processes with "
                "torchrun --nproc-per-node N -m pat.cli train ..."
            )
        with exchange():
            store, self.rank, self.count = next(dist.rendezvous("env://", timeout=timedelta(seconds=timeout)))
        self.store = dist.PrefixStore(f"pat/{next(_meetings)}", store)
        self.store.set(f"host/{self.rank}", socket.gethostname())

    def group(self, device: str, timeout: float) -> Ranks:
        """Connect the ranks. Each takes the GPU of its number on its machine, where there are GPUs."""
        chosen = choose_device(device)
        if chosen.type == "cuda":
            if chosen.index is not None:
                raise UserError(
                    f"--device {device} is one GPU, and each rank takes its own; leave it at auto or cuda"
                )
            chosen = choose_device(f"cuda:{os.environ.get('LOCAL_RANK', self.rank)}")
            torch.cuda.set_device(chosen)
        with exchange():
            dist.init_process_group(
                "cpu:gloo,cuda:nccl" if chosen.type == "cuda" else "gloo", store=self.store, rank=self.rank,
                world_size=self.count, timeout=timedelta(seconds=timeout),
            )  # fmt: skip
        return _JoinedGroup(chosen, self)

    def agree(self, facts: Mapping[str, str], stop: Callable[[], bool]) -> None:
        for name, value in facts.items():
            self.store.set(f"fact/{name}/{self.rank}", value)
        keys = [f"fact/{name}/{rank}" for name in facts for rank in range(self.count)]
        while not all(self.store.check([key]) for key in keys):
            if stop():
                raise KeyboardInterrupt("stopped before the first step")
            if self._notes():
                raise RankLost("a rank ended while the others prepared")
            time.sleep(POLL)
        for name, rank in itertools.product(facts, range(1, self.count)):
            if self.store.get(f"fact/{name}/{rank}") != self.store.get(f"fact/{name}/0"):
                raise UserError(
                    f"{self._named(rank)} has other {name} than rank 0; every machine of a run needs the same"
                )

    def parting(self, error: BaseException) -> BaseException:
        """What this rank raises at the end: the error of the whole job, or a silent exit when another tells it."""
        lost = isinstance(error, RankLost)
        try:
            self.store.set(f"end/{self.rank}", "" if lost else str(error) or type(error).__name__)
            notes = self._all_notes()
        except RuntimeError:  # the store went with the rank that kept it
            return Failure(f"the launcher or rank 0 is gone, and rank {self.rank} of {self.count} with it")
        speakers = sorted(rank for rank, note in notes.items() if note)
        silent = [rank for rank in range(self.count) if rank not in notes]
        if not lost and speakers[0] == self.rank:
            shared = len(set(notes.values())) == 1 and len(notes) == self.count
            told = isinstance(error, (UserError, Failure, KeyboardInterrupt))
            if silent and isinstance(error, KeyboardInterrupt):  # torchrun asks the others to stop when one dies
                return type(error)(f"{error} ({self._all_named(silent)} ended or did not answer)")
            return error if shared or not told else type(error)(f"{self._named(self.rank)}: {error}")
        if not speakers and min(notes) == self.rank:
            return self._loss(silent, error)
        code = 2 if isinstance(error, UserError) else 130 if isinstance(error, KeyboardInterrupt) else 1
        return SystemExit(code)

    def _loss(self, gone: list[int], error: BaseException) -> Failure:
        """Nobody tells what happened: the ranks that say nothing are those that are gone."""
        if not gone:
            return Failure(f"the ranks lost their connection: {error}")
        return Failure(
            f"{self._all_named(gone)} ended or does not answer (killed, out of memory, or the machine is gone); "
            "the others stop; the same command with --resume continues from the last checkpoint, with any number "
            "of ranks"
        )

    def _all_notes(self) -> dict[int, str]:
        """The notes of all ranks, or of those that leave one while our patience lasts."""
        deadline = time.monotonic() + PATIENCE
        while len(self._notes()) < self.count and time.monotonic() < deadline:
            time.sleep(POLL)
        return self._notes()

    def _notes(self) -> dict[int, str]:
        """Why ranks left, so far; empty for one that lost another."""
        keys = {rank: f"end/{rank}" for rank in range(self.count)}
        return {rank: self.store.get(key).decode() for rank, key in keys.items() if self.store.check([key])}

    def _all_named(self, ranks: Sequence[int]) -> str:
        return " and ".join(self._named(rank) for rank in ranks)

    def _named(self, rank: int) -> str:
        key = f"host/{rank}"
        host = self.store.get(key).decode() if self.store.check([key]) else "never seen"
        return f"rank {rank} of {self.count} ({host})"
