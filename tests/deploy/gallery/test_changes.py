"""Who is whose: people merged, split, taken back, forgotten."""

from __future__ import annotations

import sqlite3

import pytest

from galleries import HOUR, NOW, on_disk, rows
from pat.base.errors import Failure, UserError
from vectors import units


def test_merge_gives_entries_to_another_identity(gallery):
    gallery.add(units(3), identity=["old", "old", "new"], camera="gate", time=NOW)
    assert gallery.merge("old", "new").entries == 2
    assert (gallery.count("old"), gallery.count("new")) == (0, 3)
    assert gallery.merge("old", "new") is None
    gallery.add(units(1), identity="old", camera="gate", time=NOW)  # of a track that was in view meanwhile
    assert (gallery.count("old"), gallery.count("new")) == (0, 4)
    with pytest.raises(UserError, match="cannot be merged with itself"):
        gallery.merge("new", "new")


def test_a_merge_is_undone(reopen):
    with reopen() as gallery:
        gallery.add(units(3), identity=["old", "old", "new"], camera="gate", time=NOW)
        made = gallery.merge("old", "new")
    with reopen() as gallery:
        ((number, kind, _, source, target),) = gallery.aliases()
        assert number == made.number
        assert (kind, source, target) == ("merge", "old", "new")
        assert gallery.undo(number)
        assert not gallery.undo(number)
        assert (gallery.count("old"), gallery.count("new"), gallery.aliases()) == (2, 1, [])


def test_a_split_is_undone(reopen):
    with reopen() as gallery:
        ids = gallery.add(units(3), identity="both", camera="gate", time=NOW)
        assert gallery.split(ids[:2], "bob").entries == 2
        assert gallery.split(["no such entry"], "bob") is None
        assert (gallery.count("both"), gallery.count("bob")) == (1, 2)
        assert gallery.search(units(3)[0], 1)[0].identity == "bob"
    with reopen() as gallery:
        assert gallery.count("bob") == 2
        gallery.undo(gallery.aliases()[0][0])
        assert (gallery.count("both"), gallery.count("bob")) == (3, 0)


def test_a_split_is_from_whose_entry_is_named_first(gallery):
    (one,), (other,) = (gallery.add(units(1), identity=name, camera="gate", time=NOW) for name in "AB")
    assert gallery.split([other, one], "C").entries == 2
    assert gallery.aliases()[0][3:] == ("B", "C")
    assert gallery.undo(gallery.aliases()[0][0])
    assert (gallery.count("A"), gallery.count("B")) == (1, 1)


def test_thousands_of_entries_change_at_once(reopen, clock, monkeypatch):
    """Also in the memory of somebody else who has the gallery open."""
    monkeypatch.setattr("deploy.gallery.index.LOOK_EVERY", -1.0)
    with reopen() as gallery, reopen() as other:
        ids = gallery.add(units(2500), identity="crowd", camera="gate", time=NOW)
        assert other.count("crowd") == 2500
        alias = gallery.split(ids[:2000], "half")
        assert alias.entries == 2000
        assert (other.count("crowd"), other.count("half")) == (500, 2000)
        assert gallery.undo(alias.number)
        assert (other.count("crowd"), other.count("half")) == (2500, 0)
        assert gallery.remove(ids[:700]) == 700
        assert (other.count(), on_disk(gallery)) == (1800, 1800)
        assert gallery.obey(ids[700:1300]) == 600
        assert (other.count(), on_disk(gallery)) == (1200, 1200)
        assert gallery.forget("crowd") == 1200
        assert (other.count(), on_disk(gallery)) == (0, 0)
        gallery.add(units(1200), identity="crowd", camera="gate", time=NOW)
        clock.now += 25 * HOUR
        assert gallery.sweep() == 1200
        assert (other.count(), on_disk(gallery)) == (0, 0)


@pytest.mark.parametrize("more", ['"', "'", "\\", "\0", "\0more", "\ud800", "é", " ", "]", '","'])
def test_nearly_the_id_of_an_entry_is_none(gallery, more):
    (entry,) = gallery.add(units(1), identity="A", camera="gate", time=NOW)
    assert gallery.remove([entry + more, more]) == 0
    assert gallery.split([entry + more], "B") is None
    assert gallery.count("A") == 1


def test_splits_of_one_entry_are_taken_back_newest_first(gallery):
    (entry,) = gallery.add(units(1), identity="A", camera="gate", time=NOW)
    first, second = gallery.split([entry], "B").number, gallery.split([entry], "C").number
    with pytest.raises(UserError, match=f"change {second} has moved"):
        gallery.undo(first)
    assert gallery.count("C") == 1
    assert gallery.undo(second)
    assert gallery.undo(first)
    assert gallery.count("A") == 1


def test_a_name_that_nobody_has_is_given_by_merging_and_kept(reopen, clock):
    with reopen() as gallery:
        gallery.add(units(1), identity="gate-1", camera="gate", time=NOW)
        assert gallery.merge("gate-1", "anna").entries == 1
        clock.now += 100 * 24 * HOUR
        assert gallery.sweep() == 0
        assert gallery.count("anna") == 1


def test_who_is_forgotten_is_not_brought_back_by_a_track_in_view(reopen):
    with reopen() as gallery:
        gallery.add(units(1), identity="anna", camera="gate", time=NOW)
        gallery.merge("anna", "Anna")
        key = gallery.people(units(1)[0], 1)[0].key
        assert not gallery.forgotten(key)
        gallery.forget("Anna")
        assert gallery.person(key) is None
        assert gallery.forgotten(key)
        assert gallery.add_view(key, units(1)[0], camera="gate", time=NOW) is None
        assert (gallery.count(), gallery.aliases()) == (0, [])
    with reopen() as gallery:
        assert gallery.forgotten(key)
        gallery.add(units(1), identity="Anna", camera="desk", time=NOW)  # whoever enrols her again may
        assert gallery.count("Anna") == 1


def test_what_could_not_be_read_is_read_again(reopen, monkeypatch):
    def failing(*arguments):
        raise sqlite3.OperationalError("disk I/O error")

    with reopen() as gallery, reopen() as other:
        gallery.add(units(1), identity="A", camera="gate", time=NOW)
        other.refresh()
        gallery.forget("A")
        with monkeypatch.context() as patched:
            patched.setattr(other._index.vectors, "remove", failing)
            with pytest.raises(Failure, match="disk I/O error"):
                other.refresh()
        other.refresh()
        assert other.count() == 0


def test_who_is_forgotten_leaves_nothing_but_that(gallery):
    """Where and when somebody was, merged and split or not, is forgotten with them; of others all stays."""
    ids = gallery.add(units(4), identity=["A", "A", "B", "other"], camera="gate", time=NOW)
    for name in ("A", "B", "other"):
        gallery.saw(gallery.key_of(name), "gate", first=NOW, last=NOW + 5, score=None)
    gallery.split(ids[1:2], "C")
    gallery.merge("B", "A")
    gallery.merge("C", "A")
    assert gallery.forget("A") == 3
    assert {name: rows(gallery, name) for name in ("entries", "identities", "sightings", "aliases", "moved")} == {
        "entries": 1, "identities": 1, "sightings": 1, "aliases": 0, "moved": 0
    }  # fmt: skip
    assert gallery.count("other") == 1


def test_who_is_forgotten_is_gone(reopen):
    vectors = units(4)
    with reopen() as gallery:
        gallery.add(vectors, identity=["a", "b", "a", "c"], camera="gate", time=NOW)
        assert gallery.forget("a") == 2
        assert gallery.forget("a") is None
        assert "a" not in [match.identity for match in gallery.search(vectors[0])]
    with reopen() as gallery:
        assert sorted(record.identity for record in gallery.export()) == ["b", "c"]
        assert gallery.count("a") == 0
