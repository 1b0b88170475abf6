"""The automatic verdict on a movie, with its reasons in words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from spatialdino_core.quality.parameters import QualityParameters


@dataclass(frozen=True)
class Verdict:
    """Accepted or not; the reasons say what was out of limits."""

    accept: bool
    reasons: tuple[str, ...]


def judge(measures: Mapping[str, float], parameters: QualityParameters) -> Verdict:
    """Hold the measures of a frame (fields of `FrameMetrics`) against the thresholds."""
    checks = [
        (measures["snr"] >= parameters.min_snr, f"SNR {measures['snr']:.3g} is below {parameters.min_snr:g}"),
        (
            measures["saturated_fraction"] <= parameters.max_saturated_fraction,
            f"{measures['saturated_fraction']:.2%} of voxels are saturated",
        ),
        (
            measures["empty_planes"] <= parameters.max_empty_planes,
            f"{measures['empty_planes']:g} empty planes",
        ),
        (
            measures["repeated_planes"] <= parameters.max_repeated_planes,
            f"{measures['repeated_planes']:g} repeated planes",
        ),
        (
            measures["focus"] >= parameters.min_focus,
            f"focus {measures['focus']:.2g} is below {parameters.min_focus:g}",
        ),
    ]
    reasons = tuple(reason for passed, reason in checks if not passed)
    return Verdict(accept=not reasons, reasons=reasons)
