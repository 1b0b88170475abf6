"""Deskew a movie, frame by frame, into an OME-Zarr store with its maximum projections."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from spatialdino_core.device import choose_device
from spatialdino_core.geometry.deskew import DeskewedFrame
from spatialdino_core.geometry.deskewed import PROJECTIONS, VALID
from spatialdino_core.geometry.grid import OutputGrid
from spatialdino_core.geometry.light import frame_light, frame_warnings
from spatialdino_core.geometry.mask import prepare_mask
from spatialdino_core.geometry.parameters import DeskewParameters
from spatialdino_core.geometry.raw import RawMovie
from spatialdino_core.geometry.tiffs import TiffFolder
from spatialdino_core.movies.acquisition import AcquisitionTable
from spatialdino_core.movies.ledger import Entry, FrameFiles, FrameJob, FrameResult, Stored
from spatialdino_core.movies.part import WHOLE, Part, collected
from spatialdino_core.movies.provenance import software
from spatialdino_core.movies.record import MovieRecord
from spatialdino_core.movies.sheet import SheetRow
from spatialdino_core.movies.stage_record import StageRecord
from spatialdino_core.movies.store import FrameStore, StoreLayout, checksum
from spatialdino_core.parameters import digest

STORE = "deskewed.ome.zarr"
TIFFS = "deskewed_tiff"


def deskew_movie(
    rows: Sequence[SheetRow],
    record: MovieRecord,
    table: AcquisitionTable,
    output: Path | str,
    parameters: DeskewParameters,
    *,
    device: str,
    version: str,
    skip_bad: bool,
    threads: int | None = None,
    part: Part = WHOLE,
    preview: Path | str | None = None,
    verify: bool = False,
) -> None:
    """Deskew every frame that is not finished and publish the completion record.

    Reading, resampling and writing of successive frames overlap.

    Parameters
    ----------
    rows
        The movie's rows of the sample sheet, one per channel.
    record
        What the register knows of it.
    table
        Where its stacks are.
    output
        Completion record to publish; the store lies beside it.
    parameters
        How to resample.
    device
        ``auto``, ``cpu`` or ``cuda``.
    version
        Of the stage's results: `movies.provenance.identity`.
    skip_bad
        Whether a bad frame is recorded and left out instead of ending the job.
    threads
        Threads of the computation on the CPU; by default all cores of the process.
    part
        Frames of this job, whose record is then of them alone.
    preview
        JSON file in which the preview left the movie's hot pixels and the value of voxels without data;
        ``None`` where it has neither.
    verify
        Whether finished frames are read to see that they are intact.
    """
    raw = RawMovie.of(rows, record, table, preview, parameters)
    grid = raw.grid(rows[0].roi_um)
    channels = [raw.deskew(n, grid, choose_device(device), threads) for n in range(len(rows))]
    mask = prepare_mask(
        Path(output).parent / VALID,
        _layout(record, grid, channels=("data",), dtype="uint8", kind="map"),
        channels[0],
        lambda frame, region: raw.read(0, frame, region)[0],
        range(record.frames),
        part,
        skip_bad=skip_bad,
    )
    chosen = {name: value for name, value in asdict(parameters).items() if name != "tiff"}
    key = digest(
        asdict(grid.geometry),
        chosen,
        rows[0].roi_um,
        _calibrations(rows),
        [asdict(found) for found in raw.findings],
        mask,
        version,
    )
    about: dict[str, Any] = {
        "geometry": asdict(grid.geometry),
        "acquisition": asdict(record.usable()),
        "raw_shape_zyx": list(record.shape_zyx),
        "roi_um": rows[0].roi_um,
        "frame": grid.frame,
        "coordinateTransformations": grid.transformations(),
        "parameters": asdict(parameters),
        "key": key,
    } | software("deskew")
    if any(channel.camera.bad is not None for channel in channels):
        about["bad_pixels"] = {
            row.channel: 0 if channel.camera.bad is None else int(channel.camera.bad.sum())
            for row, channel in zip(rows, channels, strict=True)
        }
    if mask is not None:
        values = {row.channel: found.no_data for row, found in zip(rows, raw.findings, strict=True)}
        about["no_data"] = {"mask": VALID, "checksum": mask, "values": values}
    outputs = _Outputs.prepare(Path(output).parent, record, grid, parameters.tiff, about, part)

    measured: dict[int, dict[str, Any]] = {}  # of the frames on their way

    def read(frame: int) -> tuple[int, list[np.ndarray]]:
        read = [raw.read(n, frame, channel.region) for n, channel in enumerate(channels)]
        counts = [stack for stack, _ in read]
        measured[frame] = {"light": [asdict(frame_light(stack)) for stack in counts]}
        if any(loss for _, loss in read):
            measured[frame]["rounding"] = [loss and asdict(loss) for _, loss in read]
        return frame, counts

    def resample(loaded: tuple[int, list[np.ndarray]]) -> tuple[int, str, list[DeskewedFrame]]:
        frame, stacks = loaded
        done = [channel(stack) for channel, stack in zip(channels, stacks, strict=True)]
        return frame, _content(stacks), done

    def write(resampled: tuple[int, str, list[DeskewedFrame]]) -> FrameResult:
        frame, content, done = resampled
        written = outputs.write(frame, done)
        return FrameResult(
            # Later stages see the voxels through the mask.
            output=written if mask is None else digest(written, mask),
            content=content,
            facts={"fill": [channel.fill for channel in done]} | measured.pop(frame),
        )

    def unchanged(frame: int, entry: Entry) -> bool:
        return entry.content == _content(read(frame)[1])

    entries = FrameJob(
        ledger=collected(part.ledger(Path(output).parent / "ledger" / "deskew.jsonl")),
        description=f"deskew {record.movie}{part}",
        key=key,
        stamps={
            frame: "|".join(source.stamp(frame) or "missing" for source in raw.sources)
            for frame in part.of(range(record.frames))
        },
        steps={"read": read, "compute": resample, "write": write},
        stores=outputs.each(),
        unchanged=unchanged,
        skip_bad=skip_bad,
        verify=verify,
    ).run()
    if part.completes:
        outputs.set_display(entries)
    StageRecord.of(
        [STORE, *PROJECTIONS.values()],
        entries,
        about
        | {"fills": {e.frame: e.facts.get("fill") for e in entries}}
        | {"warnings": frame_warnings({e.frame: e.facts for e in entries}, record.channels)},
    ).write(output)


def _calibrations(rows: Sequence[SheetRow]) -> list[Any]:
    """What the corrections of each channel depend on: flips, and the content of its files."""
    files = [
        {column: checksum(np.fromfile(path, np.uint8)) for column, path in row.calibrations().items()}
        for row in rows
    ]
    return [[row.flip, str(row.dark), contents] for row, contents in zip(rows, files, strict=True)]


def _content(stacks: Sequence[np.ndarray]) -> str:
    return digest([checksum(stack) for stack in stacks])


def _layout(
    record: MovieRecord,
    grid: OutputGrid,
    channels: tuple[str, ...],
    dtype: str,
    kind: str,
    flat: int | None = None,
) -> StoreLayout:
    """Of a store on the movie's grid, or on that of its projection along the axis ``flat``."""
    z, y, x = (1 if axis == flat else length for axis, length in enumerate(grid.shape))
    return StoreLayout(
        shape_czyx=(len(channels), z, y, x),
        dtype=dtype,
        voxel_um=grid.voxel_um,
        origin_um=grid.origin_um,
        interval_s=record.usable().interval_s,
        channels=channels,
        kind=kind,
    )


@dataclass(frozen=True)
class _Outputs:
    """What a frame is written to."""

    voxels: FrameStore
    projections: dict[str, FrameStore]
    tiffs: TiffFolder
    with_tiffs: bool

    @classmethod
    def prepare(
        cls,
        folder: Path,
        record: MovieRecord,
        grid: OutputGrid,
        tiff: bool,
        about: dict[str, Any],
        part: Part,
    ) -> _Outputs:
        def store(name: str, flat: int | None) -> FrameStore:
            kind = "image" if flat is None else "map"
            layout = _layout(record, grid, tuple(record.channels), "uint16", kind, flat)
            return FrameStore.prepare(folder / name, layout, record.frames, about, part)

        tiffs = TiffFolder(folder / TIFFS, record.movie, record.channels, grid.voxel_um)
        flat = {name: store(path, axis) for axis, (name, path) in enumerate(PROJECTIONS.items())}
        return cls(store(STORE, None), flat, tiffs, tiff)

    def each(self) -> list[Stored]:
        """All of them, those that are written on request last."""
        tiffs = [FrameFiles(self.tiffs.path, largest=2**20)] if self.with_tiffs else []
        return [self.voxels, *self.projections.values(), *tiffs]

    def write(self, frame: int, channels: Sequence[DeskewedFrame]) -> str:
        """Write a frame; returns the checksum of its voxels."""
        for axis, (name, store) in enumerate(self.projections.items()):
            flat = [np.expand_dims(getattr(channel, f"along_{name}"), axis) for channel in channels]
            store.write(frame, np.stack(flat))
        voxels = [channel.voxels for channel in channels]
        if self.with_tiffs:
            self.tiffs.write(frame, voxels)
        else:  # what earlier settings made would be taken for this frame's when TIFFs are asked for again
            self.tiffs.path(frame).unlink(missing_ok=True)
        return self.voxels.write(frame, voxels[0][None] if len(voxels) == 1 else np.stack(voxels))

    def set_display(self, entries: Sequence[Entry]) -> None:
        """Let viewers show the first frame from its fill value to the top of its projection."""
        first = next((entry for entry in entries if entry.skipped is None), None)
        if first is None:
            return
        peaks = self.projections["z"].read(first.frame, slice(None))
        tops = np.quantile(peaks.reshape(len(peaks), -1), 0.999, axis=1)
        windows = [
            (low, max(high, low + 1)) for low, high in zip(first.facts["fill"], tops.tolist(), strict=True)
        ]
        for store in (self.voxels, *self.projections.values()):
            store.set_display(windows)
