"""Point spread functions with peak 1: an anisotropic Gaussian, or a measured volume.

Both live in the detection frame, whose axes are those of the deskewed grid: z, the optical axis, is
the normal of the image plane.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import tifffile
from numpy.typing import NDArray
from scipy import ndimage

from spatialdino_core.errors import BadInputError
from spatialdino_core.simulate.parameters import OpticsParameters

GAUSSIAN_REACH = 4.0  # in sigmas; beyond it less than 4e-4 of the peak is left


class PointSpread(Protocol):
    """Relative intensity around a point source."""

    @property
    def reach_um(self) -> tuple[float, float, float]:
        """Distance (z, y, x) from the centre within which it is evaluated."""

    def __call__(
        self, z_um: NDArray[np.float64], y_um: NDArray[np.float64], x_um: NDArray[np.float64]
    ) -> NDArray[np.float32]:
        """Values at distances from the centre; the arguments broadcast against one another."""


@dataclass(frozen=True)
class GaussianPointSpread:
    """``exp(-z²/(2 σ_axial²) - (y² + x²)/(2 σ_lateral²))``, sampled at points, not integrated over voxels."""

    sigma_axial_um: float
    sigma_lateral_um: float

    @property
    def reach_um(self) -> tuple[float, float, float]:
        """Distance (z, y, x) at which the function is cut off."""
        lateral = GAUSSIAN_REACH * self.sigma_lateral_um
        return (GAUSSIAN_REACH * self.sigma_axial_um, lateral, lateral)

    def __call__(
        self, z_um: NDArray[np.float64], y_um: NDArray[np.float64], x_um: NDArray[np.float64]
    ) -> NDArray[np.float32]:
        """Values at distances from the centre; the arguments broadcast against one another."""
        along_z = np.exp(-0.5 * (z_um / self.sigma_axial_um) ** 2).astype(np.float32)
        along_y = np.exp(-0.5 * (y_um / self.sigma_lateral_um) ** 2).astype(np.float32)
        along_x = np.exp(-0.5 * (x_um / self.sigma_lateral_um) ** 2).astype(np.float32)
        return along_z * along_y * along_x


@dataclass(frozen=True)
class MeasuredPointSpread:
    """A measured volume with peak 1, interpolated by cubic splines; 0 outside of it."""

    spline: NDArray[np.float32]
    centre: tuple[float, float, float]
    voxel_um: tuple[float, float, float]

    @property
    def reach_um(self) -> tuple[float, float, float]:
        """Distance (z, y, x) from the centre to the farther face of the volume."""
        sides = zip(self.spline.shape, self.centre, self.voxel_um, strict=True)
        z, y, x = (max(middle, size - 1 - middle) * voxel for size, middle, voxel in sides)
        return (z, y, x)

    def __call__(
        self, z_um: NDArray[np.float64], y_um: NDArray[np.float64], x_um: NDArray[np.float64]
    ) -> NDArray[np.float32]:
        """Values at distances from the centre; the arguments broadcast against one another."""
        offsets = np.broadcast_arrays(z_um, y_um, x_um)
        axes = zip(offsets, self.centre, self.voxel_um, strict=True)
        indices = np.stack([offset / voxel + middle for offset, middle, voxel in axes])
        return ndimage.map_coordinates(
            self.spline, indices, output=np.float32, order=3, mode="constant", prefilter=False
        )


def measured_point_spread(
    volume: NDArray[np.generic], voxel_um: tuple[float, float, float], background: float | None = None
) -> MeasuredPointSpread:
    """Prepare a measured PSF.

    Its centre, where the particle is said to be, is the centroid of the voxels above half maximum.

    Parameters
    ----------
    volume
        Intensities (z, y, x) of one bead.
    voxel_um
        Voxel size (z, y, x) in µm.
    background
        Level to subtract; the volume's median by default.

    Raises
    ------
    BadInputError
        When the volume is not three-dimensional or has no peak.
    """
    intensity = np.asarray(volume, np.float32)
    if intensity.ndim != 3 or not np.isfinite(intensity).all() or intensity.max() <= np.median(intensity):
        raise BadInputError(
            "psf",
            found=f"an array of shape {intensity.shape} without a finite peak",
            expected="a volume (z, y, x) with one bright bead",
            remedy="Give another PSF volume.",
        )
    intensity -= np.float32(np.median(intensity) if background is None else background)
    intensity /= intensity.max()
    core = np.where(intensity >= 0.5, intensity, 0)
    z, y, x = (float(c) for c in ndimage.center_of_mass(core))
    at_centre = ndimage.map_coordinates(intensity, [[z], [y], [x]], order=3)[0]
    spline = ndimage.spline_filter(intensity / at_centre, order=3, output=np.float32)
    return MeasuredPointSpread(spline, (z, y, x), voxel_um)


def point_spread(optics: OpticsParameters) -> PointSpread:
    """The PSF that the parameters describe; reads the measured volume where one is named."""
    if optics.psf_path is None or optics.psf_voxel_um is None:
        return GaussianPointSpread(optics.sigma_axial_um, optics.sigma_lateral_um)
    return measured_point_spread(tifffile.imread(optics.psf_path), optics.psf_voxel_um)
