"""`python -m bench compare`: is anything slower than what is stored for this device?"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.commands import exit_status, option
from bench.device import device_name
from bench.results import Row, name, path_for, read_result, run_suites, store
from pat.base.errors import Failure, UserError

# A median moves by a few per cent from run to run and with the clock of the device. Slower counts when the median
# is a tenth worse and even the better half of the new times lies beyond the worse half of the old ones.
SLACK = 1.1


@dataclass(frozen=True)
class Options:
    result: Path | None = option(None, "a file of results instead of a fresh run", positional=True, nargs="?")
    update: bool = option(False, "store the result instead of comparing")


def slower(now: Sequence[Row], before: Sequence[Row]) -> list[str]:
    """Regressions beyond noise, and rows that are gone; one line each."""
    current = {name(row): row for row in now if "median" in row}
    problems = []
    for old in before:
        new = current.get(name(old))
        if new is None:
            problems.append(f"{name(old)}: not measured any more")
        elif new["median"] > SLACK * old["median"] and new["q1"] > old["q3"]:
            ratio = new["median"] / old["median"]
            problems.append(
                f"{name(old)}: {new['median'] * 1e3:.4g} ms, stored {old['median'] * 1e3:.4g} ms ({ratio:.2f} x)"
            )
    return problems


def main(options: Options) -> int:
    """Returns the exit status: 1 when something got slower, 2 when there is nothing to compare with."""
    return exit_status(lambda: compare(options))


def compare(options: Options) -> int:
    """Compares a file of results, or a fresh run, with the stored result of the same device, or stores it."""
    status = 0
    if options.result is None:
        device, (found, status) = device_name(), run_suites()
        if status:
            print(f"some suites failed (pytest exit status {status}); {len(found)} rows are kept", file=sys.stderr)
    else:
        device, found = read_result(options.result)
    stored = path_for(device)
    if not any("median" in row for row in found):
        nothing = "nothing was measured: no row to compare or to store"
        raise Failure(nothing) if status else UserError(nothing)
    if options.update:
        store(stored, device, found)
        print(f"stored {len(found)} rows in {stored}")
        return 1 if status else 0
    if not stored.exists():
        raise UserError(f"no stored result for {device}; `--update` stores this one")
    problems = slower(found, read_result(stored)[1])
    print("\n".join(problems) or f"nothing slower than stored for {device} ({len(found)} rows)")
    return 1 if problems or status else 0
