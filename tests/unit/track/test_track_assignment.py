"""The assignment against brute force, and margins against enumeration."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spatialdino_core.track.assignment import assign, margins


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


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 4), st.integers(1, 4), st.integers(0, 2**32 - 1))
def test_a_margin_is_what_the_best_assignment_without_the_link_loses(n: int, m: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    pairs = np.argwhere(generator.random((n, m)) < 0.8)[:10]
    rows, columns = pairs[:, 0], pairs[:, 1]
    gains = generator.normal(1, 2, len(pairs))
    chosen = assign(rows, columns, gains, (n, m))
    for link, margin in zip(chosen, margins(rows, columns, gains, chosen, (n, m)), strict=True):
        without = np.delete(np.arange(len(gains)), link)
        best = best_total(rows[without], columns[without], gains[without])
        assert margin == pytest.approx(gains[chosen].sum() - best)


def test_the_margin_of_a_swap_is_the_difference_of_both_ways() -> None:
    """Two particles meet: the only alternative exchanges both."""
    rows, columns = np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1])
    gains = np.array([9.0, 8.0, 7.5, 8.0])
    np.testing.assert_allclose(margins(rows, columns, gains, np.array([0, 3]), (2, 2)), 1.5)
