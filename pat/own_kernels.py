"""Makes sure, when it is imported, that `kernels` is this project's: PyPI has another package of that name."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from pat.base.errors import UserError


class ForeignKernels(UserError, ImportError):
    """`import kernels` would not find this project's package; the message says what it finds and what to do."""


def check() -> None:
    """Looks where `import kernels` would go, without importing it. Raises ForeignKernels."""
    spec = importlib.util.find_spec("kernels")
    folders = [Path(folder) for folder in (spec.submodule_search_locations or ())] if spec else []
    if any((folder / "part_attention" / "api.py").is_file() for folder in folders):
        return
    if spec is None:
        raise ForeignKernels("`kernels`, a package of PAT, is not found: pip install pat-reid, or -e its checkout")
    found = spec.origin or ", ".join(map(str, folders))
    raise ForeignKernels(
        f"`kernels` is {found}, another package of that name and not PAT's: pip uninstall kernels, "
        "or put PAT's folder before it on the path (PYTHONPATH)"
    )


check()
