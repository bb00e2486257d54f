"""What the scripts of this folder share: one line and an exit code for whatever goes wrong."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence

from pat.base.errors import Failure, UserError


def run(
    name: str,
    work: Callable[[argparse.Namespace], int],
    parse: Callable[[Sequence[str] | None], argparse.Namespace],
    arguments: Sequence[str] | None = None,
) -> int:
    """Run a script: its own exit code, 2 for a user's mistake, 1 for a failure, 130 for Ctrl-C."""
    try:
        return work(parse(arguments))
    except UserError as error:
        return _say(name, error, 2)
    except Failure as error:
        return _say(name, error, 1)
    except KeyboardInterrupt:
        return _say(name, "stopped", 130)


def _say(name: str, message: object, code: int) -> int:
    print(f"{name}: {' '.join(str(message).split())}", file=sys.stderr)
    return code
