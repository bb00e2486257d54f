"""numba, or one line that says how to get it."""

from __future__ import annotations

from pat.errors import UserError

try:
    from numba import njit
except ModuleNotFoundError as error:
    if error.name != "numba":
        raise
    raise UserError(
        "3D people are rendered by numba, which is not installed: pip install 'pat-reid[people]'"
    ) from error

__all__ = ["njit"]
