"""Bad pixels of a camera: the file that names them, and what is put in their place.

Not how hot pixels are found in a movie: that is in ``quality/hot_pixels.py``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spatialdino_core.errors import BadInputError
from spatialdino_core.movies.formats.tiff import calibration_image
from spatialdino_core.movies.tables import read_cells

MASKS = (".tif", ".tiff")
COLUMNS = ("y", "x")
LONGEST_NUMBER = 20  # digits


def named_pixels(path: Path | str, shape_yx: tuple[int, int]) -> list[tuple[int, int]]:
    """Bad pixels (y, x) that a file names, as in the raw files: from 0, before flips.

    Parameters
    ----------
    path
        A table with the columns ``y`` and ``x``, separated by tabs; or a TIFF image (y, x) of which all that
        is not 0 is bad.
    shape_yx
        Shape of a raw plane.

    Raises
    ------
    BadInputError
        For a file that is neither, or does not fit the planes.
    """
    if not Path(path).is_file():
        raise BadInputError(
            path,
            found="no such file",
            expected="a table or a TIFF mask of bad pixels",
            remedy="Correct 'bad_pixels' in the sample sheet.",
        )
    is_mask = Path(path).suffix.lower() in MASKS
    places = _of_mask(path, shape_yx) if is_mask else _of_table(path, shape_yx)
    if len(set(places)) == shape_yx[0] * shape_yx[1]:
        raise BadInputError(
            path,
            found="all pixels marked as bad",
            expected="bad pixels among good ones",
            remedy="Mark bad pixels by a value other than 0, good ones by 0.",
        )
    return places


def _of_mask(path: Path | str, shape_yx: tuple[int, int]) -> list[tuple[int, int]]:
    mask = calibration_image(path)
    if mask.shape != tuple(shape_yx):
        raise BadInputError(
            path,
            found=f"a mask of shape {mask.shape}",
            expected=f"{tuple(shape_yx)}, as a raw plane",
            remedy="Crop it as the camera was cropped.",
        )
    return [(y, x) for y, x in np.argwhere(mask).tolist()]


def _of_table(path: Path | str, shape_yx: tuple[int, int]) -> list[tuple[int, int]]:
    lines = read_cells(path)
    _, first = next(lines, (0, []))
    header = [name.strip() for name in first]
    if not set(COLUMNS) <= set(header):
        raise BadInputError(
            path,
            found=f"the columns {header}",
            expected="a table with the columns y and x, separated by tabs, or a TIFF mask (.tif)",
            remedy="Begin it with the line 'y<tab>x'; rows and columns of the raw image count from 0.",
        )
    places = []
    for number, cells in lines:
        named = dict(zip(header, (cell.strip() for cell in cells), strict=False))
        y, x = (named.get(column, "") for column in COLUMNS)
        if not (_is_below(y, shape_yx[0]) and _is_below(x, shape_yx[1])):
            raise BadInputError(
                f"{path}, line {number}",
                found=f"y = '{y}', x = '{x}'",
                expected=f"whole numbers, y from 0 to {shape_yx[0] - 1} and x from 0 to {shape_yx[1] - 1}",
                remedy="Give the place of the pixel in the raw image, as it is in the file.",
            )
        places.append((int(y), int(x)))
    return places


def _is_below(cell: str, size: int) -> bool:
    return cell.isdecimal() and len(cell) < LONGEST_NUMBER and int(cell) < size


@dataclass(frozen=True, eq=False)
class Repair:
    """Puts the median of good pixels of the same plane in the place of each bad one.

    Attributes
    ----------
    groups
        Bad pixels with the same number of good neighbours: y and x of the pixels, each (n,), and of their
        neighbours, each (n, k).
    """

    groups: tuple[tuple[NDArray[np.intp], ...], ...]

    @classmethod
    def of(cls, bad: NDArray[np.bool_]) -> Repair:
        """Of bad pixels (y, x), each with the good ones of the smallest square around it that has some."""
        by_number = defaultdict(list)
        for place in np.argwhere(bad) if not bad.all() else ():
            near = _good_neighbours(bad, place)
            by_number[len(near)].append((place, near))
        groups = []
        for members in by_number.values():
            places, near = (np.stack(part) for part in zip(*members, strict=True))
            groups.append((places[:, 0], places[:, 1], near[..., 0], near[..., 1]))
        return cls(tuple(groups))

    def __call__(self, stack: NDArray[Any]) -> NDArray[Any]:
        """The stack (z, y, x) without its bad pixels; a copy if there are any."""
        if not self.groups:
            return stack
        stack = stack.copy()
        for plane in stack:
            for y, x, near_y, near_x in self.groups:
                median = np.median(plane[near_y, near_x], axis=1)
                plane[y, x] = np.rint(median) if stack.dtype.kind in "ui" else median
        return stack


def _good_neighbours(bad: NDArray[np.bool_], place: NDArray[np.intp]) -> NDArray[np.intp]:
    """Good pixels (k, 2) in the smallest square around a place; there must be one in the plane."""
    for reach in count(1):
        low = np.maximum(place - reach, 0)
        y, x = (slice(a, b + reach + 1) for a, b in zip(low, place, strict=True))
        if not bad[y, x].all():
            return np.argwhere(~bad[y, x]) + low
    raise AssertionError


def mask_of(places: Sequence[tuple[int, int]], shape_yx: tuple[int, int]) -> NDArray[np.bool_]:
    """Bool (y, x), True at the places."""
    mask = np.zeros(shape_yx, bool)
    if places:
        mask[tuple(np.transpose(places))] = True
    return mask
