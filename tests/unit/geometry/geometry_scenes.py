"""Analytic beads as a microscope records them: where planes and pixels lie by the physics of each scan.

Independent of ``geometry/``: the laboratory frame is the specimen's, and the image plane moves through it.
"""

from __future__ import annotations

import functools
import math

import numpy as np

PIXEL = 0.104
SIGMA_LATERAL, SIGMA_AXIAL = 0.12, 0.30
OFFSET = 100


def position(scan, sign, angle, step, plane, pixel, pixel_um=PIXEL):
    """(u, w), µm: along the tilted pixel axis and along the normal of the image planes."""
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    if scan == "stage":
        return sign * plane * step * cos + pixel * pixel_um, sign * plane * step * sin
    if scan == "z-stage":
        return sign * plane * step * sin + pixel * pixel_um, -sign * plane * step * cos
    return pixel * pixel_um + 0 * plane, sign * plane * step + 0 * pixel


def spacing(scan, angle, step):
    """Distance between planes, µm."""
    factor = {"stage": math.sin(math.radians(angle)), "z-stage": math.cos(math.radians(angle))}
    return step * factor.get(scan, 1.0)


class Beads:
    """Gaussian beads inside a raw stack of 24 rows, the tilted axis last."""

    def __init__(self, scan="stage", sign=1, angle=31.5, step=0.5, count=40, seed=0, peak=20000.0):
        self.scan, self.sign, self.angle, self.step, self.peak = scan, sign, angle, step, peak
        self._light = {}
        planes = max(24, round(7 / spacing(scan, angle, step)))
        self.shape = (planes, 24, 110)
        random = np.random.default_rng(seed)
        self.raw_centres = np.stack(
            [
                random.uniform(0.3, 0.7, count) * (planes - 1),
                random.uniform(0.35, 0.65, count) * 23,
                random.uniform(0.25, 0.75, count) * 109,
            ],
            1,
        )

    def at(self, plane, row, pixel):
        """u, y, w of raw indices, µm."""
        u, w = position(self.scan, self.sign, self.angle, self.step, plane, pixel)
        return u, row * PIXEL, w

    def light(self, plane, row, pixel):
        """Counts above the offset at real raw indices that broadcast."""
        u, y, w = self.at(plane, row, pixel)
        total = np.zeros(np.broadcast(u, y, w).shape)
        for centre in self.raw_centres:
            bead_u, bead_y, bead_w = self.at(*centre)
            lateral = ((u - bead_u) ** 2 + (y - bead_y) ** 2) / (2 * SIGMA_LATERAL**2)
            axial = (w - bead_w) ** 2 / (2 * SIGMA_AXIAL**2)
            total += self.peak * np.exp(-lateral) * np.exp(-axial)
        return total

    @functools.cache  # noqa: B019, a handful of scenes lives as long as the tests
    def raw(self):
        """The recorded stack, uint16."""
        indices = np.meshgrid(*map(np.arange, self.shape), indexing="ij", sparse=True)
        return np.rint(self.light(*indices) + OFFSET).astype(np.uint16)

    def truth(self, matrix, shape, valid):
        """Counts above the offset in the voxels of an output, from its declared affine to raw indices."""
        known = (matrix.tobytes(), shape)
        if known not in self._light:
            self._light[known] = self._light_at(matrix, shape)
        return np.where(valid, self._light[known], 0)

    def _light_at(self, matrix, shape):
        k, j, i = np.meshgrid(*map(np.arange, shape), indexing="ij", sparse=True)
        plane = matrix[0, 0] * k + matrix[0, 2] * i + matrix[0, 3]
        pixel = matrix[2, 0] * k + matrix[2, 2] * i + matrix[2, 3]
        return self.light(plane, matrix[1, 1] * j + matrix[1, 3], pixel)
