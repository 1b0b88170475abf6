"""A simulated movie: its truth, and each frame on demand, as the microscope sees it or ideally deskewed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spatialdino_core.simulate.cell import Cell, cell_image, grow_cell
from spatialdino_core.simulate.grid import Grid, deskewed_grid, imaged_volume, raw_grid
from spatialdino_core.simulate.parameters import MovieParameters
from spatialdino_core.simulate.psf import PointSpread, point_spread
from spatialdino_core.simulate.render import add_particles, camera_counts, label_particles, peak_photons
from spatialdino_core.simulate.scene import live, truth_table

# Independent random streams of one seed.
SCENE, CELL, RAW_NOISE, DESKEWED_NOISE = range(4)


@dataclass(frozen=True)
class View:
    """A grid with its static background and its stream of noise."""

    grid: Grid
    background: NDArray[np.float32]
    noise_stream: int


@dataclass(frozen=True)
class Movie:
    """A simulated movie; made by `simulate_movie`. Frames are computed when asked for, in any order.

    Attributes
    ----------
    parameters
        What was asked for.
    truth
        Table of `spatialdino_core.simulate.scene.truth_table`.
    """

    parameters: MovieParameters
    truth: pd.DataFrame
    psf: PointSpread
    raw: View
    deskewed: View

    def __len__(self) -> int:
        """Number of frames."""
        return self.parameters.scene.frames

    def raw_frame(self, frame: int) -> NDArray[np.uint16]:
        """Camera counts (z, y, x) as stored by the microscope, planes in the order of acquisition."""
        stack = self._camera(self.raw, frame)
        return stack[:: self.parameters.acquisition.scan_sign]

    def deskewed_frame(self, frame: int) -> NDArray[np.uint16]:
        """Camera counts (z, y, x) of a microscope that samples the deskewed grid itself, noise included.

        An ideal that no deskewing of the raw frame reaches: it shows no empty corners and no
        interpolation, and its noise is white.
        """
        return self._camera(self.deskewed, frame)

    def raw_photons(self, frame: int) -> NDArray[np.float32]:
        """Expected photons (z, y, x) on the raw grid, without noise, planes in the order of the stage."""
        return self._photons(self.raw, frame)

    def deskewed_photons(self, frame: int) -> NDArray[np.float32]:
        """Expected photons (z, y, x) on the deskewed grid, without noise."""
        return self._photons(self.deskewed, frame)

    def deskewed_labels(self, frame: int) -> NDArray[np.uint32]:
        """Instance labels (z, y, x) on the deskewed grid: particle identifiers, 0 for background."""
        shining = self._shining(frame)
        positions = shining[["z_um", "y_um", "x_um"]].to_numpy()
        return label_particles(self.deskewed.grid, self.psf, positions, shining["particle"].to_numpy())

    def _shining(self, frame: int) -> pd.DataFrame:
        if not 0 <= frame < len(self):
            raise IndexError(f"frame {frame} of a movie of {len(self)}")
        return self.truth[(self.truth["frame"] == frame) & self.truth["visible"]]

    def _photons(self, view: View, frame: int) -> NDArray[np.float32]:
        shining = self._shining(frame)
        scene = self.parameters.scene
        left = 1.0
        if scene.bleaching_half_life_s is not None:
            left = 2.0 ** (-frame * scene.interval_s / scene.bleaching_half_life_s)
        photons = view.background * np.float32(left * scene.cell_photons)
        photons += np.float32(scene.background_photons)
        positions = shining[["z_um", "y_um", "x_um"]].to_numpy()
        add_particles(photons, view.grid, self.psf, positions, shining["brightness"].to_numpy())
        return photons

    def _camera(self, view: View, frame: int) -> NDArray[np.uint16]:
        rng = np.random.default_rng([self.parameters.seed, view.noise_stream, frame])
        # Lobes of a spline through a noisy measured PSF may dip below zero; photons cannot.
        photons = self._photons(view, frame)
        np.maximum(photons, 0, out=photons)
        return camera_counts(photons, self.parameters.camera, rng)


def simulate_movie(parameters: MovieParameters) -> Movie:
    """Simulate the scene of a movie and prepare its rendering.

    The same parameters give the same movie, bit by bit.

    Raises
    ------
    BadInputError
        When the imaged volume leaves no room for particles.
    """
    scene, seed = parameters.scene, parameters.seed
    raw, deskewed = raw_grid(parameters.acquisition), deskewed_grid(parameters.acquisition)
    volume = imaged_volume(parameters.acquisition, scene.margin_um)
    cell: Cell | None = None
    if scene.cell_photons > 0:
        rng = np.random.default_rng([seed, CELL])
        cell = grow_cell(volume, scene.texture_length_um, scene.texture_contrast, rng)
    peak = peak_photons(scene.snr, scene.background_photons + scene.cell_photons, parameters.camera)
    rng = np.random.default_rng([seed, SCENE])
    frames, merged_into = live(scene, cell or volume, peak, rng)
    return Movie(
        parameters=parameters,
        truth=truth_table(frames, merged_into, scene, deskewed),
        psf=point_spread(parameters.optics),
        raw=View(raw, _background(cell, raw), RAW_NOISE),
        deskewed=View(deskewed, _background(cell, deskewed), DESKEWED_NOISE),
    )


def _background(cell: Cell | None, grid: Grid) -> NDArray[np.float32]:
    return np.zeros(grid.shape, np.float32) if cell is None else cell_image(cell, grid)
