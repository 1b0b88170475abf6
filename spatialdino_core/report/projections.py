"""Maximum projections of stored frames, and what is drawn from them: contrast, outlines, smaller copies.

Plain arrays; no figures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from skimage.measure import block_reduce

from spatialdino_core.movies.store import CHUNK_ZYX, FrameStore

CONTRAST_PERCENTILES = (1.0, 99.8)


@dataclass(frozen=True)
class Projections:
    """Maximum projections of one or several frames.

    Attributes
    ----------
    xy, xz
        Maxima along z and along y: arrays (y, x) and (z, x) of the store's dtype. ``xz`` has no row where
        only the view from above is wanted.
    voxel_um
        Voxel size (z, y, x), µm.
    first_um
        Centre of the first pixel of ``xy`` (y, x), µm; other than 0 in a part of a frame.
    """

    xy: np.ndarray
    xz: np.ndarray
    voxel_um: tuple[float, float, float]
    first_um: tuple[float, float] = (0.0, 0.0)

    @property
    def extent_um(self) -> tuple[float, float, float]:
        """Size of the volume (z, y, x), µm."""
        z, y, x = self.voxel_um
        return z * self.xz.shape[0], y * self.xy.shape[0], x * self.xy.shape[1]

    def maximum(self, other: Projections) -> Projections:
        """Projections over both."""
        return replace(self, xy=np.maximum(self.xy, other.xy), xz=np.maximum(self.xz, other.xz))

    def part(self, centre_um: tuple[float, float], side_um: float) -> Projections:
        """The square around a point (y, x), moved to lie inside the frame, seen from above only."""
        boxes = []
        for length, pixel, centre in zip(self.xy.shape, self.voxel_um[1:], centre_um, strict=True):
            size = max(1, round(side_um / pixel))
            first = int(np.clip(round(centre / pixel - size / 2), 0, max(length - size, 0)))
            boxes.append(slice(first, first + size))
        first_um = (boxes[0].start * self.voxel_um[1], boxes[1].start * self.voxel_um[2])
        return Projections(self.xy[tuple(boxes)], self.xz[:0, boxes[1]], self.voxel_um, first_um)


def project(
    store: FrameStore, frame: int, channel: int = 0, *, labels: np.ndarray | None = None
) -> Projections:
    """Maximum projections of a frame, read a slab of planes at a time.

    With ``labels``, of these only; the largest wins: where objects overlap, one of them shows.
    """
    planes, rows, columns = store.shape[2:]
    thickness = CHUNK_ZYX[0]
    xy = None
    xz = []
    for first in range(0, planes, thickness):
        slab = store.read(frame, channel, (slice(first, first + thickness), slice(rows), slice(columns)))
        if labels is not None:
            slab = np.where(np.isin(slab, labels), slab, 0)
        top = slab.max(axis=0)
        xy = top if xy is None else np.maximum(xy, top)
        xz.append(slab.max(axis=1))
    assert xy is not None, "a store has at least one plane"
    return Projections(xy, np.concatenate(xz), store.voxel_um)


def robust_limits(images: Sequence[np.ndarray]) -> tuple[float, float]:
    """Contrast limits: percentiles 1 and 99.8 over all images, without voxels of 0 (the fill around a
    deskewed frame) and without NaN. The upper limit is always above the lower one."""
    values = np.concatenate([image[np.isfinite(image) & (image != 0)].astype(np.float32) for image in images])
    if not values.size:
        return 0.0, 1.0
    low, high = (float(p) for p in np.percentile(values, CONTRAST_PERCENTILES))
    return low, high if high > low else low + 1.0


def shrink(image: np.ndarray, most_pixels: int) -> np.ndarray:
    """Block maxima such that neither side is longer than ``most_pixels``: small particles stay visible.

    The two axes shrink independently; the image is drawn over its physical extent, not by its pixels.
    """
    factors = tuple(-(-n // most_pixels) for n in image.shape)
    if max(factors) == 1:
        return image
    padding = [(0, -n % f) for n, f in zip(image.shape, factors, strict=True)]
    return block_reduce(np.pad(image, padding, mode="edge"), factors, np.max)


def outlines(labels: np.ndarray, pixel_um: tuple[float, float]) -> np.ndarray:
    """Borders of labels along pixel edges.

    Parameters
    ----------
    labels
        (rows, columns); 0 is background.
    pixel_um
        Pixel size (row, column), µm.

    Returns
    -------
    numpy.ndarray
        (n, 2, 2) segments as two points (column, row) in µm; pixel (0, 0) is centred at 0.
    """
    padded = np.pad(labels, 1)
    row, column = np.nonzero(padded[:, 1:] != padded[:, :-1])
    upright = np.stack([column - 0.5, row - 1.5, column - 0.5, row - 0.5], axis=1)
    row, column = np.nonzero(padded[1:] != padded[:-1])
    level = np.stack([column - 1.5, row - 0.5, column - 0.5, row - 0.5], axis=1)
    segments = np.concatenate([upright, level]).reshape(-1, 2, 2)
    return segments * np.array(pixel_um[::-1])


def feature_colours(components: np.ndarray, activations: np.ndarray, limits: np.ndarray) -> np.ndarray:
    """Principal components as colour, seen from above: of each column of patches the most active one.

    Parameters
    ----------
    components
        (K, z, y, x); the first three become red, green and blue, missing ones mid-grey.
    activations
        (z, y, x).
    limits
        (3, 2): the values that become 0 and 1, per component.

    Returns
    -------
    numpy.ndarray
        (y, x, 3) float32 in 0–1; black where a patch saw no data (all its components are 0).
    """
    strongest = np.nan_to_num(activations.astype(np.float32), nan=-1.0).argmax(axis=0)
    chosen = np.take_along_axis(components[:3].astype(np.float32), strongest[None, None], axis=1)[:, 0]
    low, high = limits[: len(chosen), 0, None, None], limits[: len(chosen), 1, None, None]
    scaled = np.clip((chosen - low) / (high - low), 0, 1)
    colours = np.full((3, *strongest.shape), 0.5, np.float32)
    colours[: len(chosen)] = scaled
    return np.where((chosen != 0).any(axis=0), colours, 0).transpose(1, 2, 0).astype(np.float32)
