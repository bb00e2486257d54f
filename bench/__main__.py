"""`python -m bench gpu | compare | static`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def main() -> int:
    """Reads the command line, runs one of the commands, returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="Benchmarks and their baselines.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser(
        "gpu", help="test, then measure every kernel on this GPU; writes bench/results/<device>.json"
    )
    compare = commands.add_parser("compare", help="measure and fail if slower than stored for this device")
    compare.add_argument("result", nargs="?", type=Path, help="a file of results instead of a fresh run")
    compare.add_argument("--update", action="store_true", help="store the result instead of comparing")
    static = commands.add_parser("static", help="compiled kernels against bench/baselines (needs no GPU)")
    static.add_argument("--arch", action="append", help="may be repeated; default: all")
    static.add_argument("--update", action="store_true", help="rewrite the baseline, for all architectures")
    static.add_argument("--table", action="store_true", help="print the baseline as in kernels/README.md")
    options = parser.parse_args()

    if options.command == "gpu":
        from bench import gpu

        return gpu.main()
    if options.command == "compare":
        from bench import compare as comparison

        return comparison.main(options.result, update=options.update)
    from bench import static as baseline

    return baseline.main(options.arch, update=options.update, table=options.table)


if __name__ == "__main__":
    sys.exit(main())
