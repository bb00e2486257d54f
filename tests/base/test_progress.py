"""Progress in a log file and on a machine without rich."""

from fresh import python


def test_long_work_is_told_in_lines_where_there_is_no_terminal(capsys):
    from pat.base.progress import TerminalProgress

    for every, expected in ((0.0, ["work: 1 of 2 half", "work: 2 of 2"]), (3600.0, [])):
        with TerminalProgress(every).bar("work", 2) as advance:
            advance(1, "half")
            advance(1)
        assert capsys.readouterr().err.splitlines() == expected


def test_a_name_of_two_lines_is_told_in_one(capsys):
    from pat.base.progress import TerminalProgress, say

    for tell in (say, TerminalProgress().say):
        tell("skipped a\nb\x1b[31m\udcffü.jpg")
        assert capsys.readouterr().err == "skipped a\\nb\\x1b[31m\\udcffü.jpg\n"


def test_the_floor_needs_neither_rich_nor_torch_nor_pillow():
    program = (
        "import sys\n"
        "for name in ('rich', 'torch', 'PIL', 'tyro', 'tomli'): sys.modules[name] = None\n"
        "import pat.base.files, pat.base.mapping\n"
        "from pat.base.progress import TerminalProgress\n"
        "progress = TerminalProgress(0.0)\n"
        "progress.say('hello')\n"
        "with progress.bar('work', 3) as advance: advance(3)\n"
    )
    done = python("-c", program)
    assert done.stderr.splitlines() == ["hello", "work: 3 of 3"]
