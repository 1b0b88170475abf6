"""Which stacks of a Zarr array did not arrive, or were never recorded, by the chunks that are there."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from spatialdino_core.movies.formats.image import Place

EMPTY = " (if the store leaves out empty ones, say 'zeros' in the column missing_chunks)"


def lost_stacks(
    array: Any, axes: str, files: np.ndarray, there: np.ndarray, sparse: bool
) -> tuple[dict[Place, str], frozenset[Place]]:
    """Why stacks are not whole, and those of which nothing is there.

    A store may leave out chunks that hold nothing but its fill value, such as corners without data; those
    are the same in every frame, of one channel or of all. A chunk that only some frames lack did not arrive,
    and neither did one that lies between others along an axis. Time points at the end of which no channel has
    a file were announced and never recorded, whatever a store leaves out: such a frame could be no image.

    Parameters
    ----------
    array
        Zarr array.
    axes
        Letters of its axes.
    files, there
        Which files and which chunks were written, of `spatialdino_core.movies.formats.zarr_chunks`.
    sparse
        Whether the store leaves out chunks without content, as it or the sample sheet says.
    """
    begun = _by_stack(files, axes).any(axis=2)
    absent = {
        place
        for t, c in np.argwhere(~begun).tolist()
        for place in _places(array.shape, array.shards or array.chunks, axes, t, c)
    }
    recorded = 1 + max((t for t, c in _stacks(array.shape, axes) if (t, c) not in absent), default=-1)
    faults = {
        place: fault
        for place, fault in _faults(array, axes, there).items()
        if not sparse or place[0] >= recorded
    }
    return faults, frozenset(absent & set(faults))


def _faults(array: Any, axes: str, there: np.ndarray) -> dict[Place, str]:
    lost = ~_with_time_and_channel(there, axes)
    between = _between(~lost).reshape(*lost.shape[:2], -1)
    lost = lost.reshape(*lost.shape[:2], -1)
    frames, channels, chunks = lost.shape
    # With a single stack there is no other to compare with: what it lacks cannot be told from a fault.
    usual = np.asarray(lost.all(axis=0) & (frames > 1) | lost.all(axis=(0, 1)) & (frames * channels > 1))
    faults: dict[Place, str] = {}
    for t, c in itertools.product(range(frames), range(channels)):
        nothing = lost[t, c].all()
        odd = int(lost[t, c].sum() if nothing else (lost[t, c] & ~usual[c] | between[t, c]).sum())
        if odd:
            fault = f"{odd} of {chunks} chunks are not there{'' if nothing else EMPTY}"
            faults |= dict.fromkeys(_places(array.shape, array.chunks, axes, t, c), fault)
    return faults


def _with_time_and_channel(chunks: np.ndarray, axes: str) -> np.ndarray:
    """With axes (t, c, …), also where the array has none of these."""
    order = [axes.index(axis) for axis in "TC" if axis in axes]
    chunks = np.moveaxis(chunks, order, range(len(order)))
    for number, axis in enumerate("TC"):
        chunks = chunks if axis in axes else np.expand_dims(chunks, number)
    return chunks


def _by_stack(chunks: np.ndarray, axes: str) -> np.ndarray:
    """With axes (t, c, chunk)."""
    chunks = _with_time_and_channel(chunks, axes)
    return chunks.reshape(*chunks.shape[:2], -1)


def _between(there: np.ndarray) -> np.ndarray:
    """Chunks (t, c, …) that are not there, while some before and some after them along an inner axis are."""
    found = np.zeros(there.shape, bool)
    for axis in range(2, there.ndim):
        before = np.maximum.accumulate(there, axis)
        after = np.flip(np.maximum.accumulate(np.flip(there, axis), axis), axis)
        found |= ~there & before & after
    return found


def _stacks(shape: Sequence[int], axes: str) -> Iterator[Place]:
    """Every time point and channel."""
    yield from itertools.product(*(range(shape[axes.index(axis)] if axis in axes else 1) for axis in "TC"))


def _places(shape: Sequence[int], chunks: Sequence[int], axes: str, t: int, c: int) -> Iterator[Place]:
    """Time points and channels that lie in a chunk."""
    spans = []
    for axis, number in zip("TC", (t, c), strict=True):
        length, chunk = (int(n[axes.index(axis)]) if axis in axes else 1 for n in (shape, chunks))
        spans.append(range(number * chunk, min((number + 1) * chunk, length)))
    yield from itertools.product(*spans)
