"""What is searched for garbage, and when."""

from __future__ import annotations

import gc

from pat.base.garbage import uncollected


def test_nothing_is_searched_inside_and_everything_afterwards():
    gc.unfreeze()
    with uncollected():
        assert not gc.isenabled()
    assert gc.isenabled()
    assert gc.get_freeze_count() == 0


def test_what_is_there_for_good_is_never_searched():
    made = []
    with uncollected(for_good=True):
        made.append([made])
    frozen, tracked = gc.get_freeze_count(), any(each is made for each in gc.get_objects())
    gc.unfreeze()
    assert frozen > 0
    assert not tracked
    assert gc.isenabled()
