"""The automatic verdict on a movie, with its reasons in words: measure, value and limit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from operator import gt, lt

from spatialdino_core.quality.parameters import QualityParameters

Measures = Mapping[str, float | None]


@dataclass(frozen=True)
class Verdict:
    """Accepted or not; the reasons say what was out of limits."""

    accept: bool
    reasons: tuple[str, ...]


def judge(measures: Measures, parameters: QualityParameters) -> Verdict:
    """Hold the measures of a channel (fields of `ChannelMetrics`) against the thresholds.

    A measure that is missing or ``None`` is not judged: what a movie cannot tell is not held against it.
    """
    reasons = tuple(_reasons({name: v for name, v in measures.items() if v is not None}, parameters))
    return Verdict(accept=not reasons, reasons=reasons)


def judge_movie(movie: Measures, channels: Mapping[str, Measures], parameters: QualityParameters) -> Verdict:
    """Judge a movie by all its channels; one that fails rejects it, and is named in the reason.

    Parameters
    ----------
    movie
        Measures of the movie as a whole: ``missing_fraction``.
    channels
        Channel name to its measures.
    """
    reasons = judge(movie, parameters).reasons
    for channel, measures in channels.items():
        reasons += tuple(f"{channel}: {reason}" for reason in judge(measures, parameters).reasons)
    return Verdict(accept=not reasons, reasons=reasons)


def _reasons(measures: Mapping[str, float], p: QualityParameters) -> Iterator[str]:
    """One sentence for each limit that is not kept."""
    measures = dict(measures)
    if "signal_change" in measures:
        measures["signal_loss"] = -measures["signal_change"]
    limits: list[tuple[str, Callable[[float, float], bool], float | None, str]] = [
        ("missing_fraction", gt, p.max_missing_fraction, "{:.3g} of the frames are missing, more than {:g}"),
        ("snr", lt, p.min_snr, "SNR {:.3g} is below {:g}"),
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
