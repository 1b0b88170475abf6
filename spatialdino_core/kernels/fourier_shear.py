"""Shear of image planes by a phase ramp: exact for rows that are sampled finely enough and have no edges.

A fractional displacement is the same for all rows of a plane: one Fourier transform along the tilted axis,
in PyTorch on any device. Nothing else: whole displacements are slices.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spatialdino_core.kernels.combine import Correction, Projections, Stack, stored
from spatialdino_core.kernels.taps import SNAP, PlaneMap

RAMP = 32
"""Pixels added to each row so that its end meets its beginning."""


def shear_fourier(
    raw: Stack,
    plane_map: PlaneMap,
    fill: int,
    *,
    pixel_last: bool,
    correction: Correction | None = None,
    device: torch.device | str = "cpu",
) -> tuple[NDArray[np.uint16], Projections]:
    """Displace every plane.

    Parameters
    ----------
    raw
        Whole planes, (planes, batch, pixels) if ``pixel_last``, else (planes, pixels, batch).
    plane_map
        A shear: every output row k is one whole plane.
    fill, pixel_last, correction, device
        As in ``combine``.

    Returns
    -------
    out, projections
        As in ``combine``.
    """
    batch = raw.shape[1 if pixel_last else 2]
    rows, columns = plane_map.shape
    out = np.full((rows, batch, columns) if pixel_last else (rows, columns, batch), fill, np.uint16)
    projections = Projections.start(rows, batch, columns, fill)
    for row, k in enumerate(plane_map.rows):
        start, stop = plane_map.valid_columns(k)
        if start == stop:
            continue
        array_plane = plane_map.planes - 1 - k if plane_map.reversed_planes else k
        plane = raw[array_plane : array_plane + 1]
        corrected = plane if correction is None else correction(plane, 0)
        # A flipped plane is a view with a negative stride, which torch does not take.
        values = torch.from_numpy(np.ascontiguousarray(corrected[0])).to(device)
        first = start + plane_map.pixel[0] * k + plane_map.pixel[2]
        whole = math.floor(first + SNAP)
        lines = values.to(torch.float32) if pixel_last else values.to(torch.float32).T
        moved = displaced(lines, first - whole)[:, whole : whole + stop - start]
        result = stored(moved).cpu().numpy()
        part = slice(start - plane_map.columns.start, stop - plane_map.columns.start)
        target = out[row] if pixel_last else out[row].T
        target[:, part] = result
        for peak in (projections.along_k[:, part], projections.along_batch[row, part]):
            np.maximum(peak, result if peak.ndim == 2 else result.max(0), out=peak)
        np.maximum(projections.along_i[row], result.max(1), out=projections.along_i[row])
    return out, projections


def displaced(lines: Tensor, fraction: float) -> Tensor:
    """Values at ``n + fraction`` for every pixel n of the last axis of (lines, pixels), float32."""
    if abs(fraction) < SNAP:
        return lines
    ramp = torch.linspace(0, 1, RAMP + 2, device=lines.device)[1:-1]
    bridge = lines[:, -1:] + ramp * (lines[:, :1] - lines[:, -1:])
    closed = torch.cat([lines, bridge], 1)
    length = closed.shape[1]
    phase = 2 * math.pi * fraction * torch.fft.rfftfreq(length, device=lines.device, dtype=torch.float64)
    turned = torch.fft.rfft(closed) * torch.polar(torch.ones_like(phase), phase).to(torch.complex64)
    return torch.fft.irfft(turned, n=length)[:, : lines.shape[1]]
