"""The challenge's measures against their definition, tried exhaustively, and cases worked out by hand."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spatialdino_core.errors import BadInputError
from spatialdino_core.score.links import score_links
from spatialdino_core.score.tracking import score_tracks

COLUMNS = ["track_id", "frame", "z_um", "y_um", "x_um"]


def tracks(*rows: tuple[int, int, float]) -> pd.DataFrame:
    """Positions along x from (track, frame, x)."""
    return pd.DataFrame([(track, frame, 0.0, 0.0, x) for track, frame, x in rows], columns=COLUMNS)


def line(track: int, frames: range, x: float) -> list[tuple[int, int, float]]:
    return [(track, frame, x) for frame in frames]


def random_tracks(rng: np.random.Generator, count: int) -> pd.DataFrame:
    """Short tracks with gaps in a space so small that they get in one another's way."""
    rows = []
    for track in range(count):
        kept = np.flatnonzero(rng.random(5) < 0.7)
        rows += [(track, frame, *rng.uniform(0, 1.2, 3)) for frame in kept]
    return pd.DataFrame(rows, columns=COLUMNS)


Track = dict[int, np.ndarray]


def by_hand(found: pd.DataFrame, truth: pd.DataFrame, gate: float) -> tuple[float, ...]:
    """α, β, JSC, JSCθ, RMSE straight from Chenouard et al., over every pairing with dummy tracks."""

    def split(table: pd.DataFrame) -> list[Track]:
        return [
            {int(r.frame): np.array([r.z_um, r.y_um, r.x_um]) for r in group.itertuples()}
            for _, group in table.groupby("track_id")
        ]

    def distance(one: Track, two: Track) -> float:
        total = 0.0
        for frame in one.keys() | two.keys():
            both = frame in one and frame in two
            total += min(float(np.linalg.norm(one[frame] - two[frame])), gate) if both else gate
        return total

    true, candidates = split(truth), split(found)
    dummies: list[Track] = [{} for _ in true]
    extended = candidates + dummies

    def cost(order: tuple[int, ...]) -> tuple[float, int]:
        total = sum(distance(t, extended[k]) for t, k in zip(true, order, strict=True))
        # A pair that saves nothing against a dummy is no pair.
        return round(total, 9), sum(k < len(candidates) for k in order)

    best = min(itertools.permutations(range(len(extended)), len(true)), key=cost)
    total = sum(distance(t, extended[k]) for t, k in zip(true, best, strict=True))
    nothing = gate * sum(len(t) for t in true)
    paired = [(t, extended[k]) for t, k in zip(true, best, strict=True) if k < len(candidates)]
    spurious = gate * sum(len(c) for k, c in enumerate(candidates) if k not in best)
    errors = [float(np.linalg.norm(t[f] - c[f])) for t, c in paired for f in t.keys() & c.keys()]
    close = [error for error in errors if error < gate]
    return (
        1 - total / nothing,
        (nothing - total) / (nothing + spurious),
        len(close) / (len(truth) + len(found) - len(close)),
        len(paired) / (len(true) + len(candidates) - len(paired)),
        math.sqrt(np.mean(np.square(close))) if close else math.nan,
    )


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 4), st.integers(1, 4), st.integers(0, 10**6))
def test_measures_equal_their_definition(true_count: int, found_count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    found, truth = random_tracks(rng, found_count), random_tracks(rng, true_count)
    if len(truth) == 0 or len(found) == 0:
        return
    score = score_tracks(found, truth, 1.0)
    measured = (score.alpha, score.beta, score.jsc, score.jsc_theta, score.rmse_um)
    np.testing.assert_allclose(measured, by_hand(found, truth, 1.0))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 8), st.integers(0, 8), st.integers(0, 10**6))
def test_beta_never_exceeds_alpha_and_names_do_not_matter(
    true_count: int, found_count: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    found, truth = random_tracks(rng, found_count), random_tracks(rng, true_count)
    score = score_tracks(found, truth, 0.6)
    assert 0 <= score.beta <= score.alpha <= 1
    renamed = found.assign(track_id=1000 - 7 * found["track_id"]).sample(frac=1, random_state=seed % 1000)
    again = score_tracks(renamed, truth.sample(frac=1, random_state=1), 0.6)
    for name in ("alpha", "beta", "jsc", "jsc_theta", "rmse_um"):
        assert getattr(again, name) == pytest.approx(getattr(score, name), nan_ok=True)
    before, after = score_links(found, truth, 0.6), score_links(renamed, truth, 0.6)
    assert before == after


def test_perfect_tracks() -> None:
    truth = tracks(*line(1, range(5), 0.0), *line(2, range(2, 6), 3.0))
    score, links = score_tracks(truth, truth, 0.5), score_links(truth, truth, 0.5)
    assert score.alpha == score.beta == score.jsc == score.jsc_theta == 1
    assert score.rmse_um == 0
    assert (links.id_switches, links.fragmentations) == (0, 0)
    assert links.link_precision == links.link_recall == links.link_f1 == links.complete_fraction == 1


def test_nothing_found_and_nothing_true() -> None:
    something, nothing = tracks(*line(1, range(5), 0.0)), tracks()
    empty = score_tracks(nothing, something, 0.5)
    assert empty.alpha == empty.beta == empty.jsc == empty.jsc_theta == 0
    assert score_links(nothing, something, 0.5).link_f1 == 0
    spurious = score_tracks(something, nothing, 0.5)
    assert spurious.alpha == spurious.beta == spurious.jsc == 0
    assert score_tracks(nothing, nothing, 0.5).alpha == 1


def test_constant_error_and_a_spurious_track() -> None:
    truth = tracks(*line(1, range(4), 0.0))
    found = tracks(*line(1, range(4), 0.1), *line(2, range(2), 9.0))
    score = score_tracks(found, truth, 0.5)
    assert score.alpha == pytest.approx(1 - 0.1 / 0.5)
    assert score.beta == pytest.approx((4 * 0.5 - 4 * 0.1) / (4 * 0.5 + 2 * 0.5))
    assert score.jsc == pytest.approx(4 / 6)
    assert score.jsc_theta == pytest.approx(1 / 2)
    assert score.rmse_um == pytest.approx(0.1)


def test_position_at_the_gate_is_a_miss() -> None:
    truth = tracks((1, 0, 0.0), (1, 1, 0.0), (1, 2, 0.0))
    found = tracks((1, 0, 0.0), (1, 1, 0.5), (1, 2, 0.0))
    score = score_tracks(found, truth, 0.5)
    assert score.jsc == pytest.approx(2 / 4)
    assert score.alpha == pytest.approx(2 / 3)


def test_swapped_identities() -> None:
    truth = tracks(*line(1, range(6), 0.0), *line(2, range(6), 3.0))
    found = tracks(
        *line(1, range(4), 0.0), *line(2, range(4), 3.0), (1, 4, 3.0), (1, 5, 3.0), (2, 4, 0.0), (2, 5, 0.0)
    )
    links, score = score_links(found, truth, 0.5), score_tracks(found, truth, 0.5)
    assert links.id_switches == 2
    assert (links.links_found, links.links_expected, links.links_correct) == (10, 10, 8)
    assert links.complete == 0
    assert score.alpha == pytest.approx(8 / 12)
    assert score.jsc == pytest.approx(8 / 16)
    assert score.jsc_theta == 1


def test_broken_track() -> None:
    truth = tracks(*line(1, range(7), 0.0), *line(2, range(3), 5.0))
    found = tracks(*line(1, range(3), 0.0), *line(2, range(4, 7), 0.0), *line(3, range(3), 5.0))
    links = score_links(found, truth, 0.5)
    assert (links.id_switches, links.fragmentations) == (1, 1)
    assert (links.links_found, links.links_expected, links.links_correct) == (6, 8, 6)
    assert links.complete_fraction == 0.5


def test_link_over_a_missing_frame_is_no_true_link() -> None:
    truth, found = tracks(*line(1, range(3), 0.0)), tracks((1, 0, 0.0), (1, 2, 0.0))
    links = score_links(found, truth, 0.5)
    assert (links.links_found, links.links_correct) == (1, 0)
    assert (links.id_switches, links.fragmentations) == (0, 1)


def test_passing_neighbours_keep_their_match() -> None:
    # In frame 1 each found position is nearer to the other particle, yet still within the gate of its own.
    truth = tracks((1, 0, 0.0), (2, 0, 1.0), (1, 1, 0.4), (2, 1, 0.6), (1, 2, 0.0), (2, 2, 1.0))
    found = tracks((5, 0, 0.0), (6, 0, 1.0), (5, 1, 0.6), (6, 1, 0.4), (5, 2, 0.0), (6, 2, 1.0))
    links = score_links(found, truth, 0.3)
    assert links.id_switches == 0
    assert links.complete == 2


def test_two_positions_in_a_frame_are_refused() -> None:
    twice = tracks((1, 0, 0.0), (1, 0, 1.0))
    with pytest.raises(BadInputError, match="more than once"):
        score_tracks(twice, tracks((1, 0, 0.0)), 0.5)
    with pytest.raises(BadInputError, match="track_id"):
        score_links(twice.drop(columns="track_id"), twice, 0.5)
