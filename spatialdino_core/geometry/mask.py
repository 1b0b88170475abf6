"""The mask of a movie whose raw stacks have borders without data: one for all frames, beside its voxels.

Movies whose planes are data to their borders have none: where they were sampled follows from their geometry.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from spatialdino_core.errors import BadInputError
from spatialdino_core.geometry.camera import Camera
from spatialdino_core.geometry.deskew import Deskew
from spatialdino_core.geometry.no_data import no_data_region
from spatialdino_core.movies.part import Part
from spatialdino_core.movies.source import Region
from spatialdino_core.movies.store import FrameStore, StoreLayout, checksum

FRAMES = 2
"""A mask rests on the first usable frames alone, so that it stays the same when the movie grows."""

Read = Callable[[int, Region], NDArray[np.uint16]]


def prepare_mask(
    path: Path,
    layout: StoreLayout,
    deskew: Deskew,
    read: Read,
    frames: Iterable[int],
    part: Part,
    *,
    skip_bad: bool,
) -> str | None:
    """Make the mask of a movie, or find the one that the job before all parts has made.

    Parameters
    ----------
    path
        Of its store: one frame of uint8, 1 where there are data.
    layout
        Of that store.
    deskew
        How the first channel is resampled; its ``no_data`` says whether there is a mask.
    read
        Gives the region of a frame of the first channel, uint16 (z, y, x).
    frames
        Frames that may be usable, in order.
    part
        Frames of this job.
    skip_bad
        Whether a frame that cannot be read is passed over.

    Returns
    -------
    str or None
        Checksum of the mask; ``None`` for a movie that needs none.
    """
    if deskew.no_data is None:
        if part.prepares:
            shutil.rmtree(path, ignore_errors=True)
        return None
    store = FrameStore.prepare(path, layout, 1, {"no_data": deskew.no_data}, part)
    if not part.prepares:
        return checksum(store.read(0, slice(None)))
    # As the voxels are resampled, but nothing is undone, and a voxel counts whatever its share.
    plain = replace(
        deskew, interpolation="linear", fill=0, camera=Camera(flip=deskew.camera.flip), no_data=None
    )
    whole = np.uint16(np.iinfo(np.uint16).max)
    stacks = islice(_usable(read, frames, plain.region, skip_bad=skip_bad), FRAMES)
    outside = np.ones([axis.stop - axis.start for axis in plain.region], bool)
    for stack in stacks:
        outside &= no_data_region(stack, deskew.no_data)
    valid = plain(outside.astype(np.uint16) * whole).voxels == 0
    return store.write(0, valid[None].astype(np.uint8))


def _usable(
    read: Read, frames: Iterable[int], region: Region, *, skip_bad: bool
) -> Iterator[NDArray[np.uint16]]:
    for frame in frames:
        try:
            yield read(frame, region)
        except BadInputError:
            if not skip_bad:
                raise
