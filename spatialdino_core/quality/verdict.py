"""The automatic verdict on a movie, with its reasons in words: measure, value and limit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from operator import gt, lt
from types import MappingProxyType
from typing import Literal

from spatialdino_core.quality.parameters import QualityParameters

Measures = Mapping[str, float | None]


Word = Literal["accept", "look", "reject"]
SURELY = 1e-6
"""The p-value of noise is at least so many times smaller the way a scan did go."""
NOISE = "no more spots go on from plane to plane than noise makes (p = {:.2g}; up to {:g} is sure)"
OTHER_WAY = (
    "neighbouring planes show the same spots only if the scan went the other way: correct scan_sign in the "
    "sample sheet"
)


@dataclass(frozen=True)
class Verdict:
    """What becomes of a movie, and why: limits that were not kept, and doubts, which keep it from nothing."""

    limits: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()

    @property
    def word(self) -> Word:
        return "reject" if self.limits else "look" if self.doubts else "accept"

    @property
    def reasons(self) -> tuple[str, ...]:
        return self.limits + self.doubts


def judge(measures: Measures, parameters: QualityParameters, contradiction: str = "") -> Verdict:
    """Hold the measures of a channel (fields of `ChannelMetrics`) against the thresholds.

    A measure that is missing or ``None`` is not judged: what a movie cannot tell is not held against it.

    Parameters
    ----------
    measures
        Of the channel.
    parameters
        Thresholds.
    contradiction
        What its planes say against the declared geometry, in words.
    """
    known = {name: value for name, value in measures.items() if value is not None}
    if not contradiction and _went_the_other_way(known, parameters):
        contradiction = OTHER_WAY
    if contradiction:
        known.pop("noise_p_value", None)  # with planes put together wrongly it says nothing of noise
    limits, doubts = list(_limits(known, parameters)), list(_doubts(known, parameters))
    if contradiction and parameters.geometry_check != "off":
        (limits if parameters.geometry_check == "refuse" else doubts).insert(0, contradiction)
    return Verdict(tuple(limits), tuple(doubts))


def judge_movie(
    movie: Measures,
    channels: Mapping[str, Measures],
    parameters: QualityParameters,
    contradictions: Mapping[str, str] = MappingProxyType({}),
) -> Verdict:
    """Judge a movie by all its channels; one that fails rejects it, and is named in the reason.

    Parameters
    ----------
    movie
        Measures of the movie as a whole: ``missing_fraction``.
    channels
        Channel name to its measures.
    contradictions
        Channel name to what its planes say against the declared geometry.
    """
    found = [("", judge(movie, parameters))]
    found += [
        (f"{channel}: ", judge(measures, parameters, contradictions.get(channel, "")))
        for channel, measures in channels.items()
    ]
    return Verdict(
        tuple(of + limit for of, verdict in found for limit in verdict.limits),
        tuple(of + doubt for of, verdict in found for doubt in verdict.doubts),
    )


def _limits(measures: Mapping[str, float], p: QualityParameters) -> Iterator[str]:
    """One sentence for each limit that is not kept."""
    measures = dict(measures)
    if "signal_change" in measures:
        measures["signal_loss"] = -measures["signal_change"]
    limits: list[tuple[str, Callable[[float, float], bool], float | None, str]] = [
        ("missing_fraction", gt, p.max_missing_fraction, "{:.3g} of the frames are missing, more than {:g}"),
        ("noise_p_value", gt, p.reject_p_value, NOISE),
        (
            "saturated_fraction",
            gt,
            p.max_saturated_fraction,
            "{:.2%} of voxels are saturated, more than {:g}",
        ),
        ("empty_planes", gt, p.max_empty_planes, "{:g} empty planes, more than {}"),
        ("repeated_planes", gt, p.max_repeated_planes, "{:g} repeated planes, more than {}"),
        ("repeated_frames", gt, p.max_repeated_frames, "{:g} repeated frames, more than {}"),
        ("focus", lt, p.min_focus, "focus {:.2g} is below {:g}"),
        ("signal_loss", gt, p.max_signal_loss, "{:.1%} of the signal is lost, more than {:.1%}"),
        ("half_life_s", lt, p.min_half_life_s, "half-life {:.3g} s is below {:g} s"),
        ("motion_um", gt, p.max_motion_um, "the sample moves {:.3g} µm to the next frame, more than {:g} µm"),
        ("drift_um", gt, p.max_drift_um, "the sample drifts {:.3g} µm over the movie, more than {:g} µm"),
    ]
    for measure, exceeds, limit, sentence in limits:
        if limit is not None and measure in measures and exceeds(measures[measure], limit):
            yield sentence.format(measures[measure], limit)


def _doubts(measures: Mapping[str, float], p: QualityParameters) -> Iterator[str]:
    """What asks for a look, and rejects nothing."""
    value = measures.get("noise_p_value", 0.0)
    if p.look_p_value < value <= p.reject_p_value:
        yield NOISE.format(value, p.look_p_value)


def _went_the_other_way(measures: Mapping[str, float], p: QualityParameters) -> bool:
    """Whether planes fit together far better if the scan went the other way."""
    mirrored = measures.get("mirrored_p_value", 1.0)
    return mirrored <= p.look_p_value and mirrored < SURELY * measures.get("noise_p_value", 0.0)
