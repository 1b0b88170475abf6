"""Going through a frame row by row with the filters of :mod:`..optics`.

A row is a plane (z, x). Each step of a filter goes as many rows ahead of the next one as that needs, and only
as many rows are kept: nothing is computed twice, and memory does not grow with the number of rows. Any part
of a frame can be gone through on its own, with the same bits. Not what is looked for: that is in
:mod:`.blobs`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
from scipy import ndimage

from spatialdino_core.errors import BadInputError
from spatialdino_core.segment.detect.convolve import (
    TRUNCATE,
    add_scaled,
    gaussian_weights,
    laplacian,
    smooth_rows,
    smooth_x,
)
from spatialdino_core.segment.detect.tiles import Rows
from spatialdino_core.segment.optics import FACTORS, MEAN_FACTOR, STEPS
from spatialdino_core.segment.volume import Box, Volume

BLOCK = 16
"""Rows that a step goes ahead at a time: a multiple of four, see :func:`.convolve.smooth_rows`."""
MIN_SUPPORT = 1e-3
"""Smoothed validity below which a voxel is too far from valid data to have a mean."""

Part = tuple[slice, slice]
"""Part of all rows, along z and x."""


class Support:
    """Where a frame is valid, and how much of a Gaussian around each voxel lies there.

    Dividing by it makes a normalised convolution (Knutsson & Westin 1993, CVPR, 515) of a convolution.

    Parameters
    ----------
    volume
        The frame. Voxels beyond it count as invalid.
    sigma_voxels
        Standard deviations (z, y, x) of the Gaussian in voxels.
    """

    def __init__(self, volume: Volume, sigma_voxels: np.ndarray) -> None:
        self.valid = np.ones((1, 1, 1), bool) if volume.valid is None else volume.valid
        inside = self.valid.astype(np.float32)
        self._lines = [np.ones(size, np.float32) for size in volume.shape]
        for axis, sigma in enumerate(sigma_voxels):
            line = self._lines[axis]
            if self.valid.shape[axis] == len(line) > 1:
                inside = ndimage.gaussian_filter1d(inside, sigma, axis, mode="constant", truncate=TRUNCATE)
            else:
                line /= ndimage.gaussian_filter1d(line, sigma, mode="constant", truncate=TRUNCATE)
        self._inverse = np.zeros(inside.shape, np.float32)
        np.divide(1, inside, out=self._inverse, where=self.valid & (inside >= MIN_SUPPORT))

    def like(self, y: int) -> tuple[int, float]:
        """The same for rows whose :meth:`inverse` is the same."""
        return y % self.valid.shape[1], float(self._lines[1][y])

    def inverse(self, y: int, part: Part) -> np.ndarray:
        """Inverse support in row ``y``, float32 (z, x); 0 where invalid."""
        deep, wide = (self._lines[axis][cut] for axis, cut in zip((0, 2), part, strict=True))
        return self._row(self._inverse, y, part) * (deep[:, None] * (wide * self._lines[1][y]))

    def known(self, y: int, part: Part) -> np.ndarray:
        """Validity of row ``y``, broadcastable to (z, x)."""
        return self._row(self.valid, y, part)

    def known_in(self, box: Box) -> np.ndarray:
        """Validity in a box (z, y, x), broadcastable to it."""
        return _cut(self.valid, box)

    def inverse_in(self, box: Box) -> list[np.ndarray]:
        """Arrays whose product is the inverse support in a box, each broadcastable to it."""
        lines = np.ix_(*(line[cut] for line, cut in zip(self._lines, box, strict=True)))
        return [_cut(self._inverse, box), *lines]

    def _row(self, mask: np.ndarray, y: int, part: Part) -> np.ndarray:
        depth, width = (
            slice(None) if size == 1 else cut for size, cut in zip(mask.shape[::2], part, strict=True)
        )
        return mask[depth, y % mask.shape[1], width]


@dataclass(frozen=True)
class Source:
    """Images of one shape that are to be filtered.

    Attributes
    ----------
    volumes
        A frame, and means of other frames that help.
    sigma_voxels
        Standard deviations (z, y, x) of the point spread function in voxels.
    support
        Of the mean that is subtracted.
    """

    volumes: Sequence[Volume]
    sigma_voxels: np.ndarray
    support: Support

    @staticmethod
    def of(volumes: Sequence[Volume], sigma_voxels: np.ndarray) -> Source:
        """Images that are valid where the first one is."""
        return Source(volumes, sigma_voxels, Support(volumes[0], MEAN_FACTOR * sigma_voxels))

    @property
    def height(self) -> int:
        """Rows of a frame."""
        return self.volumes[0].shape[1]

    def load(self, image: int, y: int, part: Part, out: np.ndarray) -> None:
        """Row ``y`` of an image (z, x), minus its level; zero where invalid.

        Raises
        ------
        BadInputError
            If a valid voxel is NaN or infinite.
        """
        volume, known = self.volumes[image], self.support.known(y, part)
        row = volume.image[part[0], y, part[1]]
        np.subtract(row, np.float32(volume.level), out=out, dtype=np.float32, casting="unsafe")
        if not known.all():
            np.copyto(out, 0, where=~known)
        if row.dtype.kind == "f" and not np.isfinite(out).all():
            raise self.not_finite(image)

    def not_finite(self, image: int) -> BadInputError:
        """That a valid voxel of an image is not finite."""
        return BadInputError(
            self.volumes[image].name,
            found="NaN or infinite intensities",
            expected="finite intensities in all valid voxels",
            remedy="Check the file and the stage that wrote it, or mark these voxels as invalid.",
        )


class _Steps:
    """How far the steps of a sweep are.

    Parameters
    ----------
    rows
        What the sweep is for.
    ahead
        Of each step, the rows around a finished one that it has to know.
    height
        Rows of the frame.
    """

    def __init__(self, rows: Rows, ahead: Sequence[int], height: int) -> None:
        self._ahead = ahead
        self._last = [min(rows[1] + far, height) for far in ahead]
        self._known = [max(rows[0] - far, 0) for far in ahead]

    def next(self, top: int) -> list[Rows]:
        """Of each step, the rows that are due before those below ``top`` are finished."""
        before = self._known
        due = [min(top + far, last) for far, last in zip(self._ahead, self._last, strict=True)]
        self._known = [max(pair) for pair in zip(before, due, strict=True)]
        return list(zip(before, self._known, strict=True))


class _Gaussian:
    """Rows on their way through a Gaussian: smoothed along z and x, waiting for those along y."""

    def __init__(self, sigma_voxels: np.ndarray, plane: tuple[int, int]) -> None:
        self._weights = [gaussian_weights(sigma) for sigma in sigma_voxels]
        self.reach = len(self._weights[1]) // 2
        # Zeros, because rows that do not count are weighed with zero: see convolve.smooth_rows.
        self._ring = np.zeros((2 * self.reach + BLOCK, *plane), np.float32)

    def take(self, y: int, row: np.ndarray, spare: np.ndarray) -> None:
        """Row ``y``, of which ``spare`` is as large."""
        smooth_rows(row[:, None], spare[:, None], 0, len(row), len(row), self._weights[0])
        smooth_x(spare, self._ring[y % len(self._ring)], self._weights[2])

    def give(self, rows: Rows, height: int, out: np.ndarray) -> None:
        """Smoothed ``rows`` of a frame with ``height`` rows, into the ring ``out``."""
        smooth_rows(self._ring, out, *rows, height, self._weights[1])


class _Flat:
    """Images minus their means over the surroundings, zero where there are no data.

    So neither the frame's border nor the fill of a deskewed frame is an edge to the filters, which may take
    everything outside as zero. Rows are kept from ``ahead`` of the finished ones back to these.
    """

    def __init__(self, source: Source, rows: Rows, part: Part, ahead: int) -> None:
        plane = _plane(part)
        self._source, self._part = source, part
        self._means = [_Gaussian(MEAN_FACTOR * source.sigma_voxels, plane) for _ in source.volumes]
        self.ahead = ahead + self._means[0].reach
        self._steps = _Steps(rows, (self.ahead, ahead), source.height)
        self._mean, self._spare = np.empty((BLOCK, *plane), np.float32), np.empty(plane, np.float32)
        self._like, self._inverse = (-1, 0.0), self._spare
        self.rings = [np.empty((self.ahead + BLOCK, *plane), np.float32) for _ in source.volumes]

    def advance(self, top: int) -> None:
        """Make all rows that are needed before those below ``top`` are finished."""
        loaded, flattened = self._steps.next(top)
        for image, (ring, mean) in enumerate(zip(self.rings, self._means, strict=True)):
            for y in range(*loaded):
                row = ring[y % len(ring)]
                self._source.load(image, y, self._part, row)
                mean.take(y, row, self._spare)
            mean.give(flattened, self._source.height, self._mean)
            for y in range(*flattened):
                self._mean[y % BLOCK] *= self._inverse_support(y)
                ring[y % len(ring)] -= self._mean[y % BLOCK]

    def _inverse_support(self, y: int) -> np.ndarray:
        like = self._source.support.like(y)
        if like != self._like:
            self._like, self._inverse = like, self._source.support.inverse(y, self._part)
        return self._inverse


class Responses:
    """Weighted sums of all channels of all images, each at the price of one bank of channels of one image.

    Gaussians are smoothed Gaussians, so a sum is built from the broadest channel to the narrowest, as
    Horner's rule builds a polynomial, and the Laplacian is taken once.

    Parameters
    ----------
    source
        The images.
    weights
        Shape (detectors, images, channels).
    rows
        Rows asked for.
    part
        Part of them along z and x; right are those that have :func:`..optics.filter_halo` around them.
    beside
        Responses are known so many rows ahead of the finished ones.
    kept
        Finished rows that are kept.

    Attributes
    ----------
    rings
        One per detector (rows, z, x): responses, float32, positive on bright blobs.
    """

    def __init__(
        self, source: Source, weights: np.ndarray, rows: Rows, part: Part, beside: int = 0, kept: int = BLOCK
    ) -> None:
        self._source, self._rows = source, rows
        plane, sigma = _plane(part), source.sigma_voxels
        self._sums = [[_Gaussian(step * sigma, plane) for step in STEPS] for _ in weights]
        ahead = list(accumulate([one.reach for one in self._sums[0]], initial=beside + 1))
        self._flat = _Flat(source, rows, part, ahead[-1])
        self._steps = _Steps(rows, (beside, *ahead), source.height)
        self._factors = (weights * FACTORS**2).astype(np.float32)
        self._total, self._spare = np.empty((BLOCK, *plane), np.float32), np.empty(plane, np.float32)
        self._narrow = [np.empty((BLOCK + 2, *plane), np.float32) for _ in weights]
        self.rings = [np.empty((kept + BLOCK + 2 * beside, *plane), np.float32) for _ in weights]

    def __iter__(self) -> Iterator[Rows]:
        """Finished rows, some at a time."""
        yield from _sweep(self._rows, self._flat.ahead, self._advance)

    def _advance(self, top: int) -> None:
        self._flat.advance(top)
        finished, *smoothed = self._steps.next(top)
        variance, height = (self._source.sigma_voxels**2).astype(np.float32), self._source.height
        for sums, factors, narrow, ring in zip(
            self._sums, self._factors, self._narrow, self.rings, strict=True
        ):
            for channel in reversed(range(len(STEPS))):
                for y in range(*smoothed[channel + 1]):
                    row = self._total[y % BLOCK]
                    if channel == len(STEPS) - 1:
                        row[:] = 0
                    for flat, factor in zip(self._flat.rings, factors[:, channel], strict=True):
                        if factor:
                            add_scaled(row, flat[y % len(flat)], factor)
                    sums[channel].take(y, row, self._spare)
                sums[channel].give(smoothed[channel], height, self._total if channel else narrow)
            laplacian(narrow, ring, *finished, height, variance)


class Channels:
    """Responses of all channels to one image.

    They are scale-normalised (Lindeberg 1998, Int. J. Comput. Vis. 30, 79). Parameters are those of
    :class:`Responses`.

    Attributes
    ----------
    rings
        One per channel (rows, z, x): responses to the first image, float32.
    """

    def __init__(self, source: Source, rows: Rows, part: Part) -> None:
        self._source, self._rows = source, rows
        plane, sigma = _plane(part), source.sigma_voxels
        self._gaussians = [_Gaussian(step * sigma, plane) for step in STEPS]
        ahead = list(accumulate([one.reach for one in self._gaussians[::-1]], initial=1))[::-1]
        self._flat = _Flat(source, rows, part, ahead[0])
        self._steps = _Steps(rows, (*ahead, 0), source.height)
        self._spare = np.empty(plane, np.float32)
        self._smooth = [np.empty((BLOCK + far + 1, *plane), np.float32) for far in ahead[1:]]
        self.rings = [np.empty((BLOCK, *plane), np.float32) for _ in STEPS]

    def __iter__(self) -> Iterator[Rows]:
        """Finished rows, some at a time."""
        yield from _sweep(self._rows, self._flat.ahead, self._advance)

    def _advance(self, top: int) -> None:
        self._flat.advance(top)
        *due, finished = self._steps.next(top)
        source, height = self._flat.rings[0], self._source.height
        for channel, (gaussian, smooth) in enumerate(zip(self._gaussians, self._smooth, strict=True)):
            for y in range(*due[channel]):
                gaussian.take(y, source[y % len(source)], self._spare)
            gaussian.give(due[channel + 1], height, smooth)
            variance = ((FACTORS[channel] * self._source.sigma_voxels) ** 2).astype(np.float32)
            laplacian(smooth, self.rings[channel], *finished, height, variance)
            source = smooth


def values_in(ring: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Values at positions (n, 3), z, y, x, in rows kept in a ring."""
    z, y, x = places.T
    return ring[y % len(ring), z, x]


def _sweep(rows: Rows, ahead: int, advance: Callable[[int], None]) -> Iterator[Rows]:
    """Advance to the last row in equal steps, from where nothing has been done yet."""
    for top in range(rows[0] - 2 * ahead + BLOCK, rows[1] + BLOCK, BLOCK):
        advance(min(top, rows[1]))
        if top > rows[0]:
            yield max(top - BLOCK, rows[0]), min(top, rows[1])


def _cut(mask: np.ndarray, box: Box) -> np.ndarray:
    """A box of a mask, which may be of length 1 along any axis."""
    return mask[tuple(slice(None) if n == 1 else cut for n, cut in zip(mask.shape, box, strict=True))]


def _plane(part: Part) -> tuple[int, int]:
    return part[0].stop - part[0].start, part[1].stop - part[1].start
