"""How likely a maximum is a particle: its confidence, and the confidence from which on it counts as detected.

Noise makes dark maxima as it makes bright ones, so what bright maxima there are beyond the dark ones are
particles: their share at a z-score is the local true discovery rate (Efron 2001, J. Am. Stat. Assoc. 96,
1151). The foreground probability joins in as a likelihood ratio between the two kinds. No label is used. Not
the statistics of noise alone: those are in :mod:`.tail`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from pydantic.dataclasses import dataclass as validated
from scipy.optimize import isotonic_regression

from spatialdino_core.segment.believe.tail import NoiseTail, continued_tail, noise_tail
from spatialdino_core.segment.detections import Detections, Table
from spatialdino_core.segment.volume import Foreground, values_at

BIN_MAXIMA = 20
"""Maxima per bin of the z-score at least."""
MAX_BINS = 40
MIN_EXCESS_SIGMAS = 5.0
"""Bright maxima exceed noise by this many standard deviations at some z-score, or there are no particles."""
STEP_Z = 1e-6
"""Width of a step in z-score, which interpolation needs."""
SURE = 0.9
"""Bins of at least this share of particles tell how their brightness is distributed."""
GAP_FACTOR = 2.0
"""There is a gap where particles at the lower end of the sure ones are so much rarer, per relative step of
brightness, than at their peak."""
RARE_PER_FRAME = 0.05
"""Where noise makes fewer maxima per frame than this, a maximum is as likely a particle as not, even if
calibration saw no other."""
FOREGROUND_BINS = 10
PSEUDO_COUNT = 10.0
"""Maxima of either kind, spread like all others, that join the histograms of foreground probability."""
MAX_LOG_RATIO = 3.0


@dataclass(frozen=True, eq=False)
class Maxima(Table):
    """Maxima of one sign in the calibration frames: z-scores (n,), foreground probabilities (n,) or empty."""

    z_score: np.ndarray
    foreground: np.ndarray


@validated(frozen=True)
class Evidence:
    """What z-score and foreground probability say about a maximum. JSON-able.

    Attributes
    ----------
    tail
        Noise maxima per frame above a z-score.
    z_scores, confidences
        Confidence of a maximum at these z-scores, rising; in between it is interpolated.
    foregrounds, log_ratios
        Logarithm of the likelihood ratio, particle over noise, at these foreground probabilities; empty
        without.
    threshold
        Least confidence of a detection.
    expected_f1, expected_precision, expected_recall
        Of the detections in the calibration frames, if the confidences are true; recall among the maxima.
    typical_z
        Median z-score of these detections; 0 without any.
    """

    tail: NoiseTail
    z_scores: list[float]
    confidences: list[float]
    foregrounds: list[float]
    log_ratios: list[float]
    threshold: float
    expected_f1: float
    expected_precision: float
    expected_recall: float
    typical_z: float

    def confidence(self, z_score: np.ndarray, foreground: np.ndarray) -> np.ndarray:
        """Probability that maxima are particles, shape (n,); ``foreground`` (n,) or empty."""
        confidence = np.interp(z_score, self.z_scores, self.confidences, left=0.0)
        return _with_foreground(confidence, foreground, self.foregrounds, self.log_ratios)

    def judged(self, found: Detections, foreground: Foreground | None) -> Detections:
        """Detections with their confidence; ``foreground`` (z, y, x) is the probability in their frame."""
        at = values_at(foreground, found.position)
        return replace(found, confidence=self.confidence(found.z_score, at))


def fit_evidence(
    bright: Maxima,
    dark: Maxima,
    frames: float,
    dark_frames: float,
    *,
    false_positives_per_frame: float | None,
    foreground_weight: float,
) -> Evidence:
    """Learn from the maxima of ``frames`` frames.

    Parameters
    ----------
    bright, dark
        Maxima of the response and of its negative.
    frames, dark_frames
        Number of frames that they come from; not whole where only a part of each was looked at.
    false_positives_per_frame
        Accepted false detections; None: as many as make the expected F1 score greatest.
    foreground_weight
        Factor of the logarithm of the foreground's likelihood ratio.
    """
    tail = noise_tail(dark.z_score, bright.z_score, frames, dark_frames)
    tail = continued_tail(tail, bright.z_score, frames)
    candidate = np.sort(bright.z_score[bright.z_score >= tail.start_z])
    if not _exceeds_noise(candidate, tail, frames):
        return Evidence(tail, *_null_confidence(tail), [], [], 0.5, 0.0, 0.0, 0.0, 0.0)
    z_scores, confidences = _confidence_of_z_score(candidate, tail, frames)
    confidence = np.interp(bright.z_score, z_scores, confidences, left=0.0)
    foregrounds, log_ratios = _foreground_log_ratios(bright, confidence, tail.start_z, foreground_weight)
    confidence = _with_foreground(confidence, bright.foreground, foregrounds, log_ratios)
    known = bright.z_score >= tail.start_z
    operating_point = _operating_point(confidence[known], frames, false_positives_per_frame)
    detected = bright.z_score[known & (confidence >= operating_point[0])]
    typical_z = float(np.median(detected)) if len(detected) else 0.0
    return Evidence(tail, z_scores, confidences, foregrounds, log_ratios, *operating_point, typical_z)


def _null_confidence(tail: NoiseTail) -> tuple[list[float], list[float]]:
    """Confidence at rising z-scores where there are no particles to learn from."""
    rare = tail.threshold(RARE_PER_FRAME)
    return [tail.start_z, rare, rare + STEP_Z], [0.0, 0.0, 0.5]


def _confidence_of_z_score(
    candidate: np.ndarray, tail: NoiseTail, frames: float
) -> tuple[list[float], list[float]]:
    """Confidence at rising z-scores: isotonic regression of the share that noise does not explain.

    Below the tail nothing is known of noise, and nothing is a particle.
    """
    bins = int(np.clip(len(candidate) // BIN_MAXIMA, 1, MAX_BINS))
    parts = np.array_split(candidate, bins)
    edges = np.array([tail.start_z, *[(a[-1] + b[0]) / 2 for a, b in pairwise(parts)], candidate[-1]])
    above = np.array([tail.rate(edge) for edge in edges[:-1]]) * frames
    noise = above - np.append(above[1:], 0.0)
    count = np.array([len(part) for part in parts], dtype=np.float64)
    share = np.clip(1 - noise / count, 0.0, 0.99)
    smooth = _without_texture(isotonic_regression(share, weights=count).x, count, edges)
    centre = np.array([np.median(part) for part in parts])
    z_scores = np.concatenate([[tail.start_z - STEP_Z, tail.start_z], centre])
    confidences = np.concatenate([[0.0], smooth[:1], smooth])
    floor = np.interp(z_scores, *_null_confidence(tail))
    return z_scores.tolist(), np.maximum(confidences, floor).tolist()


def _without_texture(share: np.ndarray, count: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Shares of particles, lowered below a gap in brightness.

    Texture makes more maxima than the tail of noise lets expect, just above it. Particles of one kind do not
    get rarer towards noise to become frequent again: if the sure ones do get rarer, so do those below them.

    Parameters
    ----------
    share
        Of particles per bin, rising, shape (bins,).
    count
        Maxima per bin, shape (bins,).
    edges
        Of the bins in z-score, rising, shape (bins + 1,).
    """
    sure = np.flatnonzero(share >= SURE)
    if not len(sure) or sure[0] == 0:
        return share
    first, particles = int(sure[0]), share * count
    relative = particles / np.maximum(np.diff(np.log(np.maximum(edges, STEP_Z))), STEP_Z)
    if relative[sure].max() < GAP_FACTOR * relative[first - 1 : first + 1].min():
        return share
    width, dim = np.maximum(np.diff(edges), STEP_Z), slice(0, first + 1)
    density = isotonic_regression((particles / width)[dim], weights=width[dim]).x
    lowered = share.copy()
    lowered[dim] = np.minimum(share[dim], density * width[dim] / count[dim])
    return np.asarray(isotonic_regression(lowered, weights=count).x)


def _exceeds_noise(candidate: np.ndarray, tail: NoiseTail, frames: float) -> bool:
    """Whether there are more maxima above any z-score than noise makes."""
    count = np.arange(len(candidate), 0, -1)
    noise = np.array([tail.rate(z) for z in candidate]) * frames
    variance = noise + 1 + (tail.relative_error(candidate) * noise) ** 2
    return bool(np.any(count > noise + MIN_EXCESS_SIGMAS * np.sqrt(variance)))


def _foreground_log_ratios(
    bright: Maxima, confidence: np.ndarray, start_z: float, weight: float
) -> tuple[list[float], list[float]]:
    """Likelihood ratio of the foreground probability, rising, from maxima that are weighted by confidence.

    Both kinds are taken at like z-scores: a bright maximum of noise has a higher foreground probability than
    a place anywhere, too.
    """
    if not len(bright.foreground) or weight == 0 or confidence.sum() < PSEUDO_COUNT:
        return [], []
    near = bright.z_score >= start_z - 0.5
    value, particle = bright.foreground[near].astype(np.float64), confidence[near]
    edges = np.unique(np.quantile(value, np.linspace(0, 1, FOREGROUND_BINS + 1)))
    if len(edges) < 3:
        return [], []
    every = np.histogram(value, edges)[0] / len(value)
    kinds = [
        np.histogram(value, edges, weights=w)[0] + PSEUDO_COUNT * every for w in (particle, 1 - particle)
    ]
    ratio = np.log(kinds[0] / kinds[0].sum()) - np.log(kinds[1] / kinds[1].sum())
    rising = isotonic_regression(np.clip(weight * ratio, -MAX_LOG_RATIO, MAX_LOG_RATIO), weights=every).x
    return ((edges[1:] + edges[:-1]) / 2).tolist(), rising.tolist()


def _with_foreground(
    confidence: np.ndarray, foreground: np.ndarray, foregrounds: list[float], log_ratios: list[float]
) -> np.ndarray:
    if not foregrounds:
        return confidence
    odds = (
        confidence
        / (1 - np.minimum(confidence, 0.999))
        * np.exp(np.interp(foreground, foregrounds, log_ratios))
    )
    return odds / (1 + odds)


def _operating_point(
    confidence: np.ndarray, frames: float, false_positives_per_frame: float | None
) -> tuple[float, float, float, float]:
    """Threshold of confidence, and the expected F1, precision and recall there.

    Examples
    --------
    Of three maxima the two surer ones are accepted: 1.6 of 2 are particles, of 1.8 that there are.

    >>> [round(value, 3) for value in _operating_point(np.array([0.9, 0.2, 0.7]), 1.0, None)]
    [0.7, 0.842, 0.8, 0.889]
    """
    ordered = np.sort(confidence)[::-1]
    total = ordered.sum()
    if total == 0:
        return 0.5, 0.0, 0.0, 0.0
    found = np.cumsum(ordered)
    count = np.arange(1, len(ordered) + 1)
    f1 = 2 * found / (count + total)
    # Maxima of equal confidence are accepted together, and those of none never.
    ends = np.flatnonzero((np.diff(ordered, append=-1.0) < 0) & (ordered > 0))
    if false_positives_per_frame is None:
        last = int(ends[int(np.argmax(f1[ends]))])
    else:
        accepted = (count - found)[ends] <= false_positives_per_frame * frames
        last = int(ends[max(0, int(np.count_nonzero(accepted)) - 1)])
    return float(ordered[last]), float(f1[last]), float(found[last] / count[last]), float(found[last] / total)
