"""The `pat` command: finds the subcommand, runs it, and turns errors into one line and an exit code."""

from __future__ import annotations

import difflib
import gc
import importlib
import io
import os
import sys
import warnings
from collections.abc import Sequence

from pat.base.errors import Failure, UserError
from pat.base.garbage import uncollected
from pat.base.progress import say

COMMANDS = {
    "demo": "train and score a small PAT on synthetic people, in minutes",
    "data": "check data sets on disk, list their splits, take out images",
    "synth": "render people who do not exist: data sets, filmed streets",
    "train": "train on one or more data sets",
    "slice": "cut a narrower model out of a trained one, without training",
    "distill": "train a smaller model to embed as a larger one does",
    "evaluate": "score a model on data sets: CMC, mAP, mINP, images, report",
    "ablate": "compare arms of a study over seeds: table, figure, tests",
    "embed": "embed images into .npz or .parquet",
    "rank": "draw the gallery images nearest to each query image",
    "camera": "find, follow and recognise people in camera images",
    "serve": "the cameras with a page for people, an API, MQTT and webhooks",
    "gallery": "enrol, look up, forget and count whom cameras recognise",
    "export": "write a model as an ONNX bundle, the first step to an engine",
    "import-weights": "convert checkpoints of other projects into a model file",
}
"""What each command does. Its module in pat.commands is imported only when it runs."""

EXTRAS = {
    **dict.fromkeys(("torch", "timm", "torchvision", "safetensors", "matplotlib", "scipy"), "train"),
    **dict.fromkeys(("onnx", "onnxscript"), "export"),
    "numba": "people",
    **dict.fromkeys(
        ("onnxruntime", "av", "cv2", "prometheus_client", "numkong", "supervision", "trackers"), "deploy"
    ),
    **dict.fromkeys(("anyio", "aiomqtt", "fastapi", "httpx", "pydantic", "starlette", "uvicorn"), "service"),
}
"""Modules that an installation may lack, and the extra that brings them."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run `pat` with `arguments` (default: the process's own) and exit."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(overview())
        sys.exit(0)
    name, rest = arguments[0], arguments[1:]
    if isinstance(sys.stdout, io.TextIOWrapper):  # a file's name need not be text, nor in the terminal's alphabet
        sys.stdout.reconfigure(errors="backslashreplace")
    warnings.filterwarnings("ignore", module=r"PIL\.")  # of images that are read, or refused in a line of our own
    code = run(name, rest)
    gc.freeze()  # what is left goes with the process: Python would search it first, after a trace for seconds
    sys.exit(code)


def run(name: str, arguments: Sequence[str]) -> int:
    """Run one command and return its exit code: 0, 2 for a user's mistake, 1 for a failure, 130 for Ctrl-C."""
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, n=1)
        meant = f"did you mean {near[0]}?" if near else "pat --help lists them"
        return _say(name, f"there is no such command; {meant}", 2)
    module = f"pat.commands.{name.replace('-', '_')}"
    try:
        # A quarter of the time that PyTorch takes to import, and again as much whenever all of it is searched.
        with uncollected(for_good=module not in sys.modules):
            command = importlib.import_module(module)
        command.main(list(arguments))
    except UserError as error:
        return _say(name, str(error), 2)
    except Failure as error:
        return _say(name, str(error), 1)
    except KeyboardInterrupt as interrupt:
        return _say(name, str(interrupt) or "stopped", 130)
    except ModuleNotFoundError as error:
        if error.name not in EXTRAS:
            raise
        extra = EXTRAS[error.name]
        return _say(name, f"needs {error.name}, which is not installed: pip install 'pat-reid[{extra}]'", 2)
    except BrokenPipeError:  # the reader of a pipe went away, as `pat ... | head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return 0


def overview() -> str:
    """The help of `pat` itself."""
    lines = ["usage: pat COMMAND ...", "", "Part-aware person re-identification, from training to a camera.", ""]
    lines += [f"  {name:<15} {what}" for name, what in COMMANDS.items()]
    return "\n".join([*lines, "", "pat COMMAND --help tells the options of a command."])


def _say(name: str, message: str, code: int) -> int:
    say(f"pat {name}: {' '.join(message.split())}")
    return code


if __name__ == "__main__":
    main()
