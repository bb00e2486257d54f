"""What the benchmarks read from their command lines."""

from __future__ import annotations

from pathlib import Path

from bench import kills
from bench.commands import read_options


def test_streets_stand_before_the_options_or_after_them():
    after = read_options(kills.Options, "kills", ["camera", "--times", "3", "street-1", "street-2"])
    before = read_options(kills.Options, "kills", ["camera", "street-1", "street-2", "--times", "3"])
    assert after == before
    assert (after.kind, after.times, after.streets) == ("camera", 3, [Path("street-1"), Path("street-2")])
