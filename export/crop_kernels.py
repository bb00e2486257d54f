"""The compiled `crop_resize` that a bundle carries for GPUs, where neither Triton nor PyTorch is installed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from deploy.runtime.gpu_crops import CROP_DTYPES, kernel_name
from export.manifest import CHECKPOINT, MODEL, Manifest
from pat.base.errors import Failure, UserError


def compile_kernels(manifest: Manifest, archs: Sequence[str]) -> dict[str, bytes]:
    """A cubin and the facts of its launch for each architecture ("sm_87"), by file name. Needs Triton.

    Raises UserError for an unknown architecture or without Triton, Failure when it does not compile.
    """
    if not archs:
        return {}
    from kernels.compiler import ARCHITECTURES, compile_each, modules  # here: cameras have no Triton

    unknown = [each for each in archs if each not in ARCHITECTURES]
    if unknown:
        raise UserError(f"there are no kernels for {unknown[0]}; choose from {', '.join(ARCHITECTURES)}")
    try:
        (module,) = modules("triton", ("crop_resize",))
    except RuntimeError as error:
        raise UserError(f"{error} (or export with --kernels none, and cut crops on the CPU)") from error
    size = (manifest.input.height, manifest.input.width)
    configuration = module.configuration("rgb", CROP_DTYPES[manifest.input.dtype], size)
    files = {}
    try:
        for facts, folder in compile_each([configuration], archs):
            for kind in ("cubin", "json"):
                name = f"{kernel_name(manifest, facts['arch'])}.{kind}"
                files[name] = (folder / f"kernel.{kind}").read_bytes()
    except (RuntimeError, OSError) as error:
        raise Failure(
            f"the crop kernels cannot be compiled: {error}; --kernels none leaves them out"
        ) from error
    return files


def chosen_architectures(kernels: Sequence[str]) -> tuple[tuple[str, ...], str]:
    """What `--kernels` means here: the architectures, and why there are none where that was not asked for.

    "all" is every architecture that Triton compiles for here; "none" is none.
    """
    if list(kernels) == ["none"]:
        return (), ""
    if list(kernels) != ["all"]:
        return tuple(kernels), ""
    from kernels.compiler import ARCHITECTURES, modules

    try:
        modules("triton", ("crop_resize",))
    except RuntimeError as error:
        return (), str(error)
    return ARCHITECTURES, ""


def carried(manifest: Manifest) -> Mapping[str, bytes]:
    """The kernels of a bundle, for another made of it. Raises UserError when a file is damaged."""
    names = [name for name in manifest.files if name not in (MODEL, manifest.check_set, CHECKPOINT)]
    return {name: manifest.file(name).read_bytes() for name in names}
