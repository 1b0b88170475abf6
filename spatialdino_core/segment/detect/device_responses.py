"""Responses computed on a GPU, many rows at once: the filters of :mod:`..optics` in PyTorch.

Results are those of :class:`.sweep.Responses` within rounding of float32. What costs, sums along axes, is in
:mod:`spatialdino_core.kernels.lines`; all else is plain PyTorch. Not what is searched for in responses: that
is in :mod:`.blobs`, compiled for the CPU, which gets them a few rows at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from spatialdino_core.kernels.lines import filter_lines
from spatialdino_core.segment.detect.convolve import gaussian_weights
from spatialdino_core.segment.detect.sweep import BLOCK, Part, Source
from spatialdino_core.segment.detect.tiles import Rows
from spatialdino_core.segment.optics import FACTORS, MEAN_FACTOR, STEPS

DEVICE_BYTES = 2**30
"""About so much on the device, for each part of a frame that is gone through at the same time; memory only.
With half of it, large frames would be filtered several times over: rows around blocks would be most rows."""


class DeviceResponses:
    """What :class:`.sweep.Responses` gives, with the same parameters and attributes, and a ``device``.

    Each block of rows is filtered with the rows around it, those on either side for a second time.
    """

    def __init__(
        self,
        source: Source,
        weights: np.ndarray,
        rows: Rows,
        part: Part,
        beside: int = 0,
        kept: int = BLOCK,
        *,
        device: torch.device,
    ) -> None:
        self._source, self._rows, self._part, self._beside = source, rows, part, beside
        self._device = device
        self._mean = _lines(MEAN_FACTOR * source.sigma_voxels)
        self._steps = [_lines(step * source.sigma_voxels) for step in STEPS]
        self._second = [np.array([-v, 2 * v, -v], np.float32) for v in _rows_first(source.sigma_voxels**2)]
        self._factors = (weights * FACTORS**2).astype(np.float32)
        self._reach = sum(len(lines[0]) // 2 for lines in [self._mean, *self._steps, self._second])
        plane = [one.stop - one.start for one in part]
        arrays = len(source.volumes) + len(weights) + 4
        self._block = DEVICE_BYTES // (4 * arrays * plane[0] * plane[1]) - 2 * (self._reach + beside)
        self._rings = [torch.empty((kept + BLOCK + 2 * beside, *plane)) for _ in weights]
        self.rings = [ring.numpy() for ring in self._rings]

    def __iter__(self) -> Iterator[Rows]:
        """Finished rows, some at a time."""
        step = max(self._block, BLOCK)
        for first in range(self._rows[0], self._rows[1], step):
            stop = min(first + step, self._rows[1])
            known = self._around((first, stop), self._beside)
            found = self._responses(known)
            for low in range(first, stop, BLOCK):
                finished = low, min(low + BLOCK, stop)
                due = self._around(finished, self._beside)
                for ring, values in zip(self._rings, found, strict=True):
                    _keep(values[due[0] - known[0] : due[1] - known[0]], ring, due[0])
                yield finished

    def _around(self, rows: Rows, far: int) -> Rows:
        return max(rows[0] - far, 0), min(rows[1] + far, self._source.height)

    def _responses(self, rows: Rows) -> list[Tensor]:
        """One for each detector (rows, z, x)."""
        outer = self._around(rows, self._reach)
        flat = [self._flat(image, outer) for image in range(len(self._source.volumes))]
        inner = slice(rows[0] - outer[0], rows[1] - outer[0])
        return [self._response(flat, factors)[inner] for factors in self._factors]

    def _response(self, flat: Sequence[Tensor], factors: np.ndarray) -> Tensor:
        """The sum of the channels of all images, by Horner's rule: see :class:`.sweep.Responses`."""
        total = torch.zeros_like(flat[0])
        for channel in reversed(range(len(STEPS))):
            for image, factor in zip(flat, factors[:, channel].tolist(), strict=True):
                if factor:
                    total.add_(image, alpha=factor)
            total = _smoothed(total, self._steps[channel])
        first, *others = (filter_lines(total, line, axis) for axis, line in enumerate(self._second))
        for other in others:
            first.add_(other)
        return first

    def _flat(self, image: int, rows: Rows) -> Tensor:
        """An image minus its mean over the surroundings, zero where there are no data (rows, z, x)."""
        volume, support = self._source.volumes[image], self._source.support
        box = self._part[0], slice(*rows), self._part[1]
        counts = volume.image.dtype == np.uint16
        found = self._there(np.array(volume.image[box], np.uint16 if counts else np.float32))
        found = found.to(torch.float32).sub_(float(np.float32(volume.level))).contiguous()
        known = self._there(support.known_in(box))
        if not known.all():
            found.masked_fill_(~known, 0)
        if not counts and not torch.isfinite(found).all():
            raise self._source.not_finite(image)
        mean = _smoothed(found, self._mean)
        for factor in support.inverse_in(box):
            mean.mul_(self._there(factor))
        return found.sub_(mean)

    def _there(self, values: np.ndarray) -> Tensor:
        """An array (z, y, x) as rows (y, z, x) on the device."""
        return torch.from_numpy(values).to(self._device).permute(1, 0, 2)


def _lines(sigma_voxels: np.ndarray) -> list[np.ndarray]:
    return [gaussian_weights(sigma) for sigma in _rows_first(sigma_voxels)]


def _rows_first(zyx: np.ndarray) -> list[float]:
    z, y, x = zyx.tolist()
    return [y, z, x]


def _smoothed(volume: Tensor, lines: Sequence[np.ndarray]) -> Tensor:
    for axis, line in enumerate(lines):
        volume = filter_lines(volume, line, axis)
    return volume


def _keep(values: Tensor, ring: Tensor, first: int) -> None:
    """Put rows from number ``first`` on into a ring."""
    at = first % len(ring)
    before = min(len(ring) - at, len(values))
    ring[at : at + before].copy_(values[:before])
    ring[: len(values) - before].copy_(values[before:])
