"""Matching and detection scores against cases worked out by hand and exhaustive search."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spatialdino_core.errors import BadInputError
from spatialdino_core.score.detection import match_frame, score_detections
from spatialdino_core.score.matching import best_pairs


def spots(*rows: tuple[float, float, float, float]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["frame", "z_um", "y_um", "x_um"])


def on_a_line(*x: float) -> np.ndarray:
    return np.array([[0.0, 0.0, value] for value in x]).reshape(-1, 3)


def best_total(gains: np.ndarray) -> float:
    """Largest total gain over all one-to-one pairings, by trying them all."""
    if gains.shape[0] > gains.shape[1]:
        gains = gains.T
    clipped = np.maximum(gains, 0)
    rows = range(len(clipped))
    return max(
        sum(clipped[row, column] for row, column in zip(rows, columns, strict=True))
        for columns in itertools.permutations(range(clipped.shape[1]), len(clipped))
    )


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 5), st.integers(1, 5), st.integers(0, 10**6))
def test_best_pairs_is_optimal(rows: int, columns: int, seed: int) -> None:
    gains = np.random.default_rng(seed).normal(size=(rows, columns)).round(1)
    i, j = np.indices(gains.shape).reshape(2, -1)
    chosen = best_pairs(i, j, gains.ravel(), gains.shape)
    assert len(set(i[chosen])) == len(set(j[chosen])) == len(chosen)
    assert (gains.ravel()[chosen] > 0).all()
    assert gains.ravel()[chosen].sum() == pytest.approx(best_total(gains))


def test_matching_is_optimal_not_greedy() -> None:
    # Greedy takes the closest pair (0.0, 0.1) and leaves 0.3 and -0.4 alone.
    found, truth, distances = match_frame(on_a_line(0.0, 0.3), on_a_line(0.1, -0.4), 0.5)
    assert list(zip(found, truth, strict=True)) == [(0, 1), (1, 0)]
    np.testing.assert_allclose(distances, [0.4, 0.2])


def test_one_close_match_beats_two_at_the_gate() -> None:
    found, truth, _ = match_frame(on_a_line(0.95, 1.9), on_a_line(0.0, 1.0), 1.0)
    assert list(zip(found, truth, strict=True)) == [(0, 1)]


def test_gate_is_exclusive_and_in_three_dimensions() -> None:
    truth = np.array([[0.0, 0.0, 0.0]])
    assert len(match_frame(np.array([[0.3, 0.0, 0.4]]), truth, 0.5)[0]) == 0
    assert len(match_frame(np.array([[0.3, 0.0, 0.39]]), truth, 0.5)[0]) == 1
    assert len(match_frame(truth, truth, 0.5)[0]) == 1  # distance 0 counts as a pair


def test_counts_and_errors_by_hand() -> None:
    truth = spots((0, 1, 1, 1), (0, 5, 5, 5), (1, 1, 1, 1), (2, 1, 1, 1))
    found = spots((0, 1.3, 1, 1), (0, 9, 9, 9), (1, 1, 1.3, 0.6), (7, 1, 1, 1))
    score = score_detections(found, truth, 0.6)
    assert (score.found, score.expected, score.matches) == (4, 4, 2)
    assert score.precision == score.recall == score.f1 == 0.5
    assert score.rmse_z_um == pytest.approx(math.sqrt(0.3**2 / 2))
    assert score.rmse_lateral_um == pytest.approx(math.sqrt(0.5**2 / 2))
    assert score.rmse_um == pytest.approx(math.sqrt((0.3**2 + 0.5**2) / 2))


def test_precision_and_recall_are_not_swapped() -> None:
    score = score_detections(spots((0, 1, 1, 1)), spots((0, 1, 1, 1), (0, 5, 5, 5), (1, 0, 0, 0)), 0.5)
    assert score.precision == 1
    assert score.recall == pytest.approx(1 / 3)
    assert score.f1 == pytest.approx(0.5)


def test_nothing_found_scores_nothing() -> None:
    something, nothing = spots((0, 1, 1, 1)), spots()
    for score in (score_detections(nothing, something, 0.5), score_detections(something, nothing, 0.5)):
        assert score.precision == score.recall == score.f1 == 0
        assert math.isnan(score.rmse_um)
    assert score_detections(nothing, nothing, 0.5).f1 == 1


def test_unusable_tables_are_refused() -> None:
    good = spots((0, 1, 1, 1))
    with pytest.raises(BadInputError, match="z_um"):
        score_detections(good.drop(columns="z_um"), good, 0.5)
    with pytest.raises(BadInputError, match="infinite"):
        score_detections(good.assign(x_um=np.nan), good, 0.5)
