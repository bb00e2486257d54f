"""The command line of what runs without tyro."""

from __future__ import annotations

import argparse
import re
from typing import NoReturn

CHOICE = re.compile(r"argument (?P<name>\S+): invalid choice: (?P<value>.*) \(choose from (?P<choices>.*)\)")


class OneLineParser(argparse.ArgumentParser):
    """An argument parser whose complaint is one line, short enough for 80 columns."""

    def error(self, message: str) -> NoReturn:
        name = self.prog.removeprefix("python -m ")
        wrong = CHOICE.fullmatch(message)
        if wrong is None:
            said = message.replace("the following arguments are required", "missing")
            self.exit(2, f"{name}: {said} (see --help)\n")
        said = f"{name}: {wrong['name']} cannot be {wrong['value']}"
        choices = ", only " + wrong["choices"].replace("'", "")
        self.exit(2, said + (choices if len(said + choices) <= 80 else " (see --help)") + "\n")
