"""Label scores against pictures small enough to count."""

from __future__ import annotations

import numpy as np
import pytest

from spatialdino_core.errors import BadInputError
from spatialdino_core.score.segmentation import score_labels


def labels(text: str) -> np.ndarray:
    return np.array([int(character) for character in text], np.uint32).reshape(1, 1, -1)


def test_perfect_whatever_the_numbers() -> None:
    truth = labels("0110222003")
    score = score_labels([(7 * truth[..., :], truth)])
    assert (score.f1, score.mean_iou, score.dice) == (1, 1, 1)
    assert score.expected == 3


def test_counted_by_hand() -> None:
    truth = labels("1111002222033")
    found = labels("0111200555500")
    # IoU: 3/4 with 1; 5 covers 3 of 4 of particle 2 and is 4 long: 3/5; 3 is missed; 2 is spurious.
    score = score_labels([(found, truth)])
    assert (score.found, score.expected, score.matches) == (3, 3, 2)
    assert score.f1 == pytest.approx(4 / 6)
    assert score.mean_iou == pytest.approx((3 / 4 + 3 / 5) / 3)
    assert score.dice == pytest.approx(2 * 6 / (8 + 10))
    assert score_labels([(found, truth)], iou_threshold=0.7).matches == 1
    assert score_labels([(found, truth)], iou_threshold=0.75).matches == 0


def test_merged_instances_match_once() -> None:
    score = score_labels([(labels("111111"), labels("111222"))], iou_threshold=0.3)
    assert score.matches == 1
    assert score.dice == 1


def test_frames_are_pooled() -> None:
    truth = labels("110022")
    score = score_labels([(truth, truth), (np.zeros_like(truth), truth)])
    assert (score.f1, score.mean_iou, score.dice) == pytest.approx((4 / 6, 0.5, 8 / 12))


def test_empty_labels() -> None:
    empty, full = np.zeros((2, 3, 4), int), np.ones((2, 3, 4), int)
    nothing = score_labels([(empty, empty)])
    assert (nothing.f1, nothing.mean_iou, nothing.dice) == (1, 1, 1)
    for pair in [(empty, full), (full, empty)]:
        score = score_labels([pair])
        assert (score.f1, score.mean_iou, score.dice) == (0, 0, 0)


def test_different_shapes_are_refused() -> None:
    with pytest.raises(BadInputError, match="shape"):
        score_labels([(np.zeros((1, 2, 3), int), np.zeros((1, 2, 4), int))])
