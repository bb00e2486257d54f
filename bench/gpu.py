"""`python -m bench gpu`: kernels, training step and network on this GPU, in as many calls as it takes.

Each row is measured in another process and written as soon as it is there. A row that raises, kills its process or
takes too long is a row that says so, and the next one begins in a fresh process. With --minutes the call measures
what matters most and fits; the same command goes on.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.commands import exit_status, option
from bench.deadline import UNFINISHED, Deadline
from bench.device import device_name
from bench.results import Row, append_row, path_for, read_rows, store, table, versions
from bench.rows import SUITES
from pat.base.errors import UserError

if TYPE_CHECKING:
    from bench.rows.plan import RowPlan

LIMIT, INTERPRETED_LIMIT = 120.0, 1800.0
"""Seconds that a row may take: on a GPU compiling is the longest part, the interpreter is slow in all."""

START = "spawn"
"""How the other process is started: a fork has no GPU."""

LOG_TAIL = 2000
"""Characters of standard error that a failed row keeps."""


@dataclass(frozen=True)
class Options:
    out: Path = option(Path("runs/bench-gpu"), "all that is found; goes on where it is")
    minutes: float | None = option(None, "leave in time; the same command goes on (exit status 75)")
    only: Sequence[str] = option(SUITES, f"some of {','.join(SUITES)}", type=lambda text: text.split(","))
    again: bool = option(False, "measure rows that failed once more")
    interpret: bool = option(False, "try the program: tiny shapes, a CPU, no figure")


def main(options: Options) -> int:
    """Returns the exit status: 0, UNFINISHED when time was up, 1 when a row failed, 2 for a user's mistake."""
    return exit_status(lambda: run(options))


def run(options: Options) -> int:
    """Measures what is not there yet, as far as time goes."""
    if options.interpret:
        os.environ |= {"TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": ""}
    deadline = Deadline(options.minutes)
    check(options)
    done = begin(options)
    from bench.rows import plan as planning

    wanted = planning.plans(options.only)
    waiting = [plan for plan in wanted if plan.name not in done]
    print(
        f"{device_name()}: {len(waiting)} of {len(wanted)} rows to measure; results in {options.out}", flush=True
    )
    left, limit = len(waiting), INTERPRETED_LIMIT if options.interpret else LIMIT
    with tempfile.TemporaryDirectory() as scratch, contextlib.closing(Worker(options, Path(scratch))) as worker:
        for plan in waiting:
            remaining = deadline.left()
            if remaining <= 0:
                break
            found = worker.measure(plan, min(limit, remaining))
            if found is None and remaining < limit:  # it had less time than it may take: not its fault
                break
            for row in found or [{**plan.facts, "failed": f"slow: nothing after {limit:.0f} s"}]:
                append_row(options.out / "rows.jsonl", {**row, "plan": plan.name})
                print(brief(row), flush=True)
            left -= 1
            write_result(options)
    return finish(options, left)


def check(options: Options) -> None:
    """Raises UserError for options that cannot be."""
    if unknown := set(options.only) - set(SUITES):
        raise UserError(f"--only {','.join(sorted(unknown))}: expected some of {','.join(SUITES)}")
    from kernels.timing import ON_GPU

    if not ON_GPU and not options.interpret:
        raise UserError(
            "no CUDA GPU here; --interpret tries the program on a CPU, `pytest bench` measures the reference there"
        )


def begin(options: Options) -> set[str]:
    """Names of the rows that `--out` already holds. Raises UserError where they are those of something else."""
    try:
        options.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--out {options.out}: {error.strerror}") from error
    about, kept = options.out / "about.json", options.out / "rows.jsonl"
    here = {"device": device_name(), "interpreted": options.interpret, **versions()}
    if about.exists() and (there := _read(about)) != here:
        changed = [f"{key} {there.get(key)}, now {here[key]}" for key in here if there.get(key) != here[key]]
        raise UserError(f"{options.out} holds rows of something else ({', '.join(changed)}); choose another --out")
    about.write_text(json.dumps(here, indent=1) + "\n")
    rows = read_rows(kept)
    if options.again:
        rows = [row for row in rows if "failed" not in row]
        kept.unlink(missing_ok=True)
        for row in rows:
            append_row(kept, row)
    return {row["plan"] for row in rows}


def _read(about: Path) -> dict[str, Any]:
    try:
        there: dict[str, Any] = json.loads(about.read_text())
    except ValueError as error:
        raise UserError(f"{about} is damaged ({error}); choose another --out, or delete it") from error
    return there


def finish(options: Options, left: int) -> int:
    """Prints all rows so far and what to do next; returns the exit status."""
    result, rows = write_result(options)
    print(table(rows))
    failed = sum("failed" in row for row in rows)
    print(f"{len(rows) - failed} rows measured, {failed} failed, {left} left; {result}")
    if left:
        print("time is up; the same `python -m bench gpu` goes on", file=sys.stderr)
        return UNFINISHED
    if not options.interpret:
        tables = options.out / "tuned"
        print(
            f"keep it: python -m bench compare {result} --update"
            + (f"; cp {tables}/* kernels/tuned/" * tables.exists())
        )
    return 1 if failed else 0


def write_result(options: Options) -> tuple[Path, list[Row]]:
    """The result and the table, after each row anew: whatever ends this call, they are whole."""
    rows = read_rows(options.out / "rows.jsonl")
    result = options.out / path_for(device_name()).name
    store(result, device_name(), rows)
    (options.out / "table.txt").write_text(table(rows) + "\n")
    return result, rows


def brief(row: Row) -> str:
    name = " ".join(str(row[fact]) for fact in ("operation", "shape", "dtype", "implementation"))
    return f"{name}: " + (f"failed: {row['failed']}" if "failed" in row else f"{row['median'] * 1e6:.1f} us")


class Worker:
    """A process that measures one row after another, replaced by a fresh one after a failure."""

    def __init__(self, options: Options, scratch: Path) -> None:
        self._options, self._log = options, scratch / "stderr.txt"
        self._process: Any = None
        self._pipe: Connection | None = None

    def measure(self, plan: RowPlan, limit: float) -> list[Row] | None:
        """The rows of a plan; None when the time is over."""
        if self._pipe is None:
            self._start()
        assert self._pipe is not None
        try:
            self._pipe.send(plan.name)
            if not self._pipe.poll(limit):
                self.close(patience=0)
                return None
            rows, lost = self._pipe.recv()
        except (EOFError, OSError):
            self._process.join(10)
            rows, lost = [{"failed": f"its process died (exit status {self._process.exitcode})"}], True
        if lost:
            self.close(patience=0)
        if "failed" in rows[0]:
            rows = [plan.facts | row | {"log": self._tail()} for row in rows]
        return rows

    def close(self, patience: float = 10.0) -> None:
        """Ends the process; given time, it puts away its temporary files."""
        if self._pipe is not None:
            self._pipe.close()
            self._process.join(patience)
            self._process.kill()
            self._process.join()
            self._process = self._pipe = None

    def _start(self) -> None:
        context: Any = multiprocessing.get_context(START)
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=work, args=(theirs, self._options, str(self._log)))
        self._process.start()
        theirs.close()

    def _tail(self) -> str:
        return self._log.read_text(errors="replace")[-LOG_TAIL:] if self._log.exists() else ""


def work(pipe: Connection, options: Options, log: str) -> None:
    """In the other process: measures the plans whose names come, sends their rows, until the pipe is closed."""
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(descriptor, 2)  # compilers and the driver write there, past sys.stderr
    sys.stderr = os.fdopen(descriptor, "w", buffering=1)
    from bench.rows import plan as planning

    by_name = {plan.name: plan for plan in planning.plans(options.only)}
    while True:
        try:
            name = pipe.recv()
        except EOFError:
            return
        try:
            rows = by_name[name].measure(options.out)
        except Exception as error:  # whatever it is, the row says so and the others go on
            import traceback

            traceback.print_exc()
            rows = [{"failed": planning.first_line(error)}]
        pipe.send((rows, device_is_lost()))


def device_is_lost() -> bool:
    """Whether an error, such as an illegal address, has left this process without its GPU."""
    import torch

    if not torch.cuda.is_available():
        return False
    try:
        torch.cuda.synchronize()
    except RuntimeError:
        return True
    return False
