"""From features to foreground without a label: how unusual a patch is for its movie's background.

Fluorescence is bright: the dimmer half of a movie's patches shows background. Activation is the distance of
a patch from them, in feature space and in units of their own spread; two Gaussians say how probable it is
that a patch is not one of them. They are fitted to activation to the power 2/3: the cube root of a mean of
squares is nearly Gaussian for Gaussian background (Wilson & Hilferty, PNAS 17, 684, 1931), so that its
skewness is not taken for foreground.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from skimage.filters import threshold_otsu
from sklearn.mixture import GaussianMixture

MAD_TO_STD = 1.4826
FEWEST_PATCHES = 32
POWER = 2 / 3


@dataclass(frozen=True, kw_only=True)
class ForegroundModel:
    """Background spread and foreground mixture of one movie.

    Attributes
    ----------
    median, spread
        Per principal component: centre and robust standard deviation of the background.
    means, variances, weights
        Background and foreground Gaussian on activation to the power 2/3, in this order.
    separation
        Ashman's D of the two; below 2 the activation is not bimodal and the foreground
        probability says little.
    """

    median: list[float]
    spread: list[float]
    means: list[float]
    variances: list[float]
    weights: list[float]
    separation: float

    def as_json(self) -> dict[str, Any]:
        """JSON-able form."""
        return asdict(self)


def fit_foreground(patches: np.ndarray, brightness: np.ndarray) -> ForegroundModel:
    """Fit the model to the patches of the calibration frames.

    Parameters
    ----------
    patches
        (N, K) principal components of valid patches.
    brightness
        (N,) their mean intensity, in any unit.

    Returns
    -------
    ForegroundModel
        Separation after Ashman, Bird & Zepf (1994).
    """
    dim = patches[brightness <= np.median(brightness)]
    median = np.median(dim, axis=0)
    spread = np.maximum(MAD_TO_STD * np.median(np.abs(dim - median), axis=0), 1e-6)
    means, variances, weights = _two_gaussians(_distance(patches, median, spread) ** POWER)
    separation = np.sqrt(2) * (means[1] - means[0]) / np.sqrt(variances.sum())
    return ForegroundModel(
        median=median.tolist(),
        spread=spread.tolist(),
        means=means.tolist(),
        variances=variances.tolist(),
        weights=weights.tolist(),
        separation=float(separation),
    )


def _two_gaussians(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Means, variances and weights, lower component first; started from Otsu's division."""
    if len(values) < FEWEST_PATCHES or np.ptp(values) < 1e-9:
        centre, width = values.mean(), max(values.var(), 1e-6)
        return (
            np.array([centre, centre + 6 * width**0.5]),
            np.array([width, width]),
            np.array([1 - 1e-6, 1e-6]),
        )
    cut = threshold_otsu(values)
    start = np.array([[values[values <= cut].mean()], [values[values > cut].mean()]])
    mixture = GaussianMixture(2, means_init=start, reg_covar=1e-4, random_state=0).fit(values[:, None])
    order = np.argsort(mixture.means_[:, 0])
    return mixture.means_[order, 0], mixture.covariances_[order, 0, 0], mixture.weights_[order]


def activation(components: np.ndarray, model: ForegroundModel) -> np.ndarray:
    """Activation of every patch.

    Parameters
    ----------
    components
        (K, gz, gy, gx) principal components.

    Returns
    -------
    numpy.ndarray
        (gz, gy, gx) float32: root mean square, over components, of the deviation from the
        background's median in units of its spread. About 1 in background.
    """
    patches = components.reshape(len(components), -1).T
    distance = _distance(patches, np.array(model.median), np.array(model.spread))
    return distance.reshape(components.shape[1:]).astype(np.float32)


def probability(activations: np.ndarray, model: ForegroundModel) -> np.ndarray:
    """Posterior probability of foreground, float32, same shape as ``activations``.

    Below the background's mean the probability is held at its value there: the wider of two
    Gaussians would otherwise claim the far side of the narrower one.
    """
    values = np.maximum(activations**POWER, model.means[0])
    density = [
        weight * np.exp(-((values - mean) ** 2) / (2 * variance)) / np.sqrt(variance)
        for mean, variance, weight in zip(model.means, model.variances, model.weights, strict=True)
    ]
    beyond = values >= model.means[1]
    result = density[1] / np.maximum(density[0] + density[1], 1e-30)
    return np.where(beyond, np.maximum(result, 0.5), result).astype(np.float32)


def _distance(patches: np.ndarray, median: np.ndarray, spread: np.ndarray) -> np.ndarray:
    return np.sqrt((((patches - median) / spread) ** 2).mean(axis=1))
