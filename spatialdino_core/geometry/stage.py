"""Deskew a movie, frame by frame, into an OME-Zarr store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from spatialdino_core.device import choose_device
from spatialdino_core.errors import BadInputError
from spatialdino_core.geometry.background import estimate_background
from spatialdino_core.geometry.deskew import deskew_frame
from spatialdino_core.geometry.parameters import DeskewParameters
from spatialdino_core.geometry.scan import ScanGeometry
from spatialdino_core.movies.ledger import Entry, FrameJob, FrameLedger, FrameResult, StageRecord
from spatialdino_core.movies.parameters import ReadingParameters
from spatialdino_core.movies.provenance import software
from spatialdino_core.movies.record import MovieRecord
from spatialdino_core.movies.register import check_content, open_channels
from spatialdino_core.movies.sheet import SheetRow
from spatialdino_core.movies.store import FrameStore, StoreLayout, checksum
from spatialdino_core.parameters import digest

STORE = "deskewed.ome.zarr"
LEFT_OUT = {"expected": "a complete frame", "remedy": "It is left out, as on_bad_frame: skip asks."}


def scan_geometry(record: MovieRecord) -> ScanGeometry:
    """Geometry of a registered movie."""
    acquisition = record.usable()
    return ScanGeometry(
        scan=acquisition.scan,  # type: ignore[arg-type]
        angle_deg=acquisition.angle_deg,
        step_um=acquisition.step_um,
        pixel_um=acquisition.pixel_um,
        skew_axis=acquisition.skew_axis or "x",  # type: ignore[arg-type]
        scan_sign=acquisition.scan_sign,  # type: ignore[arg-type]
    )


def deskew_movie(
    rows: Sequence[SheetRow],
    record: MovieRecord,
    output: Path | str,
    parameters: DeskewParameters,
    reading: ReadingParameters,
    *,
    device: str,
    code: str,
    skip_bad: bool,
) -> None:
    """Deskew every frame that is not finished and publish the completion record.

    Parameters
    ----------
    rows
        The movie's rows of the sample sheet, one per channel.
    record
        What the register knows of it.
    output
        Completion record to publish; the store lies beside it.
    reading
        How files are put in order.
    device
        ``auto``, ``cpu`` or ``cuda``.
    code
        Hash of the stage's code.
    skip_bad
        Whether a bad frame is recorded and left out instead of ending the job.
    """
    geometry = scan_geometry(record)
    sources = open_channels(rows, reading)
    target = choose_device(device)
    folder = Path(output).parent
    key = digest(asdict(geometry), asdict(parameters), code)
    layout = StoreLayout(
        shape_czyx=(len(sources), *geometry.deskewed_shape(record.shape_zyx)),
        dtype="uint16",
        voxel_um=geometry.voxel_um,
        origin_um=geometry.origin_um(parameters.grid_offset_um),
        interval_s=record.usable().interval_s,
        channels=tuple(record.channels),
    )
    about = {
        "geometry": asdict(geometry),
        "acquisition": asdict(record.usable()),
        "raw_shape_zyx": list(record.shape_zyx),
        "deskewed_to_raw_voxels": geometry.deskewed_to_raw(
            record.shape_zyx, parameters.grid_offset_um
        ).tolist(),
        "parameters": asdict(parameters),
        "key": key,
    }
    store = FrameStore.prepare(folder / STORE, layout, record.frames, about | software())

    where = f"movie '{record.movie}'"

    def read(frame: int) -> np.ndarray:
        if frame in record.skipped:
            raise BadInputError(
                f"movie '{record.movie}', frame {frame}", found=record.skipped[frame], **LEFT_OUT
            )
        stacks = [source.read(frame) for source in sources]
        return np.stack([as_counts(check_content(frame, s, where), where) for s in stacks])

    def compute(frame: int) -> FrameResult:
        raw = read(frame)
        fills = [
            estimate_background(stack) if parameters.fill == "background" else parameters.fill
            for stack in raw
        ]
        deskewed = [
            deskew_frame(stack, geometry, parameters, target, fill)
            for stack, fill in zip(raw, fills, strict=True)
        ]
        output_sum = store.write(frame, np.stack(deskewed))
        return FrameResult(
            output=output_sum, content=checksum(raw), facts={"fill": [float(fill) for fill in fills]}
        )

    def unchanged(frame: int, entry: Entry) -> bool:
        return entry.content == checksum(read(frame))

    entries = FrameJob(
        ledger=FrameLedger(folder / "ledger" / "deskew.jsonl"),
        description=f"deskew {record.movie}",
        key=key,
        stamps={
            frame: "|".join(source.stamp(frame) or "missing" for source in sources)
            for frame in range(record.frames)
        },
        compute=compute,
        exists=store.has,
        unchanged=unchanged,
        skip_bad=skip_bad,
    ).run()
    StageRecord.of(
        [STORE], entries, about | {"fills": {e.frame: e.facts.get("fill") for e in entries}}
    ).write(output)


def as_counts(stack: np.ndarray, where: str) -> np.ndarray:
    """A raw stack as uint16 camera counts; values of another type are rounded, never rescaled.

    Raises
    ------
    BadInputError
        For values that do not fit: negative beyond rounding, above 65,535, or fractions of one.
    """
    if stack.dtype == np.uint16:
        return stack
    if stack.dtype.kind == "f" and (stack.min() < -0.5 or stack.max() > 65535 or stack.max() < 2):
        raise BadInputError(
            where,
            found=f"values from {stack.min():g} to {stack.max():g} ({stack.dtype})",
            expected="camera counts between 0 and 65535",
            remedy="Export the movie unscaled, as 16-bit counts.",
        )
    return np.clip(np.rint(stack), 0, 65535).astype(np.uint16)
