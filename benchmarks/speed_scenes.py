"""What `speed.py` measures on: simulated movies as stores on disk, tables of objects. Not the measurements.

A large frame is a small simulated one and its mirror images, so that all sizes have the same density and
texture, and none takes hours to simulate.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from spatialdino_core.features.unused import leave_features_out
from spatialdino_core.geometry.deskewed import DeskewedMovie
from spatialdino_core.geometry.parameters import DeskewParameters
from spatialdino_core.geometry.stage import deskew_movie
from spatialdino_core.movies.parameters import ReadingParameters
from spatialdino_core.movies.register import register_movie
from spatialdino_core.movies.sheet import SheetRow
from spatialdino_core.simulate.movie import simulate_movie
from spatialdino_core.simulate.parameters import AcquisitionParameters, MovieParameters, SceneParameters
from spatialdino_core.simulate.sheet import CHANNEL
from spatialdino_core.simulate.write import write_tiff_series
from spatialdino_core.track.region import Region

VOXEL_UM = (0.2, 0.104, 0.104)
DENSITY_UM3 = 0.03
FRAMES = 18
"""One more than calibration reads and than a window in time has, so that the window of the frame moves on."""
FRAME = 9
"""The one that is segmented: its window of eight frames on either side is whole."""
SKEWED_FRAMES = 2
INTERVAL_S = 2.0
SCANS: dict[str, dict[str, Any]] = {
    "upright": {"scan": "none", "step_um": VOXEL_UM[0]},
    "skewed": {"scan": "stage", "angle_deg": 31.5, "step_um": 0.4, "skew_axis": "x", "scan_sign": 1},
}
TEXTURE = {"snr": 2.0, "cell_photons": 25.0}


@dataclass(frozen=True)
class Scene:
    """A movie of upright stacks.

    Attributes
    ----------
    name
        Of its folder.
    tile
        Shape (z, y, x) of what is simulated.
    mirrored
        How often it is there along (z, y, x), every other time mirrored.
    particles
        In the whole frame; None: `DENSITY_UM3`.
    textured
        Whether there is a cell with texture in each tile; then particles are dimmer, too.
    """

    name: str
    tile: tuple[int, int, int]
    mirrored: tuple[int, int, int] = (1, 1, 1)
    particles: int | None = None
    textured: bool = False
    frames: int = FRAMES

    @property
    def voxels(self) -> int:
        """In a frame."""
        return int(np.prod(self.tile) * np.prod(self.mirrored))

    def raw_frames(self) -> Iterator[np.ndarray]:
        """Stacks (c, z, y, x), uint16."""
        planes, rows, columns = self.tile
        camera = AcquisitionParameters(
            scan="none",
            step_um=VOXEL_UM[0],
            pixel_um=VOXEL_UM[1],
            planes=planes,
            rows=rows,
            columns=columns,
        )
        number = DENSITY_UM3 * self.voxels * np.prod(VOXEL_UM) if self.particles is None else self.particles
        scene = SceneParameters(
            frames=self.frames,
            interval_s=INTERVAL_S,
            particles=round(number / np.prod(self.mirrored)),
            **(TEXTURE if self.textured else {"snr": 4.0}),  # type: ignore[arg-type]
        )
        movie = simulate_movie(MovieParameters(scene=scene, acquisition=camera))
        more = [(0, (times - 1) * n) for times, n in zip(self.mirrored, self.tile, strict=True)]
        for frame in range(self.frames):
            yield np.pad(movie.raw_frame(frame), more, mode="symmetric")[None]


@dataclass(frozen=True)
class Made:
    """A scene on disk."""

    folder: Path

    @property
    def record(self) -> Path:
        return self.folder / "deskewed.json"

    @property
    def movie(self) -> DeskewedMovie:
        return DeskewedMovie(self.record)

    @property
    def frame(self) -> Path:
        """One frame as an array of numpy's, for peers."""
        return self.folder / "frame.npy"

    def rows(self, skewed: bool) -> list[SheetRow]:
        """Of the sample sheet: the upright stacks, or the first of them as if they were of a stage scan."""
        kind = "skewed" if skewed else "upright"
        path = str(self.folder / kind / "*.tif")
        files: dict[str, Any] = {"movie": self.folder.name, "channel": CHANNEL, "path": path}
        return [SheetRow(pixel_um=VOXEL_UM[1], interval_s=INTERVAL_S, **SCANS[kind], **files)]

    def deskew(self, output: Path, *, skewed: bool) -> None:
        """The stage, on one thread."""
        rows = self.rows(skewed)
        record, table = register_movie(rows, ReadingParameters(), "fail")
        how: dict[str, Any] = {"device": "cpu", "version": "benchmark", "skip_bad": False, "threads": 1}
        deskew_movie(rows, record, table, output, DeskewParameters(), **how)


def made(scene: Scene, work: Path) -> Made:
    """The scene's raw files, deskewed store, record of features that are not used, and frame for peers."""
    done = Made(work / scene.name.replace(" ", "_"))
    if done.frame.exists():
        return done
    upright, skewed = done.folder / "upright", done.folder / "skewed"
    files = write_tiff_series(upright, done.folder.name, scene.raw_frames(), [CHANNEL], INTERVAL_S)
    skewed.mkdir(exist_ok=True)
    for path in files[:SKEWED_FRAMES]:
        (skewed / path.name).unlink(missing_ok=True)
        os.link(path, skewed / path.name)
    done.deskew(done.record, skewed=False)
    leave_features_out(done.record, done.folder / "features.json", "not measured here")
    np.save(done.frame, done.movie.store.read(FRAME))
    return done


def objects(particles: int, frames: int) -> tuple[pd.DataFrame, Region]:
    """A table of objects as segmentation leaves it, of a volume that grows with the particles, perfect."""
    edge_um = (particles / DENSITY_UM3) ** (1 / 3)
    scene = SceneParameters(
        frames=frames,
        interval_s=INTERVAL_S,
        particles=particles,
        lifetime_s=60.0,
        directed_fraction=0.4,
        switching_rate_hz=0.1,
        directed_diffusion_um2_per_s=0.0005,
        blink_rate_hz=0.02,
        split_rate_hz=0.004,
        merge_rate_hz=0.05,
    )
    # Coarse voxels: nothing is rendered, but the simulator makes room for an image.
    voxels = round(edge_um / 0.5) + 1
    camera = AcquisitionParameters(
        scan="none", step_um=0.5, pixel_um=0.5, planes=voxels, rows=voxels, columns=voxels
    )
    truth = simulate_movie(MovieParameters(scene=scene, acquisition=camera)).truth
    table = truth[truth["visible"]].reset_index(drop=True)
    table = table.assign(intensity_sum=table["brightness"], intensity_mean=1.0, volume_um3=0.1, snr=5.0)
    table["label"] = table.groupby("frame").cumcount() + 1
    return table, Region(((voxels - 1) * 0.5,) * 3)
