"""`python -m bench gpu | train | model | detector | compare | static | street | service | kills`."""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path

from bench.gpu import SUITES


def main() -> int:
    """Reads the command line, runs one of the commands, returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="Benchmarks and their baselines.")
    commands = parser.add_subparsers(dest="command", required=True)
    gpu = commands.add_parser("gpu", help="measure kernels, training step and network on this GPU")
    gpu.add_argument(
        "--out", type=Path, default=Path("runs/bench-gpu"), help="all that is found; goes on where it is"
    )
    gpu.add_argument("--minutes", type=float, help="leave in time; the same command goes on (exit status 75)")
    gpu.add_argument("--only", default=",".join(SUITES), metavar="SUITES", help="some of %(default)s")
    gpu.add_argument("--again", action="store_true", help="measure rows that failed once more")
    gpu.add_argument("--interpret", action="store_true", help="try the program: tiny shapes, a CPU, no figure")
    train = commands.add_parser(
        "train", help="a whole run on a drawn set of Market-1501's size; writes bench/results/<device>-train.json"
    )
    train.add_argument("--out", type=Path, default=Path("runs/bench-train"), help="images, cache, run")
    train.add_argument("--minutes", type=float, help="leave in time; the same command goes on (exit status 75)")
    train.add_argument("--images", type=int, default=12_936)
    train.add_argument("--identities", type=int, default=751)
    train.add_argument("--epochs", type=int, help="default: 60")
    train.add_argument("--backbone", help="default: that of `pat train`, ViT-B/16")
    train.add_argument("--config", type=Path, help="settings of `pat train`, .toml or .json")
    compare = commands.add_parser("compare", help="measure and fail if slower than stored for this device")
    compare.add_argument("result", nargs="?", type=Path, help="a file of results instead of a fresh run")
    compare.add_argument("--update", action="store_true", help="store the result instead of comparing")
    static = commands.add_parser("static", help="compiled kernels against bench/baselines (needs no GPU)")
    static.add_argument("--arch", action="append", help="may be repeated; default: all")
    static.add_argument("--update", action="store_true", help="rewrite the baseline, for all architectures")
    static.add_argument("--every-shape", action="store_true", help="also every shape of attention there can be")
    static.add_argument("--table", action="store_true", help="print the baseline as in kernels/README.md")
    for name, minutes, what in (
        ("model", 92.0, "the model in the box, anew: people, training, bundle, scores, card"),
        ("detector", 69.0, "the person detector in the box, anew: frames, training, detector, scores, card"),
    ):
        made = commands.add_parser(name, help=what)
        made.add_argument("--out", type=Path, default=Path("runs", name), help="default: %(default)s")
        made.add_argument(
            "--training", type=float, default=minutes, metavar="MINUTES", help="default: %(default)s"
        )
        made.add_argument("--minutes", type=float, help="leave in time; the same command goes on (exit status 75)")
        made.add_argument("--threads", type=int, default=0, help="of PyTorch; default: its own choice")
        made.add_argument("--small", action="store_true", help="little data and seconds: to try the way")
    street = commands.add_parser("street", help="the camera process on filmed streets, scored against their truth")
    street.add_argument("bundle", type=Path)
    street.add_argument("streets", type=Path, nargs="+", help="folders of `pat synth street`")
    street.add_argument(
        "--detector", default="rendered", help='as --detect.detector of `pat camera`, or "truth" for true boxes'
    )
    street.add_argument("--threshold", default="", help="as --gallery.threshold; default: the bundle's own")
    street.add_argument("--out", type=Path, help="write the table as JSON, too")
    service = commands.add_parser("service", help="`pat serve` asked by many clients while cameras run")
    service.add_argument("--requests", type=int, default=10_000, help="default: %(default)s")
    service.add_argument("--clients", type=int, default=50, help="default: %(default)s")
    service.add_argument("--rate", type=float, default=25.0, help="requests a second; default: %(default)s")
    service.add_argument("--frames", type=float, default=2.0, help="a second and camera; default: %(default)s")
    service.add_argument("--rounds", type=int, default=10, help="with and without clients; default: %(default)s")
    service.add_argument("--people", type=int, default=1000, help="in the gallery; default: %(default)s")
    kills = commands.add_parser("kills", help="kill -9 under load: nothing acknowledged is lost")
    kills.add_argument("kind", choices=("service", "camera"))
    kills.add_argument("--times", type=int, default=50, help="default: %(default)s")
    kills.add_argument("--seed", type=int, default=0)
    for made in (service, kills):
        made.add_argument(
            "streets", type=Path, nargs="*", help="folders of `pat synth street`; by default one is filmed"
        )
        made.add_argument("--bundle", type=Path, help="default: the model in the box")
        made.add_argument("--threshold", default="", help="as --gallery.threshold; default: the bundle's own")
        made.add_argument("--quick", action="store_true", help="a short try, with numbers of its own")
        made.add_argument("--out", type=Path, default=Path("runs"), help="for what is made; default: %(default)s")
    options = parser.parse_args()
    given = {name: value for name, value in vars(options).items() if name != "command"}

    if options.command == "gpu":
        from bench import gpu as rows

        only = tuple(options.only.split(","))
        return rows.main(rows.Options(options.out, options.minutes, only, options.again, options.interpret))
    if options.command == "train":
        from bench import train as training

        return training.main(training.Options(**given))
    if options.command in ("model", "detector"):
        from bench import stages

        make = importlib.import_module(f"bench.{options.command}.make").make
        return stages.run(options.command, make, stages.Options(**given))
    if options.command == "street":
        from bench import street as streets

        return streets.main(streets.Options(**given))
    if options.command in ("service", "kills"):
        measured = importlib.import_module(f"bench.{options.command}")
        quick = measured.QUICK if given.pop("quick") else {}
        return measured.main(measured.Options(**{**given, **quick}))
    if options.command == "compare":
        from bench import compare as comparison

        return comparison.main(options.result, update=options.update)
    from bench import static as baseline

    return baseline.main(options.arch, update=options.update, table=options.table, every_shape=options.every_shape)


if __name__ == "__main__":
    sys.exit(main())
