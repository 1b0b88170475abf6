"""The automatic verdict on a movie, with its reasons in words: measure, value and limit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

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


def _reasons(m: Mapping[str, float], p: QualityParameters) -> Iterator[str]:
    """One sentence for each limit that is not kept."""

    def below(measure: str, limit: float) -> bool:
        return measure in m and m[measure] < limit

    def above(measure: str, limit: float | None) -> bool:
        return limit is not None and measure in m and m[measure] > limit

    if above("missing_fraction", p.max_missing_fraction):
        yield f"{m['missing_fraction']:.3g} of the frames are missing, more than {p.max_missing_fraction:g}"
    if below("snr", p.min_snr):
        yield f"SNR {m['snr']:.3g} is below {p.min_snr:g}"
    if above("saturated_fraction", p.max_saturated_fraction):
        yield f"{m['saturated_fraction']:.2%} of voxels are saturated, more than {p.max_saturated_fraction:g}"
    if above("empty_planes", p.max_empty_planes):
        yield f"{m['empty_planes']:g} empty planes, more than {p.max_empty_planes}"
    if above("repeated_planes", p.max_repeated_planes):
        yield f"{m['repeated_planes']:g} repeated planes, more than {p.max_repeated_planes}"
    if above("repeated_frames", p.max_repeated_frames):
        yield f"{m['repeated_frames']:g} repeated frames, more than {p.max_repeated_frames}"
    if below("focus", p.min_focus):
        yield f"focus {m['focus']:.2g} is below {p.min_focus:g}"
    if below("signal_change", -p.max_signal_loss):
        yield f"{-m['signal_change']:.1%} of the signal is lost, more than {p.max_signal_loss:.1%}"
    if below("half_life_s", p.min_half_life_s):
        yield f"half-life {m['half_life_s']:.3g} s is below {p.min_half_life_s:g} s"
    if above("motion_um", p.max_motion_um):
        yield f"the sample moves {m['motion_um']:.3g} µm to the next frame, more than {p.max_motion_um:g} µm"
    if above("drift_um", p.max_drift_um):
        yield f"the sample drifts {m['drift_um']:.3g} µm over the movie, more than {p.max_drift_um:g} µm"
