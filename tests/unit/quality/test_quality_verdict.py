"""Every limit rejects for a reason of its own, which names measure, value and limit."""

from __future__ import annotations

from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spatialdino_core.quality.channel import ChannelMetrics
from spatialdino_core.quality.parameters import QualityParameters
from spatialdino_core.quality.verdict import judge, judge_movie

GOOD = {
    "noise_p_value": 1e-9,
    "saturated_fraction": 0.0,
    "empty_planes": 0,
    "repeated_planes": 0,
    "repeated_frames": 0,
    "focus": 0.4,
    "signal_change": -0.2,
    "half_life_s": 500.0,
    "motion_um": 0.1,
    "drift_um": 0.5,
}
LIMITS = [
    ("noise_p_value", 0.2, {"reject_p_value": 0.1}, ["noise", "0.2", "0.1"]),
    ("saturated_fraction", 0.02, {"max_saturated_fraction": 0.01}, ["2.00%", "saturated", "0.01"]),
    ("empty_planes", 3, {"max_empty_planes": 2}, ["3 empty planes", "2"]),
    ("repeated_planes", 3, {"max_repeated_planes": 2}, ["3 repeated planes", "2"]),
    ("repeated_frames", 3, {"max_repeated_frames": 2}, ["3 repeated frames", "2"]),
    ("focus", 0.1, {"min_focus": 0.2}, ["focus", "0.1", "0.2"]),
    ("signal_change", -0.7, {"max_signal_loss": 0.6}, ["70.0%", "signal", "60.0%"]),
    ("half_life_s", 20.0, {"min_half_life_s": 30.0}, ["half-life", "20 s", "30 s"]),
    ("motion_um", 1.5, {"max_motion_um": 1.2}, ["1.5 µm", "1.2 µm"]),
    ("drift_um", 6.0, {"max_drift_um": 5.0}, ["6 µm", "5 µm"]),
]


def test_a_good_channel_is_accepted_by_default() -> None:
    assert judge(GOOD, QualityParameters()).word == "accept"


@pytest.mark.parametrize(("measure", "bad", "limit", "words"), LIMITS)
def test_each_limit_rejects_for_its_own_reason(
    measure: str, bad: float, limit: dict[str, float], words: list[str]
) -> None:
    verdict = judge(GOOD | {measure: bad}, QualityParameters(**limit))
    assert verdict.word == "reject"
    assert len(verdict.reasons) == 1
    for word in words:
        assert word in verdict.reasons[0]
    # The limit itself is kept.
    (value,) = limit.values()
    at_the_limit = -value if measure == "signal_change" else value
    assert judge(GOOD | {measure: at_the_limit}, QualityParameters(**limit)).word != "reject"


@pytest.mark.parametrize(("measure", "bad", "limit", "words"), LIMITS)
def test_what_is_not_known_is_not_held_against_a_movie(
    measure: str, bad: float, limit: dict[str, float], words: list[str]
) -> None:
    assert judge(GOOD | {measure: None}, QualityParameters(**limit)).word == "accept"
    assert judge({}, QualityParameters(**limit)).word == "accept"


def test_every_judged_measure_is_one_of_a_channel() -> None:
    assert set(GOOD) <= {field.name for field in fields(ChannelMetrics)}


def test_limits_can_be_switched_off() -> None:
    bad = {"focus": 0.0, "half_life_s": 0.01, "signal_change": -1.0, "motion_um": 1e3, "drift_um": 1e3}
    parameters = QualityParameters(max_motion_um=None, max_signal_loss=1)
    assert judge(GOOD | bad, parameters).word == "accept"


def test_any_channel_rejects_the_movie_and_is_named() -> None:
    channels = {
        "488nm": GOOD,
        "560nm": GOOD | {"saturated_fraction": 0.02},
        "642nm": GOOD | {"empty_planes": 1},
    }
    verdict = judge_movie({"missing_fraction": 0.5}, channels, QualityParameters())
    assert [reason.split(":")[0] for reason in verdict.reasons[1:]] == ["560nm", "642nm"]
    assert "0.5 of the frames are missing" in verdict.reasons[0]
    assert judge_movie({"missing_fraction": 0.25}, {"488nm": GOOD}, QualityParameters()).word == "accept"


@given(value=st.floats(1e-6, 1), look=st.floats(1e-8, 1), reject=st.floats(1e-8, 1))
def test_doubt_is_a_look_and_certainty_is_none(value: float, look: float, reject: float) -> None:
    look, reject = sorted([look, reject])
    parameters = QualityParameters(look_p_value=look, reject_p_value=reject)
    verdict = judge_movie({}, {"488nm": GOOD, "560nm": GOOD | {"noise_p_value": value}}, parameters)
    expected = "reject" if value > reject else "look" if value > look else "accept"
    assert (verdict.word, len(verdict.reasons)) == (expected, expected != "accept")
    assert all(reason.startswith("560nm: ") for reason in verdict.reasons)


def test_noise_rejects_nothing_by_default() -> None:
    assert judge(GOOD | {"noise_p_value": 1.0}, QualityParameters()).word == "look"


@pytest.mark.parametrize(
    ("here", "mirrored", "word"),
    [
        (0.8, 1e-9, "reject"),
        (1e-4, 1e-30, "reject"),  # in a cell, whose haze goes on from plane to plane either way
        (1e-30, 1e-32, "accept"),
        (1e-300, 1e-300, "accept"),  # no shear
        (0.8, 0.2, "look"),
        (0.8, 1.0, "look"),
    ],
)
def test_a_scan_that_went_the_other_way_is_named(here: float, mirrored: float, word: str) -> None:
    measures = GOOD | {"noise_p_value": here, "mirrored_p_value": mirrored}
    verdict = judge(measures, QualityParameters())
    assert verdict.word == word
    assert any("scan_sign" in reason for reason in verdict.reasons) == (word == "reject")
    assert len(verdict.reasons) == (word != "accept")
