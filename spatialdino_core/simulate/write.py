"""Simulated movies as files: TIFF series as acquisition software names them, OME-TIFF, truth tables, labels.

Files hold no time stamp and no random identifier, so the same movie always gives the same bytes. A
file appears under its name only when it is whole.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import tifffile
from numpy.typing import NDArray

CLASSIC_TIFF_BYTES = 2**32 - 2**26  # what classic TIFF can address, less room for directories


def write_tiff_series(
    folder: Path, name: str, frames: Iterable[NDArray[np.uint16]], channels: Sequence[str], interval_s: float
) -> list[Path]:
    """Write one TIFF per time point and channel, as lattice light-sheet software does.

    Names are ``{name}_ch0_stack0000_488nm_0000000msec_0000000000msecAbs.tif``: the channel's index,
    the frame, the channel's name and twice the milliseconds since the first frame. The files carry
    no metadata on geometry, as those of the microscope.

    Parameters
    ----------
    folder
        Where to; made if missing.
    name
        Start of every file name.
    frames
        Stacks (c, z, y, x), consumed one by one.
    channels
        Names such as ``488nm``, one per channel.
    interval_s
        Time between frames.

    Returns
    -------
    list of Path
        The files, in order of frame and channel.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for index, stack in enumerate(frames):
        elapsed = round(1000 * index * interval_s)
        for channel, (wavelength, volume) in enumerate(zip(channels, stack, strict=True)):
            when = f"{elapsed:07d}msec_{elapsed:010d}msecAbs"
            path = folder / f"{name}_ch{channel}_stack{index:04d}_{wavelength}_{when}.tif"
            with _beside(path) as part:
                tifffile.imwrite(part, volume, photometric="minisblack", metadata=None)
            paths.append(path)
    return paths


def write_ome_tiff(
    path: Path,
    frames: Iterable[NDArray[Any]],
    shape: tuple[int, int, int, int, int],
    dtype: np.dtype[Any],
    *,
    channels: Sequence[str],
    pixel_um: float,
    plane_spacing_um: float | None,
    interval_s: float,
    compression: str | None = None,
) -> None:
    """Write a movie as one OME-TIFF, frame by frame; as BigTIFF where it would not fit into a classic one.

    Parameters
    ----------
    path
        File, ending in ``.ome.tif``; its folder is made if missing.
    frames
        Stacks (c, z, y, x), consumed one by one.
    shape
        Shape (t, c, z, y, x) of the movie. The file's axes are TZYX if there is one channel, else TCZYX.
    dtype
        Type of the samples.
    channels
        Name of each channel.
    pixel_um
        Pixel size along y and x.
    plane_spacing_um
        Distance between planes along their normal. None for skewed stacks: a stage step is not a
        plane spacing, so PhysicalSizeZ is left out.
    interval_s
        Time between frames.
    compression
        Lossless codec of `tifffile`, e.g. ``zlib``.
    """
    frame_count, channel_count, *volume = shape
    single = channel_count == 1
    names = list(channels)
    metadata: dict[str, Any] = {
        "axes": "TZYX" if single else "TCZYX",
        "PhysicalSizeX": pixel_um,
        "PhysicalSizeXUnit": "µm",
        "PhysicalSizeY": pixel_um,
        "PhysicalSizeYUnit": "µm",
        "TimeIncrement": interval_s,
        "TimeIncrementUnit": "s",
        "Channel": {"Name": names[0] if single else names},
    }
    if plane_spacing_um is not None:
        metadata |= {"PhysicalSizeZ": plane_spacing_um, "PhysicalSizeZUnit": "µm"}
    metadata["UUID"] = _uuid(path.name, shape, metadata)
    size = int(np.prod(shape)) * dtype.itemsize
    path.parent.mkdir(parents=True, exist_ok=True)
    with (
        _beside(path) as part,
        tifffile.TiffWriter(part, bigtiff=size > CLASSIC_TIFF_BYTES, ome=True) as file,
    ):
        file.write(
            _planes(frames, shape),
            shape=(frame_count, *volume) if single else shape,
            dtype=dtype,
            photometric="minisblack",
            compression=compression,
            metadata=metadata,
        )


def write_truth(path: Path, truth: pd.DataFrame) -> None:
    """Write a truth table as CSV, numbers to a millionth (of a µm, of a voxel, of a photon)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with _beside(path) as part:
        truth.to_csv(part, index=False, float_format="%.6f", lineterminator="\n")


def _planes(frames: Iterable[NDArray[Any]], shape: tuple[int, ...]) -> Iterator[NDArray[Any]]:
    written = 0
    for stack in frames:
        if stack.shape != shape[1:]:
            raise ValueError(f"frame {written} has shape {stack.shape}, the movie was declared as {shape}")
        for channel in stack:
            yield from channel
        written += 1
    if written != shape[0]:
        raise ValueError(f"{written} frames given, the movie was declared as {shape}")


def _uuid(*content: object) -> str:
    """An identifier as OME-XML wants it, that depends only on what the file says."""
    digits = hashlib.blake2b(repr(content).encode(), digest_size=16).hexdigest()
    return "urn:uuid:" + "-".join([digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]])


@contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """A temporary name beside ``path``, renamed to it when the block has ended well."""
    part = path.with_name(f".{path.name}.part")
    try:
        yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
