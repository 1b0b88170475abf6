"""Parameters of a simulated movie: scene, optics, camera and acquisition. No numerics here.

Rates ending in ``_hz`` are events per second and particle (or pair). They act as Poisson processes, so
the probability that something happens between two frames is ``1 - exp(-rate * interval_s)``.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass

from spatialdino_core.parameters import STRICT


@dataclass(frozen=True, kw_only=True, config=STRICT)
class SceneParameters:
    """What lives in the imaged volume and how it moves, shines and fades.

    Motion: every particle is either Brownian or directed. ``directed_fraction`` 0 gives a Brownian
    scene, 1 a directed one; in between, ``switching_rate_hz`` 0 gives a fixed mixture, and a
    positive rate lets each particle alternate between both while the fraction stays the same.

    Notes
    -----
    ``snr`` is that of the ISBI Particle Tracking Challenge [1]_: the height of a particle above its
    background divided by the noise at its peak, in photons ``A / sqrt(A + B + R**2)`` with peak
    signal A, background B (uniform plus cell) and read noise R. It holds for a particle of mean
    brightness whose centre is a sample point, in frame 0.

    References
    ----------
    .. [1] Chenouard et al., Objective comparison of particle tracking methods, Nat. Methods 11, 2014.
    """

    frames: Annotated[int, Field(ge=1, description="length of the movie (frames)")] = 20
    interval_s: Annotated[float, Field(gt=0, description="time between frames (s)")] = 2.0
    particles: Annotated[int, Field(ge=0, description="particles alive per frame, on average")] = 50
    margin_um: Annotated[
        float, Field(ge=0, description="distance that particles keep from the border of the volume (µm)")
    ] = 0.5
    lifetime_s: Annotated[
        float | None, Field(gt=0, description="mean lifetime (s); births balance deaths; none: immortal")
    ] = None
    diffusion_um2_per_s: Annotated[
        float, Field(ge=0, description="diffusion coefficient of Brownian particles (µm²/s)")
    ] = 0.003
    directed_fraction: Annotated[float, Field(ge=0, le=1, description="share of directed particles")] = 0.0
    switching_rate_hz: Annotated[
        float, Field(ge=0, description="rate at which motion is drawn anew, Brownian or directed (1/s)")
    ] = 0.0
    speed_um_per_s: Annotated[float, Field(ge=0, description="speed of directed particles (µm/s)")] = 0.12
    directed_diffusion_um2_per_s: Annotated[
        float, Field(ge=0, description="diffusion of directed particles on top of their run (µm²/s)")
    ] = 0.0
    snr: Annotated[float, Field(gt=0, description="signal-to-noise ratio, see Notes")] = 5.0
    brightness_cv: Annotated[
        float, Field(ge=0, description="coefficient of variation of the log-normal brightness")
    ] = 0.2
    bleaching_half_life_s: Annotated[
        float | None, Field(gt=0, description="time after which half the fluorescence is left (s)")
    ] = None
    blink_rate_hz: Annotated[float, Field(ge=0, description="rate of turning dark (1/s)")] = 0.0
    blink_duration_s: Annotated[float, Field(gt=0, description="mean duration of a dark period (s)")] = 2.0
    split_rate_hz: Annotated[float, Field(ge=0, description="rate of splitting in two (1/s)")] = 0.0
    split_distance_um: Annotated[
        float, Field(gt=0, description="distance between both halves just after a split (µm)")
    ] = 0.35
    merge_rate_hz: Annotated[float, Field(ge=0, description="rate of merging, of a close pair (1/s)")] = 0.0
    merge_distance_um: Annotated[float, Field(gt=0, description="how close a close pair is (µm)")] = 0.5
    background_photons: Annotated[
        float, Field(ge=0, description="uniform background (photons per voxel)")
    ] = 10.0
    cell_photons: Annotated[
        float,
        Field(ge=0, description="mean extra background within the cell (photons per voxel); 0: no cell"),
    ] = 0.0
    texture_contrast: Annotated[
        float, Field(ge=0, description="standard deviation of the cell's texture, relative to its mean")
    ] = 0.3
    texture_length_um: Annotated[float, Field(gt=0, description="grain size of the cell's texture (µm)")] = (
        0.8
    )


@dataclass(frozen=True, kw_only=True, config=STRICT)
class OpticsParameters:
    """Point spread function in the detection frame, where axial is the normal of the image plane.

    The default widths are about those of a bead measured on a lattice light-sheet microscope.
    """

    sigma_lateral_um: Annotated[float, Field(gt=0, description="Gaussian sigma along y and x (µm)")] = 0.14
    sigma_axial_um: Annotated[float, Field(gt=0, description="Gaussian sigma along the normal (µm)")] = 0.32
    psf_path: Annotated[
        str | None, Field(description="TIFF (z, y, x) of a measured PSF, which replaces the Gaussian")
    ] = None
    psf_voxel_um: Annotated[
        tuple[float, float, float] | None, Field(description="voxel size (z, y, x) of that volume (µm)")
    ] = None

    @model_validator(mode="after")
    def _volume_with_voxel_size(self) -> OpticsParameters:
        if (self.psf_path is None) != (self.psf_voxel_um is None):
            raise ValueError("psf_path and psf_voxel_um belong together: give both or neither")
        if self.psf_voxel_um is not None and min(self.psf_voxel_um) <= 0:
            raise ValueError("psf_voxel_um must be positive")
        return self


@dataclass(frozen=True, kw_only=True, config=STRICT)
class CameraParameters:
    """From photons to uint16 counts: ``offset + gain * Poisson(photons) + Normal(0, read noise)``."""

    offset_counts: Annotated[float, Field(ge=0, description="dark level (counts)")] = 100.0
    gain_counts_per_photon: Annotated[float, Field(gt=0, description="counts per detected photon")] = 2.0
    read_noise_counts: Annotated[
        float, Field(ge=0, description="standard deviation of read noise (counts)")
    ] = 3.0


@dataclass(frozen=True, kw_only=True, config=STRICT)
class AcquisitionParameters:
    """Sampling of the volume: a skewed stage scan, or planes stacked along their normal (``none``)."""

    scan: Annotated[
        Literal["stage", "none"], Field(description="`stage`: skewed; `none`: deskewed already")
    ] = "stage"
    angle_deg: Annotated[
        float, Field(gt=0, lt=90, description="angle between image plane and stage travel; for `stage` only")
    ] = 31.5
    step_um: Annotated[
        float, Field(gt=0, description="stage step for `stage`, plane spacing for `none` (µm)")
    ] = 0.4
    pixel_um: Annotated[float, Field(gt=0, description="pixel size in the sample (µm)")] = 0.104
    planes: Annotated[int, Field(ge=1, description="planes per stack")] = 40
    rows: Annotated[int, Field(ge=1, description="pixels along y")] = 96
    columns: Annotated[int, Field(ge=1, description="pixels along x, the tilted axis")] = 128
    scan_sign: Annotated[
        Literal[1, -1], Field(description="-1: the stage runs backwards, planes are stored in reverse order")
    ] = 1


@dataclass(frozen=True, kw_only=True, config=STRICT)
class MovieParameters:
    """One simulated movie of one channel."""

    seed: Annotated[int, Field(ge=0, description="seed of everything random")] = 0
    scene: SceneParameters = Field(default_factory=SceneParameters)
    optics: OpticsParameters = Field(default_factory=OpticsParameters)
    camera: CameraParameters = Field(default_factory=CameraParameters)
    acquisition: AcquisitionParameters = Field(default_factory=AcquisitionParameters)
