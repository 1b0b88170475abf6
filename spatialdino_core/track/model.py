"""What the movie itself says about linking: spread of steps and brightness, births and deaths.

A link of two objects is judged by its likelihood against that of the alternative, that one vanished and
the other is new. The gain of a link is the logarithm of this ratio.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

Array = NDArray[np.float64]
DEGREES = 4.0
"""Degrees of freedom of Student's t: heavier tails than a Gaussian, since particles of one movie move
differently (Lange, Little & Taylor, J. Am. Stat. Assoc. 84, 881, 1989)."""
MAD_OF_T4 = 0.7407
"""Median absolute deviation of Student's t with 4 degrees of freedom and scale 1."""
SMALLEST_SCALE_UM = 0.005
FEWEST_LINKS = 8


@dataclass(frozen=True, kw_only=True)
class LinkModel:
    """Likelihoods of steps, brightness and identity.

    Attributes
    ----------
    scale_um
        Scale of steps between neighbouring frames along (z, y, x), localisation error included.
    log_ratio_scale
        Scale of the change of the logarithm of brightness from frame to frame.
    log_brightness_mean, log_brightness_std
        Of all objects: the brightness of a new one.
    vanish
        Probability that an object has no successor in the next frame.
    births_per_um3
        New objects per frame and µm³, false detections included.
    """

    scale_um: tuple[float, float, float]
    log_ratio_scale: float
    log_brightness_mean: float
    log_brightness_std: float
    vanish: float
    births_per_um3: float

    def link_cost(
        self, steps_um: Array, log_ratios: Array, frames: NDArray[Any] | int, weight: float
    ) -> Array:
        """Negative log-likelihood of links.

        Parameters
        ----------
        steps_um
            (N, 3) displacements along (z, y, x).
        log_ratios
            (N,) changes of log-brightness.
        frames
            Frames between the two objects; the scale of a Brownian step grows with their square root,
            and each frame in between costs the probability of having been missed.
        weight
            Of brightness.
        """
        growth = np.sqrt(np.asarray(frames, float))[..., None]
        scale = np.array(self.scale_um) * growth
        position = log_student(steps_um / scale) - np.log(scale).sum(-1)
        missed = (np.asarray(frames) - 1) * np.log(self.vanish)
        return np.asarray(-(position + weight * self.log_change(log_ratios) + missed))

    def log_change(self, log_ratios: Array) -> Array:
        """Log-density of changes of log-brightness of one particle, (N,)."""
        return log_student(log_ratios[:, None] / self.log_ratio_scale) - np.log(self.log_ratio_scale)

    def log_newcomer(self, log_brightness: Array) -> Array:
        """Log-density of the log-brightness of a particle that was not there before, (N,)."""
        deviation = (log_brightness - self.log_brightness_mean) / self.log_brightness_std
        return np.asarray(-0.5 * deviation**2 - np.log(self.log_brightness_std * np.sqrt(2 * np.pi)))

    def gain(self, cost: Array, log_brightness: Array, weight: float) -> Array:
        """Log-likelihood ratio of links against "one vanished, the other is new".

        Parameters
        ----------
        cost
            (N,) costs of the links.
        log_brightness
            (N,) of the later object.
        """
        new = np.log(self.vanish) + np.log(self.births_per_um3) + weight * self.log_newcomer(log_brightness)
        return np.asarray(-cost - new)


def log_student(standardised: Array) -> Array:
    """Log-density of the multivariate Student t of scale 1, for vectors along the last axis."""
    k = standardised.shape[-1]
    constant = gammaln((DEGREES + k) / 2) - gammaln(DEGREES / 2) - k / 2 * np.log(DEGREES * np.pi)
    squares = (standardised**2).sum(-1)
    return np.asarray(constant - (DEGREES + k) / 2 * np.log1p(squares / DEGREES))


def first_model(
    positions_um: Array, log_brightness: Array, frames: int, max_displacement_um: float
) -> LinkModel:
    """Model before anything was linked: broad, from the density of objects alone."""
    if len(log_brightness) == 0:
        log_brightness = np.zeros(1)
    return LinkModel(
        scale_um=(max_displacement_um / 4,) * 3,
        log_ratio_scale=0.3,
        log_brightness_mean=float(np.median(log_brightness)),
        log_brightness_std=max(float(log_brightness.std()), 0.1),
        vanish=0.1,
        births_per_um3=0.1 * max(len(positions_um), 1) / (max(frames, 1) * volume_um3(positions_um)),
    )


def updated_model(
    model: LinkModel,
    steps_um: Array,
    log_ratios: Array,
    *,
    endings: float,
    objects: int,
    frames: int,
    volume: float,
) -> LinkModel:
    """Model after a round of linking.

    Parameters
    ----------
    steps_um, log_ratios
        Of all links of the round.
    endings
        Objects, in all frames but the last, that were not linked to a successor.
    objects
        Objects in all frames but the last.
    frames
        Number of pairs of neighbouring frames.
    volume
        Imaged volume, µm³.
    """
    if len(steps_um) < FEWEST_LINKS:
        return model
    spread = np.median(np.abs(steps_um), axis=0) / MAD_OF_T4
    lateral = float(np.sqrt((spread[1] ** 2 + spread[2] ** 2) / 2))
    change = float(np.median(np.abs(log_ratios - np.median(log_ratios))) / MAD_OF_T4)
    return LinkModel(
        scale_um=(max(float(spread[0]), SMALLEST_SCALE_UM), *(max(lateral, SMALLEST_SCALE_UM),) * 2),
        log_ratio_scale=max(change, 0.02),
        log_brightness_mean=model.log_brightness_mean,
        log_brightness_std=model.log_brightness_std,
        vanish=float(np.clip(endings / max(objects, 1), 0.01, 0.5)),
        births_per_um3=max(endings, 1.0) / (max(frames, 1) * volume),
    )


def volume_um3(positions_um: Array) -> float:
    """Volume of the box that holds all positions, µm³; flat sides count as 1 µm."""
    return float(np.maximum(np.ptp(positions_um, axis=0), 1.0).prod()) if len(positions_um) else 1.0
