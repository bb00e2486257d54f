"""`python -m bench compare`: is anything slower than what is stored for this device?"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from bench.device import device_name
from bench.results import Row, name, path_for, read_result, run_suites, store

# A median moves by a few per cent from run to run and with the clock of the device. Slower counts when the median
# is a tenth worse and even the better half of the new times lies beyond the worse half of the old ones.
SLACK = 1.1


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


def main(result: Path | None = None, *, update: bool = False) -> int:
    """Compares a file of results, or a fresh run, with the stored result of the same device.

    Returns the exit status: 1 when something got slower, 2 when there is nothing to compare with.
    """
    status = 0
    if result is None:
        device, (found, status) = device_name(), run_suites()
        if status:
            print(f"some suites failed (pytest exit status {status}); {len(found)} rows are kept", file=sys.stderr)
    else:
        try:
            device, found = read_result(result)
        except ValueError as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
    stored = path_for(device)
    if not any("median" in row for row in found):
        print("error: nothing was measured: no row to compare or to store", file=sys.stderr)
        return 1 if status else 2
    if update:
        store(stored, device, found)
        print(f"stored {len(found)} rows in {stored}")
        return 1 if status else 0
    if not stored.exists():
        print(f"error: no stored result for {device}; `--update` stores this one", file=sys.stderr)
        return 2
    try:
        problems = slower(found, read_result(stored)[1])
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print("\n".join(problems) or f"nothing slower than stored for {device} ({len(found)} rows)")
    return 1 if problems or status else 0
