"""Weights of the mean frames in the image that positions are fitted in: where particles are now.

Frames around the one that is segmented lower noise and subtract texture that stands still, and particles are
elsewhere in them. Detection forgives that, a position does not. Not the fit: that is :mod:`.localise`.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import brentq

from spatialdino_core.segment.detect.observer import SINGLE_FRAME, Observer, TimeGroups

FIT_LOSS = 3.0
"""Variance of a fitted position relative to the 2 σ² / z² of a matched filter in white noise, measured on
simulated movies: the background is fitted, too, and noise is correlated."""


def localisation_weights(
    observer: Observer, groups: TimeGroups, z_score: float, sigma_um: np.ndarray
) -> np.ndarray:
    """Weights of the groups' mean frames in the image that gives the best positions.

    They are Σ⁻¹κ, the best linear estimate of a small shift of the particle in the frame itself. With ν the
    correlation of the background's responses, r_a = d² / 2σ_a² from the mean squared displacement d² per
    frame along each axis a, and all in units of 2σ_a²,

        κ_a(l) = Π_b (1 + r_b |l|)^(−1/2) / (1 + r_a |l|)
        Σ_a(l, m) = FIT_LOSS · ν(l − m) / z² + [l m > 0] r_a min(|l|, |m|) g_a(l) g_a(m)
        g_a(l)² = Π_b (1 + 2 r_b |l|)^(−1/2) / (1 + 2 r_a |l|)

    are how the slope of a Gaussian's response fades when particles move by a random walk, and the variance
    of what noise and that movement add to it. Axes count as σ_a², so that errors are least in µm.

    Parameters
    ----------
    observer
        Of the movie.
    groups
        The frames, the one that is segmented first.
    z_score
        Typical z-score of detections with all groups.
    sigma_um
        Shape (3,): standard deviations of the point spread function.

    Returns
    -------
    numpy.ndarray
        Shape (groups,); particles have the height in the sum that they have in the frame itself on average.
    """
    if len(groups.lags) == 1:
        return np.ones(1)
    lags = np.concatenate(groups.lags)
    far = np.abs(lags)
    alone = observer.weights(SINGLE_FRAME)[0, 0]
    noise = np.einsum("c,lcd,d->l", alone, observer.covariance, alone)
    noise = noise / noise[0] * FIT_LOSS / (z_score * observer.relative_detectability(groups)) ** 2
    together = np.where(np.multiply.outer(lags, lags) > 0, np.minimum.outer(far, far), 0)
    rate = _rates(float(observer.persistence[1]), sigma_um)
    left, error = np.zeros(len(lags)), noise[np.minimum(np.abs(lags[:, None] - lags), len(noise) - 1)]
    for one, share in zip(rate, sigma_um**2 / np.sum(sigma_um**2), strict=True):
        left += share * _fading(rate, far) / (1 + one * far)
        slope = np.sqrt(_fading(2 * rate, far) / (1 + 2 * one * far))
        error = error + share * one * together * np.multiply.outer(slope, slope)
    mean = np.array([np.isin(lags, group) / len(group) for group in groups.lags])
    found = np.linalg.solve(mean @ error @ mean.T, mean @ left)
    return np.asarray(found / (found @ observer.group_persistence(groups)))


def _fading(rate: np.ndarray, far: np.ndarray) -> np.ndarray:
    """Response left after ``far`` frames, as :func:`..detect.observer.persistence`, with a rate per axis."""
    return np.asarray(np.prod((1 + np.multiply.outer(rate, far)) ** -0.5, axis=0))


def _rates(persistence: float, sigma_um: np.ndarray) -> np.ndarray:
    """d² / 2σ² along each axis, for movement that is alike along all."""
    one = 2 * sigma_um**2
    most = float(one.max() * (persistence ** (-2 / 3) - 1))
    squared = brentq(lambda d2: np.prod(1 + d2 / one) - persistence**-2, 0, most) if most > 0 else 0.0
    return np.asarray(squared / one)
