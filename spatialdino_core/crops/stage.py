"""Cut a training movie into crops: the stage between the deskewed movie and pretraining."""

from __future__ import annotations

import multiprocessing
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from spatialdino_core.crops.bounds import movie_bounds
from spatialdino_core.crops.kmeans import CropBox, crop_boxes, cut_crop
from spatialdino_core.crops.normalise import Bounds, Scale, normalise
from spatialdino_core.crops.parameters import CropParameters, NormalisationParameters
from spatialdino_core.crops.resample import resample_isotropic
from spatialdino_core.crops.shards import Crop, write_shards
from spatialdino_core.errors import BadInputError
from spatialdino_core.geometry.deskewed import DeskewedMovie
from spatialdino_core.movies.provenance import software
from spatialdino_core.progress import progress
from spatialdino_core.statistics import evenly_spread


def shard_movie(
    deskewed: Path | str,
    index: Path | str,
    parameters: CropParameters,
    normalisation: NormalisationParameters,
    seed: int,
    *,
    version: str = "",
    workers: int = 1,
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
    version
        Of the stage's results (`movies.provenance.identity`); a killed attempt of another is begun anew.
    workers
        Processes that cut frames. No bit depends on it.

    Raises
    ------
    BadInputError
        If the movie has no frame, or not the channel that is asked for.
    """
    movie = DeskewedMovie(deskewed)
    names = _channels(movie, parameters)
    bounds = {name: movie_bounds(movie, normalisation, channel) for channel, name in names.items()}
    cutting = _Cutting(
        deskewed=str(deskewed),
        channels=tuple(names.items()),
        bounds=tuple(bounds.values()),
        parameters=parameters,
        voxel_um=parameters.voxel_um or movie.voxel_um[2],
        seed=seed,
    )
    frames = _spread(sorted(movie.record.checksums), parameters.frames_per_movie)
    about = {
        "movie": movie.folder.name,
        "voxel_um": [cutting.voxel_um] * 3,
        "normalisation": asdict(normalisation),
        "bounds": {name: asdict(scale) for name, scale in bounds.items()},
        "frames": {frame: movie.record.checksums[frame] for frame in frames},
        "crops": asdict(parameters),
        "seed": seed,
        "results": version,
    }
    placed: Counter[str] = Counter()

    def crops_from(number: int) -> Iterator[Crop]:
        done, within = divmod(number, parameters.crops_per_frame)
        cut = _cut_frames(cutting, frames[done:], workers)
        described = progress(cut, f"shard {movie.folder.name}", "frame", total=len(frames), done=done)
        for crops in described:
            for crop in islice(crops, within, None):
                placed[crop.about["placed_on"]] += 1
                yield crop
            within = 0

    write_shards(
        Path(index).parent, crops_from, shard_bytes=parameters.shard_mb * 1e6, about=about | software("shard")
    )
    _say_where(movie.folder.name, placed)


def _say_where(movie: str, placed: Counter[str]) -> None:
    if placed["fallback"] or placed["uniform"]:
        print(
            f"shard {movie}: too little signal between the two percentiles for some of {placed.total()} "
            f"crops; above the fallback percentile: {placed['fallback']}, anywhere: {placed['uniform']}"
        )


def _channels(movie: DeskewedMovie, parameters: CropParameters) -> dict[int, str]:
    """Numbers and names of the channels that crops are made of."""
    names = list(movie.store.about["layout"]["channels"])
    if parameters.channels != "single":
        return dict(enumerate(names))
    if parameters.channel >= len(names):
        raise BadInputError(
            "crops.channel",
            found=f"{parameters.channel}, while movie '{movie.folder.name}' has {len(names)} channel(s)",
            expected=f"a number from 0 to {len(names) - 1}",
            remedy="Choose one of " + ", ".join(f"{n}: {name}" for n, name in enumerate(names)) + ".",
        )
    return {parameters.channel: names[parameters.channel]}


def _spread(frames: Sequence[int], number: int) -> list[int]:
    if not frames:
        raise BadInputError(
            "training movie", found="no frame", expected="at least one", remedy="Set its train to no."
        )
    return [frames[index] for index in evenly_spread(len(frames), number)]


@dataclass(frozen=True, kw_only=True)
class _Cutting:
    """What the crops of a frame depend on, besides the frame."""

    deskewed: str
    channels: tuple[tuple[int, str], ...]
    bounds: tuple[Scale, ...]
    parameters: CropParameters
    voxel_um: float
    seed: int


class _Cutter:
    """Cuts the crops of one frame after the other out of a movie."""

    def __init__(self, cutting: _Cutting) -> None:
        self.cutting = cutting
        self.movie = DeskewedMovie(cutting.deskewed)
        inside = self.movie.valid.astype(np.float32)
        self.valid = resample_isotropic(inside, self.movie.voxel_um, cutting.voxel_um) > 0.5

    def cut(self, frame: int) -> list[Crop]:
        """All crops of a frame."""
        cutting, name = self.cutting, self.movie.folder.name
        counts = [self.movie.store.read(frame, channel) for channel, _ in cutting.channels]
        bounds = [scale.of(stack) for scale, stack in zip(cutting.bounds, counts, strict=True)]
        volumes = [
            resample_isotropic(normalise(stack, at), self.movie.voxel_um, cutting.voxel_um)
            for stack, at in zip(counts, bounds, strict=True)
        ]
        average = volumes[0] if len(volumes) == 1 else np.mean(volumes, axis=0)
        kept = volumes if cutting.parameters.channels == "random" else [average]
        generator = np.random.default_rng([cutting.seed, frame, *name.encode()])
        boxes = crop_boxes(average, self.valid, cutting.parameters, generator)
        return [
            Crop(
                f"{name}-{frame:06}-{number:04}",
                np.stack([cut_crop(volume, box) for volume in kept]).astype(np.float16),
                self._about(frame, box, bounds),
            )
            for number, box in enumerate(boxes)
        ]

    def _about(self, frame: int, box: CropBox, bounds: Sequence[Bounds]) -> dict[str, object]:
        cutting = self.cutting
        return {
            "movie": self.movie.folder.name,
            "frame": frame,
            **asdict(box),
            "voxel_um": [cutting.voxel_um] * 3,
            "channels": [name for _, name in cutting.channels],
            "mode": cutting.parameters.channels,
            "bounds": [asdict(at) for at in bounds],
        }


def _cut_frames(cutting: _Cutting, frames: Sequence[int], workers: int) -> Iterator[list[Crop]]:
    """Crops of each frame, in order; with several workers, few frames ahead of the reader."""
    if workers <= 1:
        yield from map(_Cutter(cutting).cut, frames)
        return
    # A fork of a process whose libraries have threads can hang.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, _start_worker, (cutting,)) as pool:
        waiting = iter(frames)
        running: deque[Future[list[Crop]]] = deque(
            pool.submit(_cut_in_worker, frame) for frame in islice(waiting, workers + 1)
        )
        while running:
            yield running.popleft().result()
            running.extend(pool.submit(_cut_in_worker, frame) for frame in islice(waiting, 1))


_cutter: _Cutter | None = None


def _start_worker(cutting: _Cutting) -> None:
    global _cutter
    _cutter = _Cutter(cutting)


def _cut_in_worker(frame: int) -> list[Crop]:
    assert _cutter is not None
    return _cutter.cut(frame)
