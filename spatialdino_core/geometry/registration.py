"""Given affines that register a channel to the movie's first channel. Finding them is not done here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from spatialdino_core.errors import BadInputError
from spatialdino_core.files import read_json
from spatialdino_core.geometry.grid import OutputGrid


def read_registration(path: Path | str) -> NDArray[np.float64]:
    """Read a registration: JSON, four rows of four numbers.

    It takes a position in the first channel (z, y, x, 1) to that of the same point in this channel, both
    in µm in the frame of the full output.

    Raises
    ------
    BadInputError
        If it is no affine, or turns the image inside out.
    """
    try:
        content = read_json(path)
        matrix = np.array(content, np.float64)
    except BadInputError as error:
        content, matrix = error.found, np.empty(0)
    except (TypeError, ValueError, OverflowError):
        matrix = np.empty(0)
    affine = matrix.shape == (4, 4) and np.isfinite(matrix).all() and np.array_equal(matrix[3], [0, 0, 0, 1])
    if not affine or np.linalg.det(matrix) <= 0:
        raise BadInputError(
            path,
            found=f"{str(content)[:200]}",
            expected="a 4 × 4 matrix with last row 0 0 0 1 and a positive determinant",
            remedy="Give the affine from the first channel to this one, z, y, x, µm.",
        )
    return matrix


def registered_map(grid: OutputGrid, registration: NDArray[np.float64]) -> NDArray[np.float64]:
    """From output indices to positions in the raw stack of a registered channel.

    Returns
    -------
    ndarray
        (3, 4): from (k, batch, i, 1) to plane number (planes ascending along their normal), position along
        the batch axis and pixel, both as recorded.
    """
    to_um = np.diag([*grid.voxel_um, 1.0])
    to_um[:3, 3] = grid.origin_um
    raw = grid.to_raw_voxels() @ np.linalg.inv(to_um) @ registration @ to_um
    if grid.plane_map.reversed_planes:
        raw[0] *= -1
        raw[0, 3] += grid.plane_map.planes - 1
    order = [0, 1, 2] if grid.pixel_last else [0, 2, 1]
    mapped: NDArray[np.float64] = raw[np.ix_(order, [*order, 3])]
    return mapped
