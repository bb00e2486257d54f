"""Every command line of the project: what it says to nothing, to a typo and to --help."""

import sys
from importlib import import_module

import pytest

from pat.cli import COMMANDS

MAINS = {
    "pat": "pat.cli",
    "bench": "bench.__main__",
    "deploy.detect": "deploy.detect.__main__",
    "deploy.runtime": "deploy.runtime.__main__",
    "build_trt.py": "export.build_trt",
    "verify.py": "export.verify",
    "precision.py": "export.precision",
    "integrate.py": "export.integrate",
}


@pytest.fixture
def typed(monkeypatch, capsys):
    """`typed(name, word, ...)`: the exit code, and what it put on standard output and on standard error."""
    monkeypatch.setenv("COLUMNS", "80")

    def run(name: str, *words: str) -> tuple[object, str, str]:
        monkeypatch.setattr(sys, "argv", [name, *words])
        with pytest.raises(SystemExit) as ended:
            sys.exit(import_module(MAINS[name]).main())
        return ended.value.code, *capsys.readouterr()

    return run


@pytest.mark.parametrize("words", [(), ("--typo",)], ids=repr)
@pytest.mark.parametrize("name", [name for name in MAINS if name != "pat"])
def test_a_mistake_is_told_within_80_columns(name, words, typed):
    code, out, err = typed(name, *words)
    assert (code, out) == (2, "")
    assert max(map(len, err.splitlines())) <= 80
    assert "help" in err
    if name != "deploy.detect":  # tyro draws a box
        assert err.startswith(f"{name}: ")
        assert len(err.splitlines()) == 1


@pytest.mark.parametrize("name", MAINS)
def test_help_is_80_columns_wide_and_no_mistake(name, typed):
    code, out, err = typed(name, "--help")
    assert (code, err) == (0, "")
    assert "usage: " in out
    assert max(map(len, out.splitlines())) <= 80


def test_pat_alone_shows_the_commands(typed):
    code, out, err = typed("pat")
    assert (code, err) == (0, "")
    assert all(name in out for name in COMMANDS)


def test_pat_with_a_typo_tells_what_was_meant_or_where_to_look(typed):
    assert typed("pat", "trian") == (2, "", "pat trian: there is no such command; did you mean train?\n")
    assert typed("pat", "typo") == (2, "", "pat typo: there is no such command; pat --help lists them\n")


def test_choices_are_told_where_they_fit(typed):
    assert typed("deploy.runtime", "x")[2] == "deploy.runtime: command cannot be 'x', only pick\n"
    assert "--seconds above 0" in typed("deploy.runtime", "pick", "bundle", "--seconds", "nan")[2]
    assert typed("build_trt.py", "bundle", "--precision", "fp4")[2] == (
        "build_trt.py: --precision cannot be 'fp4', only fp32, fp16, bf16, int8, fp8\n"
    )
    assert typed("bench", "x")[2] == "bench: COMMAND cannot be 'x' (see --help)\n"
