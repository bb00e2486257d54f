"""Questions about people who were renamed, merged or split before somebody answered."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from deploy.gallery import Gallery
from deploy.service.people import NotThere, People
from deploy.service.reviews import Reviews
from deploy.service.store import Store
from pat.base.errors import UserError

THRESHOLD = 0.8


def unit(*values: float) -> np.ndarray:
    vector = np.zeros((1, 16), np.float32)
    vector[0, : len(values)] = values
    return vector / np.linalg.norm(vector)


class Asked:
    """gate-2 became somebody new though gate-1 is nearly alike, and anna was recognised by a small margin."""

    def __init__(self, gallery: Gallery, store: Store) -> None:
        self.gallery = gallery
        self.reviews = Reviews(store, gallery, People(store, 86400.0))
        now = round(time.time(), 3)
        gallery.add(unit(1), identity="gate-1", camera="gate", time=now - 5)
        gallery.add(unit(1, 0.8), identity="gate-2", camera="gate", time=now)
        gallery.add(unit(0, 0, 1), identity="anna", camera="desk", time=now - 9)
        (self.entry,) = gallery.add(unit(0, 0, 1, 1), identity="anna", camera="gate", time=now)
        self.ask("gate-2", now, new=True)
        self.ask("anna", now, score=THRESHOLD)
        self.new, self.recognised = (each.id for each in self.reviews.open(10))

    def ask(self, name: str, now: float, score: float | None = None, new: bool = False) -> None:
        key = self.gallery.key_of(name)
        assert key is not None
        self.reviews.consider(key, "gate", now, score, new=new, least=THRESHOLD)

    def people(self) -> dict[str, int]:
        return {each.identity: each.vectors for each in self.gallery.identities()}


@pytest.fixture
def asked(tmp_path):
    with (
        Gallery.open(tmp_path / "gallery", dimension=16, model="test") as gallery,
        Store(tmp_path / "gallery") as store,
    ):
        yield Asked(gallery, store)


@pytest.mark.parametrize("who", ["gate-1", "gate-2"])
def test_who_was_named_since_is_merged_under_the_name(asked, who):
    asked.gallery.merge(who, "bob")
    asked.reviews.answer(asked.new, "same")
    assert asked.people() == {"bob": 2, "anna": 2}
    assert asked.gallery.kept() == ["bob"]
    asked.reviews.take_back(asked.new)
    assert asked.people() == {"bob": 1, "gate-1" if who == "gate-2" else "gate-2": 1, "anna": 2}


def test_who_was_merged_since_is_merged_with_whom_that_is_now(asked):
    asked.gallery.merge("gate-1", "anna")
    asked.reviews.answer(asked.new, "same")
    assert asked.people() == {"anna": 4}


def test_two_who_are_one_already_are_the_same_and_not_different(asked):
    asked.gallery.merge("gate-2", "gate-1")
    with pytest.raises(UserError, match="made one person since"):
        asked.reviews.answer(asked.new, "different")
    asked.reviews.answer(asked.new, "same")
    asked.reviews.take_back(asked.new)
    assert asked.people() == {"gate-1": 2, "anna": 2}  # the answer has changed nothing, so nothing is undone


def test_a_wrong_recognition_of_who_was_renamed_is_split_off(asked):
    asked.gallery.merge("anna", "n" * 200)
    asked.reviews.answer(asked.recognised, "different")
    assert asked.people()["n" * 200] == 1
    asked.reviews.take_back(asked.recognised)
    assert asked.people()["n" * 200] == 2


def test_what_is_somebody_elses_already_stays_there(asked):
    asked.gallery.split([asked.entry], "zed")
    asked.reviews.answer(asked.recognised, "different")
    assert asked.people() == {"gate-1": 1, "gate-2": 1, "anna": 1, "zed": 1}
    asked.reviews.take_back(asked.recognised)
    assert asked.people()["zed"] == 1


def test_of_two_operators_at_once_one_answers(asked):
    refused = []

    def answer() -> None:
        try:
            asked.reviews.answer(asked.recognised, "different")
        except UserError as error:
            refused.append(str(error))

    threads = [threading.Thread(target=answer) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert len(refused) == 3
    asked.reviews.take_back(asked.recognised)
    assert asked.people() == {"gate-1": 1, "gate-2": 1, "anna": 2}


def test_what_was_stored_of_the_track_is_gone(asked):
    asked.gallery.remove([asked.entry])
    with pytest.raises(NotThere, match="is gone"):
        asked.reviews.answer(asked.recognised, "different")
    assert len(asked.reviews.open(10)) == 2
