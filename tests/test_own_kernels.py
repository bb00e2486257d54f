"""A foreign package named `kernels`, as PyPI has one, must be named and not half used."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def python(code: str, first: Path | str) -> subprocess.CompletedProcess[str]:
    """Runs code with a folder before the project's on the path."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join((str(first), str(ROOT)))}
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=first, env=environment, check=False
    )


@pytest.fixture(params=["package", "module"])
def foreign(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Where the foreign one lies; importing it would fail in its own way."""
    broken = "raise RuntimeError('this must not run')\n"
    if request.param == "module":
        path = tmp_path / "kernels.py"
        path.write_text(broken)
        return path
    path = tmp_path / "kernels" / "__init__.py"
    path.parent.mkdir()
    path.write_text(broken)
    return path


@pytest.mark.parametrize("module", ["pat.model", "pat.losses"])
def test_a_foreign_package_is_named_with_what_to_do(foreign: Path, module: str):
    done = python(f"import {module}", foreign.parent.parent if foreign.name == "__init__.py" else foreign.parent)
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"pat.own_kernels.ForeignKernels: `kernels` is {foreign}, another package")
    assert "pip uninstall kernels" in last
    assert "this must not run" not in done.stderr


def test_a_folder_without_code_loses_to_a_package_anywhere_on_the_path(tmp_path: Path):
    (tmp_path / "kernels" / "layer").mkdir(parents=True)
    done = python("import pat.losses", tmp_path)
    assert done.returncode == 0, done.stderr


def test_is_an_import_error_that_the_command_line_says_in_one_line(tmp_path: Path):
    (tmp_path / "kernels.py").touch()
    code = "try:\n import pat.model\nexcept ImportError as error:\n print(error)"
    assert str(tmp_path / "kernels.py") in python(code, tmp_path).stdout
    done = python("from pat.cli import main; main(['import-weights', 'a.pth', 'b'])", tmp_path)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("pat import-weights: `kernels` is ")
    assert len(done.stderr.splitlines()) == 1


def test_missing_package_is_said():
    code = (
        "import importlib.util, pat.own_kernels as own\n"
        "importlib.util.find_spec = lambda name: None\n"
        "try: own.check()\nexcept ImportError as error: print(error)"
    )
    assert "is not found: pip install pat-reid" in python(code, ROOT).stdout
