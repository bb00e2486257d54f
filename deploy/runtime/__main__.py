"""`python -m deploy.runtime pick BUNDLE`: what runs a bundle best on this machine."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from deploy.runtime.choice import choice_file, pick
from pat.base.errors import Failure, UserError
from pat.base.parser import OneLineParser


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print a line a candidate, and write the choice down. Returns the exit code."""
    parser = OneLineParser("python -m deploy.runtime", description="Bundles on this machine.")
    commands = parser.add_subparsers(dest="command", required=True)
    add = commands.add_parser(
        "pick",
        help="measure what runs a bundle best here",
        description=(
            "Runs the bundles with every backend that is installed, in turn, and writes down the fastest one that "
            "passes its gate on the check set. The camera then uses it for the first bundle."
        ),
    ).add_argument
    add("bundle", type=Path, help="the bundle folder that the camera is given")
    add("others", type=Path, nargs="*", help="bundles of the same model in other precisions, made from it")
    add("--batch", type=int, default=8, help="crops at a time (default: %(default)s)")
    add("--seconds", type=float, default=10, help="how long to measure (default: %(default)s)")
    add("--threads", type=int, default=0, help="threads of a CPU backend; 0 leaves it to the backend")
    given = parser.parse_args(arguments)
    try:
        if given.batch < 1 or not given.seconds > 0 or given.threads < 0:
            raise UserError("--batch must be at least 1, --seconds above 0 and --threads not below 0")
        results, chosen = pick(
            [given.bundle, *given.others], batch=given.batch, seconds=given.seconds, threads=given.threads
        )
    except (UserError, Failure) as error:
        print(f"pick: {' '.join(str(error).split())}", file=sys.stderr)
        return 2 if isinstance(error, UserError) else 1
    except KeyboardInterrupt:
        print("pick: stopped; nothing was written", file=sys.stderr)
        return 130
    width = max(len(str(each.candidate)) for each in results)
    for each in results:
        found = f"out: {each.out}" if each.out else f"{each.milliseconds:8.2f} ms a crop; {each.figures}"
        print(f"{each.candidate!s:<{width}}  {found}")
    print(f"chosen: {results[0].candidate}, because {chosen.why}; written to {choice_file(given.bundle)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
