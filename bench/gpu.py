"""`python -m bench gpu`: tests first, then every benchmark on this GPU, one table, one file of results."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys

from bench.device import device_name
from bench.results import BENCH, path_for, run_suites, store
from kernels.timing import ON_GPU

TESTS = BENCH.parent / "tests" / "kernels"
NEEDS_HYPOTHESIS = re.compile(r"^(import|from) hypothesis", re.MULTILINE)


def main() -> int:
    """Returns the exit status: 2 without a GPU, 1 when a test or a benchmark fails."""
    if not ON_GPU:
        print("error: no CUDA GPU here; `pytest bench` runs the suites at small sizes on a CPU", file=sys.stderr)
        return 2
    command = [sys.executable, "-m", "pytest", str(TESTS), "-q"]
    if importlib.util.find_spec("hypothesis") is None:
        left_out = [path for path in sorted(TESTS.glob("test_*.py")) if NEEDS_HYPOTHESIS.search(path.read_text())]
        command += [f"--ignore={path}" for path in left_out]
        print(f"hypothesis is not installed; left out: {' '.join(path.name for path in left_out) or 'nothing'}")
    if subprocess.run(command, cwd=BENCH.parent).returncode:
        print(
            "error: the kernels' tests fail on this GPU; figures of wrong results are worthless",
            file=sys.stderr,
        )
        return 1
    try:
        found = run_suites()
    except RuntimeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    path = path_for(device_name())
    store(path, device_name(), found)
    print(f"written to {path.relative_to(BENCH.parent)}")
    return 0
