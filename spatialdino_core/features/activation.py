"""Activation: one number per patch, the sum of all its features and of what the class token pays it.

After SpatialDINO, which sums the features and the attention of each head. Sign and contrast of such a sum
are accidents of the weights: the features of a token that leaves a layer norm add up to a constant, but for
the gains that the norm was trained to. So it is turned to rise with the brightness of the calibration
frames, and measured for bimodality before anyone builds on it. Attention enters times the number of
patches, or it would count for less the larger the window.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic.dataclasses import dataclass
from scipy.stats import spearmanr
from skimage.filters import threshold_otsu
from sklearn.mixture import GaussianMixture

from spatialdino_core.features.windows import Encoded
from spatialdino_core.statistics import MAD_TO_SIGMA

ROUNDING = 1e-4  # of a sum of features: patches that differ by less are alike
LARGEST = 1000.0  # fits float16, and nothing beyond it means more


def summed_features(encoded: Encoded) -> NDArray[np.float32]:
    """Sum over features and attention heads, (gz, gy, gx) float32: activation before it is oriented."""
    return np.asarray(encoded.tokens.sum(0) + encoded.attention.sum(0), dtype=np.float32)


@dataclass(frozen=True, kw_only=True)
class Activation:
    """How sums become activations, and activations the probability of foreground, in one movie.

    Attributes
    ----------
    sign
        1 or −1: whether sums rise or fall with brightness; 0 where they say nothing.
    centre, spread
        Median and robust standard deviation of the dim patches: activation is 0 and ± 1 there.
    means, variances, weights
        Background and foreground Gaussian of the activations, in this order.
    """

    sign: int
    centre: float
    spread: float
    means: list[float]
    variances: list[float]
    weights: list[float]

    def of(self, sums: NDArray[Any]) -> NDArray[np.float32]:
        """Activations of sums, float32 within ± 1000, same shape."""
        scaled = (sums - self.centre) * (self.sign / self.spread)
        return np.clip(scaled, -LARGEST, LARGEST).astype(np.float32)

    def log_odds(self, activations: NDArray[Any]) -> NDArray[np.float64]:
        """Logarithm of p / (1 − p), p being the posterior of the foreground Gaussian.

        Between the two means only: beyond them the wider Gaussian would claim the far side of the narrower.
        """
        if self.sign == 0:
            return np.full(activations.shape, -np.inf)
        values = np.clip(activations.astype(np.float64), self.means[0], self.means[1])
        background, foreground = (
            np.log(weight) - (values - mean) ** 2 / (2 * variance) - np.log(variance) / 2
            for mean, variance, weight in zip(self.means, self.variances, self.weights, strict=True)
        )
        return np.asarray(foreground - background)


def fit_activation(sums: NDArray[Any], content: NDArray[Any], dim: NDArray[np.bool_]) -> Activation:
    """Orient the sums of the patches of the calibration frames and part them in two.

    Parameters
    ----------
    sums
        (N,) from `summed_features`.
    content
        (N,) how bright each patch is; only the order counts (Spearman's correlation).
    dim
        (N,) which of them are surely background.
    """
    correlation = spearmanr(sums, content).statistic if np.ptp(sums) > 0 and np.ptp(content) > 0 else 0.0
    centre = float(np.median(sums[dim]))
    spread = max(MAD_TO_SIGMA * float(np.median(np.abs(sums[dim] - centre))), ROUNDING * max(abs(centre), 1))
    sign = int(np.sign(correlation))
    means, variances, weights = two_gaussians(sign * (sums.astype(np.float64) - centre) / spread)
    return Activation(
        sign=sign, centre=centre, spread=spread, means=means, variances=variances, weights=weights
    )


def separation(values: NDArray[np.float64]) -> float:
    """Ashman's D = √2 |μ₁ − μ₂| / √(σ₁² + σ₂²) of two Gaussians fitted to the values.

    Below 2 they are not bimodal (Ashman, Bird & Zepf, Astron. J. 108, 2348, 1994).
    """
    means, variances, _ = two_gaussians(values)
    return float(np.sqrt(2) * (means[1] - means[0]) / np.sqrt(sum(variances)))


def two_gaussians(values: NDArray[np.float64]) -> tuple[list[float], list[float], list[float]]:
    """Means, variances and weights, lower component first; started from Otsu's division.

    Values without spread are one Gaussian, and another of no weight in the same place.
    """
    if np.ptp(values) < 1e-9:
        centre = float(values.mean())
        return [centre, centre], [1.0, 1.0], [1 - 1e-6, 1e-6]
    cut = threshold_otsu(values)
    start = np.array([[values[values <= cut].mean()], [values[values > cut].mean()]])
    mixture = GaussianMixture(2, means_init=start, reg_covar=1e-4, random_state=0).fit(values[:, None])
    order = np.argsort(mixture.means_[:, 0])
    variances = mixture.covariances_[order, 0, 0]
    return mixture.means_[order, 0].tolist(), variances.tolist(), mixture.weights_[order].tolist()
