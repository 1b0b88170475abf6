"""How alike the planes of a stack are, and whether a stack can be one volume at one time.

A file that does not say what its planes are may hold several time points, or several channels, in what is
read as one stack. Planes of one volume are the less alike the farther they lie apart; planes that grow alike
again are of something else. What the movie is allowed to be is not decided here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.fft import irfft, rfft
from scipy.ndimage import gaussian_filter

BINNING = 2
DETAIL_PIXELS, BACKGROUND_PIXELS = 1.0, 4.0  # of binned pixels
COARSE_PIXELS = 3.0
MOST_VOXELS = 2**22  # of the binned part of a stack that is looked at
BLOCKS = 8  # at most, along y and x
LEAST_BLOCK_PIXELS = 6
LEAST_BLOCKS = 4.0  # that must bear witness, or it may be chance
LEAST_SIGNAL = 0.5  # of the variance of the noise: dimmer planes count less
CHANNELS = (2, 3, 4)  # that may take turns from plane to plane
STANDARD_ERRORS = 4.0
LEAST_LIKENESS = 0.25
LARGEST_DIP = 0.85
FRAMES_IN_A_ROW = 10
FARTHEST_PLANES = 8
LEAST_LIKENESS_OF_ENDS = 0.4
LEAST_LIKENESS_OF_NEXT_BUT_ONE = 0.35
LEAST_BEND = 4.0
LEAST_FADING = 0.6
LARGEST_ERROR = 0.07
LEAST_SHIFT = 2  # binned pixels from plane to plane that can be seen

Detail = NDArray[np.float32]
Covariance = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Texture:
    """Fine detail of the planes of a stack, comparable from plane to plane.

    Attributes
    ----------
    planes
        float32 (plane, y, x), binned: detail in units of its own standard deviation in the plane without
        noise; dim planes are lower.
    power
        Mean over the planes of the share of that variance that is seen, 0 to 1.
    units
        float32 (plane): what each plane was divided by.
    noise
        float32 (plane): variance of the noise of each plane before that.
    """

    planes: Detail
    power: float
    units: Detail
    noise: Detail

    @property
    def mean(self) -> Detail:
        """Mean of the planes (y, x)."""
        return self.planes.mean(axis=0)

    @classmethod
    def of(cls, detail: Detail, noise: Detail) -> Texture:
        """From detail (plane, y, x) and the variance of its noise (plane)."""
        signal = np.maximum(np.mean(detail**2, axis=(1, 2)) - noise, 0)
        variance = np.maximum(signal, LEAST_SIGNAL * noise)
        units = np.where(variance > 0, np.sqrt(variance), 1).astype(np.float32)
        power = float(np.mean(signal / units**2))
        return cls(planes=detail / units[:, None, None], power=power, units=units, noise=noise)

    def without_static(self) -> Texture:
        """Less what all planes share, each as much as it has: patterns of the camera, and columns.

        Else planes far apart, at the ends of a stack and often empty, would be more alike than others.
        """
        shared = self.mean
        share = np.einsum("pyx,yx->p", self.planes, shared) / max(float(np.sum(shared**2)), 1e-9)
        detail = (self.planes - share[:, None, None] * shared) * self.units[:, None, None]
        return Texture.of(detail, self.noise * (1 - 1 / len(detail)))


@dataclass(frozen=True)
class Ratio:
    """A ratio of two covariances with its standard error, and how many blocks the lower one rests on."""

    value: float
    error: float
    blocks: float


def texture(stack: NDArray[Any]) -> Texture:
    """Fine detail of each plane, in the middle of the image.

    The square root makes photon noise even and keeps single bright particles from ruling; what is slower than
    some pixels is left out, since background resembles itself everywhere.

    Parameters
    ----------
    stack
        Raw stack (z, y, x), counts.
    """
    edge = int(BINNING * np.sqrt(MOST_VOXELS / len(stack)))
    middle = stack[(slice(None), *(_middle(n, edge) for n in stack.shape[1:]))]
    y, x = (n // BINNING for n in middle.shape[1:])
    planes = np.zeros((len(stack), y, x), np.float32)
    noise = np.zeros(len(stack), np.float32)
    for number, plane in enumerate(middle):
        light = plane[: y * BINNING, : x * BINNING].reshape(y, BINNING, x, BINNING).sum((1, 3), np.float32)
        light = np.sqrt(np.maximum(light, 0))
        detail = gaussian_filter(light, DETAIL_PIXELS) - gaussian_filter(light, BACKGROUND_PIXELS)
        planes[number] = detail - detail.mean()
        noise[number] = _noise_gain() * (np.median(np.abs(np.diff(light, axis=1))) / 0.6745) ** 2 / 2
    return Texture.of(planes, noise)


def returning(seen: Texture, shift_pixels: float = 0.0, axis: str = "x") -> int | None:
    """Distance, in planes, at which planes that had grown unlike are alike again.

    2 to 4: channels that take turns. More: stacks one after the other, each as long as this.

    Parameters
    ----------
    seen
        Of a stack.
    shift_pixels
        By how much the image moves from plane to plane of a skewed scan, and along which ``axis``. The true
        shift may be anything up to twice as much, or none: channels that take turns share a step.

    Returns
    -------
    int or None
        ``None`` where nothing returns or the stack does not tell.
    """
    count = len(seen.planes)
    if count < 2 * CHANNELS[0] or min(seen.planes.shape[1:]) < 2 * LEAST_BLOCK_PIXELS:
        return None
    found = _first_return(seen, shift_pixels, axis)
    # What all planes share may be a pattern of the camera, but also all that there is: both must agree.
    if found is None or _first_return(seen.without_static(), shift_pixels, axis) != found:
        return None
    return found


def _first_return(seen: Texture, shift_pixels: float, axis: str) -> int | None:
    count = len(seen.planes)
    still = covariance_by_lag(seen)
    near = {
        lag: _at_best_shift(seen, lag, 2 * lag * shift_pixels / BINNING, axis) if shift_pixels else still[lag]
        for lag in range(1, min(CHANNELS[-1], count // 2) + 1)
    }
    for lag in CHANNELS:
        if lag in near and all(grows_alike(near[between], near[lag]) for between in range(1, lag)):
            return lag
    for lag in range(CHANNELS[-1] + 1, count // 2 + 1):
        if grows_alike(still[lag // 2], still[lag]):
            while lag < count // 2 and still[lag + 1].sum() > still[lag].sum():
                lag += 1
            return lag
    return None


def grows_alike(between: Covariance, at: Covariance) -> bool:
    if at.sum() < LEAST_LIKENESS:
        return False
    dip = ratio(between, at)
    return dip.blocks >= LEAST_BLOCKS and dip.value + STANDARD_ERRORS * dip.error < LARGEST_DIP


def ends_and_neighbours(seen: Texture) -> Covariance:
    """Covariance of the first and the last planes, up to 8 apart, and of neighbours: float64 (2, block)."""
    if len(seen.planes) < 3 or min(seen.planes.shape[1:]) < 2 * LEAST_BLOCK_PIXELS:
        return np.zeros((2, 1))
    # Not as shares of the power: a frame without particles has no say.
    return covariance_by_lag(seen)[[min(len(seen.planes) - 1, FARTHEST_PLANES), 1]] * seen.power


def alike_throughout(frames: Sequence[Covariance]) -> bool:
    """Whether the first and the last planes of stacks are nearly as alike as neighbours.

    So are thin stacks and blurred ones, and planes that are time points of one plane.

    Parameters
    ----------
    frames
        Of `ends_and_neighbours`, of one movie.
    """
    ends, neighbours = np.stack(frames, axis=1).sum(axis=1)
    alike = ratio(ends, neighbours)
    return alike.blocks >= LEAST_BLOCKS and alike.value - alike.error > LEAST_LIKENESS_OF_ENDS


def pass_through_focus(means: Sequence[Detail]) -> bool:
    """Whether successive frames of stacks whose planes are alike are planes of one volume.

    Particles that move, and drift, take neighbours of a pixel along: frames stay alike at a coarser scale
    than that of the particles. Particles that come and go decorrelate as an exponential does, diffusing ones
    more slowly. Out of focus, particles fade where they are, and the likeness of planes falls as the Gaussian
    that is the autocorrelation of the axial point spread function: its logarithm with the square of the
    distance.

    Parameters
    ----------
    means
        Mean textures of frames in a row, `FRAMES_IN_A_ROW` of them.
    """
    if len(means) < FRAMES_IN_A_ROW:
        return False
    fine = np.stack(means)
    coarse = gaussian_filter(fine, (0, COARSE_PIXELS, COARSE_PIXELS))
    at_two, at_three, at_four = (_against_next(fine, lag) for lag in (2, 3, 4))
    if at_two.blocks < LEAST_BLOCKS or max(at_three.error, at_four.error) > LARGEST_ERROR:
        return False
    if at_two.value - at_two.error < LEAST_LIKENESS_OF_NEXT_BUT_ONE or at_two.value >= 1:
        return False
    # Both as powers of each other: for a Gaussian, relative to distance 1, 3 at 2, 8 at 3 and 15 at 4.
    bends = at_four.value + at_four.error <= at_two.value**LEAST_BEND
    fades = _against_next(coarse, 3).value <= max(at_three.value, 0.02) ** LEAST_FADING
    return bool(bends and fades)


def _against_next(images: NDArray[np.float32], lag: int) -> Ratio:
    """Covariance of images ``lag`` apart, over that of neighbours."""
    apart, next_to = (
        _blockwise(np.einsum("pyx,pyx->yx", images[:-n], images[n:])[None])[0] / (len(images) - n)
        for n in (lag, 1)
    )
    return ratio(apart, next_to)


def covariance_by_lag(seen: Texture) -> Covariance:
    """Covariance of planes at each distance, at the same pixels, by block.

    Noise, independent from plane to plane, averages out at all distances but 0.

    Returns
    -------
    numpy.ndarray
        float64 (lag, block): their sum over the blocks is the mean covariance, which is 1 for planes that are
        the same but for noise.
    """
    count = len(seen.planes)
    y, _ = _block_starts(seen.planes.shape)
    # By rows of blocks: the spectrum of the whole takes four times its memory.
    power = [
        _blockwise(np.abs(rfft(rows, 2 * count, axis=0)) ** 2, along_y=False)
        for rows in np.split(seen.planes, y[1:], axis=1)
    ]
    sums = irfft(np.concatenate(power, axis=1).astype(np.float64), 2 * count, axis=0)[:count]
    pairs = count - np.arange(count)
    return np.asarray(sums / pairs[:, None] / seen.planes[0].size / max(seen.power, 1e-9))


def _at_best_shift(seen: Texture, lag: int, largest: float, axis: str) -> Covariance:
    """As of `covariance_by_lag`, at the shift along ``axis`` at which the planes fit best."""
    most = min(int(np.ceil(largest)) + 1, seen.planes.shape[2 if axis == "x" else 1] // 2)
    pair = seen.planes[:-lag], seen.planes[lag:]
    return largest_covariance(*pair, range(-most, most + 1), axis, seen.power)


def largest_covariance(
    one: Detail, other: Detail, shifts: Sequence[int], axis: str, power: float
) -> Covariance:
    """Covariance of planes (plane, y, x), by block, at the shift along ``axis`` at which they fit best."""
    if axis == "y":
        one, other = one.swapaxes(1, 2), other.swapaxes(1, 2)
    length = one.shape[2]
    best = np.zeros(len(_blockwise(one[:1])[0]))
    for shift in shifts:
        kept = length - abs(shift)
        product = np.einsum(
            "pyx,pyx->yx",
            one[:, :, max(0, shift) :][..., :kept],
            other[:, :, max(0, -shift) :][..., :kept],
        )
        by_block = _blockwise(np.pad(product, ((0, 0), (0, abs(shift))))[None].astype(np.float64))[0]
        by_block = by_block / len(one) / product.size / max(power, 1e-9)
        if by_block.sum() > best.sum():
            best = by_block
    return best


def frames_move_as_planes(
    frames: Sequence[Texture], shift_pixels: float, axis: str = "x", *, sure: bool = True
) -> bool:
    """Whether it is successive frames of a skewed scan that move by the shift of its planes, and not planes.

    Then frames are planes. A specimen that drifts by just as much moves in its planes, too.

    Parameters
    ----------
    frames
        In a row, two or more.
    shift_pixels, axis
        By how much, and along which axis, the image moves from plane to plane.
    sure
        Ask for significance; else for the larger covariance alone, which is what two frames can tell.
    """
    shift = round(shift_pixels / BINNING)
    shapes = {seen.planes.shape for seen in frames}
    edge = max(2 * LEAST_BLOCK_PIXELS, 2 * (shift + 1))
    if len(frames) < 2 or len(shapes) > 1 or shift < LEAST_SHIFT or min(frames[0].planes.shape) < 3:
        return False
    if min(frames[0].planes.shape[1:]) < edge:
        return False
    between = [(a.planes, b.planes, (a.power + b.power) / 2) for a, b in pairwise(frames)]
    still, moved = _still_and_moved(between, shift, axis)
    if not sure:
        return bool(moved.sum() > still.sum())
    within = [(seen.planes[:-1], seen.planes[1:], seen.power) for seen in frames]
    return grows_alike(still, moved) and not grows_alike(*_still_and_moved(within, shift, axis))


def _still_and_moved(
    pairs: Sequence[tuple[Detail, Detail, float]], shift: int, axis: str
) -> tuple[Covariance, Covariance]:
    """Mean covariances of pairs of planes where they are, and moved by a shift either way."""
    scan = [sign * (shift + off) for sign in (-1, 1) for off in (-1, 0, 1)]
    still, moved = (
        np.mean([largest_covariance(one, other, s, axis, power) for one, other, power in pairs], axis=0)
        for s in ([0], scan)
    )
    return still, moved


def ratio(above: Covariance, below: Covariance) -> Ratio:
    """Ratio of two sums over blocks, with the error of a ratio estimator (Cochran 1977)."""
    total = float(below.sum())
    if total <= 0:
        return Ratio(np.inf, np.inf, 0.0)
    value = float(above.sum()) / total
    number = len(below)
    spread = np.sqrt(np.sum((above - value * below) ** 2) * number / max(number - 1, 1))
    return Ratio(value, float(spread) / total, total**2 / float(np.sum(below**2)))


def _block_starts(shape: Sequence[int]) -> list[NDArray[np.intp]]:
    """Where blocks begin along y and x: independent witnesses of one covariance."""
    numbers = [max(1, min(BLOCKS, n // LEAST_BLOCK_PIXELS)) for n in shape[-2:]]
    return [
        np.linspace(0, n, number, endpoint=False).astype(np.intp)
        for n, number in zip(shape[-2:], numbers, strict=True)
    ]


def _blockwise(images: NDArray[Any], *, along_y: bool = True) -> NDArray[Any]:
    """Sums (…, block) of arrays (…, y, x)."""
    y, x = _block_starts(images.shape)
    rows = np.add.reduceat(images, y if along_y else [0], axis=-2)
    return np.add.reduceat(rows, x, axis=-1).reshape(*images.shape[:-2], -1)


def _middle(length: int, most: int) -> slice:
    start = max(0, (length - most) // 2)
    return slice(start, start + min(length, most))


@cache
def _noise_gain() -> float:
    """Variance that white noise of variance 1 keeps in the detail."""
    point = np.zeros((65, 65))
    point[32, 32] = 1
    kernel = gaussian_filter(point, DETAIL_PIXELS) - gaussian_filter(point, BACKGROUND_PIXELS)
    return float(np.sum(kernel**2))
