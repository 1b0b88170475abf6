"""Foreground probability from densities: how much likelier a patch's features are where a movie is bright.

Pseudo-labels say which patches of the calibration frames are surely bright and which surely dim
(`foreground.py`); a ratio of kernel density estimates of the principal components of the two says of any
patch which of them it is like. Components are first made uncorrelated within the two classes, so that
one-dimensional densities may be multiplied (naive Bayes; Hastie et al., The Elements of Statistical
Learning, 6.6.3):

    z = W (c − m),  S = Σ_k log f₁ₖ(z_k) / f₀ₖ(z_k),  log r = a S + b,  p = π r / (π r + 1 − π)

f are Gaussian kernel estimates with Silverman's bandwidth on a grid; a and b (Platt, 1999), fitted to sums
S of patches that the densities have not seen, undo what is left of the dependence between components; π is
the share of foreground that makes all patches most likely (Saerens et al., Neural Comput. 14, 21, 2002). So
half of a crowded movie may be foreground, though only the brightest patches were labelled.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic.dataclasses import dataclass
from scipy.ndimage import gaussian_filter1d
from sklearn.linear_model import LogisticRegression

Floats = NDArray[np.float64]

BINS = 256
FLOOR = 1e-3  # share of the other class mixed into each density: no patch is surer than 1000 to 1 by one axis
PRIOR_STEPS = 200
LEAST_PRIOR, MOST_PRIOR = 1e-4, 0.9


@dataclass(frozen=True, kw_only=True)
class DensityRatio:
    """A fitted ratio; plain lists, so that JSON can hold it.

    Attributes
    ----------
    mean, whitening
        m (K,) and W (K, K) of the module's formula.
    low, high
        (K,) ends of the grid of each axis, whose 256 log ratios are a row of ``log_ratio`` (K, 256).
    slope, offset, prior
        a, b and π.
    """

    mean: list[float]
    whitening: list[list[float]]
    low: list[float]
    high: list[float]
    log_ratio: list[list[float]]
    slope: float = 1.0
    offset: float = 0.0
    prior: float = 0.5

    def log_odds(self, patches: NDArray[Any]) -> Floats:
        """(N,) logarithm of p / (1 − p) of patches (N, K)."""
        ratio = self.slope * self.summed(patches) + self.offset
        return np.asarray(ratio + np.log(self.prior / (1 - self.prior)))

    def summed(self, patches: NDArray[Any]) -> Floats:
        """(N,) S of patches (N, K)."""
        axes = (patches - np.array(self.mean)) @ np.array(self.whitening).T
        total = np.zeros(len(axes))
        for values, low, high, table in zip(axes.T, self.low, self.high, self.log_ratio, strict=True):
            total += np.interp(values, np.linspace(low, high, BINS), table)
        return total


def fit_ratio(patches: Floats, bright: NDArray[np.bool_], dim: NDArray[np.bool_]) -> DensityRatio:
    """Densities alone, of patches (N, K) that are labelled bright, dim or neither; not calibrated."""
    classes = [patches[dim], patches[bright]]
    within = np.concatenate([each - each.mean(axis=0) for each in classes])
    mean, whitening = classes[0].mean(axis=0), _whitening(within)
    axes = [(each - mean) @ whitening.T for each in classes]
    tables = [
        _log_ratio(dim_axis, bright_axis) for dim_axis, bright_axis in zip(*(a.T for a in axes), strict=True)
    ]
    return DensityRatio(
        mean=mean.tolist(),
        whitening=whitening.tolist(),
        low=[low for low, _, _ in tables],
        high=[high for _, high, _ in tables],
        log_ratio=[table.tolist() for _, _, table in tables],
    )


def calibration(sums: Floats, bright: NDArray[np.bool_], dim: NDArray[np.bool_]) -> dict[str, float]:
    """a, b and π from sums of patches, each by densities that were fitted without it.

    A ratio that does not rise with the brightness of the patches is no evidence: then a is 0.
    """
    labelled = bright | dim
    regression = LogisticRegression(C=1e3, class_weight="balanced")
    regression.fit(sums[labelled, None], bright[labelled])
    slope, offset = float(regression.coef_[0, 0]), float(regression.intercept_[0])
    if slope <= 0:
        slope = offset = 0.0
    return {"slope": slope, "offset": offset, "prior": _prior(slope * sums + offset)}


def _prior(log_ratio: Floats) -> float:
    """Most likely share of foreground (expectation maximisation)."""
    ratio, prior = np.exp(np.clip(log_ratio, -50, 50)), 0.1
    for _ in range(PRIOR_STEPS):
        prior = float(np.clip((prior * ratio / (prior * ratio + 1 - prior)).mean(), LEAST_PRIOR, MOST_PRIOR))
    return prior


def _whitening(within: Floats) -> Floats:
    """Symmetric W with W C W = 1 for the covariance C of ``within``; axes without spread stay 0."""
    values, vectors = np.linalg.eigh(np.cov(within, rowvar=False).reshape(within.shape[1], -1))
    floor = max(float(values[-1]) * 1e-10, 1e-20)
    scale = np.where(values > floor, 1 / np.sqrt(np.maximum(values, floor)), 0)
    return np.asarray((vectors * scale) @ vectors.T)


def _log_ratio(dim: Floats, bright: Floats) -> tuple[float, float, Floats]:
    """Grid of one axis, and the logarithm of bright over dim on it."""
    widths = [_bandwidth(dim), _bandwidth(bright)]
    low = min(dim.min() - 3 * widths[0], bright.min() - 3 * widths[1])
    high = max(dim.max() + 3 * widths[0], bright.max() + 3 * widths[1])
    zero, one = (_density(each, width, low, high) for each, width in zip((dim, bright), widths, strict=True))
    return low, high, np.log((one + FLOOR * zero + 1e-12) / (zero + FLOOR * one + 1e-12))


def _bandwidth(values: Floats) -> float:
    """Silverman's rule of thumb (1986), 0.9 min(σ, IQR / 1.34) n^(−1/5)."""
    quartiles = np.percentile(values, [25, 75])
    spread = min(float(values.std()), float(quartiles[1] - quartiles[0]) / 1.34) or float(values.std())
    return 0.9 * max(spread, 1e-6) * len(values) ** -0.2


def _density(values: Floats, width: float, low: float, high: float) -> Floats:
    """Binned kernel density estimate (Wand, J. Comput. Graph. Stat. 3, 433, 1994) at ``BINS`` points."""
    step = (high - low) / (BINS - 1)
    counts = np.histogram(values, BINS, (low - step / 2, high + step / 2))[0]
    smooth = gaussian_filter1d(counts.astype(np.float64), width / step, mode="constant", truncate=6)
    return np.asarray(smooth / (len(values) * step))
