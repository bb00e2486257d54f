"""The two ways a command ends badly; the CLI turns each into one line and an exit code."""


class UserError(Exception):
    """The user can mend it: a wrong path, flag, file or layout. Exit code 2."""


class Failure(Exception):
    """Something broke while the work was under way: a diverged loss, a full disk. Exit code 1."""


def one_line(said: object) -> str:
    """What a library said, without line breaks and cut off after 400 characters."""
    flat = " ".join(str(said).split())
    return flat if len(flat) <= 400 else flat[:397] + "..."
