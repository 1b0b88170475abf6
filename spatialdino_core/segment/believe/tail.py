"""How many maxima noise makes above a z-score: the tail of noise, which follows from data.

Pure statistics of one-dimensional samples; which samples are drawn from a movie is the business of
:mod:`.survey`.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from pydantic.dataclasses import dataclass
from scipy.optimize import brentq

TAIL_SAMPLES = 400
"""Most significant null maxima that shape the tail."""
UNCENSORED = 0.9
SKEW_BAND = (0.3, 0.9)
"""Quantiles of the dark maxima between which bright maxima are counted against them: noise dominates there,
and its skewness shows."""
MIN_SKEW_MAXIMA = 1000
MIN_SKEW_Z = 2.0
"""Below about this z-score skewness takes maxima away rather than adding some."""
MAX_SKEW = 0.2
MODERATE_BAND = (0.6, 0.93)
"""Quantiles of the bright maxima that are taken for noise; few movies have more particles."""
MAX_DECAY = 30.0
MAX_Z = 40.0


@dataclass(frozen=True)
class NoiseTail:
    """Expected number of bright noise maxima per frame above a z-score.

    ``rate(u) = rate_per_frame · exp(−(u² − start_z²) / decay) · exp(skew · (u³ − 3u) / 3)``: the tail of
    maxima of a Gaussian field is dominated by exp(−u²/2) (Adler 1981, The Geometry of Random Fields), heavier
    tails show as ``decay`` above 2, and the last factor is the first Edgeworth term, a Hermite polynomial, of
    skewed, e.g. photon, noise.

    Attributes
    ----------
    start_z, rate_per_frame, decay
        Where the fitted tail of the dark maxima begins, how many lie above, and its decay in z².
    skew
        Measured from the excess of bright over dark maxima of moderate significance.
    skew_error
        Standard deviation of ``skew``.
    maxima
        Dark maxima seen, all frames together.
    """

    start_z: float
    rate_per_frame: float
    decay: float
    skew: float
    skew_error: float
    maxima: int

    def rate(self, z_score: float) -> float:
        """Expected bright noise maxima per frame above ``z_score``."""
        return self.rate_per_frame * float(np.exp(self._log_decline(np.array(z_score))))

    def relative_error(self, z_score: np.ndarray) -> np.ndarray:
        """Standard deviation of the rate above ``z_score``, relative to it: few maxima were seen."""
        beyond = (z_score**2 - self.start_z**2) / self.decay
        counted = (1 + beyond**2) / _tail_samples(self.maxima)
        return np.sqrt(counted + (self.skew_error * _skewed(z_score)) ** 2)

    def threshold(self, rate_per_frame: float) -> float:
        """Z-score above which noise makes ``rate_per_frame`` maxima per frame; at least ``start_z``."""
        grid = np.arange(self.start_z, max(MAX_Z, self.start_z + 1), 0.005)
        enough = np.log(rate_per_frame / self.rate_per_frame) if self.rate_per_frame > 0 else np.inf
        below = np.flatnonzero(self._log_decline(grid) <= enough)
        return float(grid[below[0]] if below.size else grid[-1])

    def _log_decline(self, z_score: np.ndarray) -> np.ndarray:
        """The cubic term would win far out, where the expansion no longer holds: there it is kept."""
        turn = 2 / (self.decay * self.skew) if self.skew > 0 else np.inf
        known = np.minimum(z_score, max(turn, self.start_z))
        return -(z_score**2 - self.start_z**2) / self.decay + self.skew * _skewed(known)


def _skewed(z_score: np.ndarray) -> np.ndarray:
    return (z_score**3 - 3 * z_score) / 3


def noise_tail(dark: np.ndarray, bright: np.ndarray, frames: float, dark_frames: float) -> NoiseTail:
    """Fit the tail of noise to local maxima.

    Parameters
    ----------
    dark
        Z-scores of the maxima of the negative response, which contains noise and no particles, shape (n,).
    bright
        Z-scores of the maxima of the response, shape (m,); only those of moderate size are used.
    frames, dark_frames
        Number of frames that either were collected from; not whole where only a part of each was looked at.

    Returns
    -------
    NoiseTail
        Exponential tail of z² above the :data:`TAIL_SAMPLES`-th largest value (at most a quarter of the
        sample), which extrapolates to rates below one maximum in all frames. Its decay is the likeliest
        with the most significant tenth censored: a few dark maxima are not noise but lie beside bright
        particles.
    """
    if len(dark) == 0:
        return NoiseTail(0.0, rate_per_frame=0.0, decay=2.0, skew=0.0, skew_error=0.0, maxima=0)
    ordered = np.sort(dark)[::-1]
    count = _tail_samples(len(ordered))
    start = float(ordered[count]) if len(ordered) > count else 0.0
    excess = ordered[:count] ** 2 - start**2
    kept = np.sort(excess)[: max(1, round(UNCENSORED * count))]
    likeliest = (kept.sum() + (count - len(kept)) * kept[-1]) / len(kept)
    decay = float(max(likeliest, 2.0 if count < 30 else 1.0))
    skew, error = _skew(dark, bright, dark_frames / frames)
    return NoiseTail(start, count / dark_frames, decay, skew, error, len(dark))


def continued_tail(tail: NoiseTail, bright: np.ndarray, frames: float) -> NoiseTail:
    """The tail, not lighter than bright maxima of moderate significance let expect.

    Nearly all of them are noise, and their decay goes on (the empirical null of Efron 2004, J. Am. Stat.
    Assoc. 99, 96). It knows of noise that dark maxima lack: bright texture, and the skewness of few photons.

    Parameters
    ----------
    tail
        Of the dark maxima.
    bright
        Z-scores of the maxima of the response, shape (m,).
    frames
        Number of frames they were collected from.
    """
    if len(bright) < MIN_SKEW_MAXIMA:
        return tail
    low, high = np.quantile(bright, MODERATE_BAND) ** 2
    excess = bright[(bright**2 >= low) & (bright**2 < high)] ** 2 - low
    span = float(high - low)

    def surplus(decay: float) -> float:
        """Mean of an exponential distribution cut off at ``span``, minus the one observed."""
        return decay - span / np.expm1(min(span / decay, 500.0)) - float(excess.mean())

    if surplus(MAX_DECAY) <= 0:
        return tail
    decay = float(brentq(surplus, 0.1, MAX_DECAY))
    above = len(excess) / -np.expm1(-span / decay) / frames
    rate = float(above * np.exp(-(tail.start_z**2 - low) / decay))
    return replace(tail, rate_per_frame=max(rate, tail.rate_per_frame), decay=max(decay, tail.decay))


def _tail_samples(maxima: int) -> int:
    return min(TAIL_SAMPLES, max(1, maxima // 4))


def _skew(dark: np.ndarray, bright: np.ndarray, share: float) -> tuple[float, float]:
    """Skew and its standard deviation; zeros where there are too few maxima to tell."""
    low, high = np.quantile(dark, SKEW_BAND)
    low = max(low, MIN_SKEW_Z)
    moderate = dark[(dark >= low) & (dark < high)]
    brighter = np.sum((bright >= low) & (bright < high))
    if brighter == 0 or len(moderate) < MIN_SKEW_MAXIMA:
        return 0.0, 0.0
    excess = np.log(brighter * share / len(moderate))
    error = np.sqrt(1 / brighter + 1 / len(moderate))
    per_excess = 1 / np.mean(_skewed(moderate))
    return float(np.clip(per_excess * excess, 0.0, MAX_SKEW)), float(per_excess * error)
