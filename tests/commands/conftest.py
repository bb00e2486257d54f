"""Commands as a user types them."""

import pytest

from pat.cli import run


@pytest.fixture
def succeeds(capsys):
    """`succeeds(command, word, ...)`: what it put on standard output, and on standard error in one line."""

    def typed(command: str, *words: object) -> tuple[str, str]:
        capsys.readouterr()
        assert run(command, [str(word) for word in words]) == 0
        shown = capsys.readouterr()
        return shown.out, " ".join(shown.err.split())

    return typed


@pytest.fixture
def fails(capsys):
    """`fails(code, command, word, ...)`: the one line that it says, ending with that exit code."""

    def typed(code: int, command: str, *words: object) -> str:
        capsys.readouterr()
        assert run(command, [str(word) for word in words]) == code
        said = [line for line in capsys.readouterr().err.splitlines() if line.startswith(f"pat {command}: ")]
        assert len(said) == 1
        return said[0]

    return typed
