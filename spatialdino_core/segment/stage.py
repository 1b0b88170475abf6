"""Segment a movie: calibrate once, then labels and objects of every frame."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from spatialdino_core.device import gpu_if_wanted
from spatialdino_core.features.grid import VoxelMap
from spatialdino_core.files import published
from spatialdino_core.geometry.deskewed import DeskewedMovie
from spatialdino_core.movies.features import object_features
from spatialdino_core.movies.ledger import Entry, FrameFiles, FrameJob, FrameResult, remembered
from spatialdino_core.movies.part import WHOLE, Part, collected
from spatialdino_core.movies.provenance import software
from spatialdino_core.movies.stage_record import StageRecord
from spatialdino_core.movies.store import FrameStore, StoreLayout
from spatialdino_core.parameters import digest
from spatialdino_core.phases import phase
from spatialdino_core.segment.believe.calibration import Calibration, calibrate, calibration_span
from spatialdino_core.segment.detect.window import SegmentMovie
from spatialdino_core.segment.frame import segment_frame
from spatialdino_core.segment.parameters import SegmentParameters

STORE = "labels.ome.zarr"


def segment_movie(
    deskewed: Path | str,
    features: Path | str,
    output: Path | str,
    objects: Path | str,
    parameters: SegmentParameters,
    *,
    device: str,
    version: str,
    part: Part = WHOLE,
    threads: int = 1,
    verify: bool = False,
) -> None:
    """Segment every frame that is not finished; publish the table of objects and the completion record.

    Parameters
    ----------
    deskewed, features
        Completion records of the two stages that this one reads.
    output
        Completion record to publish; ``labels.ome.zarr`` lies beside it.
    objects
        Parquet table to publish, one row per object, when the movie is complete.
    device
        ``auto``, ``cpu`` or ``cuda``. The calibration is computed on the CPU everywhere: results of several
        devices differ by the rounding of responses alone.
    version
        Of the stage's results: `movies.provenance.identity`.
    part
        Frames of this job, whose record is then of them alone.
    threads
        Parts of a frame that are gone through at the same time; time only.
    verify
        Whether finished frames are read to see that they are intact.
    """
    gpu = gpu_if_wanted(device)
    movie = DeskewedMovie(deskewed)
    evidence = StageRecord.read(features)
    folder = Path(output).parent
    probabilities, described = (
        FrameStore.recorded(Path(features).parent, evidence, number) if evidence.stores else None
        for number in (1, 0)
    )
    seen = _seen(movie, sorted(evidence.checksums), probabilities, folder.name)
    single = {
        frame: digest(movie.record.checksums[frame], sum_) for frame, sum_ in evidence.checksums.items()
    }
    calibration = _calibrate(seen, single, folder, parameters, version, threads)
    stamps = {frame: _stamp(frame, single, movie.record.checksums, seen, calibration) for frame in single}
    key = digest(asdict(parameters), version, asdict(calibration))
    layout = StoreLayout(
        shape_czyx=(1, *movie.store.shape[2:]),
        dtype="uint32",
        voxel_um=movie.voxel_um,
        origin_um=movie.store.origin_um,
        interval_s=movie.interval_s,
        channels=("labels",),
        kind="labels",
    )
    about = {"parameters": asdict(parameters), "calibration": asdict(calibration), "key": key}
    about |= software("segment")
    store = FrameStore.prepare(folder / STORE, layout, movie.frames, about, part)
    tables = folder / "ledger" / "objects"

    def compute(frame: int) -> FrameResult:
        labels, table = segment_frame(seen, frame, calibration, parameters, threads=threads, device=gpu)
        table = _in_physical_frame(table, frame, movie)
        if described is not None:
            with phase("read"):
                table = table.join(_features(described, frame, table))
        # No step of its own: another frame's labels would be kept, for a fifteenth of the time.
        with phase("write"), published(tables / f"{frame}.parquet") as temporary:
            table.to_parquet(temporary)
        with phase("write"):
            output = store.write(frame, labels[None])
        return FrameResult(output=output, facts={"objects": len(table)})

    entries = FrameJob(
        ledger=collected(part.ledger(folder / "ledger" / "segment.jsonl")),
        description=f"segment {folder.name}{part}",
        key=key,
        stamps={frame: stamps[frame] for frame in part.of(stamps)},
        steps={"compute": compute},
        stores=[store, FrameFiles(lambda frame: tables / f"{frame}.parquet")],
        verify=verify,
    ).run()
    if part.completes:
        _join(tables, entries, objects)
    StageRecord.of([STORE], entries, about).write(output)


def calibrate_movie(
    deskewed: Path | str, output: Path | str, parameters: SegmentParameters, *, version: str, threads: int = 1
) -> Calibration:
    """Calibrate the detection of a movie without features; :func:`segment_movie` finds it done.

    Parameters
    ----------
    deskewed
        Completion record of the deskewed movie.
    output
        Completion record of another stage of the movie, beside which calibrations are kept.
    parameters, version, threads
        As for :func:`segment_movie`.
    """
    movie, folder = DeskewedMovie(deskewed), Path(output).parent
    checksums = movie.record.checksums
    seen = _seen(movie, sorted(checksums), None, folder.name)
    single = {frame: digest(sum_, sum_) for frame, sum_ in checksums.items()}
    return _calibrate(seen, single, folder, parameters, version, threads)


def _seen(
    movie: DeskewedMovie, frames: list[int], probabilities: FrameStore | None, name: str
) -> SegmentMovie:
    """Deskewed frames, with their foreground probability if there is one."""
    return SegmentMovie(
        phase("read")(lambda frame: movie.store.read(frame)),
        frames,
        movie.voxel_um,
        valid=movie.mask,
        foreground=None if probabilities is None else _foreground(movie, probabilities),
        name=name,
    )


def _foreground(movie: DeskewedMovie, probabilities: FrameStore) -> Callable[[int], VoxelMap]:
    """The foreground probability, a channel of a coarser store, on the voxels of any frame."""
    # Both stores name positions in the deskewed frame; interpolation counts from the image's first voxel.
    first_patch: Any = np.subtract(probabilities.origin_um, movie.store.origin_um)
    shape: Any = movie.valid.shape
    read = phase("read")(lambda frame: probabilities.read(frame, 1))
    return lambda frame: VoxelMap(read(frame), probabilities.voxel_um, first_patch, shape, movie.voxel_um)


def _calibrate(
    movie: SegmentMovie,
    stamps: dict[int, str],
    folder: Path,
    parameters: SegmentParameters,
    version: str,
    threads: int,
) -> Calibration:
    def compute() -> dict[str, Any]:
        return calibrate(movie, parameters, threads=threads).as_json()

    first = movie.frames[: calibration_span(parameters)]
    key = digest(asdict(parameters), version, {frame: stamps[frame] for frame in first})
    name = "segment.json" if movie.has_foreground else "segment_without_features.json"
    return Calibration.of_json(remembered(folder / "ledger" / name, key, compute))


def _stamp(
    frame: int,
    single: dict[int, str],
    checksums: dict[int, str],
    movie: SegmentMovie,
    calibration: Calibration,
) -> str:
    """Stamp of all that a frame's result depends on: itself, and the frames around it where they help."""
    lags = movie.groups(frame, calibration.reach).lags
    around = sorted(frame + lag for group in lags for lag in group if lag)
    return digest(single[frame], *(checksums[other] for other in around))


def _in_physical_frame(table: pd.DataFrame, frame: int, movie: DeskewedMovie) -> pd.DataFrame:
    """The table with its frame's number, and positions counted from the origin of the deskewed frame."""
    table.insert(0, "frame", frame)
    for axis, size, origin in zip("zyx", movie.voxel_um, movie.store.origin_um, strict=True):
        table[f"{axis}_um"] = table[axis] * size + origin
    return table


def _features(store: FrameStore, frame: int, table: pd.DataFrame) -> pd.DataFrame:
    """Features of the encoder at the objects, float32, one column per component."""
    found = object_features(store, frame, table[["z_um", "y_um", "x_um"]].to_numpy())
    return pd.DataFrame(found, columns=[f"feature_{number}" for number in range(found.shape[1])])


def _join(tables: Path, entries: list[Entry], objects: Path | str) -> None:
    """One table of all frames in one file."""
    joined = pd.concat(
        [pd.read_parquet(tables / f"{entry.frame}.parquet") for entry in entries], ignore_index=True
    )
    with published(objects) as temporary:
        joined.to_parquet(temporary)
