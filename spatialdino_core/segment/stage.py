"""Segment a movie: calibrate once, then labels and objects of every frame."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from spatialdino_core.features.grid import on_voxels
from spatialdino_core.files import published
from spatialdino_core.geometry.deskewed import DeskewedMovie
from spatialdino_core.movies.ledger import Entry, FrameJob, FrameResult, StageRecord, remembered
from spatialdino_core.movies.part import WHOLE, Part, collected
from spatialdino_core.movies.provenance import software
from spatialdino_core.movies.store import FrameStore, StoreLayout
from spatialdino_core.parameters import digest
from spatialdino_core.segment.calibration import Calibration, calibrate
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
    code: str,
    part: Part = WHOLE,
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
    code
        Hash of the stage's code.
    part
        Frames of this job, whose record is then of them alone.
    """
    movie = DeskewedMovie(deskewed)
    evidence = StageRecord.read(features)
    foreground = FrameStore(Path(features).parent / evidence.stores[1])
    folder = Path(output).parent
    # Both stores name positions in the deskewed frame; interpolation counts from the image's first voxel.
    first_patch: Any = np.subtract(foreground.origin_um, movie.store.origin_um)
    stamps = {
        frame: digest(movie.record.checksums[frame], sum_) for frame, sum_ in evidence.checksums.items()
    }

    def images(frame: int) -> tuple[np.ndarray, np.ndarray]:
        shape: Any = movie.valid.shape
        likely = on_voxels(foreground.read(frame, 1), foreground.voxel_um, first_patch, shape, movie.voxel_um)
        return movie.store.read(frame), likely

    calibration = _calibrate(movie, images, stamps, folder, parameters, code)
    key = digest(asdict(parameters), code, asdict(calibration))
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
    store = FrameStore.prepare(folder / STORE, layout, movie.frames, about | software(), part)
    tables = folder / "ledger" / "objects"

    def compute(frame: int) -> FrameResult:
        image, likely = images(frame)
        labels, table = segment_frame(image, movie.voxel_um, movie.valid, likely, calibration, parameters)
        table.insert(0, "frame", frame)
        with published(tables / f"{frame}.parquet") as temporary:
            table.to_parquet(temporary)
        return FrameResult(output=store.write(frame, labels[None]), facts={"objects": len(table)})

    entries = FrameJob(
        ledger=collected(part.ledger(folder / "ledger" / "segment.jsonl")),
        description=f"segment {folder.name}{part}",
        key=key,
        stamps={frame: stamps[frame] for frame in part.of(stamps)},
        steps={"compute": compute},
        exists=lambda frame: store.has(frame) and (tables / f"{frame}.parquet").exists(),
    ).run()
    if part.completes:
        _join(tables, entries, movie, objects)
    StageRecord.of([STORE], entries, about).write(output)


def _calibrate(
    movie: DeskewedMovie,
    images: Any,
    stamps: dict[int, str],
    folder: Path,
    parameters: SegmentParameters,
    code: str,
) -> Calibration:
    frames = movie.first_frames(parameters.calibration_frames)

    def first_images() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        return (images(frame) for frame in frames)

    def compute() -> dict[str, Any]:
        return asdict(calibrate(first_images(), movie.voxel_um, movie.valid, parameters))

    key = digest(asdict(parameters), code, {frame: stamps[frame] for frame in frames})
    return Calibration(**remembered(folder / "ledger" / "segment.json", key, compute))


def _join(tables: Path, entries: list[Entry], movie: DeskewedMovie, objects: Path | str) -> None:
    """One table of all frames, with physical positions, in one file."""
    joined = pd.concat(
        [pd.read_parquet(tables / f"{entry.frame}.parquet") for entry in entries], ignore_index=True
    )
    for axis, size, origin in zip("zyx", movie.voxel_um, movie.store.origin_um, strict=True):
        joined[f"{axis}_um"] = joined[axis] * size + origin
    with published(objects) as temporary:
        joined.to_parquet(temporary)
