"""A registered movie as raw stacks that can be deskewed: what is read, and what each channel needs undone.

Not when and where to: that is the stage's business, and that of whoever looks at parts of a movie.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from spatialdino_core.errors import BadInputError
from spatialdino_core.geometry.camera import Camera
from spatialdino_core.geometry.deskew import Deskew
from spatialdino_core.geometry.findings import Findings
from spatialdino_core.geometry.grid import Box, OutputGrid, output_grid
from spatialdino_core.geometry.parameters import DeskewParameters
from spatialdino_core.geometry.registration import read_registration
from spatialdino_core.geometry.scan import ScanGeometry
from spatialdino_core.movies.acquisition import AcquisitionTable
from spatialdino_core.movies.formats.image import Region
from spatialdino_core.movies.record import MovieRecord
from spatialdino_core.movies.register import as_counts, check_content
from spatialdino_core.movies.rounding import Rounding, rounding_of
from spatialdino_core.movies.sheet import SheetRow
from spatialdino_core.movies.source import FrameSource, open_channels

LEFT_OUT = {"expected": "a complete frame", "remedy": "It is left out, as on_bad_frame: skip asks."}


@dataclass(frozen=True)
class RawMovie:
    """Raw stacks of all channels.

    Attributes
    ----------
    rows
        The movie's rows of the sample sheet, one per channel.
    record
        What the register knows of it.
    sources
        Of each channel.
    findings
        What the preview found in each channel.
    parameters
        How to resample.
    """

    rows: Sequence[SheetRow]
    record: MovieRecord
    sources: Sequence[FrameSource]
    findings: Sequence[Findings]
    parameters: DeskewParameters

    @classmethod
    def of(
        cls,
        rows: Sequence[SheetRow],
        record: MovieRecord,
        table: AcquisitionTable,
        preview: Path | str | None,
        parameters: DeskewParameters,
    ) -> RawMovie:
        """Open the files; ``preview`` is the JSON file of the movie's preview, or ``None``."""
        findings = [Findings.of(preview, row.channel) for row in rows]
        if parameters.hot_pixels == "keep":
            findings = [replace(found, hot_pixels=()) for found in findings]
        return cls(rows, record, open_channels(record.movie, table), findings, parameters)

    def grid(self, roi_um: Box | None) -> OutputGrid:
        """The grid that stacks are resampled to, or the part of it that lies in a box of its frame."""
        return output_grid(
            ScanGeometry.of(self.record.usable()),
            self.record.shape_zyx,
            frame=self.parameters.frame,
            isotropic=self.parameters.isotropic,
            crop=self.parameters.crop,
            roi_um=roi_um,
            grid_offset_um=self.parameters.grid_offset_um,
        )

    def read(self, channel: int, frame: int, region: Region) -> tuple[np.ndarray, Rounding | None]:
        """Counts of a part of a raw stack, and what rounding to them did.

        Raises
        ------
        BadInputError
            For a frame that is left out, or holds what cannot be an image.
        """
        where = f"movie '{self.record.movie}'"
        if frame in self.record.skipped:
            raise BadInputError(f"{where}, frame {frame}", found=self.record.skipped[frame], **LEFT_OUT)
        stack = check_content(frame, self.sources[channel].read(frame, region), where)
        return as_counts(stack, f"{where}, frame {frame}"), rounding_of(stack)

    def deskew(self, channel: int, grid: OutputGrid, device: Any, threads: int | None) -> Deskew:
        """Resampling of one channel.

        Raises
        ------
        BadInputError
            For a registration where there can be none, or calibration images that do not fit.
        """
        row, found = self.rows[channel], self.findings[channel]
        registration = read_registration(row.registration) if row.registration else None
        if registration is not None and (channel == 0 or self.parameters.interpolation == "fft"):
            raise BadInputError(
                f"movie '{row.movie}', channel '{row.channel}'",
                found=f"a registration ({row.registration})",
                expected="none for the first channel, to which the others are registered, and none with fft",
                remedy="Leave 'registration' blank there, or set interpolation: cubic.",
            )
        return Deskew(
            grid=grid,
            interpolation=self.parameters.interpolation,
            fill=self.parameters.fill,
            camera=Camera.of(row, (grid.raw_shape[1], grid.raw_shape[2]), found.hot_pixels),
            no_data=found.no_data,
            registration=registration,
            device=device,
            threads=threads,
        )
