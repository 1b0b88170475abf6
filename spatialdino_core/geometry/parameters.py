"""Parameters of the deskew stage. Not the geometry of a scan, which belongs to each movie."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass

from spatialdino_core.parameters import STRICT


@dataclass(frozen=True, kw_only=True, config=STRICT)
class DeskewParameters:
    """How a skewed stack is resampled onto upright voxels."""

    frame: Annotated[
        Literal["deskewed", "coverslip"],
        Field(
            description="'deskewed': sheared, z along the normal of the image planes; 'coverslip': rotated, "
            "z along the normal of the coverslip, isotropic voxels"
        ),
    ] = "deskewed"
    isotropic: Annotated[
        bool, Field(description="interpolate the planes of the deskewed frame to a spacing of one pixel")
    ] = False
    interpolation: Annotated[
        Literal["linear", "cubic", "fft"],
        Field(
            description="'cubic' (cubic convolution) for measurements, 'linear' for speed, 'fft' for the "
            "deskewed frame alone: exact where rows are sampled finely enough, rings at hot pixels"
        ),
    ] = "cubic"
    hot_pixels: Annotated[
        Literal["replace", "keep"],
        Field(
            description="pixels that the review found brighter than their neighbours in every plane are "
            "replaced from these, or kept; those that the sample sheet names (bad_pixels) always are replaced"
        ),
    ] = "replace"
    crop: Annotated[
        Literal["full", "core"],
        Field(
            description="'full': every raw voxel has its place; 'core': only where all planes hold data. A "
            "region of interest is a column of the sample sheet"
        ),
    ] = "full"
    fill: Annotated[
        Literal["background"] | Annotated[float, Field(ge=0, le=65535)],
        Field(
            description="value of voxels without data: 'background' (the camera background of the frame), "
            "or a number (counts)"
        ),
    ] = "background"
    grid_offset_um: Annotated[
        float,
        Field(
            ge=-1e5,
            le=1e5,
            allow_inf_nan=False,
            description="where along the skew axis the output grid begins, relative to the first raw voxel; "
            "to sample on another program's grid (µm)",
        ),
    ] = 0.0
    tiff: Annotated[bool, Field(description="also write every frame as a calibrated OME-TIFF")] = False

    @model_validator(mode="after")
    def _fft_shifts_whole_planes(self) -> DeskewParameters:
        if self.interpolation == "fft" and (self.frame == "coverslip" or self.isotropic):
            raise ValueError("'fft' needs frame: deskewed and isotropic: false")
        return self
