"""The rows of `python -m bench gpu`, here on whatever device there is: on a CPU the reference at small sizes.

python -m pytest bench/test_rows.py -k "CSL step"
"""

from __future__ import annotations

import pytest

from bench.rows import SUITES
from bench.rows.plan import plans


@pytest.mark.parametrize("plan", plans([suite for suite in SUITES if suite != "tune"]), ids=lambda plan: plan.name)
def test_row(plan, keep, tmp_path):
    keep(plan.measure(tmp_path))
