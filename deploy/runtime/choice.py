"""What runs a bundle best on this machine: measured once, written down, read by whoever opens the bundle later."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import platform
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from deploy import runtime
from deploy.runtime.plan import PLAN
from deploy.runtime.session import Runtime
from export.check_set import why_untelling
from export.manifest import CHECKPOINT, MANIFEST, BackendName, Manifest, sha256
from pat.base.errors import Failure, UserError
from pat.base.files import write_json
from pat.base.mapping import from_mapping, read_mapping, to_mapping


@dataclass(frozen=True)
class Candidate:
    """A way to run a bundle on this machine."""

    bundle: Path
    backend: BackendName
    options: Mapping[str, Any]

    def __str__(self) -> str:
        options = " ".join(str(each) for each in self.options.values())
        return f"{self.bundle.name} {self.backend} {options}".rstrip()


@dataclass(frozen=True)
class Choice(Candidate):
    """The candidate that was chosen."""

    why: str
    machine: str
    """Where it was measured: it counts nowhere else."""
    manifest: str
    """SHA-256 of the manifest of `bundle`: of another export nothing was measured."""
    asked: str = ""
    """The same of the bundle that it was chosen for, which another model may have replaced since."""


@dataclass
class Measured:
    """A candidate that could be opened, with its figures; or why it is out."""

    candidate: Candidate
    milliseconds: float = float("inf")
    """Of one crop, in batches; the fastest round."""
    figures: str = ""
    out: str = ""


def candidates(bundles: Sequence[Path]) -> list[Candidate]:
    """Every way to run the bundles with what is installed here."""
    found = []
    for bundle in bundles:
        for backend in Manifest.load(bundle).backends:
            found += [Candidate(bundle, backend, options) for options in _options(bundle, backend)]
    return found


def _options(bundle: Path, backend: BackendName) -> Iterator[dict[str, Any]]:
    if backend == "tensorrt":
        if (bundle / PLAN).is_file():
            yield {}
    elif importlib.util.find_spec(backend) is None:
        return
    elif backend == "onnxruntime":
        yield {}
    else:
        import openvino

        from deploy.runtime.openvino import arithmetics

        for device in openvino.Core().available_devices:
            for arithmetic in arithmetics(device):
                yield {"device": device, "arithmetic": arithmetic}


def measure(ways: Sequence[Candidate], *, batch: int, seconds: float, threads: int = 0) -> list[Measured]:
    """The time of each candidate that passes the gate, all opened at once and run in turn, fastest first.

    Other work on the machine then slows them all alike. `batch` crops at a time, for `seconds` in all.
    """
    results = [Measured(each) for each in ways]
    crops = None
    with contextlib.ExitStack() as stack:
        running: list[tuple[Measured, Runtime]] = []
        for result in results:
            way = result.candidate
            options = dict(way.options) if way.backend == "tensorrt" else {**way.options, "threads": threads}
            try:
                session: Any = stack.enter_context(runtime.open(way.bundle, way.backend, **options))
                agreement = session.agreement()
            except (UserError, Failure) as error:
                result.out = str(error)
                continue
            result.figures = agreement.sentence()
            missed = agreement.misses(session.gate())
            if missed:
                result.out = f"misses the gate: {missed}"
                continue
            size = (session.manifest.input.height, session.manifest.input.width)
            crops = np.random.default_rng(0).integers(0, 256, (batch, *size, 3), dtype=np.uint8)
            running.append((result, session))
        end = time.monotonic() + seconds
        while running and crops is not None:
            for result, session in running:
                begun = time.perf_counter()
                session.embed(crops)
                result.milliseconds = min(result.milliseconds, 1000 * (time.perf_counter() - begun) / batch)
            if time.monotonic() > end:
                break
    return sorted(results, key=lambda each: each.milliseconds)


def pick(
    bundles: Sequence[Path], *, batch: int, seconds: float, threads: int = 0
) -> tuple[list[Measured], Choice]:
    """Measure what runs the bundles here and write the best down as the choice for the first one.

    All must hold the same model. Raises UserError for others, and for a check set that an untrained model would
    answer as well; Failure when nothing passes its gate.
    """
    manifests = [Manifest.load(each) for each in bundles]
    for bundle, manifest in zip(bundles, manifests, strict=True):
        if manifest.output != manifests[0].output or not _weights(manifest) & _weights(manifests[0]):
            raise UserError(f"{bundles[0]} and {bundle} differ; give bundles of one model, all mirrored or none")
        why = why_untelling(manifest)
        if why:
            raise UserError(
                f"{bundle}: nothing can be chosen by its check set: {why}; train the model further, or export it "
                "with --check-images DIR"
            )
    results = measure(candidates(bundles), batch=batch, seconds=seconds, threads=threads)
    if not results or results[0].out:
        reasons = "; ".join(f"{each.candidate}: {each.out}" for each in results) or "no backend is installed"
        raise Failure(f"nothing runs {bundles[0]} here within the gate: {reasons}")
    best = results[0]
    slower = next((each for each in results[1:] if not each.out), None)
    why = f"{best.milliseconds:.2f} ms a crop in batches of {batch}"
    if slower is not None:
        why += f", the next ({slower.candidate}) {slower.milliseconds / best.milliseconds:.2f} times that"
    way = best.candidate
    chosen = Choice(
        way.bundle.resolve(), way.backend, way.options, why, machine(), sha256(way.bundle / MANIFEST),
        sha256(bundles[0] / MANIFEST),
    )  # fmt: skip
    write_json(choice_file(bundles[0]), to_mapping(chosen))
    return results, chosen


def _weights(manifest: Manifest) -> set[str]:
    """Hashes of the model file that the bundle was made of, and of the one that travels in it."""
    carried = manifest.files.get(CHECKPOINT)
    return {str(manifest.weights.get("sha256"))} | ({carried.sha256} if carried is not None else set())


def read_choice(bundle: Path) -> Choice | None:
    """What was chosen for a bundle on this machine; None where nothing was, or something has changed since."""
    path = choice_file(bundle)
    if not path.is_file():
        return None
    chosen = from_mapping(Choice, read_mapping(path), str(path), remedy=f"remove {path}")
    measured = ((chosen.bundle / MANIFEST, chosen.manifest), (bundle / MANIFEST, chosen.asked))
    still = all(manifest.is_file() and sha256(manifest) == before for manifest, before in measured)
    return chosen if still and chosen.machine == machine() else None


def choice_file(bundle: Path) -> Path:
    """Where the choice for a bundle is kept: not beside it, because a bundle is copied to other machines."""
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    name = hashlib.sha256(os.fsencode(bundle.resolve())).hexdigest()[:16]
    return root / "pat-reid" / "runtime" / f"{name}.json"


def machine() -> str:
    """This machine: processor and cores."""
    model = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), model)
    return f"{model}, {os.cpu_count()} cores"
