"""Soft labels as guesses, counted by hand."""

import numpy as np
import pytest

from pat.ablation import calibration
from pat.ablation.calibration import expected_error, guesses, reliability


def test_guesses_by_hand():
    identities = np.array([1, 1, 2, 2, 3])
    first = np.array([[1, 2], [0, 2], [3, 0], [0, 1], [-1, -1]])
    second = np.array([[1, 4], [2, 3], [3, -1], [0, 2], [-1, -1]])
    confidence, right = guesses([first, second], identities)
    # 1 2 1 3 / 1 2 2 2 / 2 1 2 / 1 1 1 2 / nobody
    assert confidence == pytest.approx([1 / 2, 3 / 4, 2 / 3, 3 / 4, 0])
    assert right.tolist() == [True, False, True, False, False]


def test_bins_and_their_error_by_hand():
    confidence = np.array([0.1, 0.2, 0.7, 0.7, 0.9, 1.0])
    right = np.array([False, True, True, True, True, True])
    bins = reliability(confidence, right, np.array([1, 1, 2, 3, 4, 5]))
    assert [(each.low, each.images) for each in bins] == [(0.0, 2), (0.6, 2), (0.8, 2)]
    assert [each.right for each in bins] == [0.5, 1.0, 1.0]
    assert (bins[0].right_low, bins[0].right_high) == (0.5, 0.5)  # one person: no other choice of people
    assert expected_error(bins) == pytest.approx((2 * 0.35 + 2 * 0.3 + 2 * 0.05) / 6)
    assert calibration.cells(bins[1]) == ["60 to 80 %", "2", "70.0", "100.0 [100.0, 100.0]"]
