"""What a raw movie looks like to everybody else: one channel as a sequence of frames, read by the table."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import numpy as np

from spatialdino_core.errors import BadInputError
from spatialdino_core.movies.acquisition import AcquisitionTable
from spatialdino_core.movies.formats.czi import CziReader
from spatialdino_core.movies.formats.image import (
    WHOLE,
    Piece,
    Reader,
    Region,
    file_stamp,
)
from spatialdino_core.movies.formats.ome_zarr import ZarrReader
from spatialdino_core.movies.formats.tiff_planes import TiffReader

OPEN_FILES = 8


class FrameSource:
    """One channel of a movie as a sequence of frames.

    Parameters
    ----------
    where
        Movie and channel, for messages.
    stacks
        Frame to the pieces of its stack.
    left_out
        Frame to the reason why there is none.
    """

    def __init__(
        self,
        where: str,
        stacks: Mapping[int, tuple[Piece, ...]],
        left_out: Mapping[int, str],
    ) -> None:
        self.where = where
        self._stacks = stacks
        self._left_out = left_out
        self._reader = lru_cache(maxsize=OPEN_FILES)(_open)

    def read(self, frame: int, region: Region = WHOLE) -> np.ndarray:
        """Array of shape (z, y, x), in the dtype of the file and native byte order.

        ``region`` selects a part of the raw stack: slices over z, y, x of step 1. No more of the file is
        decoded than the planes (TIFF, CZI) or chunks (Zarr) that the region touches.
        """
        pieces = self._pieces(frame)
        chosen = range(sum(piece.planes for piece in pieces))[region[0]]
        parts: list[np.ndarray] = []
        first = 0
        for piece in pieces:
            low, high = max(chosen.start, first), min(chosen.stop, first + piece.planes)
            if low < high or (not parts and piece is pieces[-1]):
                z = slice(max(low - first, 0), max(high - first, 0))
                parts.append(self._reader(piece.file).read(piece.where, (z, *region[1:])))
            first += piece.planes
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def stamp(self, frame: int) -> str | None:
        """Changes when the frame's files change; ``None`` for a frame that is not there."""
        stamps = [self._stamp(piece) for piece in self._stacks.get(frame, ())]
        return "+".join(stamp for stamp in stamps if stamp) if stamps and all(stamps) else None

    def _stamp(self, piece: Piece) -> str | None:
        if not piece.file.exists():
            return None
        if not piece.file.is_dir():
            return file_stamp(piece.file)
        reader = self._reader(piece.file)
        assert isinstance(reader, ZarrReader)
        return reader.stamp(piece.where)

    def _pieces(self, frame: int) -> tuple[Piece, ...]:
        if frame in self._stacks:
            return self._stacks[frame]
        raise BadInputError(
            f"{self.where}, frame {frame}",
            found=self._left_out.get(frame, "no stack"),
            expected="a whole stack",
            remedy="Restore it, or set on_bad_frame: skip to record the gap and go on.",
        )


def open_channels(movie: str, table: AcquisitionTable) -> list[FrameSource]:
    """The channels of a movie, in the order of the sheet."""
    return [
        FrameSource(
            f"movie '{movie}', channel '{channel}'",
            {frame: pieces for (frame, c), pieces in table.stacks.items() if c == number},
            {frame: reason for (frame, c), reason in table.left_out.items() if c == number},
        )
        for number, channel in enumerate(table.channels)
    ]


def _open(path: Path) -> Reader:
    if path.is_dir():
        return ZarrReader(path)
    return CziReader(path) if path.suffix.lower() == ".czi" else TiffReader(path)
