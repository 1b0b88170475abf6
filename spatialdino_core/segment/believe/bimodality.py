"""Otsu's threshold of a histogram, with a verdict on whether there are two populations to separate."""

from __future__ import annotations

import numpy as np
from pydantic.dataclasses import dataclass
from scipy import ndimage

EM_ITERATIONS = 200
MIN_ASHMAN_D = 2.0
MAX_VALLEY = 0.8


@dataclass(frozen=True)
class Bimodality:
    """Otsu's threshold and whether the histogram has two populations to separate.

    Attributes
    ----------
    threshold
        Otsu's threshold (Otsu 1979, IEEE Trans. SMC 9, 62), in units of the sample.
    separability
        Otsu's η, between-class over total variance, 0 to 1; 0.64 for one normal population.
    ashman_d
        Ashman's D = √2 |μ₁ − μ₂| / √(σ₁² + σ₂²) of two normal components fitted by expectation maximisation;
        clean separation needs D > 2 (Ashman et al. 1994, Astron. J. 108, 2348).
    valley
        Lowest point of the smoothed histogram between the peaks of the two classes, over the lower peak; 1
        where there is no valley.
    bimodal
        D > 2 and a valley below 0.8: then, and only then, the threshold means something.
    """

    threshold: float
    separability: float
    ashman_d: float
    valley: float
    bimodal: bool


def bimodality(counts: np.ndarray, edges: np.ndarray) -> Bimodality:
    """Otsu's threshold of a histogram and three measures of whether it is bimodal.

    Parameters
    ----------
    counts
        Histogram, shape (bins,).
    edges
        Bin edges, shape (bins + 1,), increasing.

    Returns
    -------
    Bimodality
        With ``separability`` 0 and not bimodal when fewer than two bins are occupied.
    """
    centres = (edges[:-1] + edges[1:]) / 2
    weight = counts / max(counts.sum(), 1)
    mean = float(weight @ centres)
    variance = float(weight @ (centres - mean) ** 2)
    if np.count_nonzero(counts) < 2:
        return Bimodality(mean, 0.0, 0.0, 1.0, False)
    below = np.cumsum(weight)[:-1]
    moment = np.cumsum(weight * centres)[:-1]
    between = np.zeros_like(below)
    proper = (below > 0) & (below < 1)
    between[proper] = (mean * below - moment)[proper] ** 2 / (below * (1 - below))[proper]
    best = np.flatnonzero(between >= between.max() * (1 - 1e-12))
    split = int(best[(len(best) - 1) // 2])  # the middle of an empty valley
    separability = float(between[split] / variance)
    distance = _ashman_d(weight, centres, split)
    valley = _valley(counts, split)
    bimodal = distance > MIN_ASHMAN_D and valley < MAX_VALLEY
    return Bimodality(float(edges[split + 1]), separability, distance, valley, bimodal)


def _ashman_d(weight: np.ndarray, centres: np.ndarray, split: int) -> float:
    """Ashman's D of two normal components: hard halves of even one normal population would reach 2.6."""
    width = centres[1] - centres[0]
    member = np.zeros((2, len(centres)))
    member[0, : split + 1] = member[1, split + 1 :] = 1
    for _ in range(EM_ITERATIONS):
        mass = np.maximum(member @ weight, 1e-12)
        mean = member @ (weight * centres) / mass
        spread = [float(member[k] @ (weight * (centres - mean[k]) ** 2) / mass[k]) for k in range(2)]
        sigma = np.sqrt(np.array(spread) + width**2 / 12)
        log_density = np.log(mass / sigma)[:, None] - 0.5 * ((centres - mean[:, None]) / sigma[:, None]) ** 2
        log_density -= log_density.max(axis=0)
        member = np.exp(log_density)
        member /= member.sum(axis=0)
    return float(np.sqrt(2) * abs(mean[0] - mean[1]) / np.sqrt(np.sum(sigma**2)))


def _valley(counts: np.ndarray, split: int) -> float:
    smooth = ndimage.gaussian_filter1d(counts.astype(np.float64), 0.015 * len(counts), mode="nearest")
    left = int(np.argmax(smooth[: split + 1]))
    right = split + 1 + int(np.argmax(smooth[split + 1 :]))
    lower_peak = min(smooth[left], smooth[right])
    return float(smooth[left : right + 1].min() / lower_peak) if lower_peak > 0 else 1.0
