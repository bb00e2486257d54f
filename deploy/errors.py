"""The two ways the camera side ends badly; a command turns each into one line and an exit code."""

from __future__ import annotations

from export.manifest import ExportError, ExportFailure


class DeployError(ExportError):
    """The user can mend it: a wrong path, URL, flag or file. Exit code 2."""


class DeployFailure(ExportFailure):
    """Something broke while the work was under way: a full disk, a lost server. Exit code 1."""
