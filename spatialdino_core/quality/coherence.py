"""Whether there is more than noise in a movie: spots that are bright in neighbouring planes at once.

The light of a particle reaches several planes, noise is new in each. So the matched filter of a point (Turin
1960, IRE Transactions on Information Theory 6, 311) is applied to the stack and, for comparison, to the same
planes in other orders, in which neighbours are too far apart to show the same particle. These tell how noise
behaves in this very movie, whatever its law and its fixed pattern. No threshold in counts, and no model of
the camera. Not the detection of particles: that is the business of the segment room.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, gaussian_filter1d, maximum_filter
from scipy.stats import binom, poisson

from spatialdino_core.budget import LOOK_VOXELS
from spatialdino_core.geometry.scan import ScanGeometry
from spatialdino_core.optics import OpticsParameters
from spatialdino_core.statistics import MAD_TO_SIGMA

SURROUNDINGS = 2.5
"""Standard deviation of the mean that is subtracted in each plane, as a multiple of the point's."""
REACH, APART = 1.5, 3.0
"""Planes that the filter adds up, and those that share no particle, in axial standard deviations."""
WIDEST = 1.5
"""Distance of planes, in axial standard deviations, beyond which neighbours show too little of a particle."""
ORDERS, LEAST_TURNS = 3, 3
"""Other orders of planes, and how many times deeper than the distance that they bring together a stack is."""
BAND_PIXELS = 16
"""Of large frames `LOOK_VOXELS` are looked at: bands of so many rows, along the axis that is not tilted."""
GOLDEN = 0.618034
"""By this share of their distance bands lie further in the next frame: over frames no place is missed."""
LEVELS = (3.0, 3.5, 4.0, 4.5, *np.geomspace(5, 2000, 16).tolist())
"""Heights, in standard deviations of the noise, above which maxima are counted. A bright particle shows where
planes are far apart, too, but only half as high: between two and one times, there is a level."""
TAIL = 200
"""Highest maxima of noise that tell how fast it thins out."""
FAR = 0.01
"""Maxima that noise makes beyond all that can be its own,"""
HIGHER = 1.3
"""which are also so many times higher than any that it did make: some pixels are far noisier than others."""
ALL = 0.99
LEAST_P_VALUE = 1e-300


@dataclass(frozen=True)
class SpotMaxima:
    """Local maxima of the filtered frames above the lowest of `LEVELS`, in standard deviations of the noise.

    Attributes
    ----------
    together
        Shape (n,): where neighbouring planes are added up.
    apart
        Shape (m,): where planes are added up that share no particle, in several orders.
    mirrored
        Shape (k,): where neighbouring planes are added up as if the scan had gone the other way.
    share
        Of the voxels looked at those where neighbouring planes are added up.
    """

    together: NDArray[np.float32]
    apart: NDArray[np.float32]
    mirrored: NDArray[np.float32]
    share: float = 0.5


def spot_maxima(
    frame: int,
    stack: NDArray[Any],
    geometry: ScanGeometry,
    optics: OpticsParameters,
    no_data: NDArray[np.bool_] | None = None,
) -> SpotMaxima | None:
    """Maxima of a raw stack.

    Parameters
    ----------
    frame
        Its number.
    stack
        Camera counts (z, y, x).
    geometry
        How its planes lie.
    optics
        The point spread function.
    no_data
        Voxels (z, y, x) that hold no image.

    Returns
    -------
    SpotMaxima or None
        None where there are too few planes to have some that share no particle, or they lie too far apart to
        share any.
    """
    spacing = geometry.plane_spacing_um / optics.sigma_axial_um
    apart = max(2, math.ceil(APART / spacing))
    if spacing > WIDEST:
        return None
    steps = [step for step in range(apart, apart + ORDERS) if len(stack) >= LEAST_TURNS * step]
    if not steps:
        return None
    rows = _rows_to_look_at(frame, stack.shape, geometry.skew_dimension)
    flat = 3 - geometry.skew_dimension
    mask = None if no_data is None else np.take(no_data, rows, axis=flat)
    planes = _planes(np.take(stack, rows, axis=flat), mask, optics.sigma_lateral_um / geometry.pixel_um)
    shear = -geometry.shear_voxels if geometry.descending else geometry.shear_voxels
    noise, other, voxels = 0.0, [], 0

    def added_up(planes: NDArray[np.float32], shear: float) -> tuple[NDArray[np.float32], int]:
        """Zero where not all planes hold an image; and where they do, the number of voxels."""
        image = _added_up(planes, spacing, shear, geometry.skew_dimension)
        if mask is None:
            return image, image.size
        known = (planes != 0).astype(np.float32)
        seen = _added_up(known, spacing, shear, geometry.skew_dimension) > ALL
        return np.where(seen, image, 0), int(np.count_nonzero(seen))

    for step in steps:
        image, number = added_up(planes[_in_turns(len(planes), step)], shear)
        noise, voxels = noise or _spread(image), voxels + number
        if noise == 0:
            nothing = np.empty(0, np.float32)
            return SpotMaxima(nothing, nothing, nothing)
        other.append(_maxima(image, noise))
        del image  # one of the frame's size at a time
    image, number = added_up(planes, shear)
    near = _maxima(image, noise)
    mirrored = _maxima(added_up(planes, -shear)[0], noise)
    return SpotMaxima(near, np.concatenate(other), mirrored, number / (number + voxels))


def _in_turns(planes: int, step: int) -> NDArray[np.intp]:
    """An order in which neighbours are so many planes apart."""
    return np.concatenate([np.arange(first, planes, step) for first in range(step)])


def _spread(image: NDArray[np.float32]) -> float:
    """Robust standard deviation of what is not masked; 0 without any."""
    known = image[image != 0]
    return MAD_TO_SIGMA * float(np.median(np.abs(known))) if known.size else 0.0


def noise_p_value(frames: Sequence[SpotMaxima], *, mirrored: bool = False) -> float:
    """P-value of the hypothesis that frames hold noise alone; or that they do if scanned the other way.

    If they do, maxima of both kinds are equally frequent above every height: the smallest of the binomial
    tests of Poisson rates (Przyborowski & Wilenski 1940, Biometrika 31, 313), times their number
    (Bonferroni). Of few but bright spots there are not enough for that; a further test counts those that are
    higher than noise gets, if it thins out exponentially over its `TAIL` highest maxima, by their median, and
    beyond (Balkema & de Haan 1974, Annals of Probability 2, 792); normal noise thins out faster.

    Examples
    --------
    >>> noise = np.linspace(3, 5, 1000, dtype=np.float32)
    >>> noise_p_value([SpotMaxima(noise, noise, noise)])
    1.0
    >>> noise_p_value([SpotMaxima(np.append(noise, [20, 25, 30]).astype(np.float32), noise, noise)]) < 0.001
    True
    """
    together = np.sort(np.concatenate([one.mirrored if mirrored else one.together for one in frames]))
    apart = np.sort(np.concatenate([one.apart for one in frames]))
    above = [
        [len(some) - int(np.searchsorted(some, level)) for level in LEVELS] for some in (together, apart)
    ]
    share = float(np.mean([one.share for one in frames]))
    tests = [float(binom.sf(a - 1, a + b, share)) if a + b else 1.0 for a, b in zip(*above, strict=True)]
    tail = apart[-TAIL:]
    if len(tail):
        far = tail[0] + float(np.median(tail) - tail[0]) * math.log2(len(tail) * share / (1 - share) / FAR)
        far = max(far, HIGHER * tail[-1])
        tests.append(float(poisson.sf(len(together) - int(np.searchsorted(together, far)) - 1, FAR)))
    return max(min(1.0, min(tests) * len(tests)), LEAST_P_VALUE)


def _rows_to_look_at(frame: int, shape: tuple[int, ...], skew_dimension: int) -> NDArray[np.intp]:
    """Along the axis in the plane that is not tilted."""
    count = shape[3 - skew_dimension]
    most = LOOK_VOXELS // (shape[0] * shape[skew_dimension])
    if most >= count:
        return np.arange(count)
    bands = max(1, most // BAND_PIXELS)
    first = (np.arange(bands) + frame * GOLDEN % 1) / bands * max(0, count - BAND_PIXELS)
    return np.unique((first.astype(np.intp)[:, None] + np.arange(BAND_PIXELS)).clip(0, count - 1))


def _planes(
    stack: NDArray[Any], no_data: NDArray[np.bool_] | None, sigma_pixels: float
) -> NDArray[np.float32]:
    """Each plane filtered with a point, in units of its noise; zero near what holds no image."""
    found = np.empty(stack.shape, np.float32)
    margin = 2 * math.ceil(3 * sigma_pixels) + 1
    for z, plane in enumerate(stack):
        if plane.min() == plane.max():
            found[z] = 0
            continue
        image = plane.astype(np.float32)
        wide = gaussian_filter(image, SURROUNDINGS * sigma_pixels, truncate=3)
        found[z] = gaussian_filter(image, sigma_pixels, truncate=3) - wide
        if no_data is not None:
            found[z][maximum_filter(no_data[z], margin)] = 0
        # The noise of a plane is its own: light fades with depth, lamps flicker.
        found[z] /= _spread(found[z]) or 1.0
    return found


def _added_up(
    planes: NDArray[np.float32], spacing: float, shear: float, skew_dimension: int
) -> NDArray[np.float32]:
    """Planes moved to where each shows what its neighbours show, and filtered with a point across them.

    What leaves at one end of the tilted axis comes in at the other, so that no voxel is lost or made up.
    """
    moved = np.stack([np.roll(p, round(shear * z), skew_dimension - 1) for z, p in enumerate(planes)])
    return gaussian_filter1d(moved, 1 / spacing, axis=0, mode="constant", truncate=REACH)


def _maxima(image: NDArray[np.float32], noise: float) -> NDArray[np.float32]:
    highest = image[image == maximum_filter(image, (3, 5, 5))] / np.float32(noise)
    return np.asarray(highest[highest >= LEVELS[0]])
