"""Cut a training movie into crops: the stage between the deskewed movie and pretraining."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np

from spatialdino_core.crops.bounds import movie_bounds
from spatialdino_core.crops.kmeans import crop_origins, cut_crop
from spatialdino_core.crops.normalise import Bounds, normalise
from spatialdino_core.crops.parameters import CropParameters, NormalisationParameters
from spatialdino_core.crops.resample import resample_isotropic
from spatialdino_core.crops.shards import Crop, write_shards
from spatialdino_core.geometry.deskewed import DeskewedMovie
from spatialdino_core.movies.provenance import software
from spatialdino_core.progress import progress


def shard_movie(
    deskewed: Path | str,
    index: Path | str,
    parameters: CropParameters,
    normalisation: NormalisationParameters,
    seed: int,
) -> None:
    """Cut crops out of a deskewed movie and publish them as shards with an index.

    Parameters
    ----------
    deskewed
        Completion record of the deskewed movie.
    index
        ``index.json`` to publish; the shards lie beside it.
    seed
        Seed of the run. Which voxels are clustered depends on it, the movie's name and the frame.
    """
    movie = DeskewedMovie(deskewed)
    bounds = movie_bounds(movie, normalisation)
    frames = _spread(sorted(movie.record.checksums), parameters.frames_per_movie)
    voxel_um = parameters.voxel_um or movie.voxel_um[2]
    about = {
        "movie": movie.folder.name,
        "voxel_um": [voxel_um] * 3,
        "normalisation": asdict(normalisation),
        "bounds": asdict(bounds),
        "frames": {frame: movie.record.checksums[frame] for frame in frames},
        "crops": asdict(parameters),
        "seed": seed,
    }
    crops = _crops(movie, bounds, frames, parameters, voxel_um, seed)
    write_shards(Path(index).parent, crops, shard_crops=parameters.shard_crops, about=about | software())


def _spread(frames: list[int], number: int) -> list[int]:
    positions = np.linspace(0, len(frames) - 1, min(number, len(frames))).round().astype(int)
    return [frames[p] for p in positions]


def _crops(
    movie: DeskewedMovie,
    bounds: Bounds,
    frames: list[int],
    parameters: CropParameters,
    voxel_um: float,
    seed: int,
) -> Iterator[Crop]:
    valid = resample_isotropic(movie.valid.astype(np.float32), movie.voxel_um, voxel_um) > 0.5
    for frame in progress(frames, f"shard {movie.folder.name}", "frame"):
        volume = resample_isotropic(normalise(movie.store.read(frame), bounds), movie.voxel_um, voxel_um)
        generator = np.random.default_rng([seed, frame, *movie.folder.name.encode()])
        for number, origin in enumerate(crop_origins(volume, valid, parameters, generator)):
            values = cut_crop(volume, origin, parameters.crop_voxels)[None]
            facts = {"movie": movie.folder.name, "frame": frame, "origin_voxels": origin.tolist()}
            yield Crop(f"{movie.folder.name}-{frame:06}-{number:04}", values, facts)
