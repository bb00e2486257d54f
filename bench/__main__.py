"""`python -m bench gpu | train | model | detector | compare | static | street | service | kills`."""

from __future__ import annotations

import importlib
import sys

from bench.commands import read_options
from pat.base.parser import OneLineParser

COMMANDS = {
    "gpu": ("bench.gpu", "measure kernels, training step and network on this GPU"),
    "train": ("bench.train", "a whole run on a drawn set of Market-1501's size"),
    "compare": ("bench.compare", "measure and fail if slower than stored for this device"),
    "static": ("bench.static", "compiled kernels against bench/baselines (needs no GPU)"),
    "model": ("bench.model.make", "the model in the box, anew: people, training, bundle, scores, card"),
    "detector": ("bench.detector.make", "the person detector in the box, anew: frames, training, scores, card"),
    "street": ("bench.street", "the camera process on filmed streets, scored against their truth"),
    "service": ("bench.service", "`pat serve` asked by many clients while cameras run"),
    "kills": ("bench.kills", "kill -9 under load: nothing acknowledged is lost"),
}
"""Name -> module with `Options` and `main`, and help. Only the one asked for is loaded: each has its own needs."""


def main() -> int:
    """Reads the command line, runs one of the commands, returns its exit status."""
    parser = OneLineParser(prog="python -m bench", description="Benchmarks and their baselines.")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, (_, what) in COMMANDS.items():
        commands.add_parser(name, help=what)
    command = parser.parse_args(sys.argv[1:2]).command
    module = importlib.import_module(COMMANDS[command][0])
    status: int = module.main(read_options(module.Options, command, sys.argv[2:]))
    return status


if __name__ == "__main__":
    sys.exit(main())
