"""Calibration of a movie: one set of thresholds from its first frames, used for all of its frames.

Noise maxima are drawn from the negative response, where there are no particles (and the rings around bright
ones are not blob-like), so no label and no assumption on the camera is needed. Not the statistics
themselves, which are in :mod:`.threshold`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from itertools import islice
from typing import Any

import numpy as np
from pydantic.dataclasses import dataclass as validated

from spatialdino_core.errors import BadInputError
from spatialdino_core.segment.blobs import find_peaks
from spatialdino_core.segment.inputs import Voxel, check_frame, values_at
from spatialdino_core.segment.parameters import SegmentParameters
from spatialdino_core.segment.threshold import Bimodality, NoiseTail, bimodality, noise_tail

MIN_REGION_MAXIMA = 400
"""With fewer noise maxima, a region borrows the tail of the whole frame in proportion to its maxima."""
HISTOGRAM_BINS = 256


@validated(frozen=True)
class Calibration:
    """What a movie's first frames say about noise and foreground. The same for all of its frames.

    Attributes
    ----------
    threshold_z
        Z-score of a detection inside the foreground, or anywhere when ``foreground`` is not bimodal.
    threshold_outside_z
        Z-score of a detection outside the foreground.
    tail, tail_outside
        The noise from which they follow.
    foreground
        Otsu's threshold of the foreground probability with its bimodality; None when no probability was
        given.
    frames
        Number of frames used.
    """

    threshold_z: float
    threshold_outside_z: float
    tail: NoiseTail
    tail_outside: NoiseTail
    foreground: Bimodality | None
    frames: int

    def is_inside(self, probability: np.ndarray | None, count: int) -> np.ndarray:
        """Which of ``count`` places with this foreground probability, shape (count,), use ``threshold_z``."""
        if probability is None or self.foreground is None or not self.foreground.bimodal:
            return np.ones(count, dtype=bool)
        return probability >= self.foreground.threshold

    def as_json(self) -> dict[str, Any]:
        """Plain values that JSON can hold without loss."""
        return asdict(self)

    @staticmethod
    def of_json(fields: dict[str, Any]) -> Calibration:
        """Inverse of :meth:`as_json`."""
        return Calibration(**fields)


@dataclass(frozen=True)
class _Maxima:
    """Noise maxima of all calibration frames: z-scores, and foreground probabilities (empty without one)."""

    z_score: np.ndarray
    probability: np.ndarray

    def inside(self, verdict: Bimodality) -> np.ndarray:
        return self.probability >= verdict.threshold


def calibrate(
    frames: Iterable[tuple[np.ndarray, np.ndarray | None]],
    voxel_um: Voxel,
    valid: np.ndarray | None,
    parameters: SegmentParameters,
    *,
    where: str = "movie",
) -> Calibration:
    """Calibrate the detection thresholds of a movie on its first frames.

    Parameters
    ----------
    frames
        Pairs of intensities (z, y, x), uint16 or float32, and foreground probability, float32 of the same
        shape within 0..1, or None (for all frames or for none). No more than
        ``parameters.calibration_frames`` are drawn.
    voxel_um
        Voxel size (z, y, x) in µm.
    valid
        Boolean mask broadcastable to a frame, e.g. (z, 1, x), or None when every voxel is valid.
    parameters
        Optics and the accepted numbers of false positives.
    where
        Name of the movie for error messages.

    Returns
    -------
    Calibration
        Frozen and JSON-able.

    Raises
    ------
    BadInputError
        If there is no frame, if shapes disagree, if values are not finite, or if no frame varies at all.
    """
    dark: list[_Maxima] = []
    bright: list[_Maxima] = []
    with_foreground: set[bool] = set()
    histogram = np.zeros(HISTOGRAM_BINS)
    edges = np.linspace(0, 1, HISTOGRAM_BINS + 1)
    for index, (frame, foreground) in enumerate(islice(frames, parameters.calibration_frames)):
        name = f"{where}, frame {index}"
        check_frame(frame, voxel_um, valid, foreground, name)
        with_foreground.add(foreground is not None)
        peaks = find_peaks(frame, voxel_um, valid, parameters, where=name, with_dark=True)
        for kept, some in zip((bright, dark), peaks, strict=True):
            kept.append(_Maxima(some.z_score, values_at(foreground, some.position)))
        histogram += _foreground_histogram(foreground, valid, edges)
    if len(with_foreground) == 2:
        raise BadInputError(
            where,
            found="a foreground probability for some calibration frames only",
            expected="one for every frame, or for none",
            remedy="Finish the features of this movie first.",
        )
    if not sum(len(some.z_score) for some in dark):
        raise BadInputError(
            where,
            found=f"{len(dark)} calibration frames without any variation" if dark else "no frame",
            expected="at least one frame with an image in it",
            remedy="Check the deskewed frames, or leave this movie out.",
        )
    verdict = bimodality(histogram, edges) if histogram.any() else None
    return _thresholds(_joined(dark), _joined(bright), len(dark), verdict, parameters)


def _joined(parts: list[_Maxima]) -> _Maxima:
    return _Maxima(np.concatenate([p.z_score for p in parts]), np.concatenate([p.probability for p in parts]))


def _thresholds(
    dark: _Maxima,
    bright: _Maxima,
    frames: int,
    verdict: Bimodality | None,
    parameters: SegmentParameters,
) -> Calibration:
    tail = outside = noise_tail(dark.z_score, bright.z_score, frames)
    if verdict is not None and verdict.bimodal:
        dark_in, bright_in = dark.inside(verdict), bright.inside(verdict)
        outside = _region_tail(dark.z_score, bright.z_score, ~dark_in, ~bright_in, frames, tail)
        tail = _region_tail(dark.z_score, bright.z_score, dark_in, bright_in, frames, tail)
    return Calibration(
        threshold_z=tail.threshold(parameters.false_positives_per_frame),
        threshold_outside_z=outside.threshold(parameters.false_positives_outside),
        tail=tail,
        tail_outside=outside,
        foreground=verdict,
        frames=frames,
    )


def _region_tail(
    dark: np.ndarray,
    bright: np.ndarray,
    dark_here: np.ndarray,
    bright_here: np.ndarray,
    frames: int,
    whole: NoiseTail,
) -> NoiseTail:
    """Tail of the maxima in one region, or its share of the whole frame's tail where they are too few."""
    if dark_here.sum() >= MIN_REGION_MAXIMA:
        return noise_tail(dark[dark_here], bright[bright_here], frames)
    share = dark_here.mean()
    return replace(whole, rate_per_frame=whole.rate_per_frame * float(share), maxima=int(dark_here.sum()))


def _foreground_histogram(
    foreground: np.ndarray | None, valid: np.ndarray | None, edges: np.ndarray
) -> np.ndarray:
    """Counts of the probabilities of valid voxels, plane by plane to bound memory."""
    counts = np.zeros(len(edges) - 1)
    if foreground is None:
        return counts
    for z, plane in enumerate(foreground):
        part = None if valid is None else np.broadcast_to(valid[z if len(valid) > 1 else 0], plane.shape)
        counts += np.histogram(plane if part is None else plane[part], edges)[0]
    return counts
