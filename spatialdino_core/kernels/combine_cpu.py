"""Weighted sums of raw voxels on the CPU, compiled with Numba: what ``combine_reference`` defines, faster.

Three loops for three layouts. Where the batch axis (the one that interpolation leaves alone) is contiguous,
its rows are summed as they lie. Where the tilted axis is contiguous, a block of batch rows is transposed
in cache, summed and transposed back; a pure shear along it is a plain filter and needs no transposition.
Each loop releases the interpreter lock; threads are the caller's. Products and sums are not fused, so
that any split along the batch axis gives the same bits.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from spatialdino_core.compiled import njit

BLOCK_ROWS = 64
TILE = 32
LOW, HIGH = np.float32(0), np.float32(65535)
# Adding and subtracting 1.5 · 2²³ rounds a float32 of this range to an integer, half to even.
ROUNDER = np.float32(12582912)


@njit(nogil=True, inline="always")
def _rounded(value: Any) -> Any:
    return np.uint16(np.int32((min(max(value, LOW), HIGH) + ROUNDER) - ROUNDER))


@njit(nogil=True, inline="always")
def _entry(start: Any, weight: Any, entry: int, index: Any, factor: Any) -> int:
    """Copy the taps of an entry, completed to a multiple of four with taps of weight 0; their number."""
    count = 0
    for plane in range(start.shape[1]):
        for step in range(weight.shape[2]):
            index[count] = start[entry, plane] + step
            factor[count] = weight[entry, plane, step]
            count += 1
    while count % 4:
        index[count] = index[0]
        factor[count] = 0
        count += 1
    return count


@njit(nogil=True, inline="always")
def _sum_rows(rows: Any, count: int, index: Any, factor: Any, taps: int, total: Any) -> None:
    """Weighted sum of ``taps`` rows."""
    for tap in range(0, taps, 4):
        a, b, c, d = index[tap], index[tap + 1], index[tap + 2], index[tap + 3]
        t, u, v, w = factor[tap], factor[tap + 1], factor[tap + 2], factor[tap + 3]
        if tap == 0:
            for n in range(count):
                total[n] = (t * np.float32(rows[a, n]) + u * np.float32(rows[b, n])) + (
                    v * np.float32(rows[c, n]) + w * np.float32(rows[d, n])
                )
        else:
            for n in range(count):
                total[n] += (t * np.float32(rows[a, n]) + u * np.float32(rows[b, n])) + (
                    v * np.float32(rows[c, n]) + w * np.float32(rows[d, n])
                )


@njit(nogil=True, inline="always")
def _raise(peak: Any, values: Any, count: int) -> None:
    for n in range(count):
        peak[n] = max(peak[n], values[n])


@njit(nogil=True, inline="always")
def _highest(values: Any, count: int) -> Any:
    highest = np.uint16(0)
    for n in range(count):
        highest = max(highest, values[n])
    return highest


@njit(nogil=True, cache=True)
def combine_batch_last(
    rows: Any, k_low: int, k_high: int, offsets: Any, first: Any, start: Any, weight: Any, fill: int,
    out: Any, low: int, peak_k: Any, peak_i: Any, peak_batch: Any,
) -> None:  # fmt: skip
    """Rows ``k_low`` to ``k_high`` of ``out`` (k, i, batch), from column ``low`` of the batch axis on.

    ``rows`` (plane · pixel, batch) is C-contiguous and as wide as what is written. Projections ``peak_k``
    (i, batch), ``peak_i`` (k, batch) and ``peak_batch`` (k, i) are raised.
    """
    index, factor = np.empty(16, np.int64), np.empty(16, np.float32)
    count = rows.shape[1]
    total = np.empty(count, np.float32)
    for k in range(k_low, k_high):
        begin, end = first[k], first[k] + offsets[k + 1] - offsets[k]
        for i in range(out.shape[1]):
            target = out[k, i, low : low + count]
            if i < begin or i >= end:
                target[:] = fill
                continue
            taps = _entry(start, weight, offsets[k] + i - begin, index, factor)
            _sum_rows(rows, count, index, factor, taps, total)
            for n in range(count):
                target[n] = _rounded(total[n])
            _raise(peak_k[i, low : low + count], target, count)
            _raise(peak_i[k, low : low + count], target, count)
            peak_batch[k, i] = max(peak_batch[k, i], _highest(target, count))


@njit(nogil=True, inline="always")
def _copy_column(tile: Any, n: int, columns: int, target: Any) -> None:
    if columns == TILE:  # a constant number of turns is unrolled
        for i in range(TILE):
            target[i] = tile[i, n]
    else:
        for i in range(columns):
            target[i] = tile[i, n]


@njit(nogil=True, inline="always")
def _paste_column(source: Any, columns: int, tile: Any, n: int) -> None:
    if columns == TILE:
        for i in range(TILE):
            tile[i, n] = source[i]
    else:
        for i in range(columns):
            tile[i, n] = source[i]


@njit(nogil=True, cache=True)
def transposed_rows(raw: Any, low: int, count: int, rows: Any) -> None:
    """Copy batch rows of ``raw`` (plane, batch, pixel) to columns of ``rows`` (plane · pixel, count)."""
    planes, _, pixels = raw.shape
    for plane in range(planes):
        for left in range(0, pixels, TILE):
            columns = min(TILE, pixels - left)
            target = rows[plane * pixels + left : plane * pixels + left + columns]
            for n in range(count):
                _paste_column(raw[plane, low + n, left : left + columns], columns, target, n)


@njit(nogil=True, cache=True)
def combine_pixel_last(
    rows: Any, offsets: Any, first: Any, start: Any, weight: Any, fill: int,
    out: Any, low: int, count: int, peak_k: Any, peak_i: Any, peak_batch: Any,
) -> None:  # fmt: skip
    """Batch rows ``low`` to ``low + count`` of ``out`` (k, batch, i), from transposed rows.

    Projections ``peak_k`` (batch, i), ``peak_i`` (k, batch) and ``peak_batch`` (k, i) are raised.
    """
    index, factor = np.empty(16, np.int64), np.empty(16, np.float32)
    width = out.shape[2]
    total = np.empty(count, np.float32)
    tile = np.empty((TILE, count), np.uint16)
    for k in range(len(first)):
        begin, end = first[k], first[k] + offsets[k + 1] - offsets[k]
        for n in range(count):
            out[k, low + n, :begin] = fill
            out[k, low + n, end:width] = fill
        for left in range(begin, end, TILE):
            columns = min(TILE, end - left)
            for i in range(columns):
                taps = _entry(start, weight, offsets[k] + left + i - begin, index, factor)
                _sum_rows(rows, count, index, factor, taps, total)
                for n in range(count):
                    tile[i, n] = _rounded(total[n])
            for n in range(count):
                _copy_column(tile, n, columns, out[k, low + n, left : left + columns])
            for i in range(columns):
                _raise(peak_i[k, low : low + count], tile[i], count)
                peak_batch[k, left + i] = max(peak_batch[k, left + i], _highest(tile[i], count))
            for n in range(count):
                target = out[k, low + n, left : left + columns]
                _raise(peak_k[low + n, left : left + columns], target, columns)


@njit(nogil=True, inline="always")
def _edge(source: Any, target: Any, start: Any, weight: Any, entry: int, origin: int) -> None:
    for n in range(len(target)):
        total = np.float32(0)
        for step in range(weight.shape[2]):
            total += weight[entry + n, 0, step] * np.float32(source[start[entry + n, 0] - origin + step])
        target[n] = _rounded(total)


@njit(nogil=True, cache=True)
def filter_pixel_last(
    raw: Any, raw_low: int, offsets: Any, first: Any, start: Any, weight: Any, runs: Any, fill: int,
    out: Any, low: int, count: int, peak_k: Any, peak_i: Any, peak_batch: Any,
) -> None:  # fmt: skip
    """Batch rows ``low`` to ``low + count`` of ``out`` (k, batch, i), from those of ``raw`` (plane, batch,
    pixel) from ``raw_low`` on, where every row k reads a single plane, with the same weights along its run.
    Projections as in ``combine_pixel_last``."""
    pixels, width = raw.shape[2], out.shape[2]
    factor = np.zeros(4, np.float32)
    for k in range(len(first)):
        begin, end = first[k], first[k] + offsets[k + 1] - offsets[k]
        run, stop = runs[k, 0], runs[k, 1]
        plane = start[offsets[k], 0] // pixels if end > begin else 0
        origin = plane * pixels
        if stop > run:
            for step in range(weight.shape[2]):
                factor[step] = weight[run, 0, step]
        a, b, c, d = factor
        for n in range(count):
            whole = out[k, low + n]
            whole[:begin] = fill
            whole[end:width] = fill
            if end == begin:
                continue
            source = raw[plane, raw_low + n]
            target = whole[begin:end]
            lead, length = run - offsets[k], stop - run
            _edge(source, target[:lead], start, weight, offsets[k], origin)
            _edge(source, target[lead + length :], start, weight, stop, origin)
            if length > 0:
                samples = source[start[run, 0] - origin :]
                middle = target[lead : lead + length]
                if weight.shape[2] == 4:
                    for i in range(length):
                        middle[i] = _rounded(
                            (a * np.float32(samples[i]) + b * np.float32(samples[i + 1]))
                            + (c * np.float32(samples[i + 2]) + d * np.float32(samples[i + 3]))
                        )
                else:
                    for i in range(length):
                        middle[i] = _rounded(a * np.float32(samples[i]) + b * np.float32(samples[i + 1]))
            _raise(peak_k[low + n, begin:end], target, end - begin)
            _raise(peak_batch[k, begin:end], target, end - begin)
            peak_i[k, low + n] = max(peak_i[k, low + n], _highest(target, end - begin))
