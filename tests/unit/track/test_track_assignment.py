"""The assignment against brute force, and confidences against enumeration."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spatialdino_core.track.assignment import assign, confidence


def best_total(rows: np.ndarray, columns: np.ndarray, gains: np.ndarray) -> float:
    """Greatest total gain over all subsets that use each row and column once."""
    best = 0.0
    for chosen in product([False, True], repeat=len(gains)):
        pick = np.array(chosen, bool)
        if len(set(rows[pick])) == pick.sum() == len(set(columns[pick])):
            best = max(best, float(gains[pick].sum()))
    return best


@settings(max_examples=150, deadline=None)
@given(st.integers(1, 4), st.integers(1, 4), st.integers(0, 2**32 - 1))
def test_the_total_gain_is_the_greatest_possible(n: int, m: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    pairs = np.argwhere(generator.random((n, m)) < 0.7)[:9]
    rows, columns = pairs[:, 0], pairs[:, 1]
    gains = generator.normal(0.5, 2, len(pairs)).round(1)
    chosen = assign(rows, columns, gains, (n, m))
    assert len(set(rows[chosen])) == len(chosen) == len(set(columns[chosen]))
    assert gains[chosen].sum() == pytest.approx(best_total(rows, columns, gains))
    assert (gains[chosen] > 0).all()


def test_a_large_problem_of_many_groups_is_solved_like_one() -> None:
    """Independent pairs far apart: each takes its own best link."""
    generator = np.random.default_rng(0)
    rows = np.repeat(np.arange(300), 2)
    columns = rows + np.tile([0, 300], 300)
    gains = generator.random(600) + 0.01
    chosen = assign(rows, columns, gains, (300, 600))
    np.testing.assert_array_equal(chosen, 2 * np.arange(300) + (gains[1::2] > gains[::2]))


def test_confidence_is_the_share_of_a_link_among_all_that_excludes_it() -> None:
    rows, columns = np.array([0, 0, 1]), np.array([0, 1, 1])
    gains = np.log([4.0, 2.0, 3.0])
    found = confidence(rows, columns, gains)
    np.testing.assert_allclose(found, [4 / (4 + 2 + 1), 2 / (2 + 4 + 3 + 1), 3 / (3 + 2 + 1)])


def test_confidence_of_a_hopeless_and_of_a_certain_link() -> None:
    found = confidence(np.array([0, 1]), np.array([0, 1]), np.array([-700.0, 700.0]))
    np.testing.assert_allclose(found, [0, 1], atol=1e-12)
