"""Output grids: which voxels a resampled movie has, where they lie, and where each lies in the raw stack.

Two frames (µm), both with array index 0 at the centre of the first voxel, and never a mirror image:

``deskewed``
    z along the normal of the image planes, the skew axis along the tilted pixel axis. Each plane keeps its
    place, so that only one axis is interpolated; with ``isotropic`` voxels planes are interpolated, too.
``coverslip``
    the skew axis along the coverslip, z along its normal, isotropic voxels. Index 0 of z is the highest plane
    above the coverslip: only so does the rotation keep the handedness.

With plane q and tilted pixel r of a stack whose planes ascend along their normal, plane spacing d, pixel size
p, displacement m pixels per plane, tilt θ:

    u = p (r + m q),  w = d q              deskewed: x = u, z = w
    coverslip: x = u cos θ + w sin θ,  height = u sin θ - w cos θ
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from spatialdino_core.errors import BadInputError
from spatialdino_core.geometry.scan import ScanGeometry
from spatialdino_core.kernels.taps import SNAP, PlaneMap

Shape = tuple[int, int, int]
Frame = Literal["deskewed", "coverslip"]
Box = tuple[tuple[float, float], tuple[float, float], tuple[float, float]]


@dataclass(frozen=True, kw_only=True)
class OutputGrid:
    """The voxels of a resampled movie.

    Attributes
    ----------
    frame
        ``deskewed`` or ``coverslip``.
    geometry
        Of the scan.
    raw_shape
        Shape of the raw stack (plane, y, x).
    plane_map
        Where voxels (z, skew axis) lie in the raw stack, and which of them the grid has.
    batch
        Which voxels it has along the third axis.
    voxel_um
        Voxel size (z, y, x), µm.
    origin_um
        Centre of voxel (0, 0, 0) in the frame (z, y, x), µm: where a crop begins.
    """

    frame: Frame
    geometry: ScanGeometry
    raw_shape: Shape
    plane_map: PlaneMap
    batch: range
    voxel_um: tuple[float, float, float]
    origin_um: tuple[float, float, float]

    @property
    def pixel_last(self) -> bool:
        """Whether the tilted axis is the last one."""
        return self.geometry.skew_axis == "x"

    @property
    def shape(self) -> Shape:
        """Shape (z, y, x)."""
        rows, columns = self.plane_map.shape
        return (rows, len(self.batch), columns) if self.pixel_last else (rows, columns, len(self.batch))

    @property
    def valid(self) -> NDArray[np.bool_]:
        """Voxels that lie within the raw stack; the others are fill. Bool (z, 1, x) for skew axis x,
        (z, y, 1) for y: broadcasts to ``shape``."""
        plane_map = self.plane_map
        mask = np.zeros(plane_map.shape, bool)
        for row, k in enumerate(plane_map.rows):
            start, stop = plane_map.valid_columns(k)
            mask[row, start - plane_map.columns.start : stop - plane_map.columns.start] = True
        return np.expand_dims(mask, 1 if self.pixel_last else 2)

    def to_raw_voxels(self) -> NDArray[np.float64]:
        """4 × 4 matrix from voxel indices (z, y, x, 1) to raw indices (plane, y, x, 1), as recorded.

        Indices count voxel centres from 0. The determinant is positive for planes recorded along their
        normal and negative for planes recorded against it: then it is the raw array that is mirrored.
        """
        skew = self.geometry.skew_dimension
        plane_map, batch = self.plane_map, 3 - skew
        matrix = np.zeros((4, 4))
        matrix[3, 3] = matrix[batch, batch] = 1
        matrix[batch, 3] = self.batch.start
        for line, to in ((plane_map.plane, 0), (plane_map.pixel, skew)):
            matrix[to, 0], matrix[to, skew] = line[0], line[1]
            matrix[to, 3] = line[0] * plane_map.rows.start + line[1] * plane_map.columns.start + line[2]
        if plane_map.reversed_planes:
            matrix[0] *= -1
            matrix[0, 3] += plane_map.planes - 1
        return matrix

    def to_raw_um(self) -> NDArray[np.float64]:
        """4 × 4 matrix from positions in the frame (z, y, x, 1), µm, to positions in the raw stack, µm:
        the scan coordinate plane · step, and y and x in the image plane."""
        pixel = self.geometry.pixel_um
        to_voxels = np.diag([*(1 / size for size in self.voxel_um), 1.0])
        to_voxels[:3, 3] = -np.array(self.origin_um) / self.voxel_um
        return np.diag([self.geometry.step_um, pixel, pixel, 1.0]) @ self.to_raw_voxels() @ to_voxels

    def raw_voxels(self, position_um: NDArray[np.float64]) -> NDArray[np.float64]:
        """Where positions in the frame, e.g. of a track, lie in the raw stack.

        Parameters
        ----------
        position_um
            (..., 3): z, y, x, µm.

        Returns
        -------
        ndarray
            (..., 3): plane, y, x, voxels as recorded, from 0.
        """
        points = np.concatenate([position_um, np.ones((*np.shape(position_um)[:-1], 1))], -1)
        matrix = np.diag([1 / self.geometry.step_um, *(1 / self.geometry.pixel_um,) * 2, 1.0])
        raw: NDArray[np.float64] = points @ (matrix @ self.to_raw_um()).T
        return raw[..., :3]

    def transformations(self) -> list[dict[str, Any]]:
        """The affine to the raw stack in the terms of OME-NGFF coordinate transformations, in voxels and µm.

        Rows and columns are in the order z, y, x; the last column is the translation.
        """
        frames = {"voxels": (f"{self.frame} array", "raw array"), "um": (self.frame, "raw")}
        return [
            {"type": "affine", "input": frames[unit][0], "output": frames[unit][1], "affine": m[:3].tolist()}
            for unit, m in (("voxels", self.to_raw_voxels()), ("um", self.to_raw_um()))
        ]


def output_grid(
    geometry: ScanGeometry,
    raw_shape: Sequence[int],
    *,
    frame: Frame = "deskewed",
    isotropic: bool = False,
    crop: Literal["full", "core"] = "full",
    roi_um: Box | None = None,
    grid_offset_um: float = 0.0,
) -> OutputGrid:
    """The grid that a raw stack is resampled to.

    Parameters
    ----------
    geometry
        Of the scan.
    raw_shape
        Shape of the raw stack (plane, y, x).
    frame
        ``deskewed`` or ``coverslip``.
    isotropic
        Whether planes of the deskewed frame are interpolated to a spacing of one pixel.
    crop
        ``full``: every raw voxel has its place. ``core``: the largest range along the skew axis where all
        planes hold data.
    roi_um
        Only voxels whose centres lie in this box ((z, z), (y, y), (x, x)) of the frame, µm.
    grid_offset_um
        Where along the skew axis the first voxel lies, relative to the first raw voxel.

    Raises
    ------
    BadInputError
        If the crop holds no voxel.
    """
    shape: Shape = (int(raw_shape[0]), int(raw_shape[1]), int(raw_shape[2]))
    if frame == "coverslip":
        plane_map, plane_um = _coverslip(geometry, shape, grid_offset_um), geometry.pixel_um
    else:
        plane_um = geometry.pixel_um if isotropic else geometry.plane_spacing_um
        plane_map = _deskewed(geometry, shape, plane_um, grid_offset_um)
    batch = range(shape[3 - geometry.skew_dimension])
    voxel_um = (plane_um, geometry.pixel_um, geometry.pixel_um)
    if crop == "core":
        plane_map = _core(plane_map)
    if roi_um is not None:
        plane_map, batch = _region(geometry, plane_map, batch, voxel_um, roi_um, grid_offset_um)
    first = [plane_map.rows.start, 0, 0]
    first[geometry.skew_dimension], first[3 - geometry.skew_dimension] = plane_map.columns.start, batch.start
    origin = [n * size for n, size in zip(first, voxel_um, strict=True)]
    origin[geometry.skew_dimension] += grid_offset_um
    return OutputGrid(
        frame=frame,
        geometry=geometry,
        raw_shape=shape,
        plane_map=plane_map,
        batch=batch,
        voxel_um=voxel_um,
        origin_um=(origin[0], origin[1], origin[2]),
    )


def _deskewed(geometry: ScanGeometry, shape: Shape, plane_um: float, offset_um: float) -> PlaneMap:
    planes, pixels, m = shape[0], shape[geometry.skew_dimension], geometry.shear_voxels
    planes_per_row = plane_um / geometry.plane_spacing_um
    lowest = min(0.0, (planes - 1) * m)
    return PlaneMap(
        planes=planes,
        pixels=pixels,
        plane=(planes_per_row, 0.0, 0.0),
        pixel=(-m * planes_per_row, 1.0, lowest + offset_um / geometry.pixel_um),
        shear=m,
        reversed_planes=geometry.descending,
        rows=range(math.floor((planes - 1) / planes_per_row + SNAP) + 1),
        columns=range(pixels + math.ceil((planes - 1) * abs(m) - SNAP)),
    )


def _coverslip(geometry: ScanGeometry, shape: Shape, offset_um: float) -> PlaneMap:
    planes, pixels, m = shape[0], shape[geometry.skew_dimension], geometry.shear_voxels
    spacing, pixel = geometry.plane_spacing_um, geometry.pixel_um
    cos, sin = math.cos(geometry.tilt), math.sin(geometry.tilt)
    corners = [(q, r) for q in (0, planes - 1) for r in (0, pixels - 1)]
    along = [pixel * (r + m * q) * cos + spacing * q * sin for q, r in corners]
    height = [pixel * (r + m * q) * sin - spacing * q * cos for q, r in corners]
    rows = math.ceil((max(height) - min(height)) / pixel - SNAP) + 1
    columns = math.ceil((max(along) - min(along)) / pixel - SNAP) + 1
    # x = left + i p and height = top - k p; u and w are their rotation back.
    left, top = min(along) + offset_um, min(height) + (rows - 1) * pixel
    plane = (cos * pixel / spacing, sin * pixel / spacing, (left * sin - top * cos) / spacing)
    u = (-sin, cos, (left * cos + top * sin) / pixel)
    a, b, c = (u[n] - m * plane[n] for n in range(3))
    return PlaneMap(
        planes=planes,
        pixels=pixels,
        plane=plane,
        # For a stage scan one row lies at one pixel: what is left of a subtraction would tilt it.
        pixel=(a, 0.0 if abs(b) < 1e-12 else b, c),
        shear=m,
        reversed_planes=geometry.descending,
        rows=range(rows),
        columns=range(columns),
    )


def _core(plane_map: PlaneMap) -> PlaneMap:
    ranges = {k: plane_map.valid_columns(k) for k in plane_map.rows}
    rows = [k for k, (start, stop) in ranges.items() if stop > start]
    start = max((ranges[k][0] for k in rows), default=0)
    stop = min((ranges[k][1] for k in rows), default=0)
    if start >= stop:
        raise BadInputError(
            "deskew.crop: core",
            found=f"no column where all {plane_map.planes} planes hold data (too short or too long a scan)",
            expected="a rectangular core",
            remedy="Use crop: full, a roi_um in the sample sheet, or the other frame.",
        )
    return plane_map.cropped(range(rows[0], rows[-1] + 1), range(start, stop))


def _region(
    geometry: ScanGeometry,
    plane_map: PlaneMap,
    batch: range,
    voxel_um: tuple[float, float, float],
    roi_um: Box,
    offset_um: float,
) -> tuple[PlaneMap, range]:
    skew = geometry.skew_dimension
    ranges = [plane_map.rows, batch, batch]
    ranges[skew] = plane_map.columns
    cropped = []
    for axis, (whole, (low, high), size) in enumerate(zip(ranges, roi_um, voxel_um, strict=True)):
        shift = offset_um if axis == skew else 0.0
        first = max(whole.start, math.ceil((low - shift) / size - SNAP))
        last = min(whole.stop - 1, math.floor((high - shift) / size + SNAP))
        if first > last:
            raise BadInputError(
                f"roi_um, axis {'zyx'[axis]}",
                found=f"{low} to {high} µm",
                expected=f"a range that meets {whole.start * size:.3f} to {(whole.stop - 1) * size:.3f} µm",
                remedy="Correct 'roi_um' in the sample sheet; positions are those of the full output.",
            )
        cropped.append(range(first, last + 1))
    return plane_map.cropped(cropped[0], cropped[skew]), cropped[3 - skew]
