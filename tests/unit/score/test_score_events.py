"""Events against scenes whose events are known by construction, and mistakes planted one by one."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spatialdino_core.errors import BadInputError
from spatialdino_core.score.events import KINDS, EventScore, score_events, true_events

FRAMES = 10
PARTNER = ["partner_z_um", "partner_y_um", "partner_x_um"]


def particle(
    number: int, frames: list[int], x: float, dark: tuple[int, ...] = (), parent: int = -1, into: int = -1
) -> pd.DataFrame:
    """A particle that stands still at x."""
    table = pd.DataFrame({"particle": number, "frame": frames, "z_um": 1.0, "y_um": 2.0, "x_um": x})
    return table.assign(visible=~table["frame"].isin(dark), parent=parent, merged_into=into)


def scene(*particles: pd.DataFrame) -> pd.DataFrame:
    return pd.concat(particles, ignore_index=True)


SCENE = scene(
    particle(1, list(range(10)), 0.0),
    particle(2, list(range(4, 10)), 0.4, parent=1),  # splits from 1 in frame 4
    particle(3, list(range(0, 7)), 5.0, into=4),  # merges into 4 after frame 6
    particle(4, list(range(0, 10)), 5.4),
    particle(5, list(range(3, 8)), 10.0),  # born in 3, last seen in 7
    particle(6, list(range(0, 10)), 15.0, dark=(4, 5)),  # blinks
)
PERFECT = pd.DataFrame(
    [
        ("fission", 4, 1.0, 2.0, 0.4),
        ("fusion", 6, 1.0, 2.0, 5.0),
        ("appearance", 3, 1.0, 2.0, 10.0),
        ("disappearance", 7, 1.0, 2.0, 10.0),
    ],
    columns=["event", "frame", "z_um", "y_um", "x_um"],
)


def counts(found: pd.DataFrame, truth: pd.DataFrame = SCENE) -> dict[str, tuple[int, int, int]]:
    scores = score_events(found, true_events(truth, FRAMES), gate_um=0.3, gate_frames=2)
    return {kind: (score.found, score.expected, score.matches) for kind, score in scores.items()}


def test_events_of_a_known_scene() -> None:
    events = true_events(SCENE, FRAMES)
    asked = events[events["asked"]]
    pd.testing.assert_frame_equal(asked[PERFECT.columns].reset_index(drop=True), PERFECT, check_dtype=False)
    assert asked[PARTNER].to_numpy()[:, 2].tolist()[:2] == [0.0, 5.4]
    assert asked[PARTNER].iloc[2:].isna().all(axis=None)
    excused = events[~events["asked"]]
    assert list(zip(excused["event"], excused["frame"], excused["x_um"], strict=True)) == [
        ("appearance", 6, 15.0),
        ("disappearance", 3, 15.0),
    ]


def test_only_what_is_seen_is_an_event() -> None:
    hidden = scene(
        particle(1, list(range(10)), 0.0),
        particle(2, list(range(3, 10)), 0.4, dark=(3, 4), parent=1),  # becomes visible long after it split
        particle(3, list(range(10)), 5.0, dark=(0, 1, 8, 9)),  # seen from 2 to 7
        particle(4, [2, 3, 4], 9.0, dark=(2, 3, 4)),  # never seen
    )
    events = true_events(hidden, FRAMES)
    assert list(zip(events["event"], events["frame"], events["asked"], strict=True)) == [
        ("appearance", 5, True),
        ("appearance", 2, True),
        ("disappearance", 7, True),
    ]


def test_partner_in_the_dark_is_no_second_place() -> None:
    dark_parent = scene(particle(1, list(range(10)), 0.0, dark=(4,)), particle(2, [4, 5], 0.4, parent=1))
    fission = true_events(dark_parent, FRAMES).iloc[0]
    assert fission["event"] == "fission"
    assert np.isnan(fission[PARTNER].astype(float)).all()


def test_perfect_events() -> None:
    assert counts(PERFECT) == dict.fromkeys(KINDS, (1, 1, 1))
    score = score_events(PERFECT, true_events(SCENE, FRAMES), 0.3, 2)["fission"]
    assert (score.precision, score.recall, score.f1) == (1, 1, 1)


def test_numbers_in_columns_of_any_type() -> None:
    assert counts(PERFECT.astype(object)) == dict.fromkeys(KINDS, (1, 1, 1))


def test_either_of_both_halves_may_be_the_new_track() -> None:
    assert counts(PERFECT.assign(x_um=[0.0, 5.4, 10.0, 10.0])) == dict.fromkeys(KINDS, (1, 1, 1))


@pytest.mark.parametrize(
    ("change", "matched"),
    [
        ({"x_um": 10.29}, True),
        ({"x_um": 10.31}, False),
        ({"frame": 5}, True),
        ({"frame": 6}, False),
        ({"frame": 1}, True),
        ({"frame": 0}, False),
    ],
)
def test_shifted_in_space_or_time(change: dict[str, float], matched: bool) -> None:
    found = PERFECT.copy()
    for column, value in change.items():
        found.loc[2, column] = value
    assert counts(found)["appearance"] == (1, 1, int(matched))


def test_wrong_kind_is_missed_and_spurious() -> None:
    found = PERFECT.assign(event=["appearance", "fusion", "appearance", "disappearance"])
    assert counts(found) == {
        "fission": (0, 1, 0),
        "fusion": (1, 1, 1),
        "appearance": (2, 1, 1),
        "disappearance": (1, 1, 1),
    }


def test_duplicates_are_spurious() -> None:
    assert counts(pd.concat([PERFECT, PERFECT])) == dict.fromkeys(KINDS, (2, 1, 1))


def test_end_and_new_start_around_a_dark_period_are_excused_once() -> None:
    blink = pd.DataFrame(
        [("disappearance", 3, 1.0, 2.0, 15.0), ("appearance", 6, 1.0, 2.0, 15.0)], columns=PERFECT.columns
    )
    assert counts(pd.concat([PERFECT, blink])) == dict.fromkeys(KINDS, (1, 1, 1))
    twice = counts(pd.concat([PERFECT, blink, blink]))
    assert twice["appearance"] == twice["disappearance"] == (2, 1, 1)


def test_nothing_found() -> None:
    assert counts(PERFECT[:0]) == dict.fromkeys(KINDS, (0, 1, 0))
    still = particle(1, list(range(10)), 0.0)
    assert counts(PERFECT[:0], still) == dict.fromkeys(KINDS, (0, 0, 0))
    assert counts(PERFECT, still)["fission"] == (1, 0, 0)
    assert EventScore(0, 0, 0).f1 == 1


def test_kinds_add_up() -> None:
    total = EventScore(2, 3, 1) + EventScore(1, 1, 1)
    assert (total.precision, total.recall) == (2 / 3, 2 / 4)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 5), st.integers(0, 5), st.integers(0, 10**6))
def test_no_matching_has_more_pairs(found_count: int, true_count: int, seed: int) -> None:
    """Against all permutations, on a line so short that events compete."""
    rng = np.random.default_rng(seed)

    def draw(count: int) -> pd.DataFrame:
        places = {"frame": rng.integers(0, 6, count), "x_um": rng.uniform(0, 3, count)}
        return pd.DataFrame(places | {"event": "fission", "z_um": 0.0, "y_um": 0.0})

    found, truth = draw(found_count), draw(true_count).assign(asked=True)
    truth[PARTNER] = np.nan
    close = np.abs(found["x_um"].to_numpy()[:, None] - truth["x_um"].to_numpy()) < 0.8
    close &= np.abs(found["frame"].to_numpy()[:, None] - truth["frame"].to_numpy()) <= 1
    wide = np.pad(close, ((0, 0), (0, found_count)))
    best = (
        max(
            sum(bool(wide[i, j]) for i, j in enumerate(order))
            for order in itertools.permutations(range(wide.shape[1]), found_count)
        )
        if found_count
        else 0
    )
    assert score_events(found, truth, 0.8, 1)["fission"].matches == best


def test_two_poor_matches_count_for_more_than_a_good_one() -> None:
    chain = {"event": "fission", "z_um": 0.0, "y_um": 0.0}
    found = pd.DataFrame({"frame": [4, 6], "x_um": [0.0, 0.28]} | chain)
    truth = pd.DataFrame({"frame": [4, 2], "x_um": [0.0, -0.28]} | chain | dict.fromkeys(PARTNER, np.nan))
    assert score_events(found, truth.assign(asked=True), 0.3, 2)["fission"].matches == 2


def test_unusable_tables_are_refused() -> None:
    truth = true_events(SCENE, FRAMES)
    with pytest.raises(BadInputError, match="vanishing"):
        score_events(PERFECT.assign(event="vanishing"), truth, 0.3, 2)
    with pytest.raises(BadInputError, match="nothing"):
        score_events(PERFECT.drop(columns="event"), truth, 0.3, 2)
    with pytest.raises(BadInputError, match="x_um"):
        score_events(PERFECT.drop(columns="x_um"), truth, 0.3, 2)
    with pytest.raises(BadInputError, match="merged_into"):
        true_events(SCENE.drop(columns="merged_into"), FRAMES)
