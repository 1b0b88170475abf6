"""Motion of the whole sample between two frames: a rigid shift in the plane of the raw images.

Not the motion of particles. Movement along the scan, across the image planes, is not seen here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, median_filter
from scipy.signal.windows import tukey
from skimage.registration import phase_cross_correlation

HOT_PIXEL_WINDOW = 3
DETAIL_PIXELS = 8.0  # slower variation is left out: illumination and the border of a cell
TAPERED_FRACTION = 0.25
STEPS_PER_PIXEL = 20
LEAST_CORRELATION = 0.3
LARGEST_SHIFT = 1 / 3  # of the image; beyond, too little is left to be told from chance

Image = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Shift:
    """Rigid displacement of the sample from one image to another.

    Attributes
    ----------
    y_pixels, x_pixels
        Positive towards larger indices.
    correlation
        Of both images once the shift is undone, 0 to 1.
    """

    y_pixels: float
    x_pixels: float
    correlation: float

    def length_um(self, pixel_um: float) -> float:
        """Length of the displacement, µm."""
        return float(np.hypot(self.y_pixels, self.x_pixels)) * pixel_um


def motion_image(stack: NDArray[Any]) -> Image:
    """What the motion of a frame is read from: its mean along the scan, prepared once.

    The mean, unlike the maximum, is not ruled by the noise and by hot pixels, which stay where they are
    when the sample moves; what is left of the latter goes by a median filter. Detail is kept, slow
    background is not, and the border fades to 0, since the Fourier transform takes images as periodic.

    Parameters
    ----------
    stack
        Raw stack (z, y, x).

    Returns
    -------
    numpy.ndarray
        float32 (y, x).
    """
    mean = median_filter(stack.mean(axis=0, dtype=np.float64), HOT_PIXEL_WINDOW, mode="nearest")
    detail = mean - gaussian_filter(mean, DETAIL_PIXELS, mode="nearest")
    y, x = (tukey(n, TAPERED_FRACTION) for n in detail.shape)
    window: Image = (detail * y[:, None] * x).astype(np.float32)
    return window


def rigid_shift(before: Image, after: Image) -> Shift | None:
    """Shift of the sample between two motion images, by the peak of their cross-correlation.

    The peak is found to 1/20 pixel by a matrix-multiplication Fourier transform [1]_. The correlation is
    not normalised to phases alone: that would give each frequency, most of which hold only noise, the
    same weight.

    Parameters
    ----------
    before, after
        From `motion_image`, of the same shape.

    Returns
    -------
    Shift or None
        ``None`` if the images have too little in common to say (a correlation below 0.3, or a shift by more
        than a third of the image): too dim, or changed beyond recognition. A handful of particles may
        still match by chance.

    References
    ----------
    .. [1] Guizar-Sicairos, Thurman & Fienup, Optics Letters 33, 156 (2008).
    """
    if not before.any() or not after.any():
        return None
    back, error, _ = phase_cross_correlation(
        before, after, upsample_factor=STEPS_PER_PIXEL, normalization=None
    )
    correlation = float(np.sqrt(max(1 - error**2, 0.0)))
    too_far = any(abs(step) > LARGEST_SHIFT * n for step, n in zip(back, before.shape, strict=True))
    if too_far or not correlation >= LEAST_CORRELATION:
        return None
    return Shift(y_pixels=float(-back[0]), x_pixels=float(-back[1]), correlation=correlation)
